"""The endpoints as programs call them: gradio_client, plain HTTP, and the app as a process."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import TINY_LABELS, draw_car
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from space.page import build_page, launch

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def url(tiny_recognizer):
    page = build_page(tiny_recognizer)
    _, url, _ = launch(page, prevent_thread_lock=True, quiet=True)
    yield url
    page.close()


@pytest.fixture(scope="module")
def client(url):
    with_client = Client(url, verbose=False)
    yield with_client
    with_client.close()


@pytest.fixture
def car(tmp_path) -> str:
    path = tmp_path / "a car.png"
    draw_car(1).save(path)
    return str(path)


def test_predict_answers_in_the_documented_form(client, car, tiny_recognizer):
    answer = client.predict(image=handle_file(car), api_name="/predict")
    expected = tiny_recognizer.predict(car)
    assert list(answer) == ["predictions", "makes", "model", "elapsed_ms"]
    assert [list(row) for row in answer["predictions"]] == [
        ["label", "make", "model", "year", "confidence"]
    ] * len(TINY_LABELS)
    assert [row["label"] for row in answer["predictions"]] == [
        prediction.label for prediction in expected.predictions
    ]
    assert answer["predictions"][0]["confidence"] == pytest.approx(
        expected.predictions[0].confidence, abs=1e-6
    )
    assert {row["make"] for row in answer["makes"]} == {"Audi", "BMW", "Land Rover"}
    assert answer["model"] == {
        "source": tiny_recognizer.source,
        "revision": tiny_recognizer.revision,
    }
    assert answer["elapsed_ms"] > 0


def test_a_year_is_a_number_or_null(client, car):
    predictions = client.predict(image=handle_file(car), api_name="/predict")["predictions"]
    assert {row["label"]: row["year"] for row in predictions} == {
        "Audi A4 Sedan 2012": 2012,
        "Land Rover Range Rover SUV 2012": 2012,
        "Audi TT Coupe": None,
        "BMW": None,
    }


def test_top_k_limits_the_answers(client, car):
    answer = client.predict(image=handle_file(car), top_k=2, api_name="/predict")
    assert len(answer["predictions"]) == len(answer["makes"]) == 2


@pytest.mark.parametrize("top_k", [0, -1])
def test_a_senseless_top_k_is_refused(client, car, top_k):
    with pytest.raises(AppError, match=f"top_k is {top_k}"):
        client.predict(image=handle_file(car), top_k=top_k, api_name="/predict")


def test_no_photo_is_refused(client):
    with pytest.raises(AppError, match="there is no photo"):
        client.predict(image=None, api_name="/predict")


def test_a_broken_photo_is_refused_by_its_name(client, tmp_path):
    broken = tmp_path / "broken.jpg"
    draw_car(2).save(broken)
    broken.write_bytes(broken.read_bytes()[:900])
    with pytest.raises(AppError, match=r"broken\.jpg is damaged"):
        client.predict(image=handle_file(str(broken)), api_name="/predict")


def test_a_heic_photo_is_answered(client, tmp_path):
    heic = tmp_path / "phone.heic"
    draw_car(3).save(heic)
    assert client.predict(image=handle_file(str(heic)), api_name="/predict")["predictions"]


def test_explain_returns_the_overlay(client, car):
    path = client.predict(image=handle_file(car), api_name="/explain")
    with Image.open(path) as overlay, Image.open(car) as photo:
        assert overlay.size == photo.size


def test_explain_takes_a_label(client, car):
    with Image.open(
        client.predict(image=handle_file(car), label="BMW", api_name="/explain")
    ) as overlay:
        assert overlay.format == "PNG"
    with pytest.raises(AppError, match="unknown label 'Trabant'"):
        client.predict(image=handle_file(car), label="Trabant", api_name="/explain")


def test_only_the_two_endpoints_are_public(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert {name: [p["parameter_name"] for p in e["parameters"]] for name, e in endpoints.items()} \
        == {"/predict": ["image", "top_k"], "/explain": ["image", "label"]}  # fmt: skip


def test_a_private_file_of_the_server_cannot_be_read(url):
    """A program may name uploads, not files of the machine."""
    body = {"data": [{"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}, 1]}
    request = urllib.request.Request(
        f"{url}gradio_api/call/predict",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        event = json.load(response)["event_id"]
    with urllib.request.urlopen(f"{url}gradio_api/call/predict/{event}") as response:
        result = response.read().decode()
    assert "event: error" in result
    assert "predictions" not in result
    assert "not a picture" not in result, "the file was opened"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_the_app_serves_the_checkpoint_that_marque_model_names(tiny_checkpoint, car):
    port = _free_port()
    environment = os.environ | {
        "MARQUE_MODEL": str(tiny_checkpoint),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
    }
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                client = Client(f"http://127.0.0.1:{port}", verbose=False)
                break
            except Exception:
                assert process.poll() is None, "the app stopped"
                assert time.monotonic() < deadline, "the app never answered"
                time.sleep(0.5)
        answer = client.predict(image=handle_file(car), api_name="/predict")
        client.close()
    finally:
        process.terminate()
        process.wait()
    assert answer["model"]["source"] == str(tiny_checkpoint)


def test_a_source_that_cannot_be_loaded_stops_the_app_with_one_line(tmp_path):
    result = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=os.environ | {"MARQUE_MODEL": str(tmp_path / "nowhere" / "at all")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("marque: there is no folder")
