"""Agreement of probabilities with answers that are known to be yes or no; NaN is unknown.

Sources: Fawcett 2006, "An introduction to ROC analysis"; Naeini et al. 2015, "Obtaining Well
Calibrated Probabilities Using Bayesian Binning" (expected calibration error).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Floats = npt.NDArray[np.floating]
BINS = 10
LEAST = 5  # known answers of each kind that a group must have to be judged


def _known(told: Floats, truth: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    known = ~np.isnan(truth)
    return np.asarray(told, np.float64)[known], truth[known] > 0.5


def balanced_accuracy(told: Floats, truth: Floats, limit: float = 0.5) -> float:
    """Mean of the shares of true yes and of true no that are told so; NaN if either is missing.

    Args:
        told: (N,) probabilities.
        truth: (N,) 1, 0 or NaN.
        limit: probabilities from here on say yes.
    """
    p, yes = _known(told, truth)
    if not yes.any() or yes.all():
        return float("nan")
    return float(((p[yes] >= limit).mean() + (p[~yes] < limit).mean()) / 2)


def auc(told: Floats, truth: Floats) -> float:
    """Probability that a random yes is told a higher value than a random no; ties count half.

    NaN if either is missing; arguments as in `balanced_accuracy`.
    """
    p, yes = _known(told, truth)
    positive, negative = int(yes.sum()), int((~yes).sum())
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(p)
    wins = float(ranks[yes].sum()) - positive * (positive + 1) / 2
    return wins / (positive * negative)


def calibration_error(told: Floats, truth: Floats, bins: int = BINS) -> float:
    """Mean distance of told probabilities from what happened, over equal bins of probability.

    NaN if nothing is known; arguments as in `balanced_accuracy`.
    """
    p, yes = _known(told, truth)
    if not len(p):
        return float("nan")
    place = np.minimum((p * bins).astype(int), bins - 1)
    # A bin's share times its mean gap is the sum of its gaps over the number of all.
    gap = np.bincount(place, p - yes, minlength=bins)
    return float(np.abs(gap).sum() / len(p))


def worst_group(
    told: Floats, truth: Floats, groups: Mapping[str, npt.NDArray[np.bool_]]
) -> tuple[str, float]:
    """The group of samples with the lowest balanced accuracy, and that.

    Groups with fewer than 5 known yes or no are not judged; ("", NaN) if none is left.

    Args:
        told, truth: as in `balanced_accuracy`.
        groups: name -> (N,) whether a sample belongs to it.
    """
    found = {}
    for name, member in groups.items():
        yes = truth[member] == 1
        no = truth[member] == 0
        if min(int(yes.sum()), int(no.sum())) >= LEAST:
            found[name] = balanced_accuracy(told[member], truth[member])
    if not found:
        return "", float("nan")
    worst = min(found, key=lambda name: found[name])
    return worst, found[worst]
