"""The endpoints as programs call them: gradio_client, plain HTTP, and the app as a process."""

import ast
import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import asdict
from pathlib import Path

import jsonschema
import pytest
from conftest import SIGHTS, TINY_LABELS, FoundAt, draw_car
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from PIL import Image
from test_checkpoints import change_config
from test_strangers import post, upload

import scripts.api_schema as api_schema
import space.web.endpoints
from space.boxes import Box
from space.gate import CAR, OTHER, PART
from space.page import build_page, launch
from space.recognizer import CarRecognizer

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
    assert list(answer) == [
        "verdict", "reason", "level", "predictions", "makes", "models", "years", "plausible",
        "box", "cars_found", "catalogue", "model", "elapsed_ms",
    ]  # fmt: skip
    assert answer["box"] is answer["cars_found"] is None  # this checkpoint looks at whole photos
    assert (answer["verdict"], answer["level"]) == ("review", None)
    assert "uncalibrated" in answer["reason"]
    assert answer["plausible"] == {"labels": [expected.predictions[0].label], "coverage": None}
    assert [list(row) for row in answer["predictions"]] == [
        ["label", "make", "model", "year", "confidence", "score"]
    ] * len(TINY_LABELS)
    assert [row["label"] for row in answer["predictions"]] == [
        prediction.label for prediction in expected.predictions
    ]
    assert answer["predictions"][0]["confidence"] == pytest.approx(
        expected.predictions[0].confidence, abs=1e-6
    )
    assert {row["make"] for row in answer["makes"]} == {"Audi", "BMW", "Land Rover"}
    assert [list(row) for row in answer["models"]] == [["make", "model", "confidence"]] * 4
    assert answer["years"] == [asdict(score) for score in expected.years]
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
    assert len(answer["predictions"]) == len(answer["makes"]) == len(answer["models"]) == 2


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


def test_every_car_of_a_photo_is_answered(calibrated_folder, car, monkeypatch):
    change_config(calibrated_folder, car_crop={"margin": 0.0})
    boxes = Box(0.5, 0.25, 1.0, 1.0), Box(0.0, 0.25, 0.25, 0.75)
    monkeypatch.setattr("space.preprocessing.Detector", lambda: FoundAt(*boxes))
    recognizer = CarRecognizer.from_pretrained(calibrated_folder)
    page = build_page(recognizer)
    _, url, _ = launch(page, prevent_thread_lock=True, quiet=True)
    try:
        client = Client(url, verbose=False)
        one = client.predict(image=handle_file(car), top_k=2, api_name="/predict")
        all_cars = client.predict(image=handle_file(car), top_k=2, api_name="/predict_all")
        client.close()
    finally:
        page.close()
    assert list(all_cars) == ["cars", "model", "elapsed_ms"]
    assert [(answer["box"], answer["cars_found"]) for answer in all_cars["cars"]] == [
        (list(box), 2) for box in boxes
    ]
    assert all_cars["model"] == one["model"]
    assert list(all_cars["cars"][0]) == [key for key in one if key not in ("model", "elapsed_ms")]
    assert all_cars["cars"][0]["predictions"][0]["label"] == one["predictions"][0]["label"]
    expected = recognizer.predict_all(car, 2)
    assert [answer["predictions"][0]["label"] for answer in all_cars["cars"]] == [
        answer.predictions[0].label for answer in expected
    ]


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


def test_explain_tells_two_classes_apart(client, car):
    def ask(**named):
        with Image.open(
            client.predict(image=handle_file(car), label="BMW", api_name="/explain", **named)
        ) as overlay:
            return overlay.convert("RGB").tobytes()

    assert ask(against="Land Rover Range Rover SUV 2012") != ask()
    with pytest.raises(AppError, match="unknown label 'Trabant'"):
        ask(against="Trabant")


