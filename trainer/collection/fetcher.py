"""Asks servers for photos: patiently, a few at a time, and believing nothing that they say."""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2

from space.errors import PhotoError
from space.photos import MAX_BYTES, load_photo
from trainer.collection.connections import NoSuchNameError, RefusedError, Transport, deadline

USER_AGENT = "Marque (collects photos for training a car recognizer; python-httpx2)"
OK, FAILED, LATER = "ok", "failed", "later"

_MAX_REDIRECTS = 5
_MAX_SILENCE = 10  # requests in a row without an answer, after which a host is left for another run
_MIN_SIDE = 32  # pixels; below are the dots by which pages count their readers, and blank stand-ins
_LATER_STATUS = {408, 425, 429}  # and all from 500 on


@dataclass(frozen=True)
class FetchPolicy:
    """How politely to download, and how much to put up with.

    Attributes:
        per_host, at_once: how many requests may run at the same time, to one host and in all.
        tries: how often an address is asked for in one run.
        pause: seconds before the second try; they double before each further one.
        longest_pause: a host that wants a longer pause (`Retry-After`) is left for the next run.
        timeout: seconds that a connection, or the next bytes, may take.
        deadline: seconds that one try may take in all, redirects included.
        max_bytes: the largest file that is taken.
        allow_private: also addresses that are not public, such as those of a home's network.
    """

    per_host: int = 2
    at_once: int = 16
    tries: int = 4
    pause: float = 1.0
    longest_pause: float = 60.0
    timeout: float = 20.0
    deadline: float = 120.0
    max_bytes: int = MAX_BYTES
    allow_private: bool = False


@dataclass(frozen=True)
class Download:
    """What became of an address: a line of `downloads.csv`.

    Attributes:
        status: OK; FAILED, for good; or LATER, where another run may succeed.
        file: the photo's file below `downloads/`: the SHA-256 of its bytes, and a suffix.
        reason: why there is none.
    """

    url: str
    status: str
    file: str = ""
    width: int = 0
    height: int = 0
    reason: str = ""

    @property
    def key(self) -> str:
        """The hash of the file's bytes."""
        return Path(self.file).stem


class _FailedError(Exception):
    """It will not do, however often one asks."""


class _LaterError(Exception):
    """It may do another time; `again` says whether already within this run."""

    def __init__(self, reason: str, again: bool = True):
        super().__init__(reason)
        self.again = again


@dataclass
class _Host:
    slots: threading.Semaphore
    free_at: float = 0.0  # until then it wants to be left alone
    silence: int = 0  # requests in a row that it has not answered


