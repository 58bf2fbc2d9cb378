"""How good a taste model is, measured on labels that it was not fitted on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from curation.labels.agreement import Share
from curation.taste.learners import Labels
from curation.taste.model import FEWEST, TasteSettings, check_labels, fit_taste
from curation.taste.reduction import Blocks
from curation.taste.stack import fold_numbers
from sfhq.errors import UsageError
from sfhq.parts.records import Array, Json

BINS = 10
Z95 = 1.959963984540054  # half width of a 95 % interval in standard deviations


def auc_with_interval(scores: Array, labels: Labels) -> tuple[float, float, float]:
    """Area under the ROC curve with its 95 % interval.

    Source: DeLong, DeLong and Clarke-Pearson 1988, "Comparing the Areas under Two or More
    Correlated Receiver Operating Characteristic Curves".
    """
    positive, negative = scores[labels], scores[~labels]
    if len(positive) == 0 or len(negative) == 0:
        return float("nan"), 0.0, 1.0
    ordered_n, ordered_p = np.sort(negative), np.sort(positive)

    def placed(values: Array, others: Array) -> Array:
        low = np.searchsorted(others, values, "left")
        high = np.searchsorted(others, values, "right")
        share: Array = (low + high) / (2 * len(others))
        return share

    over = placed(positive, ordered_n)  # for each keep, share of rejects below it
    under = 1 - placed(negative, ordered_p)
    auc = float(over.mean())
    variance = over.var(ddof=1) / len(over) if len(over) > 1 else 0.0
    variance += under.var(ddof=1) / len(under) if len(under) > 1 else 0.0
    half = Z95 * float(np.sqrt(variance))
    return auc, max(auc - half, 0.0), min(auc + half, 1.0)


@dataclass(frozen=True)
class TasteReport:
    """The results of nested cross-validation: no face was judged by a model fitted on its label.

    Attributes:
        count: labels, kept and rejected.
        auc: value and 95 % interval.
        accuracy: share of faces on the right side of 0.5.
        precision: the precision that was asked for.
        accepted: share of kept faces among those above the accept thresholds; each threshold was
            chosen without these faces.
        rejected: share of rejected faces among those below the reject thresholds.
        share_accepted, share_rejected: share of all faces above and below them.
        calibration: for each of `BINS` equal bins that is not empty its mean score, share of kept
            faces, and count.
        calibration_error: mean difference of score and share, weighted by count.
        curve: (labels, AUC, low, high) of models fitted on fewer labels.
        scores: (N,) score of each face.
        disputed: indices of faces whose score contradicts the label most.
    """

    count: tuple[int, int]
    auc: tuple[float, float, float]
    accuracy: Share
    precision: float
    accepted: Share
    rejected: Share
    share_accepted: float
    share_rejected: float
    calibration: tuple[tuple[float, float, int], ...]
    calibration_error: float
    curve: tuple[tuple[int, float, float, float], ...]
    scores: Array
    disputed: tuple[int, ...]

    def to_dict(self) -> dict[str, Json]:
        """For JSON; without the scores. What is not defined is None: JSON has no NaN."""
        found = asdict(self)
        del found["scores"]
        return {name: _without_nan(value) for name, value in found.items()}


def _without_nan(value: Json) -> Json:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _rows(blocks: Blocks, rows: npt.NDArray[np.int64]) -> dict[str, Array]:
    return {name: block[rows] for name, block in blocks.items()}


def evaluate_taste(
    blocks: Blocks,
    labels: Labels,
    groups: npt.NDArray[np.int64] | None = None,
    settings: TasteSettings | None = None,
    folds: int = 5,
    curve: bool = True,
    say: Callable[[str], None] | None = None,
) -> TasteReport:
    """Nested cross-validation: everything, thresholds too, is chosen without the test fold.

    Args:
        blocks, labels, groups, settings: as `fit_taste`.
        folds: number of outer folds.
        curve: whether to measure models fitted on fewer labels too.
        say: takes a line of progress.

    Raises:
        UsageError: too few labels of one kind, or all of one group: without one fold a model cannot
            be fitted.
    """
    settings = settings or TasteSettings()
    y = np.asarray(labels, dtype=np.bool_)
    check_labels(y, math.ceil(FEWEST * folds / (folds - 1)), "measure with")
    groups = np.arange(len(y)) if groups is None else np.asarray(groups)
    outer = fold_numbers(y, groups, folds, settings.seed + 1000)
    scores = np.zeros(len(y))
    accept, reject = np.zeros(len(y), dtype=bool), np.zeros(len(y), dtype=bool)
    for number in range(int(outer.max()) + 1):
        test = np.nonzero(outer == number)[0]
        train = np.nonzero(outer != number)[0]
        inner = replace(settings, seed=settings.seed + number)
        model = fit_taste(_rows(blocks, train), y[train], groups[train], inner)
        scores[test] = model.score(_rows(blocks, test))
        accept[test] = scores[test] >= model.accept
        reject[test] = scores[test] <= model.reject
        if say is not None:
            say(f"fold {number + 1} of {int(outer.max()) + 1}")
    bins = np.clip((scores * BINS).astype(int), 0, BINS - 1)
    calibration = tuple(
        (float(scores[bins == b].mean()), float(y[bins == b].mean()), int((bins == b).sum()))
        for b in range(BINS)
        if (bins == b).any()
    )
    error = sum(abs(s - k) * n for s, k, n in calibration) / len(y)
    wrong = np.where(y, 1 - scores, scores)
    return TasteReport(
        count=(int(y.sum()), int((~y).sum())),
        auc=auc_with_interval(scores, y),
        accuracy=Share.of(int(((scores >= 0.5) == y).sum()), len(y)),
        precision=settings.precision,
        accepted=Share.of(int(y[accept].sum()), int(accept.sum())),
        rejected=Share.of(int((~y[reject]).sum()), int(reject.sum())),
        share_accepted=float(accept.mean()),
        share_rejected=float(reject.mean()),
        calibration=calibration,
        calibration_error=float(error),
        curve=_curve(blocks, y, groups, settings, outer) if curve else (),
        scores=scores,
        disputed=tuple(np.argsort(-wrong, kind="stable")[:24].tolist()),
    )


def _curve(
    blocks: Blocks,
    y: Labels,
    groups: npt.NDArray[np.int64],
    settings: TasteSettings,
    outer: Array,
) -> tuple[tuple[int, float, float, float], ...]:
    """AUC of models fitted on more and more labels, all measured on the same held-out faces."""
    test = np.nonzero(outer == 0)[0]
    rest = np.random.default_rng(settings.seed).permutation(np.nonzero(outer != 0)[0])
    found = []
    for share in (0.1, 0.2, 0.4, 0.7, 1.0):
        some = rest[: int(share * len(rest))]
        if min(int(y[some].sum()), int((~y[some]).sum())) < 10:
            continue
        try:
            model = fit_taste(_rows(blocks, some), y[some], groups[some], settings)
        except UsageError:  # these few are of one group
            continue
        auc = auc_with_interval(model.score(_rows(blocks, test)), y[test])
        found.append((len(some), *auc))
    return tuple(found)


def near_groups(vectors: Array, threshold: float = 0.97) -> npt.NDArray[np.int64]:
    """Groups of near-duplicates.

    Args:
        vectors: (N, D) unit vectors.
        threshold: two vectors whose cosine is above it are of one group.

    Returns:
        (N,) number of each vector's group: the place of the group's first vector.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    from curation.pairs.search import all_pairs

    count = len(vectors)
    rows, columns, _ = all_pairs(np.ascontiguousarray(vectors, np.float32), threshold)
    linked = coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(count, count))
    labels = connected_components(linked, directed=False)[1]
    first = np.unique(labels, return_index=True)[1]
    groups: npt.NDArray[np.int64] = first[labels].astype(np.int64)
    return groups
