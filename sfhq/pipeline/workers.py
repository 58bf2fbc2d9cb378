"""What a run and its worker processes owe each other."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection, parent_process, resource_tracker


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
