"""What the server keeps of a visit between two events of the page.

gradio has `gr.State` for this, but with one on the page every client opens a connection that it
keeps, and programs in Node never end by themselves.
"""

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

import gradio as gr

_MOST = 200  # visits; the one that was quiet longest is forgotten first

Kept = TypeVar("Kept")


class Sessions(Generic[Kept]):
    """One value a visit. Safe between threads."""

    def __init__(self) -> None:
        """Begins with none."""
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, request: gr.Request) -> Kept | None:
        """What is kept for a visit; None where nothing is, or it was forgotten."""
        with self._lock:
            found = self._kept.get(str(request.session_hash))
            if found is not None:
                self._kept.move_to_end(str(request.session_hash))
            return found

    def put(self, request: gr.Request, value: Kept | None) -> None:
        """Keeps a value in place of the one before; None keeps nothing."""
        with self._lock:
            self._kept.pop(str(request.session_hash), None)
            if value is not None:
                self._kept[str(request.session_hash)] = value
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
