"""Boosted trees as plain arrays: learned by scikit-learn, evaluated here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sfhq.parts.records import Array


@dataclass(frozen=True)
class Trees:
    """A sum of binary regression trees.

    Attributes:
        feature: (T, M) int32, the column that a node compares; -1 in leaves.
        threshold: (T, M) float64; a value up to it goes left.
        left, right: (T, M) int32, the next node; 0 in leaves.
        value: (T, M) float64, what a leaf adds; 0 in other nodes.
        base: where the sum starts.
        depth: edges from the root to the deepest leaf.
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
        rounds: number of trees.
        leaves: of a tree, at most.
        rate: learning rate.
        seed: of the binning.
    """
    x = np.asarray(x, dtype=np.float64)
    smallest = max(5, min(20, len(y) // 40))
    found = _histogram_trees(x, y, rounds, leaves, rate, seed, smallest)
    if found is None:
        found = _exact_trees(x, y, rounds, leaves, rate, seed, smallest)
    return _packed(x, *found)


class _Tree(NamedTuple):
    """One tree as columns, a row a node; node 0 is the root."""

    feature: npt.NDArray[np.int64]  # -1 in leaves
    threshold: npt.NDArray[np.float64]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]


def _histogram_trees(
    x: Array,
    y: npt.NDArray[np.bool_],
    rounds: int,
    leaves: int,
    rate: float,
    seed: int,
    smallest: int,
) -> tuple[float, list[_Tree]] | None:
    """The quick learner. Its fitted trees are not public: setup.py bounds scikit-learn's version,
    and `_exact_trees` serves where they cannot be read.

    Returns:
        Where the sum starts, and the trees; None where they cannot be read.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    learner = HistGradientBoostingClassifier(
        max_iter=rounds,
        max_leaf_nodes=leaves,
        learning_rate=rate,
        min_samples_leaf=smallest,
        l2_regularization=1.0,
        max_bins=63,
        early_stopping=False,
        random_state=seed,
    ).fit(x, y)
    try:
        base = float(np.asarray(learner._baseline_prediction).ravel()[0])
        trees = [_histogram_tree(stage[0].nodes) for stage in learner._predictors]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None
    return (base, trees) if len(trees) == rounds else None


def _histogram_tree(nodes: Array) -> _Tree:
    leaf = nodes["is_leaf"].astype(bool)
    return _Tree(
        feature=np.where(leaf, -1, nodes["feature_idx"].astype(np.int64)),
        threshold=nodes["num_threshold"].astype(np.float64),
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        value=np.where(leaf, nodes["value"], 0.0),
    )


def _exact_trees(
    x: Array,
    y: npt.NDArray[np.bool_],
    rounds: int,
    leaves: int,
    rate: float,
    seed: int,
    smallest: int,
) -> tuple[float, list[_Tree]]:
    """The slower learner, whose fitted trees are public. As `_histogram_trees`."""
    from sklearn.ensemble import GradientBoostingClassifier

    learner = GradientBoostingClassifier(
        n_estimators=rounds,
        max_leaf_nodes=leaves,
        max_depth=None,
        learning_rate=rate,
        min_samples_leaf=smallest,
        random_state=seed,
    ).fit(x, y)
    trees = []
    for stage in learner.estimators_:
        tree = stage[0].tree_
        leaf = tree.children_left < 0
        trees.append(
            _Tree(
                feature=np.where(leaf, -1, tree.feature),
                threshold=tree.threshold,
                left=np.maximum(tree.children_left, 0),
                right=np.maximum(tree.children_right, 0),
                value=np.where(leaf, rate * tree.value[:, 0, 0], 0.0),
            )
        )
    share = float(y.mean())  # the sum starts at the log odds of all labels
    return float(np.log(share / (1 - share))), trees


def _packed(x: Array, base: float, trees: list[_Tree]) -> Trees:
    """Trees as arrays, with thresholds in the middle of the gaps between the values of `x`."""
    columns = np.sort(x, axis=0).T
    shape = (len(trees), max(len(tree.feature) for tree in trees))
    feature, left, right = (np.full(shape, fill, dtype=np.int32) for fill in (-1, 0, 0))
    threshold, value = np.zeros(shape), np.zeros(shape)
    depth = 0
    for number, tree in enumerate(trees):
        n = len(tree.feature)
        depths = np.zeros(n, dtype=np.int64)
        feature[number, :n], value[number, :n] = tree.feature, tree.value
        left[number, :n], right[number, :n] = tree.left, tree.right
        for node in np.nonzero(tree.feature >= 0)[0].tolist():  # a parent comes before its children
            column = columns[tree.feature[node]]
            threshold[number, node] = _middle(column, float(tree.threshold[node]))
            depths[[tree.left[node], tree.right[node]]] = depths[node] + 1
        depth = max(depth, int(depths.max()))
    return Trees(feature, threshold, left, right, value, base, depth)


def _middle(values: Array, threshold: float) -> float:
    """A threshold that splits the sorted values as before, in the middle of its gap.

    The learner's threshold may equal a value; rounding would then decide where that value goes.
    """
    above = int(np.searchsorted(values, threshold, "right"))
    if above in (0, len(values)):
        return threshold
    return float((values[above - 1] + values[above]) / 2)
