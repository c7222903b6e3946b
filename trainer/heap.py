"""How the memory of freed tensors is handled."""

import contextlib
import ctypes


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory for the next step instead of handing it to the kernel.

    Each step frees gigabytes and asks for them again; fetched from the kernel page by page they
    cost a CPU up to a third of its training time. Elsewhere than on glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(-1, -1)  # M_TRIM_THRESHOLD: never give back the top of the heap
    mallopt(-4, 0)  # M_MMAP_MAX: no mapping of its own for large blocks
    mallopt(-2, 256 << 20)  # M_TOP_PAD: grow the heap in large steps


def give_back_freed_memory() -> None:
    """Hands freed memory back to the kernel after all, when others than malloc are short of it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
