"""Weights of the learners from out-of-fold predictions; thresholds to accept and reject."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import betainc

from curation.taste.learners import Labels, Line, sigmoid
from sfhq.errors import UsageError
from sfhq.parts.records import Array

# Many scores are tried as a threshold, and the one that accepts most is taken; its precision on
# these labels is biased high. To ask for this probability instead of one half makes up for the
# bias: the precision then holds on average, from a hundred labels to thousands.
SURE = 0.6


def fold_numbers(y: Labels, groups: npt.NDArray[np.int64], folds: int, seed: int) -> Array:
    """(N,) fold of each face. Groups are never divided; both kinds are spread evenly.

    Raises:
        UsageError: all faces of one kind are of one group, so that no fold can be left out.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    numbers = np.zeros(len(y), dtype=np.int64)
    found = {kept: len(np.unique(groups[y == kept])) for kept in (True, False)}
    for kept, count in found.items():
        if count < 2:
            raise _one_group("kept" if kept else "rejected", int((y == kept).sum()))
    folds = max(min(folds, *found.values()), 2)
    # The same if every group is one face, but quicker.
    if len(np.unique(groups)) == len(groups):
        split = StratifiedKFold(folds, shuffle=True, random_state=seed).split(y, y)
    else:
        split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(y, y, groups)
    for number, (_, test) in enumerate(split):
        numbers[test] = number
    for number in range(folds):
        left = y[numbers != number]
        for kept in (True, False):
            if not (left == kept).any():
                raise _one_group("kept" if kept else "rejected", int((y == kept).sum()))
    return numbers


def _one_group(kind: str, count: int) -> UsageError:
    return UsageError(
        f"the {count} {kind} faces come from one inspiration, or are near-duplicates of each "
        "other, so a model cannot be tested on faces it has not seen; label faces of other "
        "inspirations"
    )


def fit_stack(odds: Array, y: Labels) -> Line:
    """Weights (3,), none negative, and an offset of the calibrated sum of log odds."""
    from scipy.optimize import minimize

    sign = np.where(y, 1.0, -1.0)

    def loss(w: Array) -> tuple[float, Array]:
        margin = (odds @ w[:-1] + w[-1]) * sign
        slope = -sign * sigmoid(-margin)
        value = float(np.logaddexp(0, -margin).sum() + 0.5 * ((w[:-1] - 1 / 3) ** 2).sum())
        return value, np.append(odds.T @ slope + w[:-1] - 1 / 3, slope.sum())

    bounds = [(0, None)] * odds.shape[1] + [(None, None)]
    start = np.append(np.full(odds.shape[1], 1 / 3), 0.0)
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return found[:-1], float(found[-1])


def stack_out_of_fold(odds: Array, y: Labels, folds: Array) -> Array:
    """(N,) probabilities; each fold's come from weights fitted without it."""
    found = np.zeros(len(y))
    for number in range(int(folds.max()) + 1):
        test = folds == number
        weights, offset = fit_stack(odds[~test], y[~test])
        found[test] = sigmoid(odds[test] @ weights + offset)
    return found


def thresholds(p: Array, y: Labels, precision: float) -> tuple[float, float]:
    """Where to accept and where to reject.

    Args:
        p: (N,) out-of-fold probabilities.
        y: (N,) labels.
        precision: share of keeps among the accepted, and of rejects among the rejected.

    Returns:
        accept: the smallest score from which the precision holds with probability `SURE`, by
            Jeffreys' prior; inf if there is none.
        reject: the largest score up to which it holds; -inf if there is none. If the two
            overlap, both move to their middle.
    """
    accept, reject = _cut(p, y, precision), -_cut(-p, ~y, precision)
    if reject >= accept:
        accept = (accept + reject) / 2
        reject = float(np.nextafter(accept, -np.inf))
    return accept, reject


def _cut(p: Array, y: Labels, precision: float) -> float:
    order = np.argsort(-p, kind="stable")
    scores, kept = p[order], np.cumsum(y[order])
    count = np.arange(1, len(p) + 1)
    holds = 1 - betainc(kept + 0.5, count - kept + 0.5, precision)
    last = np.append(scores[1:] != scores[:-1], True)  # a threshold cannot separate equal scores
    fine = np.nonzero((holds >= SURE) & last & (count >= 5))[0]
    return float(scores[fine[-1]]) if len(fine) else float("inf")
