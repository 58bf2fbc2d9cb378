"""A person's taste as a model: three learners, combined by weights.

Logistic regression, boosted trees and nearest neighbours each give log odds. Their weights, which
are never negative, and the calibration are fitted on out-of-fold predictions, so a learner that
only remembers its labels gets no weight. Only numbers and settings are saved.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.taste.learners import (
    MEMBERS,
    Labels,
    Line,
    Members,
    best_strength,
    fit_logistic,
    sigmoid,
)
from curation.taste.reduction import Blocks, Reduction, check_blocks, reduce_blocks
from curation.taste.stack import fit_stack, fold_numbers, stack_out_of_fold, thresholds
from curation.taste.trees import Trees, fit_trees
from sfhq.errors import IntegrityError, UsageError
from sfhq.images import write_atomic
from sfhq.parts.records import Array, Json
from sfhq.weights.header import sorted_header

FORMAT = "sfhq-taste-1"
FEWEST = 8  # labels of each kind
MOST_DEPTH = 1024  # of a tree in a file


@dataclass(frozen=True)
class TasteSettings:
    """How a taste is learned.

    Attributes:
        folds: number of folds for the out-of-fold predictions.
        strengths: values of the logistic regression's C to choose from, by out-of-fold loss.
        axes: number of principal axes of a wide feature set, for trees and neighbours.
        rounds, leaves, rate: number of trees, leaves of each, and learning rate.
        neighbours: number of nearest faces that are asked.
        precision: wanted share of right decisions, among accepted and among rejected faces.
        seed: of folds and trees.
    """

    folds: int = 5
    strengths: tuple[float, ...] = (0.0003, 0.003, 0.03, 0.3)
    axes: int = 48
    rounds: int = 80
    leaves: int = 8
    rate: float = 0.08
    neighbours: int = 13
    precision: float = 0.95
    seed: int = 0


QUICK = TasteSettings(folds=3, strengths=(0.003, 0.03), rounds=40)


def check_labels(labels: Labels, fewest: int, use: str) -> None:
    """Raise UsageError if there are fewer than `fewest` labels of one kind."""
    kept, rejected = int(labels.sum()), int((~labels).sum())
    if min(kept, rejected) < fewest:
        raise UsageError(
            f"{kept} kept and {rejected} rejected faces to {use}; wanted {fewest} or more "
            "of each: label some more"
        )


@dataclass(frozen=True)
class TasteModel:
    """A taste, ready to score.

    Attributes:
        settings: how it was learned.
        accept, reject: a score from `accept` on is accepted, up to `reject` rejected.
        counts: labels it was learned from, kept and rejected.
        out_of_fold: (N,) probabilities of its own labels, each from a model fitted without it.
        weights: (3,) of the members in the stack.
    """

    settings: TasteSettings
    accept: float
    reject: float
    counts: tuple[int, int]
    out_of_fold: Array
    weights: Array
    offset: float
    strength: float
    _reduction: Reduction = field(repr=False)
    _members: Members = field(repr=False)

    @property
    def features(self) -> dict[str, int]:
        """Name of each feature set it needs -> its columns."""
        return dict(zip(self._reduction.names, self._reduction.widths, strict=True))

    @property
    def labels(self) -> Labels:
        """(N,) the labels that it was fitted on, in the order of `out_of_fold`."""
        return self._members.labels

    @property
    def version(self) -> str:
        """12 hex digits: a digest of the model's numbers."""
        digest = hashlib.sha256()
        for name, array in sorted(self._arrays().items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:12]

    def _odds(self, blocks: Blocks) -> Array:
        flat = self._reduction.flat(blocks)
        return self._members.odds(flat, self._reduction.narrow(flat))

    def score(self, blocks: Blocks) -> Array:
        """(N,) probability that the person keeps each face.

        Raises:
            UsageError: other feature sets than it was fitted on.
        """
        return self.judge(blocks)[0]

    def judge(self, blocks: Blocks) -> tuple[Array, Array]:
        """(N,) probabilities, and (N,) how far the members disagree, 0 to 0.5."""
        odds = self._odds(blocks)
        p = sigmoid(odds @ self.weights + self.offset)
        spread: Array = sigmoid(odds + self.offset / 3).std(axis=1)
        return p, spread

    def decide(self, scores: Array) -> list[str]:
        """For each score one of the words accept, reject and unsure."""
        return [
            "accept" if s >= self.accept else "reject" if s <= self.reject else "unsure"
            for s in scores.tolist()
        ]

    def _arrays(self) -> dict[str, Array]:
        r, m, t = self._reduction, self._members, self._members.trees
        return {
            "mean": r.mean,
            "scale": r.scale,
            "axes": r.axes,
            "logistic": m.weights,
            "points": m.points,
            "labels": m.labels.astype(np.uint8),
            "tree_feature": t.feature,
            "tree_threshold": t.threshold,
            "tree_left": t.left,
            "tree_right": t.right,
            "tree_value": t.value,
            "stack": self.weights,
            "out_of_fold": self.out_of_fold,
            "single": np.array([m.intercept, m.prior, t.base, t.depth, self.offset, self.strength]),
            "cuts": np.array([self.accept, self.reject]),
        }

    def save(self, path: Path) -> None:
        """Write numbers and settings as a safetensors file."""
        from safetensors.numpy import save

        about: dict[str, Json] = {
            "settings": asdict(self.settings),
            "features": self.features,
            "counts": list(self.counts),
            "version": self.version,
        }
        metadata = {"format": FORMAT, "taste": json.dumps(about, sort_keys=True)}
        arrays = {k: np.ascontiguousarray(v) for k, v in self._arrays().items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, sorted_header(save(arrays, metadata)))

    @classmethod
    def load(cls, path: Path) -> TasteModel:
        """Read what `save` wrote.

        Raises:
            UsageError: there is no such file.
            IntegrityError: it is damaged, or not a taste model.
        """
        from safetensors import safe_open

        if not path.is_file():
            raise UsageError(f"{path}: no such model; make one with: sfhq taste fit")
        try:
            with safe_open(path, "numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError(f"format {metadata.get('format')}, not {FORMAT}")
                about: dict[str, Any] = json.loads(metadata["taste"])
                a = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return cls._from(about, a)
        except Exception as error:
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise IntegrityError(
                f"{path}: not a taste model that can be read ({said}); "
                "make it again with: sfhq taste fit"
            ) from None

    @classmethod
    def _from(cls, about: dict[str, Any], a: dict[str, Array]) -> TasteModel:
        given = dict(about["settings"])
        given["strengths"] = tuple(given["strengths"])
        settings = TasteSettings(**given)
        intercept, prior, base, depth, offset, strength = a["single"].tolist()
        trees = Trees(
            a["tree_feature"],
            a["tree_threshold"],
            a["tree_left"],
            a["tree_right"],
            a["tree_value"],
            base,
            int(depth),
        )
        members = Members(
            a["logistic"],
            intercept,
            trees,
            a["points"],
            a["labels"].astype(bool),
            settings.neighbours,
            prior,
        )
        _require_sound(a, trees, settings)
        features: dict[str, int] = about["features"]
        names = tuple(sorted(features))
        widths = tuple(features[n] for n in names)
        reduction = Reduction(names, widths, a["mean"], a["scale"], a["axes"])
        model = cls(
            settings=settings,
            accept=float(a["cuts"][0]),
            reject=float(a["cuts"][1]),
            counts=(int(about["counts"][0]), int(about["counts"][1])),
            out_of_fold=a["out_of_fold"],
            weights=a["stack"],
            offset=offset,
            strength=strength,
            _reduction=reduction,
            _members=members,
        )
        if model.version != about["version"]:
            raise ValueError("its numbers are not those it was saved with")
        if sum(widths) != len(a["mean"]):
            raise ValueError(f"{len(a['mean'])} columns; its feature sets have {sum(widths)}")
        return model


def _require_sound(a: dict[str, Array], trees: Trees, settings: TasteSettings) -> None:
    """Refuse numbers that would fail, or take for ever, only when faces are scored.

    Raises:
        ValueError: says which.
    """
    for name, array in a.items():
        # A cut that nothing reaches is infinite.
        if not np.isfinite(array).all() and name not in ("tree_threshold", "cuts"):
            raise ValueError(f"{name} is not finite")
        if np.isnan(array).any():
            raise ValueError(f"{name} is not a number")
    columns, axes = a["axes"].shape
    shapes = {
        "mean": (columns,),
        "scale": (columns,),
        "logistic": (columns,),
        "points": (len(a["labels"]), axes),
        "stack": (len(MEMBERS),),
        "cuts": (2,),
    }
    shapes |= {f"tree_{n}": trees.feature.shape for n in ("threshold", "left", "right", "value")}
    for name, shape in shapes.items():
        if a[name].shape != shape:
            raise ValueError(f"{name} has shape {a[name].shape}; wanted {shape}")
    if not len(a["labels"]) or settings.neighbours < 1 or not (a["scale"] > 0).all():
        raise ValueError("no faces, no neighbours, or a scale of 0")
    if trees.feature.ndim != 2 or not trees.feature.shape[1] or not 0 <= trees.depth <= MOST_DEPTH:
        raise ValueError(f"trees of depth {trees.depth}")
    for name, nodes, most in (
        ("tree_feature", trees.feature, axes),
        ("tree_left", trees.left, trees.feature.shape[1]),
        ("tree_right", trees.right, trees.feature.shape[1]),
    ):
        if nodes.dtype.kind not in "iu" or (nodes.size and nodes.max() >= most):
            raise ValueError(f"{name} points outside")
        if nodes.size and nodes.min() < (-1 if name == "tree_feature" else 0):
            raise ValueError(f"{name} points outside")


def fit_taste(
    blocks: Blocks,
    labels: Labels,
    groups: npt.NDArray[np.int64] | None = None,
    settings: TasteSettings | None = None,
) -> TasteModel:
    """Learn a taste.

    Args:
        blocks: name of a feature set -> (N, D) float32.
        labels: (N,) True for what is kept.
        groups: (N,) faces of one group, such as near-duplicates, stay in one fold.
        settings: how to fit; None for the defaults.

    Raises:
        UsageError: fewer than 8 labels of one kind, or all of one kind in one group.
    """
    settings = settings or TasteSettings()
    y = np.asarray(labels, dtype=np.bool_)
    if check_blocks(blocks) != len(y):
        raise UsageError(f"{len(y)} labels for {check_blocks(blocks)} faces")
    check_labels(y, FEWEST, "learn from")
    groups = np.arange(len(y)) if groups is None else np.asarray(groups)
    reduction = reduce_blocks(blocks, settings.axes)
    flat = reduction.flat(blocks)
    reduced = reduction.narrow(flat)
    folds = fold_numbers(y, groups, settings.folds, settings.seed)
    strength, linear = best_strength(flat, y, folds, settings.strengths)
    odds = np.zeros((len(y), len(MEMBERS)))
    for number in range(int(folds.max()) + 1):
        test = folds == number
        fold = replace(settings, seed=settings.seed + number)
        members = _members(linear[number], reduced[~test], y[~test], fold)
        odds[test] = members.odds(flat[test], reduced[test])
    weights, offset = fit_stack(odds, y)
    out_of_fold = stack_out_of_fold(odds, y, folds)
    accept, reject = thresholds(out_of_fold, y, settings.precision)
    return TasteModel(
        settings=settings,
        accept=accept,
        reject=reject,
        counts=(int(y.sum()), int((~y).sum())),
        out_of_fold=out_of_fold,
        weights=weights,
        offset=offset,
        strength=strength,
        _reduction=reduction,
        _members=_members(fit_logistic(flat, y, strength), reduced, y, settings),
    )


def _members(line: Line, reduced: Array, y: Labels, settings: TasteSettings) -> Members:
    """The three learners; the logistic regression comes fitted."""
    trees = fit_trees(reduced, y, settings.rounds, settings.leaves, settings.rate, settings.seed)
    points = reduced.astype(np.float32)
    return Members(*line, trees, points, y, settings.neighbours, float(y.mean()))
