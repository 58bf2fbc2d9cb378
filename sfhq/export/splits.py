"""Splits that share nobody: photos of one source, or of one face, are in one split together.

Photos are joined into groups, and the digest of a group's name decides its split, so a photo keeps
its split when others are added, unless they join its group to another one.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sfhq.errors import UsageError

NAMES = ("train", "validation", "test")
WORDS = 2.0**64


class Groups:
    """A union of keys: those that were joined, directly or through others, are one group."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._above: list[int] = []

    def place(self, key: str) -> int:
        """The number of a key; new ones are added."""
        found = self._places.setdefault(key, len(self._above))
        if found == len(self._above):
            self._above.append(found)
        return found

    def join(self, one: str, other: str) -> None:
        """Put two keys into one group."""
        a, b = self._root(self.place(one)), self._root(self.place(other))
        if a != b:
            self._above[max(a, b)] = min(a, b)

    def _root(self, place: int) -> int:
        while self._above[place] != place:
            self._above[place] = self._above[self._above[place]]
            place = self._above[place]
        return place

    def names(self) -> dict[str, str]:
        """Key -> the name of its group, which is the least of the group's keys."""
        least: dict[int, str] = {}
        for key, place in self._places.items():
            root = self._root(place)
            least[root] = min(least.get(root, key), key)
        return {key: least[self._root(place)] for key, place in self._places.items()}


@dataclass(frozen=True)
class Shares:
    """How much of a set each split gets.

    Attributes:
        values: shares of train, validation and test; they add up to 1.
    """

    values: tuple[float, float, float] = (0.8, 0.1, 0.1)

    def __post_init__(self) -> None:
        sound = all(math.isfinite(v) and v >= 0 for v in self.values)
        if len(self.values) != 3 or not sound or abs(sum(self.values) - 1) > 1e-6:
            given = ",".join(f"{v:g}" for v in self.values)
            raise UsageError(
                f"splits {given}: wanted three shares of {', '.join(NAMES)} that add up to 1, "
                "such as 0.8,0.1,0.1"
            )

    @classmethod
    def read(cls, text: str) -> Shares:
        """The shares of a text such as "0.8,0.1,0.1".

        Raises:
            UsageError: it is something else.
        """
        try:
            values = tuple(float(v) for v in text.split(","))
        except ValueError:
            values = ()
        if len(values) != 3:
            raise UsageError(
                f"splits {text!r}: wanted three shares of {', '.join(NAMES)}, such as 0.8,0.1,0.1"
            )
        return cls(values)

    def split_of(self, group: str) -> str:
        """The split of a group, by the digest of its name."""
        digest = hashlib.sha256(f"split {group}".encode()).digest()
        drawn = int.from_bytes(digest[:8], "big") / WORDS
        reached = 0.0
        given = [(n, s) for n, s in zip(NAMES, self.values, strict=True) if s]
        for name, share in given:
            reached += share
            if drawn < reached:
                return name
        return given[-1][0]


def split_groups(groups: Mapping[str, str], shares: Shares) -> dict[str, str]:
    """Photo -> split.

    Args:
        groups: photo -> the name of its group.
        shares: of the splits.
    """
    known: dict[str, str] = {}
    return {
        photo: known.setdefault(group, shares.split_of(group)) for photo, group in groups.items()
    }


def largest(groups: Mapping[str, str], photos: Iterable[str]) -> int:
    """The number of photos in the largest group."""
    return max(Counter(groups[p] for p in photos).values(), default=0)


def in_order(found: Iterable[str]) -> Sequence[str]:
    """Names of splits in their usual order, each once."""
    here = {*found}
    return [name for name in NAMES if name in here]
