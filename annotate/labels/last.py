"""What was made last: stages that run in step make the same of a face in turn."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Last(Generic[T]):
    """Keeps one result, and what it was made of; both must not change."""

    def __init__(self) -> None:
        self._kept: tuple[object, Hashable, T] | None = None

    def of(self, source: object, key: Hashable, make: Callable[[], T]) -> T:
        """The result of `make`, or the last one's if it was of the same object and an equal key."""
        kept = self._kept  # another thread may replace it
        if kept is not None and kept[0] is source and kept[1] == key:
            return kept[2]
        made = make()
        self._kept = source, key, made
        return made