def test_many_photos_are_answered_at_once(client, car, tiny_recognizer, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as packed:
        packed.write(car, "inside/b.png")
        packed.writestr("__MACOSX/._b.png", b"noise")
        packed.writestr(".hidden", b"noise")
    files = [handle_file(str(path)) for path in (car, broken, tmp_path / "more.zip")]
    answer = client.predict(images=files, top_k=2, api_name="/predict_batch")
    assert list(answer) == ["answers", "model", "elapsed_ms"]
    assert [one["name"] for one in answer["answers"]] == ["a car.png", "broken.jpg", "inside/b.png"]
    first, second, third = answer["answers"]
    expected = tiny_recognizer.predict(car, 2)
    labels = [prediction.label for prediction in expected.predictions]
    assert [one["label"] for one in first["predictions"]] == labels
    assert first["error"] is third["error"] is None
    assert second["error"] == "broken.jpg is not a picture in any format known here"
    assert [one["label"] for one in third["predictions"]] == labels
    with pytest.raises(AppError, match="there are no photos"):
        client.predict(images=[], api_name="/predict_batch")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (["car.jpg"], "the photos are text; send a list of uploaded files"),
        ([["car.jpg"]], "the photo is text; send the path of an uploaded file"),
        ([[{"path": "/etc/hostname"}]], "was not uploaded to this server"),
        ([[]], "there are no photos"),
        ([None], "there are no photos"),
    ],
)
def test_mistakes_in_a_call_of_many_photos_are_told(url, data, reason):
    address = f"{url.rstrip('/')}/gradio_api/call/predict_batch"
    event = post(address, data)["event_id"]
    told = urllib.request.urlopen(f"{address}/{event}", timeout=60).read().decode()
    assert "event: error" in told
    assert reason in told


def test_a_catalogue_confines_the_answer(client, car, tiny_recognizer):
    def ask(catalogue):
        return client.predict(image=handle_file(car), catalogue=catalogue, api_name="/predict")

    answer = ask("Audi, 2012")
    expected = tiny_recognizer.within(["Audi", "2012"]).predict(car)
    assert answer["catalogue"] == "Audi, 2012"
    assert [one["label"] for one in answer["predictions"]] == [
        one.label for one in expected.predictions
    ]
    assert ask(None)["catalogue"] is None
    assert ask("")["catalogue"] is None
    with pytest.raises(AppError, match="knows no 'Audii' for a catalogue; the nearest names are A"):
        ask("Audii")
    with pytest.raises(AppError, match=r"knows no '/etc/passwd\.txt'"):  # no file is opened
        ask("/etc/passwd.txt")


def test_a_text_is_checked(client, car):
    def ask(text):
        return client.predict(image=handle_file(car), text=text, api_name="/check")

    answer = ask("Lada Niva")
    assert list(answer) == ["result", "reason", "confidence", "recognition", "model"]
    assert answer["result"] == "cannot tell"
    assert answer["recognition"]["predictions"]
    with pytest.raises(AppError, match="there is nothing to check"):
        ask(" ")


