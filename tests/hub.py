"""A small Hub for tests: a real HTTP server on this machine, to read from and to write to.

    with LocalHub() as hub:
        hub.add_user("hf_secret", "ada", "org")  # may write to ada/... and org/...
        repo = hub.add_repo("org/name", folder, tag="v1")
        newer = repo.commit({"README.md": b"..."})  # the commit's hash; `main` moves to it
        with hub.client(tmp_path, token="hf_secret") as call:
            call(open_checkpoint, "org/name@v1")  # in a process whose Hub this is

A process started with HF_ENDPOINT set to `hub.url` sees it as it would see the Hub. The client
libraries read that variable when they are imported, so it has to be a process of its own.
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal
from unittest import mock
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

Kind = Literal["model", "dataset", "space"]
Files = Path | Mapping[str, bytes]

# Kept outside git and sent apart, as the Hub does with everything that is no text.
_LARGE = (".safetensors", ".onnx", ".parquet", ".png")
# What git keeps in their place.
_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
# Some of the licenses that a card may name.
_LICENSES = ("apache-2.0", "cc-by-4.0", "mit", "other")
# What every repository begins with.
_FIRST_FILES = {
    ".gitattributes": "".join(f"*{end} filter=lfs diff=lfs merge=lfs\n" for end in _LARGE).encode()
}


class HubError(Exception):
    """An answer that is a refusal.

    Attributes:
        code, message: what tells client libraries which one, and people why.
        body: what else is told, as JSON.
    """

    def __init__(
        self,
        status: HTTPStatus,
        code: str = "",
        message: str = "",
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ):
        super().__init__(message or code)
        self.status = status
        self.headers = {"X-Error-Message": message or code, **(headers or {})}
        if code:
            self.headers["X-Error-Code"] = code
        self.body = {"error": message or code, **body}


@dataclass(frozen=True)
class User:
    """Someone with a token, who may write under their own name and those of their organizations."""

    name: str
    orgs: tuple[str, ...] = ()

    def owns(self, repo_id: str) -> bool:
        return repo_id.partition("/")[0] in (self.name, *self.orgs)


@dataclass(frozen=True)
class Commit:
    """The files of a repository at one moment."""

    sha: str
    files: Mapping[str, bytes]
    message: str = ""

    def file(self, path: str) -> bytes:
        if path not in self.files:
            # The commit comes along, so that clients can remember that it has no such file.
            headers = {"X-Repo-Commit": self.sha}
            raise HubError(HTTPStatus.NOT_FOUND, "EntryNotFound", headers=headers)
        return self.files[path]

    def entries(self) -> dict[str, dict[str, Any]]:
        """Every file and folder by its path, as the Hub describes them."""
        entries: dict[str, dict[str, Any]] = {}
        for path, content in sorted(self.files.items()):
            for parent in list(Path(path).parents)[:-1]:
                name = parent.as_posix()
                oid = hashlib.sha1(name.encode()).hexdigest()
                entries[name] = {"type": "directory", "path": name, "oid": oid, "size": 0}
            entry = {"type": "file", "path": path, "oid": blob_id(content), "size": len(content)}
            if path.endswith(_LARGE):
                sha256 = content_id(path, content)
                pointer = _POINTER.format(sha256, len(content)).encode()
                entry["oid"] = blob_id(pointer)
                entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": len(pointer)}
            entries[path] = entry
        return entries


@dataclass
class Repo:
    """A repository.

    Attributes:
        repo_id: `org/name`.
        kind: what it holds; a model and a dataset may have the same name.
        private: those who do not own it are told that there is no such repository.
        sdk: what a space is made with.
        broken_after: if set, the connection breaks once this much of a file has been sent, also
            for a client that comes back for the rest.
    """

    repo_id: str
    kind: Kind
    private: bool = False
    sdk: str | None = None
    broken_after: int | None = None
    _commits: dict[str, Commit] = field(default_factory=dict)
    _refs: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """The commit that `main` stands on."""
        return self._refs["main"]

    @property
    def files(self) -> Mapping[str, bytes]:
        """The files on `main`."""
        return self.at("main").files

    @property
    def history(self) -> list[Commit]:
        """Every commit, the first one first."""
        return list(self._commits.values())

    def commit(self, files: Files, tag: str | None = None, message: str = "") -> str:
        """Replaces all files and returns the hash of the new commit."""
        contents = _read_folder(files) if isinstance(files, Path) else dict(files)
        parts = [self.repo_id, str(len(self._commits))]
        parts += [f"{path} {blob_id(content)}" for path, content in sorted(contents.items())]
        sha = hashlib.sha1("\n".join(parts).encode()).hexdigest()
        self._commits[sha] = Commit(sha, contents, message)
        self._refs["main"] = sha
        if tag:
            self.tag(tag, sha)
        return sha

    def tag(self, name: str, sha: str) -> None:
        if name in self._refs:
            raise HubError(HTTPStatus.CONFLICT, message="Tag reference exists already")
        self._refs[name] = sha

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
            "private": self.private,
            "gated": False,
            "disabled": False,
            "tags": [],
            "siblings": [{"rfilename": path} for path in sorted(commit.files)],
        }


class LocalHub:
    """The Hub, which answers within `with`; see the module's head."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}  # by token
        self.requests: list[str] = []  # such as "GET /api/models/org/name", in their order
        self.large: dict[str, bytes] = {}  # what was sent apart, by its SHA-256
        self._repos: dict[tuple[str, str], Repo] = {}
        self._refusal: HTTPStatus | None = None
        self._server: _Server | None = None
        self._port = 0  # the system chooses one; a restart keeps it

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def add_user(self, token: str, name: str, *orgs: str) -> None:
        """Lets someone in with a token."""
        self.users[token] = User(name, orgs)

    def add_repo(
        self,
        repo_id: str,
        files: Files,
        kind: Kind = "model",
        *,
        tag: str | None = None,
        private: bool = False,
    ) -> Repo:
        """Publishes a folder, or contents by path, as a repository with one commit.

        `Repo.commit` adds more.
        """
        repo = Repo(repo_id, kind, private)
        repo.commit(files, tag)
        self._repos[kind, repo_id] = repo
        return repo

    def repo(self, repo_id: str, kind: str = "model") -> Repo:
        """The repository of this name.

        Raises:
            KeyError: there is none.
        """
        return self._repos[kind, repo_id]

    @contextmanager
    def client(self, home: Path, token: str | None = None) -> Iterator[Callable[..., Any]]:
        """Calls functions in another process, which has this Hub, this token and its own cache.

        Args:
            home: the folder of the cache.
        """
        environment = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",  # the Hub's other protocol for large files
            "NO_PROXY": "127.0.0.1",
        } | ({"HF_TOKEN": token} if token else {})
        # `spawn`, since a fork would carry this process's imported libraries over.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            inherited = {name: value for name, value in os.environ.items() if name[:3] != "HF_"}
            with mock.patch.dict(os.environ, inherited | environment, clear=True):
                pool.submit(int).result()  # starts the process, which keeps this environment
            yield lambda function, *args: pool.submit(function, *args).result(timeout=900)

    @contextmanager
    def down(self) -> Iterator[None]:
        """Within it nothing listens at `url`."""
        self._stop()
        try:
            yield
        finally:
            self._start()

    @contextmanager
    def refusing(self, status: HTTPStatus) -> Iterator[None]:
        """Within it this status is all that it answers."""
        self._refusal = status
        try:
            yield
        finally:
            self._refusal = None

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


