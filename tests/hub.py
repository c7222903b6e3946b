"""A small Hub for tests: a real HTTP server on this machine that serves what a test puts in it.

    with LocalHub() as hub:
        repo = hub.add_repo("org/name", folder, tag="v1")
        newer = repo.commit({"README.md": b"..."})  # the commit's hash; `main` moves to it

A process started with HF_ENDPOINT set to `hub.url` reads it as it would read the Hub. The client
libraries read that variable when they are imported, so it has to be a process of its own.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

Kind = Literal["model", "dataset"]
Files = Path | Mapping[str, bytes]


class HubError(Exception):
    """An answer that is a refusal; `code` is what tells client libraries which one."""

    def __init__(self, status: HTTPStatus, code: str, **headers: str):
        super().__init__(code)
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": code, **headers}


@dataclass(frozen=True)
class Commit:
    """The files of a repository at one moment."""

    sha: str
    files: Mapping[str, bytes]

    def file(self, path: str) -> bytes:
        if path not in self.files:
            # The commit comes along, so that clients can remember that it has no such file.
            headers = {"X-Repo-Commit": self.sha}
            raise HubError(HTTPStatus.NOT_FOUND, "EntryNotFound", **headers)
        return self.files[path]

    def entries(self) -> dict[str, dict[str, Any]]:
        """Every file and folder by its path, as the Hub describes them."""
        entries: dict[str, dict[str, Any]] = {}
        for path, content in sorted(self.files.items()):
            for parent in list(Path(path).parents)[:-1]:
                name = parent.as_posix()
                oid = hashlib.sha1(name.encode()).hexdigest()
                entries[name] = {"type": "directory", "path": name, "oid": oid, "size": 0}
            entries[path] = {
                "type": "file",
                "path": path,
                "oid": blob_id(content),
                "size": len(content),
            }
        return entries


@dataclass
class Repo:
    """A repository.

    Attributes:
        repo_id: `org/name`.
        kind: what it holds; a model and a dataset may have the same name.
        token: if set, whoever does not send it is told that there is no such repository.
        broken_after: if set, the connection breaks once this much of a file has been sent, also
            for a client that comes back for the rest.
    """

    repo_id: str
    kind: Kind
    token: str | None = None
    broken_after: int | None = None
    _commits: dict[str, Commit] = field(default_factory=dict)
    _refs: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """The commit that `main` stands on."""
        return self._refs["main"]

    def commit(self, files: Files, tag: str | None = None) -> str:
        """Replaces all files and returns the hash of the new commit."""
        contents = _read_folder(files) if isinstance(files, Path) else dict(files)
        parts = [self.repo_id, str(len(self._commits))]
        parts += [f"{path} {blob_id(content)}" for path, content in sorted(contents.items())]
        sha = hashlib.sha1("\n".join(parts).encode()).hexdigest()
        self._commits[sha] = Commit(sha, contents)
        self._refs["main"] = sha
        if tag:
            self._refs[tag] = sha
        return sha

    def at(self, revision: str) -> Commit:
        """The commit that a branch, a tag or a hash means."""
        sha = self._refs.get(revision, revision)
        if sha not in self._commits:
            raise HubError(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        return self._commits[sha]

    def info(self, commit: Commit) -> dict[str, Any]:
        return {
            "id": self.repo_id,
            "sha": commit.sha,
            "private": self.token is not None,
            "gated": False,
            "disabled": False,
            "tags": [],
            "siblings": [{"rfilename": path} for path in sorted(commit.files)],
        }


class LocalHub:
    """The Hub, which answers within `with`; see the module's head."""

    def __init__(self) -> None:
        self._repos: dict[tuple[str, str], Repo] = {}
        self._server: _Server | None = None
        self._port = 0  # the system chooses one; a restart keeps it

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def add_repo(
        self,
        repo_id: str,
        files: Files,
        kind: Kind = "model",
        *,
        tag: str | None = None,
        token: str | None = None,
    ) -> Repo:
        """Publishes a folder, or contents by path, as a repository with one commit.

        `Repo.commit` adds more.
        """
        repo = Repo(repo_id, kind, token)
        repo.commit(files, tag)
        self._repos[kind, repo_id] = repo
        return repo

    def repo(self, kind: str, repo_id: str, token: str | None) -> Repo:
        """The repository as someone with this token sees it."""
        repo = self._repos.get((kind, repo_id))
        if repo is None:
            raise HubError(HTTPStatus.NOT_FOUND, "RepoNotFound")
        if repo.token not in (None, token):
            raise HubError(HTTPStatus.UNAUTHORIZED, "RepoNotFound")
        return repo

    @contextmanager
    def down(self) -> Iterator[None]:
        """Within it nothing listens at `url`."""
        self._stop()
        try:
            yield
        finally:
            self._start()

    def __enter__(self) -> "LocalHub":
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        self._server = _Server(self, self._port)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _stop(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def blob_id(content: bytes) -> str:
    """Git's name for a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _read_folder(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: LocalHub, port: int):
        super().__init__(("127.0.0.1", port), _Handler)
        self.hub = hub


class _Handler(BaseHTTPRequestHandler):
    """Answers one request.

    It speaks HTTP/1.0, its class's default: with a new connection for each request, a Hub that is
    down leaves nobody behind who still answers on an old one.
    """

    server: _Server

    def do_GET(self) -> None:
        self._route("GET")

    def do_HEAD(self) -> None:
        self._route("GET")

    def do_POST(self) -> None:
        self._route("POST")

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps the tests' output free of one line per request."""

    def _route(self, method: str) -> None:
        # Read first: a socket closed with something unread in it resets the connection.
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            for route_method, pattern, answer in _ROUTES:
                match = pattern.fullmatch(urlsplit(self.path).path)
                if match and route_method == method:
                    answer(self, **{key: unquote(part) for key, part in _given(match).items()})
                    return
            raise HubError(HTTPStatus.NOT_FOUND, "RouteNotFound")
        except HubError as error:
            self._send(b"", error.status, error.headers)

    def _repo(self, kinds: str, repo_id: str) -> Repo:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        return self.server.hub.repo(kinds.removesuffix("s"), repo_id, token)

    def _info(self, kinds: str, repo_id: str, revision: str = "main") -> None:
        repo = self._repo(kinds, repo_id)
        self._send_json(repo.info(repo.at(revision)))

    def _tree(self, kinds: str, repo_id: str, revision: str, path: str = "") -> None:
        entries = self._repo(kinds, repo_id).at(revision).entries()
        if path and path not in entries:
            raise HubError(HTTPStatus.NOT_FOUND, "EntryNotFound")
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", [""])[0].lower()
        start = f"{path}/" if path else ""
        below = [name for name in entries if name.startswith(start)]
        if recursive not in ("true", "1"):
            below = [name for name in below if "/" not in name.removeprefix(start)]
        self._send_json([entries[name] for name in below])

    def _paths_info(self, kinds: str, repo_id: str, revision: str) -> None:
        entries = self._repo(kinds, repo_id).at(revision).entries()
        wanted = parse_qs(self._body.decode()).get("paths", [])
        self._send_json([entries[path] for path in wanted if path in entries])

    def _file(self, repo_id: str, revision: str, path: str, kinds: str = "models") -> None:
        repo = self._repo(kinds, repo_id)
        commit = repo.at(revision)
        content = commit.file(path)
        headers = {
            "X-Repo-Commit": commit.sha,
            "ETag": f'"{blob_id(content)}"',
            "Accept-Ranges": "bytes",
        }
        start, end, status = 0, len(content), HTTPStatus.OK
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if match:
            start, last = int(match[1]), int(match[2] or len(content) - 1)
            end, status = min(last + 1, len(content)), HTTPStatus.PARTIAL_CONTENT
            if start >= end:
                unsatisfied = {"Content-Range": f"bytes */{len(content)}"}
                self._send(b"", HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, unsatisfied)
                return
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        headers["Content-Length"] = str(end - start)
        if repo.broken_after is not None:
            end = min(end, repo.broken_after)
        self._send(content[start:end], status, headers)

    def _send_json(self, content: Any) -> None:
        self._send(json.dumps(content).encode(), headers={"Content-Type": "application/json"})

    def _send(
        self,
        body: bytes,
        status: HTTPStatus = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _given(match: re.Match[str]) -> dict[str, str]:
    return {key: part for key, part in match.groupdict().items() if part is not None}


_REPO = r"(?P<repo_id>[^/]+/[^/]+)"
_API = rf"/api/(?P<kinds>models|datasets)/{_REPO}"
_REVISION = r"(?P<revision>[^/]+)"  # a slash in it comes quoted
_ROUTES: list[tuple[str, re.Pattern[str], Callable[..., None]]] = [
    ("GET", re.compile(_API), _Handler._info),
    ("GET", re.compile(rf"{_API}/revision/{_REVISION}"), _Handler._info),
    ("GET", re.compile(rf"{_API}/tree/{_REVISION}(?:/(?P<path>.+))?"), _Handler._tree),
    ("POST", re.compile(rf"{_API}/paths-info/{_REVISION}"), _Handler._paths_info),
    (
        "GET",
        re.compile(rf"/(?:(?P<kinds>datasets)/)?{_REPO}/resolve/{_REVISION}/(?P<path>.+)"),
        _Handler._file,
    ),
]
