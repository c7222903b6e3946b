"""Tables of addresses: read, downloaded politely, made a dataset."""

import csv
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import draw_car
from filelock import FileLock
from photo_server import Answer, PhotoServer, photo_bytes
from PIL import Image

from space.errors import DataError
from space.labels import Car
from trainer import collect
from trainer.collection import connections, pipeline
from trainer.collection.connections import is_public
from trainer.collection.download import download
from trainer.collection.fetcher import FAILED, LATER, OK, FetchPolicy
from trainer.collection.table import read_table
from trainer.data.sources import read_source

ROOT = Path(__file__).parent.parent
BRISK = FetchPolicy(tries=3, pause=0.01, timeout=5, deadline=10, allow_private=True)
IMPATIENT = replace(BRISK, tries=2, timeout=0.2)
PHOTO = photo_bytes(draw_car(1))


@pytest.fixture
def server():
    with PhotoServer() as server:
        yield server


def fetch(url: str, folder: Path, policy: FetchPolicy = BRISK):
    """Downloads one address; nothing but finished photos may lie there afterwards."""
    result = download([url], folder, policy)[url]
    files = [path.name for path in (folder / "downloads").iterdir()]
    assert files == ([result.file] if result.status == OK else [])
    return result


# --- downloading ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("GIF", ".gif")]
)
def test_a_photo_comes_whatever_the_server_calls_it(server, tmp_path, format, suffix):
    content = photo_bytes(draw_car(1), format)
    url = server.add("car", content, headers={"Content-Type": "text/html"})
    result = fetch(url, tmp_path)
    assert (result.status, result.width, result.height) == (OK, 160, 120)
    assert (tmp_path / "downloads" / result.file).read_bytes() == content
    assert result.file.endswith(suffix)
    assert all("Marque" in agent for agent in server.agents)


def test_what_is_no_photo_is_refused_whatever_the_server_calls_it(server, tmp_path):
    page = b"<html>gone</html>"
    url = server.add("car.jpg", page, headers={"Content-Type": "image/jpeg"})
    result = fetch(url, tmp_path)
    assert result.status == FAILED
    assert "not a picture" in result.reason
    assert "image/jpeg" in result.reason
    assert server.asked["/car.jpg"] == 1


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_is_gone_is_asked_for_once(server, tmp_path, status):
    result = fetch(server.add("car.jpg", status=status), tmp_path)
    assert (result.status, server.asked["/car.jpg"]) == (FAILED, 1)
    assert str(status) in result.reason


@pytest.mark.parametrize(
    "mishap",
    [
        Answer(status=503),
        Answer(status=500),
        Answer(status=429, headers={"Retry-After": "nonsense"}),
        Answer(PHOTO, drop_after=700),
        Answer(PHOTO, drop_after=700, announced=-1),
        Answer(PHOTO, announced=len(PHOTO) + 100),
    ],
    ids=["503", "500", "429", "drops", "drops unannounced", "announces too much"],
)
def test_a_mishap_is_tried_again(server, tmp_path, mishap):
    recovers = server.add("recovers.jpg", PHOTO, before=[mishap])
    assert fetch(recovers, tmp_path / "a").status == OK
    assert server.asked["/recovers.jpg"] == 2
    server.add("stays.jpg")
    server.places["/stays.jpg"].answer = mishap
    assert fetch(f"{server.url}/stays.jpg", tmp_path / "b").status == LATER
    assert server.asked["/stays.jpg"] == BRISK.tries


def test_a_photo_that_ends_where_its_server_says_is_damaged_for_good(server, tmp_path):
    result = fetch(server.add("car.jpg", PHOTO[:900]), tmp_path)
    assert (result.status, server.asked["/car.jpg"]) == (FAILED, 1)


def test_a_server_that_stalls_is_given_up(server, tmp_path):
    result = fetch(server.add("car.jpg", stall=True), tmp_path, IMPATIENT)
    assert (result.status, result.reason) == (LATER, "nothing came for 0.2 s")
    assert server.asked["/car.jpg"] == 2


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_server_that_trickles_meets_the_deadline(server, tmp_path, part):
    url = server.add("car.jpg", PHOTO, trickle=part)
    result = fetch(url, tmp_path, replace(BRISK, tries=1, deadline=0.4))
    assert (result.status, result.reason) == (LATER, "it took longer than 0.4 s")


