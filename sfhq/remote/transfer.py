"""Files, many at a time; what ends is told in one thread."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from sfhq.remote.store import CHUNK, Entry

R = TypeVar("R")


def each(
    names: Iterable[str], do: Callable[[str], R], ended: Callable[[str, R], None], threads: int
) -> None:
    """Do something with each name; the first error ends it, once what is under way has ended.

    Args:
        names: of files.
        do: called in threads.
        ended: called here with a name and what `do` returned.
        threads: how many at a time.
    """
    running: dict[Future[R], str] = {}
    with ThreadPoolExecutor(threads) as pool:
        try:
            for name in names:
                running[pool.submit(do, name)] = name
                if len(running) >= 4 * threads:
                    _take(running, ended)
            while running:
                _take(running, ended)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # What was under way and ends well counts.
            for future, name in running.items():
                if not future.cancelled() and future.exception() is None:
                    ended(name, future.result())
            raise


def _take(running: dict[Future[R], str], ended: Callable[[str, R], None]) -> None:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    failed: BaseException | None = None
    for future in done:
        name = running.pop(future)
        if future.exception() is not None:
            failed = failed or future.exception()
        else:
            ended(name, future.result())
    if failed is not None:
        raise failed


def entry_of(path: Path) -> Entry:
    """Size and SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while data := file.read(CHUNK):
            digest.update(data)
            size += len(data)
    return Entry(size, digest.hexdigest())
