"""The endpoints as programs call them: gradio_client, plain HTTP, and the app as a process."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import asdict
from pathlib import Path

import gradio as gr
import pytest
from conftest import SIGHTS, TINY_LABELS, FoundAt, calibrate, draw_car
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from space.html import answer_html
from test_checkpoints import change_config
from test_strangers import post, upload

import space.page
from space.answers import MakeScore, ModelScore, Plausible, Prediction, Recognition, YearScore
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


def test_only_the_endpoints_are_public(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert {name: [p["parameter_name"] for p in e["parameters"]] for name, e in endpoints.items()} \
        == {"/predict": ["image", "top_k", "catalogue"], "/predict_all": ["image", "top_k"],
            "/check": ["image", "text"], "/explain": ["image", "label"]}  # fmt: skip


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


# What the page says, as HTML


def recognition(verdict: str, level: str | None, **changes) -> Recognition:
    """An answer to a photo of one of three Audis."""
    audi = Prediction("Audi A4 Sedan 2012", "Audi", "A4 Sedan", 2012, 0.55, 0.5)
    given = {
        "reason": "so it is",
        "predictions": (audi,),
        "makes": (MakeScore("Audi", 0.99),),
        "models": (ModelScore("Audi", "A4 Sedan", 0.94),),
        "years": (YearScore(2012, 0.55), YearScore(2008, 0.35), YearScore(2003, 0.001)),
        "plausible": Plausible(("Audi A4 Sedan 2012", "Audi A4 Sedan 2008", "<Audi>"), 0.95),
    }
    return Recognition(verdict, level=level, **given | changes)


def cells(markup: str) -> dict[str, tuple[str, str]]:
    """Name to confidence and text of each part of the answer."""
    parts = re.findall(r"<div><dt>(.*?)</dt><dd[^>]*>(.*?)</dd></div>", markup)
    found = {}
    for name, value in parts:
        title, share = re.fullmatch(r"<span>(.*?)</span><span>(.*?)</span>", name).groups()
        found[title] = (share, re.sub(r"<small>(.*?)</small>", r" (\1)", value))
    return found


@pytest.mark.parametrize(
    ("level", "make", "model", "year"),
    [
        ("year", "Audi", "A4 Sedan", "2012"),
        ("model", "Audi", "A4 Sedan", "unsure: 2008–2012 (perhaps 2012)"),
        ("make", "Audi", "unsure (perhaps A4 Sedan)", "unsure: 2008–2012 (perhaps 2012)"),
        (
            None,
            "unsure (perhaps Audi)",
            "unsure (perhaps A4 Sedan)",
            "unsure: 2008–2012 (perhaps 2012)",
        ),
    ],
)
def test_what_is_unsure_says_so(level, make, model, year):
    assert cells(answer_html(recognition("review", level), calibrated=True)) == {
        "Make": ("99%", make),
        "Model": ("94%", model),
        "Year": ("55%", year),
    }


def test_an_uncalibrated_answer_is_shown_as_it_is():
    found = cells(answer_html(recognition("review", None), calibrated=False))
    assert [value for _, value in found.values()] == ["Audi", "A4 Sedan", "2012"]


@pytest.mark.parametrize("verdict", ["auto-tag", "review", "rejected"])
def test_the_verdict_is_a_badge_with_its_reason(verdict):
    markup = answer_html(recognition(verdict, None, reason="a <b> & more"), calibrated=True)
    assert f'<b class="{verdict}">{verdict.capitalize()}</b>' in markup
    assert "<span>A &lt;b&gt; &amp; more.</span>" in markup


def test_a_rejected_photo_has_a_nearest_class_and_no_answer():
    markup = answer_html(recognition("rejected", None), calibrated=True)
    assert cells(markup) == {}
    assert markup.index("Rejected") < markup.index("Nearest known class: Audi A4 Sedan 2012")
    assert "times in 100" not in markup


@pytest.mark.parametrize("level", ["model", "make", None])
def test_what_a_label_does_not_say_is_not_known(level):
    clio = Prediction("clio", "Renault", "Clio", None, 0.9, 0.9)
    answer = recognition(
        "review", level, predictions=(clio,), models=(ModelScore("Renault", "Clio", 0.9),), years=()
    )
    found = cells(answer_html(answer, calibrated=True))
    assert found["Year"] == ("", "not known")
    assert found["Make"][0] == ""  # its make is not among those given


def test_the_plausible_classes_are_named():
    markup = answer_html(recognition("review", None), calibrated=True)
    assert "One of these 3, right 95 times in 100:" in markup
    assert "Audi A4 Sedan 2012, Audi A4 Sedan 2008, &lt;Audi&gt;" in markup


def test_many_plausible_classes_are_counted():
    labels = tuple(f"class {i}" for i in range(9))
    answer = recognition("review", None, plausible=Plausible(labels, 0.99))
    markup = answer_html(answer, calibrated=True)
    assert "One of these 9, right 99 times in 100:" in markup
    assert "class 4 and 4 more" in markup


@pytest.mark.parametrize("plausible", [Plausible(("one",), 0.95), Plausible(("one",), None)])
def test_a_single_plausible_class_is_the_answer_itself(plausible):
    answer = recognition("review", None, plausible=plausible)
    assert "times in 100" not in answer_html(answer, calibrated=True)


def test_the_page_says_what_its_checkpoint_can_tell(tiny_checkpoint, calibrated_folder):
    def about(folder):
        page = build_page(CarRecognizer.from_pretrained(folder))
        return [b.value for b in page.blocks.values() if isinstance(b, gr.Markdown)][-1]

    nearest = "names the nearest of them even when the photo shows something else"
    exterior = "rejects photos that show no car from outside, as far"
    plain = about(tiny_checkpoint)
    assert nearest in plain
    assert "uncalibrated" in plain
    both = about(calibrated_folder)
    assert "no car from outside and cars unlike all of them" in both
    assert "confidences are calibrated" in both
    assert exterior in about(calibrate(calibrated_folder, known=None))
    assert nearest in about(calibrate(calibrated_folder, known=None, gate=None))


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
    load_photo = space.page.load_photo

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
    monkeypatch.setattr("space.page.load_photo", counted)
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
