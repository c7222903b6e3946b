"""A web server for tests that behaves as badly as it is told to: a real one, on this machine.

with PhotoServer() as server:
    url = server.add("car.jpg", photo_bytes(draw_car(1)))
    slow = server.add("slow.jpg", photo, trickle=True)
    moody = server.add("moody.jpg", photo, before=[Answer(status=503)])
"""

import io
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def photo_bytes(picture, format: str = "JPEG", **options: Any) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


@dataclass(frozen=True)
class Answer:
    """How one request is answered.

    Attributes:
        announced: the Content-Length that is claimed; None for the true one, -1 for none at all.
        stall: nothing is ever answered.
        trickle: "head" or "body": it comes a byte at a time, and never ends.
        drop_after: the connection breaks after so many bytes of the body.
        hold: seconds before the answer, in which other requests pile up.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None
    stall: bool = False
    trickle: str = ""
    drop_after: int | None = None
    hold: float = 0.0


@dataclass
class Place:
    """What lies at a path.

    Attributes:
        before: answers to the first requests, one each; then comes `answer`.
        closed_for: seconds after the first request in which it answers 429 and says so.
    """

    answer: Answer
    before: list[Answer] = field(default_factory=list)
    closed_for: int = 0
    first_asked: float | None = None


class PhotoServer:
    """Answers within `with`; `asked` counts requests by path, `agents` holds who asked."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self.asked: Counter[str] = Counter()
        self.agents: set[str] = set()
        self.most_at_once: Counter[str] = Counter()  # by the host that was asked for
        self.over = threading.Event()
        self._now: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def add(
        self,
        path: str,
        body: bytes = b"",
        *,
        before: Sequence[Answer] = (),
        closed_for: int = 0,
        host: str = "127.0.0.1",
        **behavior: Any,
    ) -> str:
        """Puts something at a path; returns its address at one of this machine's names."""
        self.places[f"/{path}"] = Place(Answer(body, **behavior), list(before), closed_for)
        return f"http://{host}:{self._server.server_port}/{path}"

    def __enter__(self) -> "PhotoServer":
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def enter(self, path: str, host: str) -> Answer:
        """Counts a request and says how to answer it."""
        with self._lock:
            self.asked[path] += 1
            self._now[host] += 1
            self.most_at_once[host] = max(self.most_at_once[host], self._now[host])
            place = self.places.get(path, Place(Answer(status=404)))
            place.first_asked = place.first_asked or time.monotonic()
            if time.monotonic() - place.first_asked < place.closed_for:
                return Answer(status=429, headers={"Retry-After": str(place.closed_for)})
            return place.before.pop(0) if place.before else place.answer

    def leave(self, host: str) -> None:
        with self._lock:
            self._now[host] -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, photos: PhotoServer):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.photos = photos

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps broken connections, which some tests are about, out of the tests' output."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        photos = self.server.photos
        host = self.headers["Host"].rpartition(":")[0]
        photos.agents.add(self.headers["User-Agent"])
        answer = photos.enter(self.path, host)
        try:
            photos.over.wait(answer.hold)
            self._answer(answer, photos.over)
        except OSError:
            self.close_connection = True  # the other side has had enough
        finally:
            photos.leave(host)

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps the tests' output free of one line per request."""

    def _answer(self, answer: Answer, over: threading.Event) -> None:
        if answer.stall:
            over.wait()
            self.close_connection = True
            return
        if answer.trickle == "head":
            self._trickle(b"HTTP/1.1 200 OK\r\nX-Patience: ", over)
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        length = len(answer.body) if answer.announced is None else answer.announced
        if answer.announced == -1:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if answer.trickle:
            self._trickle(answer.body[:100], over)
            return
        self.wfile.write(answer.body[: answer.drop_after])
        if answer.drop_after is not None or length != len(answer.body):
            self.close_connection = True

    def _trickle(self, start: bytes, over: threading.Event) -> None:
        self.close_connection = True
        self.wfile.write(start)
        while not over.wait(0.02):
            self.wfile.write(b"x")
