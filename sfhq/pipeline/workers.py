"""Who does the work: this process, worker processes, or another engine; and what they owe."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import sys
import tempfile
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
        name: of the stage, or of several joined by "+", for messages.
    """

    work: Callable[[T], R]
    items: Iterable[T]
    taken: Callable[[R], None]
    root: Path
    name: str

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages."""
        return tuple(self.name.split("+"))


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
        with workers_kept(), _packed(batch.work, batch.root) as work:
            pool = _pool(self.workers)
            try:
                _share(pool, self.workers, work, batch)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    kill_workers(
                        pool
                    )  # what they were in is done again; nothing half-written counts
                _drop(self.workers)  # it is broken, or has items left that nobody wants
                if isinstance(error, BrokenProcessPool):
                    raise SfhqError(
                        f"{batch.root}: a worker of {batch.name} died, perhaps because memory ran "
                        "out; run it again, with fewer --workers"
                    ) from None
                raise


def _share(pool: ProcessPoolExecutor, workers: int, work: Path, batch: Batch[T, R]) -> None:
    running: set[Future[R]] = set()
    ends = itertools.chain(((item,) for item in batch.items), [()])
    for each in ends:
        if each:
            with unheard_by_workers():
                running.add(pool.submit(_do_in_worker, work, *each))
        while running and (not each or len(running) > 2 * workers):
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                batch.taken(future.result())


_KEPT: ContextVar[dict[int, ProcessPoolExecutor] | None] = ContextVar("kept", default=None)


@contextmanager
def workers_kept() -> Iterator[None]:
    """Within it the processes of `Local` go on to the next batch; at its end they end.

    A process takes seconds to load its libraries, as long as some batches take.
    """
    if _KEPT.get() is not None:
        yield
        return
    pools: dict[int, ProcessPoolExecutor] = {}
    token = _KEPT.set(pools)
    try:
        yield
    finally:
        _KEPT.reset(token)
        for pool in pools.values():
            pool.shutdown(cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    pools = _KEPT.get()
    assert pools is not None
    if workers not in pools:
        threads = max(1, (os.cpu_count() or 1) // workers)
        pools[workers] = ProcessPoolExecutor(
            workers, get_context("spawn"), _start_worker, (threads,)
        )
    return pools[workers]


def _drop(workers: int) -> None:
    pools = _KEPT.get()
    if pools is not None and workers in pools:
        pools.pop(workers).shutdown(cancel_futures=True)


@contextmanager
def _packed(work: Callable[[T], R], root: Path) -> Iterator[Path]:
    """The work in a file of its own name, which each worker reads once; it holds networks.

    It lies in the part like any half-written file: if this process is killed, the next run
    deletes it.
    """
    with tempfile.NamedTemporaryFile(dir=root, prefix="work-", suffix=".part") as file:
        pickle.dump(work, file)
        file.flush()
        yield Path(file.name)


_worker_threads = 1
_worker_work: tuple[Path, Any] | None = None


def _start_worker(threads: int) -> None:
    die_with_parent()
    global _worker_threads
    _worker_threads = threads


def _do_in_worker(path: Path, item: Any) -> Any:
    global _worker_work
    if _worker_work is None or _worker_work[0] != path:
        _worker_work = None  # the networks of the stage before
        _worker_work = (path, unpack(path.read_bytes(), _worker_threads))
    return _worker_work[1](item)


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
