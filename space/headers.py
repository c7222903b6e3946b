"""What a picture file says of itself, looked at before a decoder works on it.

Decoders do what a file tells them to. A file of a megabyte can tell them to copy gigabytes or to
work for minutes, in ways that no limit on bytes and pixels sees: a directory of EXIF whose entries
share their values, thousands of scans of a progressive JPEG, millions of comments. Whatever is far
beyond what cameras and editors write is refused here, in time that grows with the file alone.
"""

import re
import struct

from space.errors import PhotoError

MAX_SCANS = 100  # of a progressive JPEG; encoders write about 10, and each costs a pass
MAX_BLOCKS = 50_000  # segments, chunks or extensions of a file
MAX_COMMENT = 2**20  # bytes of a GIF's comments
MAX_PADDING = 4096  # bytes between two segments of a JPEG
MAX_ENTRIES = 4096  # of a directory of TIFF or EXIF

_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_EXIF = b"Exif\x00\x00"
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_AFTER_SCAN = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # no escaped byte, no restart
_ALONE = {0x01, *range(0xD0, 0xD9)}  # segments of a JPEG without a length


def check(data: bytes, name: str) -> None:
    """Refuses a file that would cost its decoder too much; what is no picture passes.

    Args:
        data: the file.
        name: what to call it in the message.

    Raises:
        PhotoError: as the module says.
    """
    try:
        if data[:2] == b"\xff\xd8":
            _check_jpeg(data)
        elif data[:8] == b"\x89PNG\r\n\x1a\n":
            _check_png(data)
        elif data[:6] in (b"GIF87a", b"GIF89a"):
            _check_gif(data)
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            _check_webp(data)
        elif data[:4] in _TIFF:
            _check_directory(data, "TIFF directory")
    except _Costly as error:
        raise PhotoError(f"{name} is damaged or made to waste time: {error}") from None
    except (struct.error, IndexError):
        return  # cut short, which its decoder says better


class _Costly(Exception):  # noqa: N818 - becomes the reason of a PhotoError
    pass


def _check_jpeg(data: bytes) -> None:
    at, blocks, exif = 2, 0, b""
    while True:
        start = at
        while data[at] != 0xFF or data[at + 1] in (0x00, 0xFF):
            at += 1
            if at - start > MAX_PADDING:
                raise _Costly(f"more than {MAX_PADDING} bytes stand between two segments")
        code = data[at + 1]
        blocks = _counted(blocks)
        if code in _ALONE:
            at += 2
            continue
        if code == 0xD9:
            break
        (length,) = struct.unpack_from(">H", data, at + 2)
        if code == 0xE1 and data[at + 4 : at + 10] == _EXIF:
            exif += data[at + 10 : at + 2 + length]  # as Pillow joins them
        if code == 0xDA:
            _count_scans(data, at + 2 + length)
            break
        at += 2 + length
    _check_exif(exif)


def _count_scans(data: bytes, at: int) -> None:
    scans, blocks = 1, 0
    while (found := _AFTER_SCAN.search(data, at)) and found[1] != b"\xd9":
        blocks = _counted(blocks)
        if found[1] == b"\xda":
            scans += 1
            if scans > MAX_SCANS:
                raise _Costly(f"it has more than {MAX_SCANS} scans")
        at = found.end()
        if found[1][0] not in _ALONE:
            at += max(2, struct.unpack_from(">H", data, at)[0])


def _check_png(data: bytes) -> None:
    at, blocks = 8, 0
    while at < len(data):
        blocks = _counted(blocks)
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf":
            _check_exif(data[at + 8 : at + 8 + length])
        if kind == b"IEND":
            return
        at += 12 + length


def _check_webp(data: bytes) -> None:
    at, blocks = 12, 0
    while at + 8 <= len(data):
        blocks = _counted(blocks)
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"EXIF":
            _check_exif(data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2


def _check_gif(data: bytes) -> None:
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    blocks = comment = 0
    while data[at] == 0x21:  # an extension; then the first frame, which is all that is decoded
        blocks = _counted(blocks)
        is_comment = data[at + 1] == 0xFE
        at += 2
        while length := data[at]:
            at += length + 1
            comment += length * is_comment
            if comment > MAX_COMMENT:
                raise _Costly(f"its comments have more than {MAX_COMMENT // 2**20} MiB")
        at += 1


def _check_exif(block: bytes) -> None:
    block = block.removeprefix(_EXIF)
    if block[:4] in _TIFF:
        _check_directory(block, "EXIF block")


def _check_directory(block: bytes, what: str) -> None:
    """The values of the first directory must not be more than the block can hold."""
    order = "<" if block[:1] == b"I" else ">"
    big = block[2:3] == b"+" or block[3:4] == b"+"
    (start,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", block, 8 if big else 4)
    (count,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", block, start)
    if count > MAX_ENTRIES:
        raise _Costly(f"its {what} has {count} entries")
    entry, size = ("HHQ", 20) if big else ("HHI", 12)
    start += 8 if big else 2
    total = 0
    for number in range(count):
        _, kind, values = struct.unpack_from(f"{order}{entry}", block, start + number * size)
        total += _SIZES.get(kind, 1) * values
        if total > 2 * len(block) + 2**16:
            raise _Costly(f"its {what} claims to hold more than it can")


def _counted(blocks: int) -> int:
    if blocks >= MAX_BLOCKS:
        raise _Costly(f"it has more than {MAX_BLOCKS} segments")
    return blocks + 1
