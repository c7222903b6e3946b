"""What strangers may not do: the real app in a process, asked over plain HTTP."""

import base64
import getpass
import http.server
import json
import random
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from apps import start
from conftest import draw_car
from gradio_client import Client, handle_file

ROOT = Path(__file__).parent.parent
META = {"meta": {"_type": "gradio.FileData"}}


class App:
    """The app in a process of its own."""

    def __init__(self, checkpoint: Path, log: Path, **variables: str):
        self._log = log
        self.uploads = log.parent / f"marque-uploads-{getpass.getuser()}"
        variables = {
            "GRADIO_TEMP_DIR": str(log.parent),
            "MARQUE_MODEL": str(checkpoint),
            **variables,
        }
        self.process, self.url = start(ROOT, log, **variables)

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


def ask(address: str, data: bytes | None = None, headers: dict[str, str] | None = None):
    """Status, headers and body of an answer, whatever it is."""
    request = urllib.request.Request(
        address, data, {"Content-Type": "application/json"} | (headers or {})
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, refused.read()


def raw(
    url: str, method: str, path: str, headers: dict[str, str], body: bytes = b"", read: bool = True
) -> bytes:
    """Sends a request as it stands; returns the beginning of the answer."""
    host, port = url.removeprefix("http://").split(":")
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}:{port}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return connection.recv(4096) if read else b""


def post(address: str, data: list, **others):
    request = urllib.request.Request(
        address, json.dumps({"data": data} | others).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def call(url: str, endpoint: str, data: list) -> str:
    """The events of a call, as text."""
    address = f"{url}/gradio_api/call/{endpoint}"
    event = post(address, data)["event_id"]
    with urllib.request.urlopen(f"{address}/{event}", timeout=60) as response:
        return response.read().decode()


@pytest.mark.parametrize(
    ("endpoint", "second"), [("predict", 5), ("explain", None), ("check", "Audi")]
)
def test_paths_that_were_not_uploaded_get_one_answer(app, url, private, endpoint, second):
    paths = [private, f"{private}.missing", "/etc/passwd", f"{private}\0", "x" * 5000, "", 7, None]
    paths += [
        f"{app.uploads}/../{private}",
        str(app.uploads),
        f"{app.uploads}/nothing",
        "http://127.0.0.1/",
    ]
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
    "too many": (
        ["PHOTO", 5, 5, 5],
        "4 arguments are too many; there are 3: image, top_k, catalogue",
    ),
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


# Routes


@pytest.mark.parametrize(
    "path",
    [
        *("run/predict", "api/predict", "run/explain", "api/explain/", "call/show", "call/v2/show"),
        *("component_server", "process_recording", "proxy=http://127.0.0.1/", "mcp/sse"),
        *("stream/x/y/1/playlist-file", "deep_link", "run-history/buckets", "dev/reload"),
        *("file/etc/passwd", "../monitoring", "../monitoring/summary", "../login", "../docs"),
    ],
)
def test_what_the_page_does_not_need_is_closed(url, path):
    address = f"{url}/gradio_api/{path}".replace("/gradio_api/..", "")
    for data in (None, b"{}"):
        status, _, body = ask(address, data)
        assert status == 404
        assert b"there is nothing here" in body


SPELLINGS = [
    "/etc/passwd", "//etc/passwd", "%2Fetc%2Fpasswd", "/./etc/passwd", "/proc/self/environ",
    "app.py", "../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%252e%252e/etc/passwd",
    "\\etc\\passwd", "file:///etc/passwd", "file:/etc/passwd", "~/.netrc", "/etc/passwd%00.png",
    "UPLOADS/../passwd", "UPLOADS/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "UPLOADS", "UPLOADS/",
    "C:/Windows/win.ini", "",
]  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_other_file_is_handed_out(app, spelling):
    path = spelling.replace("UPLOADS", str(app.uploads))
    status, _, body = ask(f"{app.url}/gradio_api/file={urllib.parse.quote(path, safe='%/:')}")
    assert (status, body) == (404, b'{"detail": "there is no such file"}')


def test_what_goes_out_says_how_browsers_must_take_it(url):
    status, headers, _ = ask(url)
    assert status == 200
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    policy = dict(rule.split(maxsplit=1) for rule in headers["content-security-policy"].split("; "))
    ancestors = policy.pop("frame-ancestors").split()
    assert "https://huggingface.co" in ancestors  # a Space is shown in a frame
    allowed = {source for rule in policy.values() for source in rule.split()}
    assert allowed <= set("'self' 'none' 'unsafe-inline' 'unsafe-eval' data: blob:".split())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "marque.example"}, 421),  # a name that its owner made point here
        ({"Host": "127.0.0.1.example:80"}, 421),
        ({"Origin": "https://marque.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost.example"}, 403),
    ],
)
def test_pages_elsewhere_can_neither_ask_nor_upload(app, headers, status):
    before = set(app.uploads.rglob("*"))
    body = (
        b'--X\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\na\r\n--X--\r\n'
    )
    form = {"Content-Type": "multipart/form-data; boundary=X"}
    assert ask(f"{app.url}/gradio_api/upload", body, headers | form)[0] == status
    assert ask(f"{app.url}/gradio_api/call/predict", b'{"data": []}', headers)[0] == status
    assert set(app.uploads.rglob("*")) == before