def test_a_host_that_never_answers_is_left_alone_after_some_requests(server, tmp_path):
    urls = [server.add(f"{number}.jpg", stall=True) for number in range(15)]
    good = server.add("good.jpg", PHOTO, host="localhost")
    policy = replace(IMPATIENT, tries=1, per_host=1, timeout=0.05)
    results = download([*urls, good], tmp_path, policy)
    assert [results[url].status for url in urls] == [LATER] * 15
    assert "not answered 10 requests" in results[urls[-1]].reason
    assert sum(server.asked.values()) == 10 + 1
    assert results[good].status == OK


def test_a_name_that_leads_nowhere_is_not_asked_for_again_at_once(tmp_path, monkeypatch):
    asked = resolve(monkeypatch, {"cars.example": "no address"})
    result = fetch("http://cars.example/a.jpg", tmp_path)
    assert (result.status, asked) == (LATER, ["cars.example"])
    assert "leads nowhere" in result.reason


def test_retry_after_is_waited_for(server, tmp_path):
    # Closed for a second: who asks again after a hundredth of one is turned away for good.
    url = server.add("car.jpg", PHOTO, closed_for=1)
    assert fetch(url, tmp_path, replace(BRISK, tries=2)).status == OK
    assert server.asked["/car.jpg"] == 2


def test_a_host_that_wants_a_long_pause_is_left_alone(server, tmp_path):
    closed = Answer(status=503, headers={"Retry-After": "3600"})
    urls = [server.add(f"{number}.jpg", PHOTO, before=[closed]) for number in range(6)]
    results = download(urls, tmp_path, replace(BRISK, per_host=1))
    assert {result.status for result in results.values()} == {LATER}
    assert sum(server.asked.values()) == 1
    assert "pause" in results[urls[-1]].reason


def test_a_date_is_a_retry_after_too(server, tmp_path):
    date = "Wed, 21 Oct 2099 07:28:00 GMT"
    url = server.add("car.jpg", status=503, headers={"Retry-After": date})
    assert fetch(url, tmp_path).status == LATER
    assert server.asked["/car.jpg"] == 1


def test_redirects_are_followed_but_not_in_circles(server, tmp_path):
    server.add("there.jpg", PHOTO)
    here = server.add("here.jpg", status=302, headers={"Location": "/there.jpg"})
    circle = server.add("circle.jpg", status=301, headers={"Location": "/circle.jpg"})
    assert fetch(here, tmp_path / "a").status == OK
    result = fetch(circle, tmp_path / "b")
    assert (result.status, server.asked["/circle.jpg"]) == (FAILED, 6)
    assert "redirected more than 5 times" in result.reason


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/car.jpg", "http://"])
def test_only_http_and_https_are_followed(server, tmp_path, target):
    url = server.add("car.jpg", status=302, headers={"Location": target})
    assert fetch(url, tmp_path).status == FAILED


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a.b/c.jpg", "http://a:b/c", "x", ""])
def test_what_is_no_address_costs_one_photo(server, tmp_path, url):
    good = server.add("car.jpg", PHOTO)
    results = download([url, good], tmp_path, BRISK)
    assert (results[url].status, results[good].status) == (FAILED, OK)


@pytest.mark.parametrize("announced", [None, -1], ids=["announced", "unannounced"])
def test_too_many_bytes_are_refused(server, tmp_path, announced):
    url = server.add("car.jpg", PHOTO + bytes(200_000), announced=announced)
    result = fetch(url, tmp_path, replace(BRISK, max_bytes=100_000))
    assert (result.status, server.asked["/car.jpg"]) == (FAILED, 1)
    assert "larger than" in result.reason


def test_announced_bytes_are_not_even_begun_with(server, tmp_path):
    url = server.add("car.jpg", PHOTO, announced=10**9, trickle="body")
    result = fetch(url, tmp_path, replace(BRISK, tries=1, deadline=1))
    assert "larger than" in result.reason


