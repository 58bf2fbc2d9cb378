"""Random numbers of one person: a few that are spread evenly over seeds, the rest of its own.

The even ones are a Kronecker sequence: seed n has the fractional part of n sqrt(p), a prime p an
axis (Richtmyer 1951, "The evaluation of definite integrals, and a quasi-Monte-Carlo method based
on the properties of algebraic numbers"). So any run of seeds is balanced, not only the whole.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

AXES = ("age", "gender", "ancestry", "hair", "colour", "yaw", "expression", "glasses")
# Of the primes to 113, eight of which no two lean on each other: in every run of 400 seeds each
# quarter of an axis is within 1 % of its share, each sixteenth of two within 2 %.
PRIMES = (2, 3, 5, 13, 19, 31, 67, 73)
KEPT = AXES[:3]


class Draw:
    """Random numbers.

    Args:
        seed: of the person, 0 or more.
        attempt: 0 is even on all axes, later ones on those of `KEPT`.
        loose: not even at all.
    """

    def __init__(self, seed: int, attempt: int = 0, loose: bool = False) -> None:
        self.rng = np.random.default_rng([seed, attempt, 77])
        self._even = dict(zip(AXES, even(seed), strict=True))
        if attempt:
            free = AXES if loose else AXES[len(KEPT) :]
            self._even.update(zip(free, self.rng.random(len(free)).tolist(), strict=True))

    def even(self, axis: str) -> float:
        """A number in [0, 1) that is spread evenly over seeds; `axis` is one of `AXES`."""
        return self._even[axis]

    def pick(self, table: Mapping[str, float], at: float | None = None) -> str:
        """A key by its share; `at` in [0, 1) chooses instead of chance."""
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
        """True in a share of cases."""
        return bool(self.rng.random() < share)

    def normal(self, mean: float, spread: float, low: float, high: float) -> float:
        """A bell, cut at its ends."""
        return float(np.clip(self.rng.normal(mean, spread), low, high))

    def between(self, low: float, high: float) -> float:
        """Uniform."""
        return float(self.rng.uniform(low, high))


def even(seed: int) -> list[float]:
    """A number in [0, 1) for each of `AXES`."""
    steps = np.sqrt(np.array(PRIMES, np.float64)) % 1.0
    out: list[float] = ((0.5 + seed * steps) % 1.0).tolist()
    return out
