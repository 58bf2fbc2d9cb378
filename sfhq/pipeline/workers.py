"""What every worker process owes its parent."""

from __future__ import annotations

import os
import threading
from multiprocessing import connection, parent_process


def die_with_parent() -> None:
    """From now on this process ends when its parent does, even one that was killed.

    A worker that outlived its parent would hold memory, and write beside the run that comes after.
    To be called in a process that multiprocessing started, such as by a pool's initializer.
    """
    threading.Thread(target=_wait_and_die, daemon=True).start()


def _wait_and_die() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
