"""Start and end of the web server, and how long its clients may keep it waiting.

Nothing here imports gradio before the environment is checked: gradio reads it while it is imported.
"""

import asyncio
import contextlib
import ctypes
import getpass
import importlib.util
import os
import signal
import socket
import tempfile
import threading
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from space import uploads
from space.errors import MarqueError

SECONDS_FOR_HEAD = 15  # that a connection may take until its request's head is complete
SECONDS_FOR_BODY = 300  # and its body: 50 MiB at 1.4 Mbit/s
SECONDS_FOR_READING = 60  # that a client may leave an answer unread
SECONDS_TO_END = 10  # for the answers in flight once the server is told to end
MAX_CONNECTIONS = 500  # more are told to come back later

_PORT = "GRADIO_SERVER_PORT"
_HOST = "GRADIO_SERVER_NAME"
_FOLDER = "GRADIO_TEMP_DIR"


def prepare() -> None:
    """Checks what the environment says of the server, and gives uploads a folder of their own.

    Raises:
        MarqueError: a port that is none or taken, a name that is not of this machine, a number
            that is none, an upload folder that cannot be written.
    """
    _return_freed_memory()
    port = _number(_PORT, 1, 65535)
    _number("GRADIO_NUM_PORTS", 1, 65535)
    _number("MARQUE_UPLOAD_SECONDS", 1)
    _number("MARQUE_UPLOAD_BYTES", 1)
    if port is not None:
        _check_free(os.environ.get(_HOST) or "127.0.0.1", port)
    # One of its own below the one that is named: it is swept, and what else lies there is not ours.
    parent = Path(os.environ.get(_FOLDER) or tempfile.gettempdir())
    folder = parent / f"marque-uploads-{getpass.getuser()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise MarqueError(
            f"the upload folder {folder} cannot be written ({error.strerror}); "
            f"name another place in {_FOLDER}"
        ) from None
    os.environ[_FOLDER] = str(folder)
    # gradio sums up its last 10,000 events after each event, for a dashboard that is closed here.
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")


def _return_freed_memory() -> None:
    """Tells glibc to give large blocks, such as photos, back to the kernel once they are freed.

    By itself it soon keeps them for the thread that had them, and every thread that ever opened a
    large photo holds its memory for good. Elsewhere than on glibc nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(-3, 256 << 10)  # M_MMAP_THRESHOLD: a mapping of its own for each larger block
        mallopt(-8, 2)  # M_ARENA_MAX: threads share two heaps


def hosts() -> set[str] | None:
    """Names by which the page may be addressed; None for any, where other machines reach it."""
    name = os.environ.get(_HOST) or "127.0.0.1"
    if not _loopback(name):
        return None
    more = os.environ.get("MARQUE_HOSTS", "").replace(",", " ").lower().split()
    return {"localhost", "127.0.0.1", "::1", name.strip("[]").lower(), *more}


def serve(page: Any) -> None:
    """Serves a page until SIGTERM or Ctrl-C, then finishes the answers in flight.

    Raises:
        MarqueError: the port was taken since it was checked, or there is no free one.
    """
    from space.page import launch

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    max_age = _number("MARQUE_UPLOAD_SECONDS", 1) or uploads.MAX_AGE
    max_bytes = _number("MARQUE_UPLOAD_BYTES", 1) or uploads.MAX_FOLDER_BYTES
    uploads.sweep(max_age, max_bytes)
    try:
        launch(
            page,
            hosts=hosts(),
            max_folder_bytes=max_bytes,
            mcp=_asks_for_mcp(),
            server_port=_number(_PORT, 1, 65535),
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise MarqueError(f"no port to serve at: {error}") from None
    config = page.server.config
    config.http_protocol_class = PatientProtocol
    config.limit_concurrency = MAX_CONNECTIONS
    config.timeout_graceful_shutdown = SECONDS_TO_END
    # Every minute at least, so that the folder's limit holds for pictures that answers leave too.
    while not ended.wait(min(max_age, 60)):
        uploads.sweep(max_age, max_bytes)
    page.server.should_exit = True  # no new connections; those that wait for an answer get it
    page.app.stop_event.set()  # pages that only listen are let go
    page.server.thread.join(SECONDS_TO_END + 5)


class PatientProtocol(H11Protocol):
    """uvicorn's protocol that ends a connection which keeps the server waiting for too long."""

    _awaited: tuple[object, int] | None = None
    _incoming: asyncio.TimerHandle | None = None
    _outgoing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """As in uvicorn; the time for the first request's head begins."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """As in uvicorn; what is awaited next may have changed."""
        super().data_received(data)
        self._wait()

    def on_response_complete(self) -> None:
        """As in uvicorn; the time for the next request begins."""
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """As in uvicorn."""
        super().connection_lost(exc)
        for timer in (self._incoming, self._outgoing):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        """As in uvicorn; the client has not read what was sent."""
        super().pause_writing()
        self._outgoing = self.loop.call_later(SECONDS_FOR_READING, self.transport.abort)

    def resume_writing(self) -> None:
        """As in uvicorn."""
        super().resume_writing()
        if self._outgoing is not None:
            self._outgoing.cancel()

    def _wait(self) -> None:
        """Sets the time for what the client has to send next, unless it already runs."""
        awaited = (self.conn.their_state, id(self.cycle))
        if awaited == self._awaited:
            return
        self._awaited = awaited
        if self._incoming is not None:
            self._incoming.cancel()
        seconds = {h11.IDLE: SECONDS_FOR_HEAD, h11.SEND_BODY: SECONDS_FOR_BODY}.get(awaited[0])
        if seconds is not None:
            self._incoming = self.loop.call_later(seconds, self.transport.abort)


def _asks_for_mcp() -> bool:
    """Whether MARQUE_MCP is 1.

    Raises:
        MarqueError: it is, and what it needs is not installed.
    """
    if os.environ.get("MARQUE_MCP", "") in ("", "0"):
        return False
    if importlib.util.find_spec("mcp") is None:
        raise MarqueError(
            "MARQUE_MCP is set, but mcp is not installed; run `pip install -r requirements.txt "
            "'gradio[mcp]'`, or unset it"
        )
    return True


def _number(variable: str, least: int, most: int | None = None) -> int | None:
    """A whole number from the environment, or None where it is not set."""
    text = os.environ.get(variable)
    if not text:
        os.environ.pop(variable, None)  # gradio reads an empty one as a number
        return None
    if not text.isascii() or not text.isdigit() or int(text) < least or int(text) > (most or 1e18):
        upper = f" to {most}" if most else " on"
        raise MarqueError(f"{variable} is {text!r}; set it to a whole number from {least}{upper}")
    return int(text)


def _check_free(name: str, port: int) -> None:
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            name.strip("[]"), port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror:
        raise MarqueError(f"{_HOST} is {name!r}, which no address belongs to") from None
    except OSError as error:
        raise MarqueError(
            f"port {port} of {name} cannot be used ({error.strerror}); end what uses it, "
            f"or set {_PORT} to another"
        ) from None


def _loopback(name: str) -> bool:
    if name.lower() == "localhost":
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
