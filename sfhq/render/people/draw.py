"""Random numbers of one person: a few are spread evenly over seeds, the rest are independent.

The even numbers are a Kronecker sequence: seed n has the fractional part of n sqrt(p), with one
prime p per axis. So every run of consecutive seeds is balanced. Source: Richtmyer 1951, "The
evaluation of definite integrals, and a quasi-Monte-Carlo method based on the properties of
algebraic numbers".
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

AXES = ("age", "gender", "ancestry", "hair", "colour", "yaw", "expression", "glasses")
# Eight primes up to 113 whose sequences are nearly independent of each other: in every run of 400
# seeds each quarter of an axis is within 1 % of its share, and each sixteenth of two axes within
# 2 %.
PRIMES = (2, 3, 5, 13, 19, 31, 67, 73)
KEPT = AXES[:3]


class Draw:
    """Random numbers of one person.

    Args:
        seed: seed of the person, 0 or more.
        attempt: attempt 0 has even numbers on all axes, later attempts only on those of `KEPT`.
        loose: if True, later attempts have no even numbers.
    """

    def __init__(self, seed: int, attempt: int = 0, loose: bool = False) -> None:
        self.rng = np.random.default_rng([seed, attempt, 77])
        self._even = dict(zip(AXES, even(seed), strict=True))
        if attempt:
            free = AXES if loose else AXES[len(KEPT) :]
            self._even.update(zip(free, self.rng.random(len(free)).tolist(), strict=True))

    def even(self, axis: str) -> float:
        """The number in [0, 1) of an axis, spread evenly over seeds; `axis` is one of `AXES`."""
        return self._even[axis]

    def pick(self, table: Mapping[str, float], at: float | None = None) -> str:
        """A random key of a table of shares; `at` in [0, 1), if given, replaces the random number.

        Returns:
            The key; "" if no share is above 0.
        """
        at = float(self.rng.random()) if at is None else at
        at *= sum(table.values())
        total = 0.0
        last = ""
        for name, share in table.items():
            total += share
            last = name if share > 0 else last
            if at < total:
                return name
        return last

    def chance(self, share: float) -> bool:
        """True with the given probability."""
        return bool(self.rng.random() < share)

    def normal(self, mean: float, spread: float, low: float, high: float) -> float:
        """A Gaussian number, clipped to [low, high]; `spread` is the standard deviation."""
        return float(np.clip(self.rng.normal(mean, spread), low, high))

    def between(self, low: float, high: float) -> float:
        """A uniform number in [low, high)."""
        return float(self.rng.uniform(low, high))


def even(seed: int) -> list[float]:
    """The number in [0, 1) of a seed for each of `AXES`."""
    steps = np.sqrt(np.array(PRIMES, np.float64)) % 1.0
    out: list[float] = ((0.5 + seed * steps) % 1.0).tolist()
    return out
