"""What strangers may not do: the real app in a process, asked over plain HTTP."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import draw_car
from gradio_client import Client, handle_file

ROOT = Path(__file__).parent.parent
META = {"meta": {"_type": "gradio.FileData"}}


@pytest.fixture(scope="module")
def url(tiny_checkpoint):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = os.environ | {
        "MARQUE_MODEL": str(tiny_checkpoint),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
    }
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the app stopped"
                assert time.monotonic() < deadline, "the app never answered"
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def private(tmp_path_factory) -> str:
    """A real picture that was never uploaded."""
    path = tmp_path_factory.mktemp("private") / "car.png"
    draw_car(1).save(path)
    return str(path)


def post(address: str, data: list):
    request = urllib.request.Request(
        address, json.dumps({"data": data}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def call(url: str, endpoint: str, data: list) -> str:
    """The events of a call, as text."""
    address = f"{url}/gradio_api/call/{endpoint}"
    event = post(address, data)["event_id"]
    with urllib.request.urlopen(f"{address}/{event}", timeout=60) as response:
        return response.read().decode()


@pytest.mark.parametrize(("endpoint", "second"), [("predict", 5), ("explain", None)])
@pytest.mark.parametrize("meta", [{}, META], ids=["plain", "meta"])
def test_paths_that_were_not_uploaded_get_one_answer(url, private, endpoint, second, meta):
    paths = [private, f"{private}.missing", "/etc/passwd", f"{private}\0"]
    answers = {call(url, endpoint, [{"path": path, **meta}, second]) for path in paths}
    assert len(answers) == 1, answers
    (answer,) = answers
    assert answer.startswith("event: error")
    if not meta:  # gradio itself refuses a payload with meta, without a reason
        assert "was not uploaded to this server" in answer


@pytest.mark.parametrize("door", ["run", "api"])
@pytest.mark.parametrize(("endpoint", "second"), [("predict", 5), ("explain", None)])
def test_nothing_answers_past_the_queue(url, private, door, endpoint, second):
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        post(f"{url}/gradio_api/{door}/{endpoint}", [{"path": private}, second])
    assert b"join the queue" in refused.value.read()


def test_an_uploaded_photo_is_answered(url, private):
    client = Client(url, verbose=False)
    try:
        answer = client.predict(image=handle_file(private), api_name="/predict")
    finally:
        client.close()
    assert answer["predictions"]
