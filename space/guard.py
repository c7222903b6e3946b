"""What stands before gradio: which requests reach it, how large they may be, and what goes out.

An ASGI middleware. gradio serves many routes that this page has no use for (a dashboard of its
traffic, calls of component functions, a proxy, recordings); only those of the page pass.
"""

import asyncio
import errno
import json
import logging
import math
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from space import uploads
from space.photos import MAX_BYTES
from space.printable import printable

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_CALL_BYTES = 8 * 2**20  # of a call's JSON: arguments, and photos of 6 MB as data URLs
MAX_UPLOAD_BYTES = MAX_BYTES + 2**20  # of a whole upload, with the lines around its files
# Small calls have memory enough; larger ones share this much while they arrive.
SMALL_CALL_BYTES = 64 * 2**10
MAX_LARGE_CALLS_BYTES = 128 * 2**20
# Of a call's JSON: lists and objects take thirty times their text as memory, and wait in the queue.
MAX_VALUES = 1000
SECONDS_FOR_ANSWER = 600  # that a program may wait for one, the queue included
_COUNT_EVERY = 60  # seconds between looks at the upload folder, while there is room
_MAX_FILES = 1000  # that gradio takes from one upload
_FILE_HEAD = 64  # bytes at least around a file in an upload

_API = "/gradio_api"
_UPLOAD = f"{_API}/upload"
_FILE = f"{_API}/file="
_MCP = f"{_API}/mcp"
_ROUTES = {
    *("/", "/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json"),
    *(f"{_API}/{name}" for name in ("info", "theme.css", "app_id", "startup-events", "cancel")),
    *(f"{_API}/{name}" for name in ("reset", "upload_progress", "queue/join", "queue/data")),
    _UPLOAD,
}
_BELOW = ("/assets/", "/static/", "/svelte/", f"{_API}/heartbeat/")

# Streams that gradio 6.31 never ends where the event that they tell of is over.
_STREAMS = (f"{_API}/call/", f"{_API}/queue/data", f"{_API}/upload_progress")

# The client's part in an error of the system, such as a file name that is too long. All others,
# such as a full disk, are this server's.
_FROM_CLIENT = {errno.ENAMETOOLONG, errno.EINVAL, errno.EISDIR, errno.ENOENT, errno.ENOTDIR}

# gradio 6.31 writes scripts and styles into its page and evaluates the templates of gr.HTML: it
# needs both "unsafe" words. A Space shows the page in a frame of huggingface.co.
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "content-security-policy": "; ".join(
        [
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "media-src 'self' data: blob:",
            "font-src 'self' data:",
            "worker-src 'self' blob:",
            "connect-src 'self' data: blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'self' https://huggingface.co https://*.huggingface.co "
            "https://*.hf.space",
        ]
    ),
}

