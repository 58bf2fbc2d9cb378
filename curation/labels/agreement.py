"""How well people agree with each other and with themselves, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Here and not where they are used: they take a second to import, and no request shall wait for it.
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

RESAMPLES = 2000


@dataclass(frozen=True)
class Share:
    """A share of a count with its 95 % Wilson interval; NaN where the count is 0.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """

    hits: int
    count: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, count: int) -> Share:
        """The share of `hits` in `count`.

        Args:
            hits: 0 to `count`.
            count: 0 or more; with 0 the interval is 0 to 1.
        """
        if count == 0:
            return cls(0, 0, math.nan, 0.0, 1.0)
        interval = binomtest(hits, count).proportion_ci(method="wilson")
        return cls(hits, count, hits / count, float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Agreement:
    """A coefficient of agreement with its 95 % bootstrap interval; NaN where undefined.

    Attributes:
        value: 1 is perfect, 0 is chance.
        low, high: of the interval.
        count: faces that at least two people labelled.
    """

    value: float
    low: float
    high: float
    count: int


Labels = Mapping[str, Mapping[str, bool]]  # annotator -> face -> kept


def cohen_kappa(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Cohen's kappa of two people's labels of the same faces; NaN if there is only one kind.

    Source: Cohen 1960, "A Coefficient of Agreement for Nominal Scales".
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} labels; wanted as many of both")
    if len(set(a) | set(b)) < 2:  # nobody could disagree; scikit-learn warns
        return math.nan
    return float(cohen_kappa_score(a, b))


def krippendorff_alpha(units: Sequence[Sequence[bool]]) -> float:
    """Krippendorff's alpha for two categories, any number of people, with gaps.

    Args:
        units: for each face the labels it got; faces with fewer than two do not count.

    Source: Krippendorff 2004, "Content Analysis", chapter 11 (nominal metric).
    """
    counts = np.array([(sum(u), len(u)) for u in units if len(u) > 1], dtype=np.float64)
    if len(counts) == 0:
        return math.nan
    kept, total = counts[:, 0], counts[:, 1]
    observed = float((kept * (total - kept) / (total - 1)).sum())
    n, k = float(total.sum()), float(kept.sum())
    expected = k * (n - k) / (n - 1)
    return math.nan if expected == 0 else 1 - observed / expected


def pairwise_kappa(labels: Labels, first: str, second: str, seed: int = 0) -> Agreement:
    """Cohen's kappa of two people on the faces that both labelled."""
    both = sorted(labels[first].keys() & labels[second].keys())
    pairs = np.array([(labels[first][f], labels[second][f]) for f in both], dtype=bool)
    if len(both) == 0:
        return Agreement(math.nan, math.nan, math.nan, 0)
    value = cohen_kappa(pairs[:, 0].tolist(), pairs[:, 1].tolist())
    # By hand: a kappa depends on four counts alone, so all tables are drawn and computed at once;
    # scikit-learn computes one at a time.
    cells = np.bincount(pairs[:, 0] * 2 + pairs[:, 1], minlength=4)
    drawn = np.random.default_rng(seed).multinomial(len(both), cells / len(both), RESAMPLES)
    share = drawn / len(both)
    a, b = share[:, 2] + share[:, 3], share[:, 1] + share[:, 3]
    chance = a * b + (1 - a) * (1 - b)
    with np.errstate(invalid="ignore", divide="ignore"):
        kappas = (share[:, 0] + share[:, 3] - chance) / (1 - chance)
    low, high = _interval(kappas)
    return Agreement(value, low, high, len(both))


def overall_alpha(labels: Labels, seed: int = 0) -> Agreement:
    """Krippendorff's alpha of everybody; the interval comes from resampling the faces."""
    faces: dict[str, list[bool]] = {}
    for given in labels.values():
        for face, kept in given.items():
            faces.setdefault(face, []).append(kept)
    units = [u for _, u in sorted(faces.items()) if len(u) > 1]
    value = krippendorff_alpha(units)
    if not units:
        return Agreement(value, math.nan, math.nan, 0)
    rng = np.random.default_rng(seed)
    values = [
        krippendorff_alpha([units[i] for i in rng.integers(len(units), size=len(units))])
        for _ in range(min(RESAMPLES, 400))
    ]
    low, high = _interval(np.asarray(values))
    return Agreement(value, low, high, len(units))


def _interval(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return math.nan, math.nan
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)
