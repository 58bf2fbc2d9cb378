"""Searches go before pictures: on a few cores, a page of pictures would hold up the next search."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 2.0  # seconds that a picture waits, however many searches come


class Turns:
    """Who may work. Threads may share it.

    Args:
        pictures: how many may be made at a time.
    """

    def __init__(self, pictures: int) -> None:
        self._searches = 0
        self._changed = threading.Condition()
        self._makers = threading.BoundedSemaphore(pictures)

    @contextmanager
    def searching(self) -> Iterator[None]:
        """Search; pictures that have not begun wait meanwhile."""
        with self._changed:
            self._searches += 1
        try:
            yield
        finally:
            with self._changed:
                self._searches -= 1
                self._changed.notify_all()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Make a picture when its turn has come."""
        with self._makers:
            with self._changed:
                self._changed.wait_for(lambda: not self._searches, LONGEST)
            yield
