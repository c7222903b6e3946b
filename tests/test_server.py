"""How the server starts and ends, what it forgets, and how long it waits for clients."""

import asyncio
import errno
import getpass
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvicorn
from apps import start
from conftest import draw_car
from test_strangers import answered, post, raw, upload

from benchmarks import load
from space import server, uploads
from space.errors import MarqueError
from space.guard import MAX_CALL_BYTES, MAX_LARGE_CALLS_BYTES, MAX_VALUES, Guard
from space.printable import printable
from space.server import PatientProtocol, hosts, prepare

ROOT = Path(__file__).parent.parent


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """The variables of the server, set for one test."""

    def set_all(**variables: str) -> None:
        for name in ("GRADIO_SERVER_PORT", "GRADIO_SERVER_NAME", "MARQUE_HOSTS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"GRADIO_SERVER_PORT": "abc"}, "GRADIO_SERVER_PORT is 'abc'; set it to a whole number"),
        ({"GRADIO_SERVER_PORT": "0"}, "GRADIO_SERVER_PORT is '0'; set it to a whole number from 1"),
        ({"GRADIO_SERVER_PORT": "70000"}, "from 1 to 65535"),
        ({"MARQUE_UPLOAD_SECONDS": "soon"}, "MARQUE_UPLOAD_SECONDS is 'soon'"),
        ({"GRADIO_TEMP_DIR": "/proc/none"}, "cannot be written .* name another place"),
        (
            {"GRADIO_SERVER_NAME": "256.0.0.1", "GRADIO_SERVER_PORT": "7993"},
            "'256.0.0.1', which no address belongs to",
        ),
    ],
)
def test_a_bad_environment_is_said_with_the_next_step(environment, variables, message):
    environment(**variables)
    with pytest.raises(MarqueError, match=message):
        prepare()