@pytest.mark.parametrize(
    ("size", "reason"), [((10_000, 9_000), "pixels"), ((1, 1), "1x1 pixels"), ((300, 8), "300x8")]
)
def test_too_many_and_too_few_pixels_are_refused(server, tmp_path, size, reason):
    url = server.add("car.png", photo_bytes(Image.new("1", size), "PNG"))
    result = fetch(url, tmp_path)
    assert result.status == FAILED
    assert reason in result.reason


def test_each_host_is_asked_for_few_photos_at_once(server, tmp_path):
    hosts = ("127.0.0.1", "localhost")
    urls = [
        server.add(f"{host}/{number}.jpg", photo_bytes(draw_car(number)), hold=0.1, host=host)
        for host in hosts
        for number in range(6)
    ]
    results = download(urls, tmp_path, replace(BRISK, per_host=2))
    assert {result.status for result in results.values()} == {OK}
    assert server.most_at_once == {"127.0.0.1": 2, "localhost": 2}


def test_redirects_to_a_host_count_as_visits_to_it(server, tmp_path):
    for number in range(3):
        server.add(f"{number}.jpg", PHOTO, hold=0.1)
    urls = [
        server.add(
            f"from/{host}/{number}",
            status=302,
            headers={"Location": f"{server.url}/{number}.jpg"},
            host=host,
        )
        for host in ("localhost", "127.1")  # one server, but names of its own
        for number in range(3)
    ]
    download(urls, tmp_path, replace(BRISK, per_host=1))
    assert server.most_at_once["127.0.0.1"] == 1


