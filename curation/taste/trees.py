"""Boosted trees as plain arrays: learned by scikit-learn, evaluated here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sfhq.parts.records import Array


@dataclass(frozen=True)
class Trees:
    """A sum of binary regression trees.

    Attributes:
        feature: (T, M) int32, the column a node looks at; -1 in leaves.
        threshold: (T, M) float64; a value up to it goes left.
        left, right: (T, M) int32, nodes to go to.
        value: (T, M) float64, what a leaf adds.
        base: what is added to all.
        depth: of the deepest tree.
    """

    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float64]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    value: npt.NDArray[np.float64]
    base: float
    depth: int

    def __call__(self, x: Array) -> npt.NDArray[np.float64]:
        """(N, F) finite features to (N,) log odds."""
        x = np.asarray(x, dtype=np.float64)
        total = np.full(len(x), self.base)
        rows = np.arange(len(x))
        for tree in range(len(self.feature)):
            node = np.zeros(len(x), dtype=np.int64)
            for _ in range(self.depth):
                feature = self.feature[tree, node]
                inner = feature >= 0
                go_left = x[rows, np.maximum(feature, 0)] <= self.threshold[tree, node]
                step = np.where(go_left, self.left[tree, node], self.right[tree, node])
                node = np.where(inner, step, node)
            total += self.value[tree, node]
        return total


def fit_trees(
    x: Array, y: npt.NDArray[np.bool_], rounds: int, leaves: int, rate: float, seed: int
) -> Trees:
    """Boost trees on labels.

    Args:
        x: (N, F) finite features.
        y: (N,) labels.
        rounds: trees.
        leaves: of a tree, at most.
        rate: learning rate.
        seed: of the binning.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    learner = HistGradientBoostingClassifier(
        max_iter=rounds,
        max_leaf_nodes=leaves,
        learning_rate=rate,
        min_samples_leaf=max(5, min(20, len(y) // 40)),
        l2_regularization=1.0,
        max_bins=63,
        early_stopping=False,
        random_state=seed,
    ).fit(np.asarray(x, dtype=np.float64), y)
    columns = np.sort(np.asarray(x, dtype=np.float64), axis=0).T
    nodes = [stage[0].nodes for stage in learner._predictors]
    most = max(len(n) for n in nodes)
    shape = (len(nodes), most)
    feature, left, right = (np.full(shape, fill, dtype=np.int32) for fill in (-1, 0, 0))
    threshold, value = np.zeros(shape), np.zeros(shape)
    for tree, found in enumerate(nodes):
        n = len(found)
        leaf = found["is_leaf"].astype(bool)
        feature[tree, :n] = np.where(leaf, -1, found["feature_idx"])
        at = [
            0.0 if node["is_leaf"] else _middle(columns[node["feature_idx"]], node["num_threshold"])
            for node in found
        ]
        threshold[tree, :n] = at
        left[tree, :n], right[tree, :n] = found["left"], found["right"]
        value[tree, :n] = np.where(leaf, found["value"], 0.0)
    base = float(np.asarray(learner._baseline_prediction).ravel()[0])
    depth = max(int(n["depth"].max()) for n in nodes)
    return Trees(feature, threshold, left, right, value, base, depth)


def _middle(values: Array, threshold: float) -> float:
    """A threshold that parts the sorted values as before, in the middle of its gap.

    The learner's may be a value itself, of which rounding then decides where it goes.
    """
    above = int(np.searchsorted(values, threshold, "right"))
    if above in (0, len(values)):
        return threshold
    return float((values[above - 1] + values[above]) / 2)