def test_a_taken_port_stops_the_app_with_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = subprocess.run(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env=os.environ | {"GRADIO_SERVER_PORT": port, "GRADIO_SERVER_NAME": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert f"port {port} of 127.0.0.1 cannot be used" in result.stderr


def test_only_a_page_of_this_machine_asks_for_its_names(environment):
    environment()
    assert hosts() == {"localhost", "127.0.0.1", "::1"}
    environment(MARQUE_HOSTS="cars.example, other.example")
    assert {"cars.example", "other.example"} < (hosts() or set())
    environment(GRADIO_SERVER_NAME="0.0.0.0")
    assert hosts() is None


def put(name: str, size: int, age: float) -> Path:
    """A file of the upload folder, `age` seconds old."""
    path = uploads.folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_the_sweep_goes_by_age_and_then_by_size(environment, tmp_path):
    environment()
    outside = tmp_path.parent / "outside"
    outside.write_bytes(b"mine")
    old, middle, late, new = (put(f"{age}/a", 100, age) for age in (4000, 900, 600, 5))
    link = tmp_path / "link"
    link.symlink_to(outside)
    os.utime(link, (0, 0), follow_symlinks=False)
    size = 100 + uploads.FILE_BYTES
    assert uploads.sweep(max_age=3600, max_bytes=4 * size) == 3 * size
    assert not old.exists()
    assert not link.is_symlink()
    assert outside.exists()
    assert uploads.sweep(max_age=3600, max_bytes=3 * size - 1) == 2 * size
    assert (middle.exists(), late.exists()) == (False, True)
    assert uploads.sweep(max_age=3600, max_bytes=0) == size  # what a call may wait for stays
    assert new.exists()


def test_a_full_upload_folder_takes_no_more_and_answers_in_flight_are_finished(
    tiny_checkpoint, tmp_path
):
    """And what an earlier process left is removed at the start, what this one got in its time."""
    folder = tmp_path / f"marque-uploads-{getpass.getuser()}"
    folder.mkdir()
    left = folder / "left"
    left.write_bytes(b"x")
    os.utime(left, (0, 0))
    process, url = start(
        ROOT, tmp_path / "log", MARQUE_MODEL=str(tiny_checkpoint), GRADIO_TEMP_DIR=str(tmp_path),
        MARQUE_UPLOAD_SECONDS="4", MARQUE_UPLOAD_BYTES="30000000",
    )  # fmt: skip
    try:
        assert not left.exists()
        (first,) = upload(url, [("first.png", b"x")])
        while Path(first).exists():  # until the test's own time limit
            assert process.poll() is None
            time.sleep(0.1)
        large = {"Content-Type": "multipart/form-data; boundary=X", "Content-Length": "31000000"}
        assert raw(url, "POST", "/gradio_api/upload", large).split()[1] == b"503"
        draw_car(3, size=(3000, 2000)).save(tmp_path / "large.png")
        (photo,) = upload(url, [("large.png", (tmp_path / "large.png").read_bytes())])
        address = f"{url}/gradio_api/call/explain"
        events = [post(address, [{"path": photo}])["event_id"] for _ in range(6)]
        streams = [urllib.request.urlopen(f"{address}/{event}", timeout=60) for event in events]
        process.send_signal(signal.SIGTERM)
        with ThreadPoolExecutor(len(streams)) as pool:
            answers = list(pool.map(lambda stream: stream.read().decode(), streams))
        assert all(answered(answer) for answer in answers)
        assert process.wait(30) == 0
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def patient(monkeypatch):
    """A server that waits for hundredths of its seconds."""
    for name in ("SECONDS_FOR_HEAD", "SECONDS_FOR_BODY", "SECONDS_FOR_READING"):
        monkeypatch.setattr(server, name, 0.3)

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        size = 2**26 if scope["path"] == "/large" else 2
        await send({"type": "http.response.body", "body": b"x" * size})

    running = uvicorn.Server(
        uvicorn.Config(app, port=0, http=PatientProtocol, lifespan="off", log_level="error")
    )
    thread = threading.Thread(target=lambda: asyncio.run(running.serve()), daemon=True)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield running
    running.should_exit = True
    thread.join()


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nHost: a\r\n"
     b"Content-Length: 9\r\n\r\nabc", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n"],
)  # fmt: skip
def test_a_client_that_keeps_the_server_waiting_is_let_go(patient, sent):
    with socket.create_connection(address_of(patient), timeout=30) as connection:
        connection.sendall(sent)
        received = b""
        try:
            while data := connection.recv(4096):
                received += data
        except ConnectionResetError:
            pass
    assert received.count(b"200 OK") == (
        1 if sent.startswith(b"GET") and b"\r\n\r\n" in sent else 0
    )


def test_a_client_that_does_not_read_is_let_go(patient):
    with socket.create_connection(address_of(patient), timeout=30) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(1)
        assert patient.server_state.connections
        while patient.server_state.connections:  # until the test's own time limit
            time.sleep(0.05)


def address_of(running: uvicorn.Server) -> tuple[str, int]:
    return running.servers[0].sockets[0].getsockname()


async def asked(guard: Guard, path: str = "/", receive=None, **headers: str):
    """What the guard answers to a request: its status, and the body as text."""
    sent = []

    async def send(message):
        sent.append(message)

    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    method = "POST" if receive else "GET"
    await guard({"type": "http", "method": method, "path": path, "headers": lines}, receive, send)
    return sent[0]["status"], sent[1]["body"].decode()


async def taken(scope, receive, send):
    """An application that reads what it gets."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"taken"})


@pytest.mark.parametrize(
    ("error", "own", "status"),
    [
        (KeyError("secret"), True, 500),
        (KeyError("secret"), False, 400),
        (OSError(errno.ENOSPC, "secret"), False, 500),
        (OSError(errno.ENAMETOOLONG, "secret"), False, 400),
        (ConnectionResetError(errno.ECONNRESET, "secret"), False, 400),
    ],
)
def test_an_error_is_told_apart_by_whose_it_is_and_its_place_is_logged(caplog, error, own, status):
    """Marque's own and the machine's are the server's; others are of requests it cannot take."""

    class Unprintable:
        def __str__(self):
            raise error

    async def app(scope, receive, send):
        (printable if own else str)(Unprintable())

    answered_with, body = asyncio.run(asked(Guard(app, ["predict"])))
    assert answered_with == status
    assert "secret" not in body
    assert f"{type(error).__name__} at test_server.py:" in caplog.text


def body_of(content: bytes):
    async def receive():
        return {"type": "http.request", "body": content, "more_body": False}

    return receive


def test_a_call_of_too_many_values_is_refused_before_it_is_read():
    guard = Guard(taken, ["predict"])

    def call(data: list):
        content = json.dumps({"data": data}).encode()
        length = {"content-length": str(len(content))}
        return asyncio.run(asked(guard, "/gradio_api/call/predict", body_of(content), **length))

    assert call([{"path": "a"}, 5]) == (200, "taken")
    assert call([{"url": "data:image/png;base64," + "A" * 10**6}])[0] == 200
    for data in ([0] * MAX_VALUES, [[[]] * MAX_VALUES], [{"a": {}}] * MAX_VALUES):
        status, body = call(data)
        assert status == 413
        assert "too many values" in body


def test_large_calls_share_the_memory_while_they_arrive():
    """As many as fit are waited for; the next one is refused, a small one is not."""
    guard = Guard(taken, ["predict"])
    path = "/gradio_api/call/predict"

    async def all_of_them():
        late = asyncio.Event()

        async def slow():
            await late.wait()
            return {"type": "http.disconnect"}

        large = {"content-length": str(MAX_CALL_BYTES)}
        fit = MAX_LARGE_CALLS_BYTES // MAX_CALL_BYTES
        waiting = [asyncio.create_task(asked(guard, path, slow, **large)) for _ in range(fit)]
        await asyncio.sleep(0)
        assert (await asked(guard, path, body_of(b"{}"), **large))[0] == 503
        small = {"content-length": "2"}
        assert (await asked(guard, path, body_of(b"{}"), **small))[0] == 200
        late.set()
        assert [status for status, _ in await asyncio.gather(*waiting)] == [400] * fit
        assert (await asked(guard, path, body_of(b"{}"), **large))[0] == 200

    asyncio.run(all_of_them())


def test_many_small_files_fill_the_upload_folder_like_few_large_ones(environment):
    environment()
    put("photo", 100_000, 5)
    guard = Guard(taken, ["predict"], max_folder_bytes=10_000_000)

    def upload_of(length: int):
        headers = {"content-length": str(length)}
        return asyncio.run(asked(guard, "/gradio_api/upload", body_of(b""), **headers))[0]

    assert upload_of(100_000) == 200  # promised what a thousand files would take
    assert upload_of(100_000) == 503
    assert upload_of(50) == 200


SECONDS, CLIENTS = 6, 8
FINE = (
    "good, equal to one client's",
    "huge, equal to one client's",
    "broken, refused with a reason",
    "cut, cut",
)
# Calls of which nobody collects the answer: taken, or refused as too many or as no way in.
FLOODED = re.compile(r"flood of \S+, (taken into the queue|refused with status (404|503))")


def test_memory_stays_after_many_clients_with_huge_photos():
    """A small `benchmarks.load`: its full size is for the benchmark."""
    found = load.measure(CLIENTS, SECONDS)
    assert not {
        name for name in found["outcomes"] if name not in FINE and not FLOODED.fullmatch(name)
    }
    assert sum(found["outcomes"].values()) > CLIENTS
    assert found["rss_growth"] < 0.2
