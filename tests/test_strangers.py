"""What strangers may not do: the real app in a process, asked over plain HTTP."""

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from apps import start
from conftest import draw_car
from gradio_client import Client, handle_file

from space.uploads import folder

ROOT = Path(__file__).parent.parent
META = {"meta": {"_type": "gradio.FileData"}}


class App:
    """The app in a process of its own."""

    def __init__(self, checkpoint: Path, log: Path, **variables: str):
        self._log = log
        self.process, self.url = start(ROOT, log, MARQUE_MODEL=str(checkpoint), **variables)

    def log(self) -> list[str]:
        return self._log.read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def app(tiny_checkpoint, tmp_path_factory):
    app = App(tiny_checkpoint, tmp_path_factory.mktemp("app") / "log")
    yield app
    app.process.terminate()
    app.process.wait()


@pytest.fixture(scope="module")
def url(app) -> str:
    return app.url


@pytest.fixture
def log(app):
    return app.log


@pytest.fixture(scope="module")
def private(tmp_path_factory) -> str:
    """A real picture that was never uploaded."""
    path = tmp_path_factory.mktemp("private") / "car.png"
    draw_car(1).save(path)
    return str(path)


@pytest.fixture(scope="module")
def uploaded(url, private) -> str:
    """The path of that picture on the server once it is uploaded."""
    return upload(url, [("car.png", Path(private).read_bytes())])[0]


def answered(events: str):
    """What a call answered."""
    assert events.startswith("event: complete"), events
    return json.loads(events.partition("data: ")[2])[0]


def upload(url: str, files: list[tuple[str, bytes]]) -> list[str]:
    """Uploads files under their names; returns their paths on the server."""
    parts = [
        f'--X\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        + content
        for name, content in files
    ]
    body = b"\r\n".join([*parts, b"--X--\r\n"])
    request = urllib.request.Request(
        f"{url}/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=X"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


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
def test_paths_that_were_not_uploaded_get_one_answer(url, private, endpoint, second):
    paths = [private, f"{private}.missing", "/etc/passwd", f"{private}\0", "x" * 5000, "", 7, None]
    paths += [f"{folder()}/../{private}", str(folder()), f"{folder()}/nothing", "http://127.0.0.1/"]
    payloads = [{"path": path, **meta} for path in paths for meta in ({}, META)]
    answers = {call(url, endpoint, [payload, second]) for payload in payloads}
    assert len(answers) == 1, answers
    (answer,) = answers
    assert answer.startswith("event: error")
    assert "the photo was not uploaded to this server; upload it first" in answer


BAD = {
    "text for top_k": (["PHOTO", "five"], "top_k is 'five'; it must be a whole number"),
    "NaN": (["PHOTO", float("nan")], "top_k is nan; it must be"),
    "infinite": (["PHOTO", float("inf")], "top_k is inf; it must be"),
    "half": (["PHOTO", 2.5], "top_k is 2.5; it must be"),
    "list for top_k": (["PHOTO", [5]], "top_k is a list; it must be a number or text"),
    "file for top_k": (["PHOTO", {"path": "/etc/passwd", **META}], "top_k is an object"),
    "too many": (["PHOTO", 5, 5, 5], "4 arguments are too many; there are 2: image, top_k"),
    "no arguments": ([], "there is no photo; send one as `image`"),
    "null": ([None, 5], "there is no photo; send one as `image`"),
    "image as text": (["/etc/passwd", 5], "the photo is text; send the path of an uploaded file"),
    "nested lists": ([[["PHOTO"]], 5], "the photo is a list; send the path"),
    "gallery": ([[{"image": "PHOTO"}], 5], "the photo is a list; send the path"),
    "empty object": ([{}, 5], "the photo was not uploaded to this server"),
    "not base64": ([{"url": "data:image/png;base64,###"}, 5], "is not base64"),
    "no picture": ([{"url": "data:image/png;base64,cm9zZXM="}, 5], "is not a picture"),
}


@pytest.mark.parametrize("case", BAD)
def test_unfit_arguments_get_one_sentence_and_one_line_in_the_log(url, log, uploaded, case):
    data, sentence = BAD[case]
    photo = {"path": uploaded, **META}
    before = len(log())
    answer = call(url, "predict", [photo if value == "PHOTO" else value for value in data])
    assert answer.startswith("event: error")
    assert sentence in json.loads(answer.partition("data: ")[2])["error"]
    (line,) = log()[before:]
    assert line.startswith("refused predict: ")
    assert sentence in line


def test_what_is_left_out_has_its_default(url, uploaded):
    photo = {"path": uploaded, **META}
    whole = answered(call(url, "predict", [photo, 5]))["predictions"]
    for data in ([photo], [photo, None]):
        assert answered(call(url, "predict", data))["predictions"] == whole


def test_a_data_url_is_answered_like_the_upload(url, private, uploaded):
    encoded = base64.b64encode(Path(private).read_bytes()).decode()
    as_url = answered(call(url, "predict", [{"url": f"data:image/png;base64,{encoded}"}, 5]))
    as_file = answered(call(url, "predict", [{"path": uploaded, **META}, 5]))
    assert as_url["predictions"] == as_file["predictions"]


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
