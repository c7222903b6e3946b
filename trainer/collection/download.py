"""Downloads photos as a considerate visitor would: few at once, patient, and able to go on later.

What became of each address is noted in `downloads.csv` the moment it is known, so a kill costs no
more than the photos on their way, and the next run asks only for what is missing.
"""

import csv
import io
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import astuple, fields
from pathlib import Path

import httpx2
from filelock import FileLock, Timeout
from tqdm import tqdm

from space.errors import DataError
from trainer.collection.fetcher import FAILED, LATER, OK, Download, Fetcher, FetchPolicy


def download(
    urls: Iterable[str],
    folder: Path,
    policy: FetchPolicy | None = None,
    *,
    retry_failed: bool = False,
) -> dict[str, Download]:
    """Downloads what is not there yet, and says for every address what became of it.

    Args:
        folder: gets `downloads.csv` and `downloads/`.
        retry_failed: also ask again for what has failed for good.

    Raises:
        DataError: another process is downloading into the folder, or nothing can be written there.
    """
    policy = policy or FetchPolicy()
    urls = list(dict.fromkeys(urls))
    try:
        (folder / "downloads").mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock", timeout=0):
            return _download(urls, folder, policy, retry_failed)
    except Timeout:
        raise DataError(
            f"another process is collecting into {folder}; wait for it, or choose another folder"
        ) from None
    except OSError as error:
        raise DataError(f"photos cannot be written to {folder}: {error}") from error


def _download(
    urls: list[str], folder: Path, policy: FetchPolicy, retry_failed: bool
) -> dict[str, Download]:
    store, ledger = folder / "downloads", folder / "downloads.csv"
    for unfinished in store.glob("*.part"):  # what a kill left behind
        unfinished.unlink()
    known = _read_ledger(ledger)
    settled = {
        url: known[url]
        for url in urls
        if url in known
        and known[url].status != LATER
        and not (known[url].status == OK and not (store / known[url].file).is_file())
        and not (known[url].status == FAILED and retry_failed)
    }
    wanted = [url for url in urls if url not in settled]
    with (
        ledger.open("a", newline="", encoding="utf-8") as file,
        tqdm(total=len(wanted), desc="downloading", unit="photo", delay=1) as progress,
    ):
        writer = csv.writer(file, lineterminator="\n")
        if not file.tell():
            writer.writerow([column.name for column in fields(Download)])
        for result in _fetch_all(wanted, store, policy):
            writer.writerow(astuple(result))
            file.flush()
            settled[result.url] = result
            progress.update()
    return {url: settled[url] for url in urls}


def _read_ledger(path: Path) -> dict[str, Download]:
    """The last word on every address; a line that a kill cut short is cut off."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("rb+") as unfinished:
            unfinished.truncate(len(whole))
    known = {}
    for row in csv.DictReader(io.StringIO(whole.decode("utf-8", "replace"), newline="")):
        try:
            size = int(row["width"]), int(row["height"])
            known[row["url"]] = Download(
                row["url"], row["status"], row["file"], *size, row["reason"]
            )
        except (KeyError, TypeError, ValueError):
            continue  # not a line of ours: the address is asked for again
    return known


def _fetch_all(urls: list[str], store: Path, policy: FetchPolicy) -> Iterator[Download]:
    """Fetches in any order; a slow host holds up no other one."""
    queues: dict[str, deque[str]] = defaultdict(deque)
    for url in urls:
        queues[_host_of(url)].append(url)
    running: dict[Future[Download], str] = {}
    busy: Counter[str] = Counter()
    fetcher = Fetcher(store, policy)
    pool = ThreadPoolExecutor(policy.at_once)
    try:
        while queues or running:
            for host in list(queues):
                while queues[host] and busy[host] < policy.per_host:
                    if len(running) == policy.at_once:
                        break
                    running[pool.submit(fetcher.fetch, queues[host].popleft())] = host
                    busy[host] += 1
                if not queues[host]:
                    del queues[host]
                if len(running) == policy.at_once:
                    break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                busy[running.pop(future)] -= 1
                yield future.result()
    finally:  # on Ctrl-C too: nobody waits out a pause any more
        fetcher.stopped.set()
        pool.shutdown(cancel_futures=True)
        fetcher.close()


def _host_of(url: str) -> str:
    try:
        return httpx2.URL(url).host
    except httpx2.InvalidURL:
        return ""
