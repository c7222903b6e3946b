"""The page under load: `python -m benchmarks.load`.

app.py runs as a process of its own, as on a Space. One client first sends every kind of request a
few times; then CLIENTS of them send for SECONDS, on every way in: uploads and data URLs,
`/predict`, `/explain` and the events of the page, broken photos, photos of 40 megapixels, uploads
whose connection is cut. At last FLOOD small calls at once name one uploaded photo of 40 megapixels,
on each of gradio's routes for calls, and nobody collects their answers. Told: how many answers
equal those that the one client got, how many broken photos were refused with their reason, what
hung, the time of an answer, and the memory (RSS) of the server after the one client and after all,
and its peak. Requests go to 127.0.0.1 alone. Written to benchmarks/load.json.
"""

import argparse
import base64
import io
import json
import os
import random
import re
import secrets
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from typing import Any

from benchmarks.drawn_car import draw_car
from space.checkpoints import write_json
from trainer.provenance import git_revision

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).with_name("load.json")
CLIENTS, SECONDS = 50, 90
PATIENCE = 120  # seconds after which an answer counts as hung
# Of a hundred requests. The others are good photos of ordinary size.
BROKEN, HUGE, CUT = 10, 5, 5
# Ways in, and how many of a hundred photos take each.
WAYS = {"predict": 70, "page": 20, "explain": 10}
FLOOD = 80
_SETTLED = 5  # seconds for the server to end what was cut


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    found = measure(options.clients, options.seconds)
    print(json.dumps(found, indent=1))
    write_json(RESULT, {**found, "git_revision": git_revision()})