class Fetcher:
    """Fetches one address at a time in each of several threads."""

    def __init__(self, store: Path, policy: FetchPolicy):
        self.stopped = threading.Event()
        self._store = store
        self._manners = policy
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}
        self._client = httpx2.Client(
            transport=Transport(allow_private=policy.allow_private, connections=2 * policy.at_once),
            timeout=policy.timeout,
            headers={"User-Agent": USER_AGENT, "Accept": "image/*", "Accept-Encoding": "identity"},
            trust_env=False,
        )

    def close(self) -> None:
        self._client.close()

    def fetch(self, url: str) -> Download:
        """Tries as often as is polite."""
        reason = ""
        for number in range(self._manners.tries):
            if number and self.stopped.wait(self._manners.pause * 2 ** (number - 1)):
                break
            try:
                return self._try(url)
            except _LaterError as error:
                reason = str(error)
                if not error.again:
                    break
            except OSError:  # this machine's disk, which no other address would help
                raise
            except (_FailedError, RefusedError) as error:
                return _not(url, FAILED, str(error))
            except Exception as error:  # whatever a stranger's server provokes costs one photo
                return _not(url, FAILED, f"{type(error).__name__}: {error}")
        return _not(url, LATER, reason or "interrupted")

    def _try(self, url: str) -> Download:
        try:
            target = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise _FailedError(f"is not an address: {error}") from None
        left = self._manners.deadline
        for _ in range(_MAX_REDIRECTS + 1):
            if target.scheme not in ("http", "https") or not target.host:
                raise _FailedError(f"is not an http or https address: {target}")
            with self._slot(target.host) as host:
                start = time.monotonic()
                try:
                    host.silence += 1
                    with deadline(left), self._client.stream("GET", target) as response:
                        host.silence = 0
                        if not response.has_redirect_location:
                            self._check_status(response, host)
                            return self._keep(url, response)
                        target = target.join(response.headers["location"])
                except httpx2.RequestError as error:
                    late = time.monotonic() - start >= left
                    raise _LaterError(self._describe(error, late)) from error
                except NoSuchNameError as error:
                    raise _LaterError(str(error), again=False) from error
                except httpx2.InvalidURL as error:
                    raise _FailedError(f"is redirected to no address: {error}") from None
                left -= time.monotonic() - start
        raise _FailedError(f"is redirected more than {_MAX_REDIRECTS} times")

    @contextmanager
    def _slot(self, name: str) -> Iterator[_Host]:
        """Waits until the host may be asked."""
        with self._lock:
            slots = threading.Semaphore(self._manners.per_host)
            host = self._hosts.setdefault(name, _Host(slots))
        with host.slots:
            if host.silence >= _MAX_SILENCE:
                reason = f"{name} has not answered {host.silence} requests in a row"
                raise _LaterError(reason, again=False)
            while (pause := host.free_at - time.monotonic()) > 0:
                if pause > self._manners.longest_pause:
                    raise _LaterError(f"{name} wants a pause of {pause:.0f} s", again=False)
                if self.stopped.wait(pause):
                    raise _LaterError("interrupted", again=False)
            yield host

    def _check_status(self, response: httpx2.Response, host: _Host) -> None:
        status = response.status_code
        if status == 200:
            return
        reason = f"the server answers {status} {response.reason_phrase}".strip()
        if status in _LATER_STATUS or status >= 500:
            pause = _retry_after(response.headers.get("retry-after", ""))
            host.free_at = max(host.free_at, time.monotonic() + pause)
            raise _LaterError(reason)
        raise _FailedError(reason)

    def _keep(self, url: str, response: httpx2.Response) -> Download:
        """Writes the photo under its final name once it is whole and proved to be one."""
        announced = response.headers.get("content-length", "")
        if announced.isdigit():
            self._check_size(int(announced))
        part = self._store / f"{threading.get_ident()}.part"
        digest, size, start = hashlib.sha256(), 0, b""
        try:
            with part.open("wb") as file:
                for chunk in response.iter_bytes():
                    size += len(chunk)
                    self._check_size(size)
                    start = start or chunk[:16]
                    digest.update(chunk)
                    file.write(chunk)
            try:
                picture = load_photo(part, name="what came")
            except PhotoError as error:
                kind = response.headers.get("content-type", "nothing")
                reason = f"{error} (the server calls it {kind})"
                if announced or "transfer-encoding" in response.headers:
                    raise _FailedError(reason) from None
                # Its end was never announced, so this may be half of a good photo.
                raise _LaterError(reason) from None
            if min(picture.size) < _MIN_SIDE:
                width, height = picture.size
                side = f"{width}x{height} pixels"
                raise _FailedError(f"it has {side}; below {_MIN_SIDE} it is not a photo")
            name = digest.hexdigest() + _suffix(start)
            part.replace(self._store / name)
            return Download(url, OK, name, *picture.size)
        finally:
            part.unlink(missing_ok=True)

    def _check_size(self, size: int) -> None:
        limit = self._manners.max_bytes
        if size > limit:
            raise _FailedError(f"it is larger than {limit / 2**20:.3g} MiB, the most that is taken")

    def _describe(self, error: httpx2.RequestError, late: bool) -> str:
        if late:
            return f"it took longer than {self._manners.deadline:g} s"
        if isinstance(error, httpx2.ConnectTimeout):
            return f"no connection within {self._manners.timeout:g} s"
        if isinstance(error, httpx2.TimeoutException):
            return f"nothing came for {self._manners.timeout:g} s"
        return f"the connection failed: {error or type(error).__name__}"


def _not(url: str, status: str, reason: str) -> Download:
    return Download(url, status, reason=" ".join(reason.split()))  # one line in the ledger


def _retry_after(text: str) -> float:
    """Seconds that a `Retry-After` means; 0 where it means nothing."""
    if text.strip().isdigit():
        return float(text)
    try:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0.0


def _suffix(start: bytes) -> str:
    """What a picture file that begins so is called; decoders go by the content in any case."""
    if start[:4] == b"RIFF":
        return ".webp"
    if start[4:8] == b"ftyp":
        return ".avif" if start[8:11] == b"avi" else ".heic"
    for magic, suffix in (
        (b"\x89PNG", ".png"),
        (b"GIF8", ".gif"),
        (b"BM", ".bmp"),
        (b"II", ".tif"),
        (b"MM", ".tif"),
        (b"P", ".ppm"),
    ):
        if start.startswith(magic):
            return suffix
    return ".jpg"