def content_id(path: str, content: bytes) -> str:
    """The Hub's name for the content of a file."""
    return hashlib.sha256(content).hexdigest() if path.endswith(_LARGE) else blob_id(content)


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

    def do_PUT(self) -> None:
        self._route("PUT")

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps the tests' output free of one line per request."""

    def _route(self, method: str) -> None:
        # Read first: a socket closed with something unread in it resets the connection.
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._hub = self.server.hub
        self._hub.requests.append(f"{self.command} {urlsplit(self.path).path}")
        try:
            if self._hub._refusal:
                raise HubError(self._hub._refusal, message="Try again later")
            self._user = self._who()
            for route_method, pattern, answer in _ROUTES:
                match = pattern.fullmatch(urlsplit(self.path).path)
                if match and route_method == method:
                    answer(self, **{key: unquote(part) for key, part in _given(match).items()})
                    return
            raise HubError(HTTPStatus.NOT_FOUND, "RouteNotFound")
        except HubError as error:
            self._send_json(error.body, error.status, error.headers)

    def _who(self) -> User | None:
        """Who asks; None for anyone without a token."""
        authorization = self.headers.get("Authorization")
        if authorization is None:
            return None
        user = self._hub.users.get(authorization.removeprefix("Bearer "))
        if user is None:  # also where nobody would have to be known
            message = "Invalid credentials in Authorization header"
            raise HubError(HTTPStatus.UNAUTHORIZED, message=message)
        return user

    def _repo(self, kinds: str, repo_id: str) -> Repo:
        """The repository as whoever asks sees it."""
        repo = self._hub._repos.get((kinds.removesuffix("s"), repo_id))
        if repo is None or (repo.private and not (self._user and self._user.owns(repo_id))):
            # Strangers are not told whether it exists, people with a token only that it does not.
            status = HTTPStatus.NOT_FOUND if self._user else HTTPStatus.UNAUTHORIZED
            raise HubError(status, "RepoNotFound", "Repository not found")
        return repo

    def _own_repo(self, kinds: str, repo_id: str) -> Repo:
        """The repository for whoever may write to it."""
        repo = self._repo(kinds, repo_id)
        self._check_owner(repo_id)
        return repo

    def _check_owner(self, repo_id: str) -> None:
        if self._user is None:
            message = "Invalid username or password."
            raise HubError(HTTPStatus.UNAUTHORIZED, message=message)
        if not self._user.owns(repo_id):
            namespace = repo_id.partition("/")[0]
            message = f"You don't have the rights to write under the namespace {namespace}"
            raise HubError(HTTPStatus.FORBIDDEN, message=message)

    def _json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self._body)
        return content

    def _whoami(self) -> None:
        if self._user is None:
            message = "Invalid username or password."
            raise HubError(HTTPStatus.UNAUTHORIZED, message=message)
        orgs = [{"type": "org", "name": name} for name in self._user.orgs]
        self._send_json({"type": "user", "name": self._user.name, "orgs": orgs, "auth": {}})

    def _create(self) -> None:
        wanted = self._json()
        owner = wanted.get("organization") or (self._user.name if self._user else "")
        repo_id, kind = f"{owner}/{wanted['name']}", wanted.get("type") or "model"
        self._check_owner(repo_id)
        url = f"{self._hub.url}/{'' if kind == 'model' else kind + 's/'}{repo_id}"
        if (kind, repo_id) in self._hub._repos:
            message = f"You already created this {kind} repo"
            raise HubError(HTTPStatus.CONFLICT, message=message, url=url)
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        repo = self._hub.add_repo(repo_id, _FIRST_FILES, kind, private=private)
        repo.sdk = wanted.get("sdk")
        self._send_json({"url": url, "name": repo_id, "id": repo_id})

    def _validate_yaml(self) -> None:
        """Whether the head of a README is in order."""
        head = re.match(r"---\n(.*?)\n---\n", self._json()["content"], re.DOTALL)
        if not head:
            message = "empty or missing yaml metadata in repo card"
            self._send_json({"errors": [], "warnings": [{"message": message}]})
            return
        try:
            found = yaml.safe_load(head[1])
        except yaml.YAMLError as error:
            errors = [{"message": str(error)}]
            raise HubError(HTTPStatus.BAD_REQUEST, errors=errors, warnings=[]) from None
        license = (found or {}).get("license", "mit")
        if license not in _LICENSES:
            errors = [{"message": f'"license" must be one of [{", ".join(_LICENSES)}]'}]
            raise HubError(HTTPStatus.BAD_REQUEST, errors=errors, warnings=[])
        self._send_json({"errors": [], "warnings": []})

    def _preupload(self, kinds: str, repo_id: str, revision: str) -> None:
        """Tells how to send each file: within the commit, or apart and before it."""
        files = self._own_repo(kinds, repo_id).at(revision).files
        answers = [
            {
                "path": path,
                "uploadMode": "lfs" if path.endswith(_LARGE) else "regular",
                "shouldIgnore": False,
                "oid": content_id(path, files[path]) if path in files else None,
            }
            for path in (file["path"] for file in self._json()["files"])
        ]
        self._send_json({"files": answers})

    def _batch(self, repo_id: str, kinds: str = "models") -> None:
        """Tells where to send the contents that are not here yet."""
        self._own_repo(kinds, repo_id)
        objects: list[dict[str, Any]] = self._json()["objects"]
        for item in objects:
            if item["oid"] not in self._hub.large:
                item["actions"] = {"upload": {"href": f"{self._hub.url}/large/{item['oid']}"}}
        self._send_json({"transfer": "basic", "objects": objects})

    def _put_large(self, sha256: str) -> None:
        if hashlib.sha256(self._body).hexdigest() != sha256:
            raise HubError(HTTPStatus.BAD_REQUEST, message="The content is another one")
        self._hub.large[sha256] = self._body
        self._send_json({})

    def _commit(self, kinds: str, repo_id: str, revision: str) -> None:
        repo = self._own_repo(kinds, repo_id)
        if revision != "main":
            raise HubError(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        files, message = dict(repo.files), ""
        for key, value in (json.loads(line).values() for line in self._body.splitlines()):
            if key == "header":
                message = value["summary"]
                if value.get("parentCommit", repo.head) != repo.head:
                    since = "A commit has happened since. Please refresh and try again."
                    raise HubError(HTTPStatus.PRECONDITION_FAILED, message=since)
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self._hub.large[value["oid"]]
            elif key in ("deletedFile", "deletedFolder"):
                folder = value["path"].rstrip("/") + "/" if key == "deletedFolder" else None
                gone = [
                    path
                    for path in files
                    if (path.startswith(folder) if folder else path == value["path"])
                ]
                if not gone:
                    raise HubError(HTTPStatus.NOT_FOUND, "EntryNotFound")
                for path in gone:
                    del files[path]
            else:
                raise HubError(HTTPStatus.BAD_REQUEST, message=f"no operation {key} here")
        sha = repo.commit(files, message=message)
        url = f"{self._hub.url}/{repo_id}/commit/{sha}"
        self._send_json({"success": True, "commitOid": sha, "commitUrl": url})

    def _tag(self, kinds: str, repo_id: str, revision: str) -> None:
        repo = self._own_repo(kinds, repo_id)
        repo.tag(self._json()["tag"], repo.at(revision).sha)
        self._send_json({})

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
            "ETag": f'"{content_id(path, content)}"',
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

    def _send_json(
        self,
        content: Any,
        status: HTTPStatus = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        headers = {"Content-Type": "application/json", **(headers or {})}
        self._send(json.dumps(content).encode(), status, headers)

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
_API = rf"/api/(?P<kinds>models|datasets|spaces)/{_REPO}"
_REVISION = r"(?P<revision>[^/]+)"  # a slash in it comes quoted
_ROUTES: list[tuple[str, re.Pattern[str], Callable[..., None]]] = [
    ("GET", re.compile(_API), _Handler._info),
    ("GET", re.compile(rf"{_API}/revision/{_REVISION}"), _Handler._info),
    ("GET", re.compile(rf"{_API}/tree/{_REVISION}(?:/(?P<path>.+))?"), _Handler._tree),
    ("POST", re.compile(rf"{_API}/paths-info/{_REVISION}"), _Handler._paths_info),
    ("GET", re.compile(r"/api/whoami-v2"), _Handler._whoami),
    ("POST", re.compile(r"/api/repos/create"), _Handler._create),
    ("POST", re.compile(r"/api/validate-yaml"), _Handler._validate_yaml),
    ("POST", re.compile(rf"{_API}/preupload/{_REVISION}"), _Handler._preupload),
    ("POST", re.compile(rf"{_API}/commit/{_REVISION}"), _Handler._commit),
    ("POST", re.compile(rf"{_API}/tag/{_REVISION}"), _Handler._tag),
    (
        "POST",
        re.compile(rf"/(?:(?P<kinds>datasets|spaces)/)?{_REPO}\.git/info/lfs/objects/batch"),
        _Handler._batch,
    ),
    ("PUT", re.compile(r"/large/(?P<sha256>\w+)"), _Handler._put_large),
    (
        "GET",
        re.compile(rf"/(?:(?P<kinds>datasets|spaces)/)?{_REPO}/resolve/{_REVISION}/(?P<path>.+)"),
        _Handler._file,
    ),
]