_log = logging.getLogger("marque")


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """A request gets a status and a sentence in place of an answer."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


class Guard:
    """Lets the requests of one page through to gradio.

    Args:
        app: gradio's application.
        endpoints: the names that may be called.
        hosts: names by which this server may be addressed, where it serves this machine alone; a
            page elsewhere that gets its name to point here, or posts here blindly, is refused.
            None: any, since whoever reaches a public page may ask it.
        max_folder_bytes: the room for uploads.
        mcp: whether the Model Context Protocol may be spoken. gradio's tools for it call the
            endpoints over HTTP, so that they pass here too.
    """

    def __init__(
        self,
        app: App,
        endpoints: Collection[str],
        hosts: Collection[str] | None = None,
        max_folder_bytes: float = uploads.MAX_FOLDER_BYTES,
        mcp: bool = False,
    ):
        self._app = app
        self._routes = _ROUTES | ({_MCP} if mcp else set())
        self._endpoints = endpoints
        self._hosts = hosts
        self._max_folder_bytes = max_folder_bytes
        self._uploading = 0  # bytes that were promised room and are not all there yet
        self._taken = 0  # bytes in the folder when it was counted, and promised since
        self._counted = -math.inf  # when that was
        self._counting = asyncio.Lock()
        self._large_calls = 0  # bytes of large calls that are arriving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                there = {name.lower() for name, _ in message.get("headers", ())}
                message["headers"] = list(message.get("headers", ())) + [
                    (name.encode(), value.encode())
                    for name, value in _HEADERS.items()
                    if name.encode() not in there
                ]
            await send(message)

        try:
            headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
            self._check_names(scope["method"], headers)
            self._check_route(scope["path"])
            if scope["method"] in ("POST", "PUT", "PATCH", "DELETE"):
                await self._take(scope, receive, send_with_headers, _length(headers))
            else:
                streams = scope["path"].startswith(_STREAMS)
                async with asyncio.timeout(SECONDS_FOR_ANSWER if streams else None):
                    await self._app(scope, receive, send_with_headers)
        except Exception as error:
            failure = _first(error)
            asked = f"{scope['method']} {printable(scope['path'][:200])}"
            if isinstance(failure, Refused):
                status, sentence, why = failure.status, str(failure), str(failure)
            else:
                place, ours = _place(failure)
                if ours or _of_system(failure):
                    status, sentence = 500, "this request failed; the log of the server says why"
                else:  # gradio's, of requests that it does not expect
                    status = 400
                    sentence = "this request cannot be answered; the README says which can"
                why = f"{type(failure).__name__} at {place}: {printable(str(failure)[:300])}"
            _log.warning("refused %s: %s", asked, why)
            if started:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            body = json.dumps({"detail": sentence}).encode()
            about = [(b"content-type", b"application/json"), (b"connection", b"close")]
            about.append((b"content-length", str(len(body)).encode()))
            await send_with_headers(
                {"type": "http.response.start", "status": status, "headers": about}
            )
            await send({"type": "http.response.body", "body": body})

    async def _take(self, scope: Scope, receive: Receive, send: Send, length: int) -> None:
        """Passes on a request that has a body, within the limits of size."""
        upload = scope["path"].rstrip("/") == _UPLOAD
        limit = MAX_UPLOAD_BYTES if upload else MAX_CALL_BYTES
        if length > limit:
            raise Refused(413, f"this request is too large; the limit is {limit // 2**20} MiB")
        if upload:
            await self._promise_room(length)
            try:
                await self._app(scope, receive, send)
            finally:
                self._uploading -= length
            return
        large = length if length > SMALL_CALL_BYTES else 0
        if self._large_calls + large > MAX_LARGE_CALLS_BYTES:
            raise Refused(503, "too many large calls arrive at the moment; try again in a minute")
        self._large_calls += large
        try:
            await self._app(scope, await _checked_body(receive), send)
        finally:
            self._large_calls -= large

    async def _promise_room(self, length: int) -> None:
        """Promises an upload its room in the folder, or refuses it."""
        files = min(_MAX_FILES, length // _FILE_HEAD)
        needed = length + files * uploads.FILE_BYTES
        full = Refused(503, "there is no room for uploads at the moment; try again in an hour")
        if self._uploading + length > self._max_folder_bytes:
            raise full
        async with self._counting:
            age = time.monotonic() - self._counted
            if age > _COUNT_EVERY or (self._taken + needed > self._max_folder_bytes and age > 1):
                room = self._max_folder_bytes - self._uploading - needed
                left = await asyncio.to_thread(uploads.sweep, math.inf, room)
                self._taken = self._uploading + left
                self._counted = time.monotonic()
            if self._taken + needed > self._max_folder_bytes:
                raise full
            self._taken += needed
            self._uploading += length

    def _check_names(self, method: str, headers: MutableMapping[str, bytes]) -> None:
        if self._hosts is None:
            return
        host = _host(headers.get("host", b""))
        if host not in self._hosts:
            raise Refused(
                421, "this server answers under the names of its machine; MARQUE_HOSTS adds others"
            )
        origin = headers.get("origin")
        if method == "POST" and origin is not None and _host(origin) not in self._hosts:
            raise Refused(403, "pages elsewhere may not post here; MARQUE_HOSTS adds their hosts")

    def _check_route(self, path: str) -> None:
        # gradio's routes take a slash at the end, and none
        route = path.rstrip("/") or "/"
        if route in self._routes or path.startswith(_BELOW):
            return
        if path.startswith(_FILE):
            try:
                uploads.received(path.removeprefix(_FILE))
                return
            except uploads.UploadError:
                raise Refused(404, "there is no such file") from None
        parts = route.removeprefix(f"{_API}/call/").removeprefix("v2/").split("/")
        if route.startswith(f"{_API}/call/") and parts[0] in self._endpoints and len(parts) <= 2:
            return
        known = ", ".join(f"/call/{name}" for name in sorted(self._endpoints))
        raise Refused(404, f"there is nothing here; programs may ask {_API}{known}")


async def _checked_body(receive: Receive) -> Receive:
    """Reads a call, refuses one of too many values, and passes it on as a whole."""
    parts = []
    message: Message = {"more_body": True}
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the call broke off")
        parts.append(message.get("body", b""))
    body = b"".join(parts)
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise Refused(413, f"this call holds too many values; the limit is {MAX_VALUES}")
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return whole.pop() if whole else await receive()

    return replayed


def _length(headers: MutableMapping[str, bytes]) -> int:
    """The length of a body that says it."""
    if "transfer-encoding" in headers or not headers.get("content-length", b"").isdigit():
        raise Refused(411, "this request does not say its length; send Content-Length")
    return int(headers["content-length"])


def _host(address: bytes) -> str:
    """The host of a Host or Origin header."""
    text = address.decode("latin-1")
    try:
        return urlsplit(text if "//" in text else f"//{text}").hostname or ""
    except ValueError:
        return ""


def _place(error: BaseException) -> tuple[str, bool]:
    """Where an error was raised, and whether Marque's own code below the guard took part in it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = Path(__file__).parent
    ours = any(Path(f.filename).parent == own and f.filename != __file__ for f in frames)
    last = frames[-1]
    return f"{Path(last.filename).name}:{last.lineno}", ours


def _of_system(error: BaseException) -> bool:
    """Whether the machine failed, such as one whose disk is full."""
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
        return error.errno is not None and error.errno not in _FROM_CLIENT
    return isinstance(error, MemoryError)


def _first(error: BaseException) -> BaseException:
    """What failed, out of the groups that streams wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
