"""Weighted choices that are drawn from a seed, or repeated from a record of them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from sfhq.errors import UsageError


@dataclass(frozen=True)
class Table:
    """The weights of a choice.

    Attributes:
        until: cumulative probabilities; a number in [0, 1) chooses the first that is above it.
        logs: natural logarithm of each probability.
    """

    until: tuple[float, ...]
    logs: tuple[float, ...]


def table(weights: Sequence[float]) -> Table:
    """The table of some positive weights."""
    total = math.fsum(weights)
    until = [s / total for s in accumulate(weights)]
    until[-1] = 1.0
    return Table(tuple(until), tuple(math.log(w / total) for w in weights))


# Choices among equal things, by their number.
EVEN = tuple(table((1.0,) * max(count, 1)) for count in range(64))


class Chooser(Protocol):
    """Makes choices, one after the other.

    Attributes:
        made: what was chosen.
        log_probability: of all choices together.
    """

    made: list[int]
    log_probability: float

    def pick(self, weights: Table) -> int:
        """The index of what is chosen."""


class Draw:
    """Choices drawn at random.

    Args:
        uniform: gives numbers in [0, 1), for example `random.Random(seed).random`.
    """

    __slots__ = ("_uniform", "log_probability", "made")

    def __init__(self, uniform: Callable[[], float]) -> None:
        self._uniform = uniform
        self.made: list[int] = []
        self.log_probability = 0.0

    def pick(self, weights: Table) -> int:
        """The index of what is chosen."""
        index = bisect_right(weights.until, self._uniform())
        self.made.append(index)
        self.log_probability += weights.logs[index]
        return index


class Repeat:
    """The choices of an earlier caption again.

    Args:
        choices: what that caption chose, in order.
    """

    __slots__ = ("_choices", "log_probability", "made")

    def __init__(self, choices: Sequence[int]) -> None:
        self._choices = choices
        self.made: list[int] = []
        self.log_probability = 0.0

    def pick(self, weights: Table) -> int:
        """The index of what was chosen.

        Raises:
            UsageError: the choices are those of other facts, or of another version's grammar.
        """
        place = len(self.made)
        index = self._choices[place] if place < len(self._choices) else -1
        if not 0 <= index < len(weights.logs):
            raise UsageError(
                f"derivation: choice {place} is {index}, wanted 0 to {len(weights.logs) - 1}; give "
                "the facts and the version that made it"
            )
        self.made.append(index)
        self.log_probability += weights.logs[index]
        return index


def shuffled(chooser: Chooser, items: list[str]) -> list[str]:
    """The items in a random order, each order with the same probability."""
    for last in range(len(items) - 1, 0, -1):
        other = chooser.pick(EVEN[last + 1])
        items[last], items[other] = items[other], items[last]
    return items