def measure(clients: int, seconds: float, **variables: str) -> dict[str, Any]:
    """Starts the page, loads it, and ends it.

    Args:
        variables: more of the environment that app.py gets.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"GRADIO_TEMP_DIR": folder, "NO_PROXY": "127.0.0.1"} | variables
        server = Popen(
            [sys.executable, "-u", "app.py"], cwd=ROOT, env=environment, stdout=PIPE, stderr=STDOUT
        )
        try:
            url = address(server)
            load = Load(url)
            load.learn()
            time.sleep(_SETTLED)
            alone = rss(server.pid)
            load.run(clients, seconds)
            load.flood()
            time.sleep(_SETTLED)
            after = rss(server.pid)
            peak = rss(server.pid, peak=True)
        finally:
            server.terminate()
            server.wait(30)
    return {
        "clients": clients,
        "seconds": seconds,
        **load.told(),
        "rss_after_one_client_bytes": alone,
        "rss_after_all_bytes": after,
        "rss_growth": after / alone - 1,
        "rss_peak_bytes": peak,
    }


def rss(process: int, peak: bool = False) -> int:
    """The memory that a process has now, or had at most, in bytes."""
    text = Path(f"/proc/{process}/status").read_text("utf-8")
    return 1024 * int(re.findall(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+)", text)[0])


def address(server: Popen) -> str:
    """Where the page that a process starts is served, once it says so."""
    assert server.stdout
    printed = ""
    for line in server.stdout:
        printed += line.decode()
        if found := re.search(r"http://\S+:\d+", printed):
            # What is printed later must not fill the pipe.
            threading.Thread(target=server.stdout.read, daemon=True).start()
            return found[0]
    raise RuntimeError(f"the page did not start: {printed}")


class Load:
    """Clients of one page, and what became of their requests."""

    def __init__(self, url: str):
        """Clients of the page at `url`."""
        self._url = url
        self._expected: dict[tuple[bytes, str, bool], Any] = {}
        self._counts: Counter[str] = Counter()
        self._seconds: list[float] = []
        self._lock = threading.Lock()
        self._page = _page_event(url)

    @cached_property
    def _good(self) -> list[bytes]:
        return [_jpeg(seed, (640, 480)) for seed in range(8)]

    @cached_property
    def _huge(self) -> list[bytes]:
        # To draw them takes seconds, of which the start of the page has none.
        return [_jpeg(100 + seed, (8000, 5000)) for seed in range(2)]

    def learn(self) -> None:
        """One client's answers to every photo, twice on every way, and every other request."""
        for _ in range(2):
            for photo in [*self._good, *self._huge]:
                for way in WAYS:
                    for as_upload in (True, False) if photo in self._good else (True,):
                        answer = self.answer(photo, way, as_upload)
                        known = self._expected.setdefault((photo, way, as_upload), answer)
                        if known != answer or answer is None:
                            raise RuntimeError(f"one client alone got {known}, then {answer}")
            self.answer(self._good[0][:5000], "predict", as_upload=True)
            self._cut()

    def run(self, clients: int, seconds: float) -> None:
        """Sends from so many clients for so long, and waits for the last answers."""
        end = time.monotonic() + seconds
        threads = [
            threading.Thread(target=self._client, args=(number, end)) for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def flood(self) -> None:
        """FLOOD calls at once of one huge photo, on each route; returns when all are worked off."""
        value = self._upload(self._huge[0])
        body = json.dumps({"data": [value]}).encode()
        routes = ("call/predict", "run/predict", "api/predict")
        addresses = [f"{self._url}/gradio_api/{route}" for route in routes for _ in range(FLOOD)]

        def post(address: str) -> str:
            try:
                self._post(address, body)
            except ValueError as error:
                return f"refused with {error}"
            return "taken into the queue"

        with ThreadPoolExecutor(FLOOD) as pool:
            for address in addresses:
                kind = f"flood of {address.removeprefix(self._url)}"
                pool.submit(self._count, kind, post, address)
        while self._answered_when_free() is None:
            time.sleep(1)

    def _answered_when_free(self) -> Any:
        """An answer that waited behind all others; None while the queue takes no more."""
        try:
            return self.answer(self._good[0], "predict", as_upload=True)
        except ValueError:
            return None

    def told(self) -> dict[str, Any]:
        """What became of the requests."""
        seconds = sorted(self._seconds)
        return {
            "outcomes": dict(sorted(self._counts.items())),
            "p50_seconds": statistics.median(seconds),
            "p95_seconds": seconds[int(0.95 * (len(seconds) - 1))],
        }

    def _client(self, number: int, end: float) -> None:
        rng = random.Random(number)
        while time.monotonic() < end:
            drawn = rng.randrange(100)
            (way,) = rng.choices(list(WAYS), list(WAYS.values()))
            as_upload = rng.random() < 0.5
            if drawn < CUT:
                self._count("cut", self._cut)
            elif drawn < CUT + HUGE:
                self._count("huge", self._ask, rng.choice(self._huge), way, True)
            elif drawn < CUT + HUGE + BROKEN:
                broken = rng.choice(self._good)[: rng.randrange(200, 9000)]
                self._count("broken", self._refused, broken, way, as_upload)
            else:
                started = time.monotonic()
                self._count("good", self._ask, rng.choice(self._good), way, as_upload)
                with self._lock:
                    self._seconds.append(time.monotonic() - started)

    def _count(self, kind: str, request: Callable[..., str], *arguments: Any) -> None:
        try:
            outcome = request(*arguments)
        except TimeoutError:
            outcome = "hung"
        except (OSError, ValueError) as error:
            outcome = f"failed: {error}"[:80]
        with self._lock:
            self._counts[f"{kind}, {outcome}"] += 1

    def _ask(self, photo: bytes, way: str, as_upload: bool) -> str:
        answer = self.answer(photo, way, as_upload)
        if answer is None:
            return "refused"
        same = answer == self._expected[photo, way, as_upload]
        return "equal to one client's" if same else "another answer"

    def _refused(self, photo: bytes, way: str, as_upload: bool) -> str:
        # A photo that is cut late still shows a car, and is answered by what is there of it.
        answer = self.answer(photo, way, as_upload)
        return "answered" if answer is not None else "refused with a reason"

    def answer(self, photo: bytes, way: str, as_upload: bool) -> Any:
        """What one way in says of a photo, without its time; None when it says a reason instead."""
        value = self._upload(photo) if as_upload else _data_url(photo)
        return self._ask_page(value) if way == "page" else self._call(way, value)

    def _call(self, endpoint: str, value: dict[str, Any]) -> Any:
        address = f"{self._url}/gradio_api/call/{endpoint}"
        event = json.loads(self._post(address, json.dumps({"data": [value]}).encode()))
        told = _get(f"{address}/{event['event_id']}")
        name, _, data = told.rpartition("event: ")[2].partition("\n")
        content = json.loads(data.partition("data: ")[2])
        if name == "complete":
            return {key: part for key, part in content[0].items() if key != "elapsed_ms"}
        if not content or not content.get("error"):
            raise ValueError("refused without a reason")
        return None

    def _ask_page(self, value: dict[str, Any]) -> Any:
        """What the page shows of a photo, through the stream that its script reads."""
        session = secrets.token_hex(8)
        event = {"data": [value], "fn_index": self._page, "session_hash": session}
        self._post(f"{self._url}/gradio_api/queue/join", json.dumps(event).encode())
        told = _get(f"{self._url}/gradio_api/queue/data?session_hash={session}")
        messages = [json.loads(line[5:]) for line in told.splitlines() if line.startswith("data:")]
        shown = next(m["output"] for m in messages if m["msg"] == "process_completed")["data"]
        return None if 'role="alert"' in str(shown) else shown

    def _upload(self, photo: bytes) -> dict[str, Any]:
        body = _multipart(photo)
        answer = self._post(
            f"{self._url}/gradio_api/upload", body, "multipart/form-data; boundary=X"
        )
        return {"path": json.loads(answer)[0], "meta": {"_type": "gradio.FileData"}}

    def _cut(self) -> str:
        """An upload whose connection ends in the middle of it."""
        host, port = self._url.removeprefix("http://").split(":")
        body = _multipart(self._huge[0])
        head = (
            f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Content-Type: multipart/form-data; boundary=X\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            connection.sendall(head.encode() + body[: len(body) // 2])
        return "cut"

    def _post(self, address: str, body: bytes, kind: str = "application/json") -> bytes:
        request = urllib.request.Request(address, body, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            raise ValueError(f"status {error.code}") from None


def _page_event(url: str) -> int:
    """The number of the page's event that a new photo sets off."""
    events = json.loads(_get(f"{url}/config"))["dependencies"]
    return next(event["id"] for event in events if event["api_name"] == "show")


def _get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=PATIENCE) as response:
        return response.read().decode()


def _jpeg(seed: int, size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    draw_car(seed, size=size).save(file, "JPEG", quality=90)
    return file.getvalue()


def _multipart(photo: bytes) -> bytes:
    head = b'--X\r\nContent-Disposition: form-data; name="files"; filename="car.jpg"\r\n\r\n'
    return head + photo + b"\r\n--X--\r\n"


def _data_url(photo: bytes) -> dict[str, Any]:
    return {"url": f"data:image/jpeg;base64,{base64.b64encode(photo).decode()}"}


if __name__ == "__main__":
    main()