def test_proxies_of_the_environment_are_not_used(server, tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert fetch(server.add("car.jpg", PHOTO), tmp_path).status == OK


# --- public addresses only --------------------------------------------------------------------

PRIVATE_HOSTS = (
    "127.0.0.1",
    "localhost",
    "[::1]",
    "169.254.169.254",
    "10.1.2.3",
    "192.168.0.1",
    "0.0.0.0",
    "2130706433",  # 127.0.0.1 as one number
    "[::ffff:127.0.0.1]",
)


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
def test_addresses_that_are_not_public_are_refused(server, tmp_path, host):
    server.add("car.jpg", PHOTO)
    url = server.url.replace("127.0.0.1", host) + "/car.jpg"
    result = fetch(url, tmp_path, replace(BRISK, allow_private=False))
    assert result.status == FAILED
    assert "not public" in result.reason
    assert not server.asked


@pytest.mark.parametrize("host", ["127.0.0.2", *PRIVATE_HOSTS[1:]])
def test_a_redirect_leads_to_no_address_that_is_not_public(server, tmp_path, monkeypatch, host):
    # 127.0.0.1 plays a server of the public internet.
    monkeypatch.setattr(connections, "is_public", lambda ip: ip == "127.0.0.1" or is_public(ip))
    if host == "localhost":
        host = "neighbor.example"
        resolve(monkeypatch, {host: "127.0.0.3"})
    host = {"2130706433": "2130706434", "[::ffff:127.0.0.1]": "[::ffff:127.0.0.2]"}.get(host, host)
    server.add("secret.jpg", PHOTO)
    port = server.url.rpartition(":")[2]
    target = f"http://{host}:{port}/secret.jpg"
    url = server.add("car.jpg", status=302, headers={"Location": target})
    result = fetch(url, tmp_path, replace(BRISK, allow_private=False))
    assert (result.status, dict(server.asked)) == (FAILED, {"/car.jpg": 1})
    assert "not public" in result.reason


def resolve(monkeypatch, names: dict[str, str | list[str]]) -> list[str]:
    """Plays the domain name system; returns the list of names that were asked for, as it grows."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **options):
        if host not in names:
            return real(host, port, *args, **options)
        asked.append(host)
        addresses = names[host] if isinstance(names[host], list) else [names[host]]
        return [entry for ip in addresses for entry in real(ip, port, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_a_name_with_one_address_that_is_not_public_is_refused(tmp_path, monkeypatch):
    resolve(monkeypatch, {"cars.example": ["93.184.216.34", "10.0.0.7"]})
    result = fetch("http://cars.example/a.jpg", tmp_path, FetchPolicy(tries=1, timeout=1))
    assert result.status == FAILED
    assert "10.0.0.7" in result.reason


def test_a_name_is_asked_for_once_a_connection_so_that_it_cannot_change_its_answer(
    server, tmp_path, monkeypatch
):
    asked = resolve(monkeypatch, {"cars.example": "127.0.0.1"})
    url = server.add("car.jpg", PHOTO, host="cars.example")
    assert fetch(url, tmp_path).status == OK
    assert asked == ["cars.example"]


def test_tls_is_asked_of_the_name_not_of_the_address(tmp_path, monkeypatch):
    resolve(monkeypatch, {"cars.example": "127.0.0.1"})
    hellos = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen():
            connection, _ = listener.accept()
            with connection:
                hellos.append(connection.recv(4096))

        thread = threading.Thread(target=listen)
        thread.start()
        url = f"https://cars.example:{listener.getsockname()[1]}/car.jpg"
        result = fetch(url, tmp_path, replace(BRISK, tries=1))
        thread.join(10)
    assert result.status == LATER
    assert b"cars.example" in hellos[0]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("64:ff9b::5db8:d822", True),  # 93.184.216.34 in a network without IPv4
        ("64:ff9b::a00:1", False),  # 10.0.0.1 there
        ("2002:7f00:1::", False),  # 127.0.0.1 by 6to4
        ("::ffff:10.0.0.1", False),
        ("fe80::1", False),
        ("fec0::1", False),
        ("fd00::1", False),
        ("224.0.0.1", False),
        ("100.64.0.1", False),
        ("255.255.255.255", False),
    ],
)
def test_what_is_public(address, public):
    assert is_public(address) is public


# --- going on ---------------------------------------------------------------------------------


def test_only_what_is_missing_is_asked_for_again(server, tmp_path):
    good = server.add("good.jpg", PHOTO)
    lost = server.add("lost.jpg", photo_bytes(draw_car(2)))
    gone = server.add("gone.jpg", status=404)
    moody = server.add("moody.jpg", photo_bytes(draw_car(3)), before=[Answer(status=503)])
    urls = [good, lost, gone, moody]
    first = download(urls, tmp_path, replace(BRISK, tries=1))
    assert [first[url].status for url in urls] == [OK, OK, FAILED, LATER]
    (tmp_path / "downloads" / first[lost].file).unlink()
    server.asked.clear()
    second = download(urls, tmp_path, BRISK)
    assert [second[url].status for url in urls] == [OK, OK, FAILED, OK]
    assert server.asked == {"/lost.jpg": 1, "/moody.jpg": 1}
    server.places["/gone.jpg"].answer = Answer(photo_bytes(draw_car(4)))
    third = download(urls, tmp_path, BRISK, retry_failed=True)
    assert third[gone].status == OK
    assert server.asked == {"/lost.jpg": 1, "/moody.jpg": 1, "/gone.jpg": 1}


def test_a_ledger_that_a_kill_cut_short_is_mended(server, tmp_path):
    urls = [server.add(f"{number}.jpg", photo_bytes(draw_car(number))) for number in range(3)]
    download(urls, tmp_path, replace(BRISK, at_once=1, per_host=1))
    ledger = tmp_path / "downloads.csv"
    ledger.write_bytes(ledger.read_bytes()[:-30] + b'"')
    (tmp_path / "downloads" / "123.part").write_bytes(PHOTO[:500])
    for _ in range(2):
        results = download(urls, tmp_path, BRISK)
        assert {result.status for result in results.values()} == {OK}
    assert server.asked == {"/0.jpg": 1, "/1.jpg": 1, "/2.jpg": 2}
    assert len(list((tmp_path / "downloads").iterdir())) == 3
    lines = ledger.read_text("utf-8").splitlines()
    assert len(lines) == 4
    assert lines[0] == "url,status,file,width,height,reason"


def test_two_processes_do_not_collect_into_one_folder(server, tmp_path):
    with (
        FileLock(tmp_path / "lock"),
        pytest.raises(DataError, match="another process is collecting"),
    ):
        download([server.add("car.jpg", PHOTO)], tmp_path, BRISK)


def test_a_killed_collection_goes_on(server, tmp_path):
    urls = [server.add(f"{n}.jpg", photo_bytes(draw_car(n))) for n in range(3)]
    urls.append(server.add("last.jpg", photo_bytes(draw_car(9)), before=[Answer(stall=True)]))
    file = write_table(tmp_path, *[f"{url},BMW X5" for url in urls])
    command = [file, "--out", tmp_path / "out", "--allow-private", "--keep-non-exteriors"]
    command += ["--per-host", "1", "--timeout", "300"]
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer.collect", *map(str, command)], cwd=ROOT
    )
    try:
        while not server.asked["/last.jpg"]:
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run(file, tmp_path / "out") == 0
    assert server.asked == {"/0.jpg": 1, "/1.jpg": 1, "/2.jpg": 1, "/last.jpg": 2}
    assert len(list((tmp_path / "out" / "photos" / "BMW X5").iterdir())) == 4
    assert not list(tmp_path.rglob("*.part"))


# --- tables -----------------------------------------------------------------------------------


def write_table(folder: Path, *rows: str, header: str = "url,label") -> Path:
    file = folder / "cars.csv"
    file.write_text("\n".join([header, *rows, ""]), "utf-8")
    return file


def table_of(folder: Path, content: str | bytes):
    file = folder / "cars.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(file, "cars")


A, B, C = "http://a.example/1.jpg", "https://b.example/2.jpg?w=1,2;q", "http://c.example/3.jpg"


@pytest.mark.parametrize(
    ("content", "urls"),
    [
        (f"url,label\n{A},Audi TT\n", [A]),
        (f"\ufeffurl,label\r\n{A},Audi TT \r\n", [A]),
        (f"URL ; Class\n {A} ; Audi TT\n", [A]),
        (f"label\timage_link\nAudi TT\t{B}\n", [B]),
        (f"Audi,,label,photoUrl\nx,,Audi TT,{B.replace(',', '')}\n", [B.replace(",", "")]),
        (f'label,pictures\nAudi TT,"{A}|{B}, {C}"\n', [A, B, C]),
        (f'label,pictures\nAudi TT,"{A}\n{B};{C}"\n', [A, B, C]),
        (f"label;pictures\nAudi TT;{json.dumps([A, C])}\n".replace('"', "'"), [A, C]),
        (f"label\tpictures\nAudi TT\t{json.dumps([A, B])}\n".replace('"', '""')
         .replace("[", '"[').replace("]", ']"'), [A, B]),
        (f"label,front,rear\nAudi TT,{A},{C}\n", [A, C]),
        (f"label,url,image\nAudi TT,http://a.example/offer,{A}\n", [A]),
        ("label,url\nAudi TT,//a.example/my car.jpg\n", ["https://a.example/my%20car.jpg"]),
        (f"url,label\n{A},Audi TT\n".encode("utf-16"), [A]),
        (f"url,label,town\n{A},Audi TT,Orléans\n".encode("latin-1"), [A]),
    ],
)  # fmt: skip
def test_addresses_are_found(tmp_path, content, urls):
    table = table_of(tmp_path, content)
    assert [line.urls for line in table.lines] == [tuple(urls)]
    assert [line.label for line in table.lines] == ["Audi TT"]
    assert table.problems == ()


@pytest.mark.parametrize(
    ("header", "row", "label", "car"),
    [
        ("make,model,year", "chevy,Camaro,2019.0", "Chevrolet Camaro 2019",
         Car("Chevrolet", "Camaro", 2019)),
        ("Brand,Model", "VW,Golf", "Volkswagen Golf", Car("Volkswagen", "Golf", None)),
        ("manufacturer,model,Model Year", "BMW,BMW X5,", "BMW X5", Car("BMW", "X5", None)),
        ("brand", "Mercedes Benz", "Mercedes-Benz", Car("Mercedes-Benz", "", None)),
        ("class", "2023 Acura MDX", "Acura MDX 2023", Car("Acura", "MDX", 2023)),
        ("label,make,model", "17,Audi,TT", "Audi TT", Car("Audi", "TT", None)),
        ("name,make,model", "nice one,Audi,TT", "Audi TT", Car("Audi", "TT", None)),
        ("title", "Trabant 601", "Trabant 601", Car("Trabant", "601", None)),
    ],
)  # fmt: skip
def test_labels_are_found(tmp_path, header, row, label, car):
    line = table_of(tmp_path, f"url,{header}\n{A},{row}\n").lines[0]
    assert (line.label, line.car) == (label, car)


def test_one_car_spelled_in_several_ways_is_one_class(tmp_path):
    table = table_of(tmp_path, f"url,label\n{A},Acura MDX 2023\n{B[:23]},2023 acura mdx\n")
    assert [line.label for line in table.lines] == ["Acura MDX 2023"] * 2


def test_a_bad_row_costs_itself_and_is_no_other_class(tmp_path):
    table = table_of(
        tmp_path,
        f"url,make,model,year\n{A},Audi,TT,2012\n,Audi,TT,2012\n{A},,TT,2012\n{A},Audi,n/a,2012\n"
        f"{A},Audi,TT,20l2\ncar.jpg,Audi,TT,2012\n,,,\n{C},unknown,TT,2012\n{C}\n{C},BMW,M3,2012,,\n",
    )
    assert [line.number for line in table.lines] == [1, 10]
    problems = {int(p.path.split(":")[0].split()[1]): p.reason for p in table.problems}
    assert problems == {
        2: "it has no address",
        3: "it names no make",
        4: "it names no model",
        5: "its year '20l2' is none",
        6: "is not an address",
        8: "it names no make",
        9: "it names no make",
    }


def test_a_quote_that_is_never_closed_swallows_no_row(tmp_path):
    table = table_of(tmp_path, f'url,label\n{A},"Audi TT\n{C},BMW X5\n')
    assert table.lines[-1].urls == (C,)
    assert len(table.lines) + len(table.problems) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (f"{A},Audi TT\n", "put a line such as url,label"),
        ("label,color\nAudi TT,red\n", "no column of addresses"),
        (f"url,color\n{A},red\n", "no column that says what the photos show"),
    ],
)
def test_a_table_that_cannot_be_understood_says_why(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        table_of(tmp_path, content)


# --- collecting -------------------------------------------------------------------------------


def run(file: Path, out: Path, *options: str) -> int:
    common = ["--allow-private", "--keep-insides", "--tries", "1"]
    return collect.main([str(file), "--out", str(out), *common, *options])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def reasons(out: Path) -> dict[str, str]:
    return {row["url"].rpartition("/")[2]: row["reason"] for row in rows_of(out / "left_out.csv")}


def test_a_table_becomes_a_data_set(server, tmp_path, capsys):
    audi = server.add("audi.jpg", photo_bytes(draw_car(1)))
    ram = server.add("ram.png", photo_bytes(draw_car(2), "PNG"))
    page = server.add("page.jpg", b"<html>")
    file = write_table(
        tmp_path,
        f"{audi},Audi,TT,2012,211 hp,red",
        f"{ram},Ram,C/V Cargo Van,2012,283 hp,white",
        f"{page},Audi,TT,2012,211 hp,",
        ",Audi,TT,2012,211 hp,",
        header="url,make,model,year,Power (hp),Color",
    )
    out = tmp_path / "out"
    assert run(file, out) == 0
    printed = capsys.readouterr().out
    assert "2 photos of 2 classes" in printed
    assert "2 left out" in printed
    photos = read_source(f"cars=folder:{out / 'photos'}")
    assert photos.cars == (Car("Audi", "TT", 2012), Car("Ram", "C-V Cargo Van", 2012))
    assert [Path(path).suffix for path in photos.photos["path"]] == [".jpg", ".png"]
    assert set(reasons(out)) == {"page.jpg", ""}
    assert reasons(out)[""] == "row 4:: it has no address"
    assert [row["url"] for row in rows_of(out / "photos.csv")] == [audi, ram]
    specifications = rows_of(out / "specifications.csv")
    assert [row["power_hp"] for row in specifications] == ["211", "283"]


def test_of_copies_the_largest_stays_and_under_two_labels_none(server, tmp_path):
    car, other, third = draw_car(1), draw_car(2), draw_car(3)
    names = {
        "small.jpg": (photo_bytes(car.resize((120, 90))), "BMW X5"),
        "large.jpg": (photo_bytes(car), "BMW X5"),
        "again.jpg": (photo_bytes(car), "BMW X5"),
        "mine.jpg": (photo_bytes(other), "BMW X5"),
        "yours.jpg": (photo_bytes(other, quality=60), "Audi TT"),
        "third.jpg": (photo_bytes(third), "Audi TT"),
    }
    rows = [f"{server.add(name, body)},{label}" for name, (body, label) in names.items()]
    rows += [rows[-1].replace("Audi TT", "Fiat 500")]  # one address, two labels
    rows += [f"{server.add('fourth.jpg', photo_bytes(draw_car(4)))},Audi TT"]
    out = tmp_path / "out"
    assert run(write_table(tmp_path, *rows), out) == 0
    kept = {row["url"].rpartition("/")[2]: row["label"] for row in rows_of(out / "photos.csv")}
    assert kept == {"large.jpg": "BMW X5", "fourth.jpg": "Audi TT"}
    assert reasons(out) == {
        "small.jpg": f"a copy of {server.url}/large.jpg",
        "again.jpg": f"a copy of {server.url}/large.jpg",
        "mine.jpg": "the same photo stands under 2 labels: Audi TT; BMW X5",
        "yours.jpg": "the same photo stands under 2 labels: Audi TT; BMW X5",
        "third.jpg": "the same photo stands under 2 labels: Audi TT; FIAT 500",
    }


def test_insides_are_left_out_unless_they_are_wanted(server, tmp_path, real_data):
    folder = real_data / "algerian_used_cars" / "DATA"
    wheel = server.add("wheel.jpg", (folder / "duster" / "car412.jpg").read_bytes())
    elephant = server.add(
        "elephant.jpg", (real_data / "not_cars" / "African_elephant.jpg").read_bytes()
    )
    car = server.add("car.jpg", (folder / "duster" / "car410.jpg").read_bytes())
    lines = [f"{url},Dacia Duster" for url in (wheel, elephant, car)]
    file, out = write_table(tmp_path, *lines), tmp_path / "out"
    assert run(file, out) == 0
    assert len(list((out / "photos" / "Dacia Duster").iterdir())) == 3
    pipeline.collect(file, out, policy=BRISK)
    assert [row["url"] for row in rows_of(out / "photos.csv")] == [car]
    assert len(list((out / "photos" / "Dacia Duster").iterdir())) == 1  # the others are gone
    assert {name: reason[:19] for name, reason in reasons(out).items()} == {
        "wheel.jpg": "no car from outside",
        "elephant.jpg": "no car from outside",
    }


def test_the_exit_status_says_whether_to_run_again(server, tmp_path, capsys):
    closed = [Answer(status=503)]
    car = server.add("car.jpg", photo_bytes(draw_car(1)))
    moody = server.add("moody.jpg", photo_bytes(draw_car(2)), before=closed)
    file, out = write_table(tmp_path, f"{car},BMW X5", f"{moody},Audi TT"), tmp_path / "out"
    assert run(file, out) == 1
    assert "the same command" in capsys.readouterr().out
    assert run(file, out) == 0
    assert server.asked == {"/car.jpg": 1, "/moody.jpg": 2}
    nothing = write_table(tmp_path, f"{server.url}/nothing.jpg,BMW X5")
    assert run(nothing, tmp_path / "nothing") == 1
    unlabeled = write_table(tmp_path, f"{car},red", header="url,color")
    assert run(unlabeled, tmp_path / "unlabeled") == 1
    assert "collect: " in capsys.readouterr().err
    for wrong in (
        ["missing.csv", "--out", "x"],
        [str(file)],
        [str(file), "--out", "x", "--tries", "0"],
    ):
        with pytest.raises(SystemExit) as exit:
            collect.main(wrong)
        assert exit.value.code == 2


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("Ram C/V Cargo Van", "Ram C-V Cargo Van"),
        ("../../etc", "-..-etc"),
        ("..", "_"),
        ("con", "_con"),
        ("Škoda Octavia", "Škoda Octavia"),
        ("a" * 400, "a" * 150),
    ],
)
def test_a_label_is_a_safe_name_of_a_folder(label, folder):
    assert pipeline.folder_name(label) == folder


def test_a_table_is_no_source_and_says_what_to_do(tmp_path):
    file = write_table(tmp_path, "http://cars.example/a.jpg,BMW X5")
    with pytest.raises(DataError, match=r"`python -m trainer\.collect .*cars\.csv --out FOLDER`"):
        read_source(f"cars={file}")
