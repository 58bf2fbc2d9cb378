"""Fits a linear probe, and says how good it is on faces that it was not fitted on.

Sources: Alain and Bengio 2016, "Understanding intermediate layers using linear classifier probes";
Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", for
prompts instead of labels; Platt 1999 for the probabilities.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotate.metrics import attributes as answers
from sfhq.errors import UsageError
from sfhq.faces.alignment import FloatArray
from sfhq.parts.records import Array

FOLDS = 5
LEAST = 5  # faces of either answer, each of a group of its own
STRENGTH = 0.05  # C of the logistic regression, on vectors of unit variance
Answers = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A linear map and how good it was.

    Attributes:
        weights: (D,) of plain vectors.
        bias: added to them.
        cut: share of faces that have it; from this probability on a face is said to have it.
        auc: area under the curve, on faces that were not fitted.
        balanced: balanced accuracy from `cut` on, on faces that were not fitted.
        by_fold: balanced accuracy of each fold that holds both answers.
        yes, no: faces of either answer.
    """

    weights: FloatArray
    bias: float
    cut: float
    auc: float
    balanced: float
    by_fold: tuple[float, ...]
    yes: int
    no: int


def require_answers(truth: Answers, groups: npt.NDArray[np.str_]) -> None:
    """Refuse too few answers.

    Raises:
        UsageError: says how many of either kind there are.
    """
    yes, no = (len(np.unique(groups[truth == kind])) for kind in (True, False))
    if min(yes, no) < LEAST:
        raise UsageError(
            f"{int(truth.sum())} faces with it and {int((~truth).sum())} without it, of {yes} and "
            f"{no} sources; wanted {LEAST} or more of each"
        )


def fit(vectors: Array, truth: Answers, groups: npt.NDArray[np.str_], seed: int = 0) -> Fitted:
    """A logistic regression, judged by cross-validation in which no group is on both sides.

    Args:
        vectors: (N, D).
        truth: (N,) whether a face has the attribute.
        groups: (N,) faces of one source or person have the same word.
        seed: of the folds.

    Raises:
        UsageError: fewer than five faces of either answer.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    require_answers(truth, groups)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    odds, number = np.zeros(len(truth)), np.zeros(len(truth), int)
    for fold, (seen, unseen) in enumerate(folds.split(vectors, truth, groups)):
        weights, bias = _line(vectors[seen], truth[seen])
        odds[unseen], number[unseen] = vectors[unseen] @ weights + bias, fold
    scale, offset = _platt(odds, truth)
    weights, bias = _line(vectors, truth)
    return _judged(weights * scale, bias * scale + offset, odds * scale + offset, truth, number)


def pair(
    positive: Array, negative: Array, sharpness: float, known: tuple[Array, Answers] | None
) -> Fitted:
    """A probe from two texts: a face has it where its vector is nearer to the first one.

    Nothing is fitted but, where answers are known, two numbers that turn the difference of cosines
    into a probability.

    Args:
        positive, negative: (D,) unit vectors of the texts.
        sharpness: the probability's logit is that much of the difference of cosines.
        known: (N, D) unit vectors and (N,) answers; None where there are none.
    """
    line = sharpness * (positive.astype(np.float64) - negative.astype(np.float64))
    if known is None:
        return Fitted(line, 0.0, 0.5, np.nan, np.nan, (), 0, 0)
    vectors, truth = known
    odds = vectors @ line
    scale, offset = _platt(odds, truth)
    one = np.zeros(len(truth), int)
    return _judged(line * scale, offset, odds * scale + offset, truth, one)


def _judged(
    weights: FloatArray, bias: float, odds: FloatArray, truth: Answers, number: npt.NDArray[np.int_]
) -> Fitted:
    p = 1 / (1 + np.exp(-np.clip(odds, -60, 60)))
    cut = float(truth.mean())
    known = truth.astype(np.float64)
    each = [answers.balanced_accuracy(p[number == k], known[number == k], cut) for k in set(number)]
    return Fitted(
        weights,
        bias,
        cut,
        answers.auc(p, known),
        answers.balanced_accuracy(p, known, cut),
        tuple(float(x) for x in each if np.isfinite(x)),
        int(truth.sum()),
        int((~truth).sum()),
    )


def _line(vectors: Array, truth: Answers) -> tuple[FloatArray, float]:
    """Weights of plain vectors and bias."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    given = vectors.astype(np.float64)
    mean, spread = given.mean(0), np.maximum(given.std(0), 1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=300)
        model.fit((given - mean) / spread, truth)
    weights = model.coef_[0] / spread
    return weights, float(model.intercept_[0] - weights @ mean)


def _platt(odds: FloatArray, truth: Answers) -> tuple[float, float]:
    """Scale, above 0, and offset that make sigmoid(scale * odds + offset) the best probability."""
    from sklearn.linear_model import LogisticRegression

    unit = max(float(odds.std()), 1e-9)
    model = LogisticRegression(C=10.0).fit(odds[:, None] / unit, truth)
    return max(float(model.coef_[0, 0]), 1e-3) / unit, float(model.intercept_[0])
