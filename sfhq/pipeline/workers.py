"""Who does the work: this process, worker processes, or another engine; and what they owe."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process, resource_tracker
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from sfhq.errors import SfhqError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Batch(Generic[T, R]):
    """Items that are to be done, each once to its end, in any order.

    Attributes:
        work: what to do; it can be pickled, and may hold networks. What it writes must be the
            same when an item is done twice, because its process may be killed.
        items: read as they are needed.
        taken: called in the process that began the batch, with each result as it comes.
        root: folder of the part, for messages and checks.
        name: of the stage, for messages and shares.
    """

    work: Callable[[T], R]
    items: Iterable[T]
    taken: Callable[[R], None]
    root: Path
    name: str


class Engine(Protocol):
    """Does batches, somewhere.

    Attributes:
        spreads: whether it has machines to which a stage about the whole part should hand work.
    """

    spreads: ClassVar[bool]

    def each(self, batch: Batch[T, R]) -> None:
        """Do a batch.

        Raises:
            SfhqError: workers died, or what the work raised.
        """


_USED: ContextVar[Engine | None] = ContextVar("engine", default=None)


@contextmanager
def used(engine: Engine) -> Iterator[None]:
    """Within it `engine_in_use` is the engine of the run."""
    token = _USED.set(engine)
    try:
        yield
    finally:
        _USED.reset(token)


def engine_in_use() -> Engine:
    """The engine of the run, for stages about the whole part; outside a run this process."""
    return _USED.get() or Local()


@dataclass(frozen=True)
class Local:
    """Processes of this machine; one worker is this process itself."""

    workers: int = 1
    spreads: ClassVar[bool] = False

    def each(self, batch: Batch[T, R]) -> None:
        """As `Engine.each`."""
        if self.workers <= 1:
            for item in batch.items:
                batch.taken(batch.work(item))
            return
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        packed = pickle.dumps(batch.work)  # once a worker, not once an item: it holds networks
        pool = ProcessPoolExecutor(
            self.workers, get_context("spawn"), _start_worker, (packed, threads)
        )
        running: set[Future[R]] = set()
        ends = itertools.chain(((item,) for item in batch.items), [()])
        try:
            for each in ends:
                if each:
                    with unheard_by_workers():
                        running.add(pool.submit(_do_in_worker, *each))
                while running and (not each or len(running) > 2 * self.workers):
                    ended, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in ended:
                        batch.taken(future.result())
        except BrokenProcessPool:
            raise SfhqError(
                f"{batch.root}: a worker of {batch.name} died, perhaps because memory ran out; "
                "run it again, with fewer --workers"
            ) from None
        except KeyboardInterrupt:
            kill_workers(pool)  # what they were in is done again; nothing half-written counts
            raise
        finally:
            pool.shutdown(cancel_futures=True)


_worker_work: Any = None


def _start_worker(packed: bytes, threads: int) -> None:
    die_with_parent()
    global _worker_work
    _worker_work = unpack(packed, threads)


def _do_in_worker(item: Any) -> Any:
    return _worker_work(item)


def unpack(packed: bytes | memoryview, threads: int) -> Any:
    """Unpack work in a process that is to do nothing else, with its share of the cores."""
    from threadpoolctl import threadpool_limits

    from stylegan2_ops.memory import keep_freed_memory

    keep_freed_memory()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for libraries that are yet to be loaded
    work = pickle.loads(packed)
    threadpool_limits(threads)  # for those that are
    if "torch" in sys.modules:  # not every stage needs it
        import torch

        torch.set_num_threads(threads)
    return work


def die_with_parent() -> None:
    """From now on this process ends when its parent does, even one that was killed.

    A worker that outlived its parent would hold memory, and write beside the run that comes after.
    To be called in a process that multiprocessing started, such as by a pool's initializer.
    """
    threading.Thread(target=_wait_and_die, daemon=True).start()


@contextmanager
def unheard_by_workers() -> Iterator[None]:
    """Processes that are started within it never see Ctrl-C, which a terminal sends to all.

    The run hears it and ends them; a worker could only die of it with a traceback, even while it
    is starting. For the run itself the signal waits until the end of the context.
    """
    resource_tracker.ensure_running()  # else the first start does it, and hears signals again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def kill_workers(pool: ProcessPoolExecutor) -> None:
    """End a pool's processes at once, whatever they are doing."""
    for process in list((pool._processes or {}).values()):
        process.kill()


def _wait_and_die() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
