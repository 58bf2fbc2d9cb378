"""The three learners of a taste: logistic regression, boosted trees and nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.taste.trees import Trees
from sfhq.parts.records import Array

Labels = npt.NDArray[np.bool_]
Line = tuple[Array, float]  # weights and offset of a sum of columns

MEMBERS = ("logistic", "trees", "neighbours")
MOST_ODDS = 12.0


def _logit(p: Array) -> Array:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    odds: Array = np.log(p / (1 - p))
    return odds


def sigmoid(x: Array) -> Array:
    """Log odds as probabilities."""
    p: Array = 1 / (1 + np.exp(-np.clip(x, -50, 50)))
    return p


@dataclass(frozen=True)
class Members:
    """The three learners, fitted."""

    weights: Array  # (D,) of the logistic regression
    intercept: float
    trees: Trees
    points: Array  # (N, K) float32, reduced features of the labelled faces
    labels: Labels  # (N,)
    neighbours: int
    prior: float  # share of kept faces

    def odds(self, flat: Array, reduced: Array) -> Array:
        """(N, 3) log odds, one column a member."""
        linear = flat @ self.weights + self.intercept
        columns = [linear, self.trees(reduced), self._near(reduced)]
        odds: Array = np.clip(np.stack(columns, axis=1), -MOST_ODDS, MOST_ODDS)
        return odds

    def _near(self, reduced: Array) -> Array:
        """Log odds of the share of kept faces among the nearest: nearer ones weigh more, and two
        faces of the average share are added."""
        k = min(self.neighbours, len(self.points))
        wide = min(k + 8, len(self.points))
        found = np.empty(len(reduced))
        squares = (self.points**2).sum(axis=1)
        for start in range(0, len(reduced), 2048):
            some = reduced[start : start + 2048].astype(np.float32)
            rough = squares - 2 * some @ self.points.T
            near = np.argpartition(rough, wide - 1, axis=1)[:, :wide]
            # Above, a small distance is a difference of large sums and mostly rounding error.
            exact = np.linalg.norm(some[:, None].astype(np.float64) - self.points[near], axis=2)
            order = np.lexsort((near, exact))[:, :k]
            near = np.take_along_axis(near, order, axis=1)
            away = np.take_along_axis(exact, order, axis=1)
            weight = 1 / (away + 0.1 * away.mean(axis=1, keepdims=True) + 1e-6)
            weight /= weight.mean(axis=1, keepdims=True)
            kept = (weight * self.labels[near]).sum(axis=1)
            found[start : start + 2048] = (kept + 2 * self.prior) / (weight.sum(axis=1) + 2)
        return _logit(found)


def fit_logistic(flat: Array, y: Labels, strength: float, near: Line | None = None) -> Line:
    """Logistic regression of (N, D) columns; `near` is a solution to start from."""
    from scipy.optimize import minimize

    x = np.asarray(flat, dtype=np.float32)
    sign = np.where(y, 1.0, -1.0)
    # Both kinds weigh the same here; the stack restores their true shares.
    each = np.where(y, 0.5 / max(y.mean(), 1e-9), 0.5 / max(1 - y.mean(), 1e-9))
    signed = (each * sign).astype(np.float32)

    def loss(w: Array) -> tuple[float, Array]:
        margin = (x @ w[:-1].astype(np.float32) + w[-1]) * sign
        value = float((each * np.logaddexp(0, -margin)).sum() + w[:-1] @ w[:-1] / (2 * strength))
        slope = -signed * sigmoid(-margin).astype(np.float32)
        return value, np.append(slope @ x + w[:-1] / strength, slope.sum())

    start = np.zeros(x.shape[1] + 1) if near is None else np.append(*near)
    options = {"maxiter": 200, "ftol": 1e-6}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    return found[:-1].astype(np.float32), float(found[-1])


def best_strength(
    flat: Array, y: Labels, folds: Array, strengths: Sequence[float]
) -> tuple[float, list[Line]]:
    """The strength with the smallest out-of-fold loss, and for each fold the fit without it.

    From 1000 labels on, one fold is enough to choose the strength.
    """
    count = int(folds.max()) + 1
    trial = range(count) if len(y) < 1000 else range(1)
    fits: dict[float, list[Line]] = {}
    losses: dict[float, float] = {}
    near: list[Line | None] = [None] * count
    for strength in sorted(strengths):
        fits[strength], losses[strength] = [], 0.0
        for number in trial:
            test = folds == number
            w, b = fit_logistic(flat[~test], y[~test], strength, near[number])
            near[number] = (w, b)
            margin = (flat[test] @ w + b) * np.where(y[test], 1, -1)
            losses[strength] += float(np.logaddexp(0, -margin).sum())
            fits[strength].append((w, b))
    best = min(losses, key=losses.__getitem__)
    for number in range(len(trial), count):
        test = folds == number
        fits[best].append(fit_logistic(flat[~test], y[~test], best))
    return best, fits[best]