def test_answers_are_as_the_json_schema_of_the_docs_says(client, car, tmp_path):
    schema = json.loads(api_schema.PATH.read_text("utf-8"))
    assert schema == api_schema.schema()
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(schema["endpoints"]) == set(endpoints)
    for name, told in schema["endpoints"].items():
        takes = [one["parameter_name"] for one in endpoints[name]["parameters"]]
        assert list(told["input"]["properties"]) == takes
    photo = handle_file(car)
    (tmp_path / "notes.jpg").write_text("no picture")
    answers = {
        "predict": client.predict(image=photo, api_name="/predict"),
        "predict_all": client.predict(image=photo, api_name="/predict_all"),
        "predict_batch": client.predict(
            images=[photo, handle_file(str(tmp_path / "notes.jpg"))], api_name="/predict_batch"
        ),
        "check": client.predict(image=photo, text="Audi A4", api_name="/check"),
    }
    for name, answer in answers.items():
        jsonschema.validate(answer, schema | {"$ref": f"#/$defs/{name}"})
    del answers["predict"]["verdict"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(answers["predict"], schema | {"$ref": "#/$defs/predict"})


def test_only_the_endpoints_are_public(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert {name: [p["parameter_name"] for p in e["parameters"]] for name, e in endpoints.items()} \
        == {"/predict": ["image", "top_k", "catalogue"], "/predict_all": ["image", "top_k"],
            "/predict_batch": ["images", "top_k", "catalogue"], "/check": ["image", "text"],
            "/explain": ["image", "label", "against"]}  # fmt: skip


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


@pytest.mark.parametrize(
    ("kind", "verdict", "level"), [(CAR, "auto-tag", "year"), (OTHER, "rejected", None)]
)
def test_a_calibrated_checkpoint_gives_its_verdict(
    calibrated_recognizer, tmp_path, kind, verdict, level
):
    SIGHTS[kind].save(tmp_path / "photo.png")
    expected = calibrated_recognizer.predict(tmp_path / "photo.png")
    page = build_page(calibrated_recognizer)
    (predict,) = [fn.fn for fn in page.fns.values() if fn.api_name == "predict"]
    answer = json.loads(json.dumps(predict(str(tmp_path / "photo.png"))))
    assert (answer["verdict"], answer["level"]) == (verdict, level)
    assert answer["reason"] == expected.reason
    assert answer["plausible"] == {"labels": list(expected.plausible.labels), "coverage": 0.95}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_the_app_serves_the_checkpoint_that_the_environment_names(calibrated_checkpoint, tmp_path):
    photo = tmp_path / "dark.png"
    SIGHTS[PART].save(photo)
    port = _free_port()
    environment = os.environ | {
        "MARQUE_MODEL": str(calibrated_checkpoint),
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
        answer = client.predict(image=handle_file(photo), api_name="/predict")
        client.close()
    finally:
        process.terminate()
        process.wait()
    assert answer["model"]["source"] == str(calibrated_checkpoint)
    assert answer["verdict"] == "rejected"


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


def test_two_photos_at_once_are_opened_whatever_the_way_in(tiny_recognizer, car, monkeypatch):
    inside, most, opened = 0, 0, 0
    lock, pair = threading.Lock(), threading.Barrier(2)
    load_photo = space.web.endpoints.load_photo

    def counted(*arguments, **named):
        nonlocal inside, most, opened
        with lock:
            inside, opened = inside + 1, opened + 1
            most = max(most, inside)
        pair.wait(60)  # it takes two
        picture = load_photo(*arguments, **named)
        with lock:
            inside -= 1
        return picture

    page = build_page(tiny_recognizer)
    _, url, _ = launch(page, prevent_thread_lock=True, quiet=True)
    monkeypatch.setattr("space.web.endpoints.load_photo", counted)
    url = url.rstrip("/")
    try:
        (path,) = upload(url, [("car.png", Path(car).read_bytes())])
        calls = [
            (f"{url}/gradio_api/call/{endpoint}", post(f"{url}/gradio_api/call/{endpoint}", data))
            for endpoint, data in (
                ("predict", [{"path": path}]),
                ("predict_all", [{"path": path}]),
                ("explain", [{"path": path}]),
            )
            * 2
        ]
        shown = next(fn._id for fn in page.fns.values() if fn.api_name == "show")
        sessions = ["one", "two"]
        for session in sessions:
            about = {"fn_index": shown, "session_hash": session}
            post(f"{url}/gradio_api/queue/join", [{"path": path}], **about)
        for address, event in calls:
            urllib.request.urlopen(f"{address}/{event['event_id']}", timeout=60).read()
        for session in sessions:
            stream = f"{url}/gradio_api/queue/data?session_hash={session}"
            urllib.request.urlopen(stream, timeout=60).read()
    finally:
        page.close()
    assert opened == len(calls) + len(sessions)
    assert most == 2


def test_nothing_that_a_space_asks_for_answers_past_the_guard(tiny_recognizer, monkeypatch):
    for name in ("GRADIO_SSR_MODE", "GRADIO_MCP_SERVER"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("GRADIO_NUM_WORKERS", "1")
    page = build_page(tiny_recognizer)
    launch(page, prevent_thread_lock=True, quiet=True)
    try:
        assert not page.ssr_mode
        assert not page.mcp_server
        assert not hasattr(page, "_static_worker_pool")
    finally:
        page.close()


def test_the_endpoints_are_tools_of_the_model_context_protocol(tiny_recognizer, car):
    page = build_page(tiny_recognizer)
    _, url, _ = launch(page, prevent_thread_lock=True, quiet=True, mcp=True)
    photo = "data:image/png;base64," + base64.b64encode(Path(car).read_bytes()).decode()

    async def ask():
        async with (
            streamable_http_client(f"{url}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            answer = await session.call_tool("predict", {"image": photo, "top_k": 2})
            hidden = await session.call_tool("predict", {"image": "http://127.0.0.1:1/a.jpg"})
            file = await session.call_tool("predict", {"image": "/etc/hostname"})
            return tools, answer, hidden, file

    try:
        tools, answer, hidden, file = asyncio.run(ask())
    finally:
        page.close()
    assert set(tools) == {"predict", "predict_all", "predict_batch", "check", "explain"}
    assert "Names the most prominent car" in tools["predict"].description
    expected = tiny_recognizer.predict(car, 2)
    told = ast.literal_eval(answer.content[0].text)  # as gradio writes objects for agents
    assert told["predictions"][0]["label"] == expected.predictions[0].label
    assert hidden.isError  # nothing is fetched for a visitor
    assert "upload it first" in hidden.content[0].text
    assert file.isError


def test_without_being_asked_for_there_are_no_such_tools(url):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}gradio_api/mcp/")