# Addresses


class Listener(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.count += 1  # type: ignore[attr-defined]
        self.send_error(404)

    do_POST = do_HEAD = do_OPTIONS = do_GET  # noqa: N815


@pytest.fixture
def listener():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        server.count = 0
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


HOSTS = [
    "127.0.0.1", "localhost", "LOCALHOST", "127.1", "0", "0.0.0.0", "2130706433", "0x7f000001",
    "0177.0.0.1", "127.0.0.1.", "[::ffff:127.0.0.1]", "user@127.0.0.1", "127.0.0.1%2f", "①27.0.0.1",
]  # fmt: skip


def test_no_address_is_requested(url, listener):
    addresses = [f"http://{host}:{listener.server_port}/car.jpg" for host in HOSTS]
    addresses += [f"HTTP://127.0.0.1:{listener.server_port}", f"//127.0.0.1:{listener.server_port}"]
    addresses += [
        f"ftp://127.0.0.1:{listener.server_port}/",
        "file:///etc/passwd",
        "file:/etc/hosts",
    ]
    for address in addresses:
        for payload in ({"path": address}, {"url": address}, {"path": address, "url": address}):
            for meta in ({}, META):
                answer = call(url, "predict", [{**payload, **meta}])
                assert "the photo was not uploaded to this server" in answer
        assert "the photo is text" in call(url, "predict", [address])
        for door in ("file=", "proxy=", "file/"):
            quoted = urllib.parse.quote(address, safe="%/:")
            assert ask(f"{url}/gradio_api/{door}{quoted}")[0] == 404
    assert listener.count == 0
    urllib.request.urlopen(url).close()
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(addresses[0])
    assert listener.count == 1  # it does count


# Uploads


NAMES = [
    "../../../car.png", "/etc/passwd", "..", ".", "a/b/c.png", "car.svg", "car.html", "car.png.exe",
    "<img src=x onerror=alert(1)>.png", "a" * 300 + ".png", "\u202egnp.exe", "car\x00.png", "~",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_an_upload_stays_below_its_folder_and_never_runs(app, name):
    content = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    try:
        (path,) = upload(app.url, [(name, content)])
    except urllib.error.HTTPError as refused:
        if refused.code >= 500:
            raise
        return
    assert Path(path).resolve().is_relative_to(app.uploads)
    quoted = urllib.parse.quote(path)
    status, headers, body = ask(f"{app.url}/gradio_api/file={quoted}")
    assert (status, body) == (200, content)
    if not path.endswith(".png"):  # a browser takes that one for a picture, and nothing else
        assert headers["content-disposition"].startswith("attachment")
    assert headers["x-content-type-options"] == "nosniff"


def test_uploads_that_are_too_large_or_do_not_say_how_large_are_refused(url):
    for length, status in (("60000000", 413), (None, 411), ("-1", 411), ("many", 411)):
        headers = {"Content-Type": "multipart/form-data; boundary=X"}
        headers |= {"Content-Length": length} if length else {"Transfer-Encoding": "chunked"}
        answer = raw(url, "POST", "/gradio_api/upload", headers)
        assert answer.split()[1] in (str(status).encode(), b"400")
    large = {"Content-Length": "9000000", "Content-Type": "application/json"}
    assert raw(url, "POST", "/gradio_api/call/predict", large).split()[1] == b"413"


def test_an_upload_that_breaks_off_costs_the_others_nothing(url, uploaded):
    headers = {"Content-Type": "multipart/form-data; boundary=X", "Content-Length": "100000"}
    start = b'--X\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nabc'
    raw(url, "POST", "/gradio_api/upload", headers, start, read=False)
    assert answered(call(url, "predict", [{"path": uploaded}]))["predictions"]


# What belongs to others


def test_events_that_are_not_there_end_with_an_answer(app):
    for route in ("call/predict/nothing", "call/explain/0", "queue/data?session_hash=nothing"):
        address = f"{app.url}/gradio_api/{route}"
        _, _, body = ask(address)
        assert b"404" in body
    assert not [line for line in app.log() if "Traceback" in line]


def test_an_event_of_the_page_cannot_be_called_by_its_number_without_its_photo(url, private):
    for number in range(-1, 12):
        body = {"fn_index": number, "session_hash": "s", "data": [{"path": private}, 5]}
        status, _, _ = ask(f"{url}/gradio_api/queue/join", json.dumps(body).encode())
        assert status in (200, 400, 404)
        if status == 200:
            _, _, events = ask(f"{url}/gradio_api/queue/data?session_hash=s")
            assert b"was not uploaded" in events or b"too many" in events
            assert b'"success":true' not in events


# Anything


def test_300_random_requests_are_all_answered(app, uploaded):
    draw = random.Random(21)
    paths = ["/", "/config", "/gradio_api/info", "/gradio_api/upload", "/gradio_api/call/predict"]
    paths += ["/gradio_api/call/explain", "/gradio_api/call/v2/predict", "/gradio_api/queue/join"]
    paths += ["/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/startup-events", "/login"]
    paths += [f"/gradio_api/file={uploaded}", "/theme.css", "/assets/x.js", "/static/../app.py"]
    paths += ["/gradio_api/upload_progress?upload_id=1", "/gradio_api/call/predict/x", "/%ff"]
    values = [None, True, -1, 1e308, float("nan"), "x", "", [], {}, [[]], {"path": uploaded}]
    values += [
        {"path": uploaded, **META},
        {"path": 3},
        {"url": "data:,"},
        {"data": []},
        "\0",
        "é" * 99,
    ]
    kinds = ["application/json", "multipart/form-data", "multipart/form-data; boundary=X", "x", ""]
    fields = ["data", "fn_index", "session_hash", "event_id", "image", "top_k", "trigger_id"]
    for _ in range(300):
        body = {field: draw.choice([*values, [draw.choice(values)] * 2]) for field in
                draw.sample(fields, 4)}  # fmt: skip
        content = draw.choice([json.dumps(body).encode(), draw.randbytes(50), b"--X\r\n\r\n", b"{"])
        headers = {"Content-Type": draw.choice(kinds), "Content-Length": str(len(content))}
        headers |= draw.choice(
            [{}, {"Range": draw.choice(["bytes=9-1", "bytes=-", "x", "bytes=0-1"])}]
        )
        method = draw.choice(["GET", "POST", "POST", "POST", "HEAD", "PUT", "OPTIONS", "X"])
        answer = raw(app.url, method, draw.choice(paths), headers, content)
        assert answer.startswith(b"HTTP/1.1 "), (method, headers, content)
        assert int(answer.split()[1]) < 500, (method, headers, content, answer)
    printed = app.log()
    assert not [line for line in printed if "Traceback" in line]
    assert all(len(line) < 1000 for line in printed)
    assert answered(call(app.url, "predict", [{"path": uploaded}]))["predictions"]


def test_an_uploaded_photo_is_answered(url, private):
    client = Client(url, verbose=False)
    try:
        answer = client.predict(image=handle_file(private), api_name="/predict")
    finally:
        client.close()
    assert answer["predictions"]
