"""A person's taste as a model: three learners, stacked on predictions they did not see.

Logistic regression, boosted trees and nearest neighbours each give log odds. Their weights,
never negative, and the calibration are fitted on out-of-fold predictions, so a member that only
remembers gets no weight. What is saved is numbers and settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.trees import Trees, fit_trees
from sfhq.errors import IntegrityError, UsageError
from sfhq.images import write_atomic
from sfhq.records import Array, Json
from sfhq.safetensors_header import sorted_header

Labels = npt.NDArray[np.bool_]
Blocks = Mapping[str, Array]  # name of a feature set -> (N, D) float32

FORMAT = "sfhq-taste-1"
MEMBERS = ("logistic", "trees", "neighbours")
FEWEST = 8  # labels of each kind
MOST_ODDS = 12.0
PLAIN = 64  # columns up to which a set is shown to trees as it is


@dataclass(frozen=True)
class TasteSettings:
    """How a taste is learned.

    Attributes:
        folds: that out-of-fold predictions come from.
        strengths: of the logistic regression's C, the best by out-of-fold loss.
        axes: principal axes a wide feature set is reduced to, for trees and neighbours.
        rounds, leaves, rate: of the trees.
        neighbours: of a face.
        precision: that accepted faces are to have, and rejected ones.
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


@dataclass(frozen=True)
class _Reduction:
    """Standardised columns, and the principal axes of wide sets."""

    names: tuple[str, ...]
    widths: tuple[int, ...]
    mean: Array  # (D,)
    scale: Array  # (D,)
    axes: Array  # (D, K): from standardised columns to what trees and neighbours see

    def flat(self, blocks: Blocks) -> Array:
        """(N, D) standardised columns."""
        check_blocks(blocks, dict(zip(self.names, self.widths, strict=True)))
        x = np.concatenate([np.asarray(blocks[n], np.float32) for n in self.names], axis=1)
        flat: Array = (x - self.mean) / self.scale
        return flat

    def narrow(self, flat: Array) -> Array:
        """(N, K) float32 of (N, D); in doubles, so that a face's do not depend on its company."""
        narrow: Array = (flat.astype(np.float64) @ self.axes.astype(np.float64)).astype(np.float32)
        return narrow


def check_blocks(blocks: Blocks, wanted: Mapping[str, int] | None = None) -> int:
    """Number of faces.

    Raises:
        UsageError: no features, other features than wanted, or values that are not finite.
    """
    if not blocks:
        raise UsageError("no features to judge by; run: sfhq embed --redo")
    found = {name: int(np.asarray(b).shape[1]) for name, b in blocks.items()}
    if wanted is not None:
        for name, width in wanted.items():
            if found.get(name) != width:
                have = ", ".join(f"{n} ({w})" for n, w in sorted(found.items()))
                raise UsageError(
                    f"the model wants the feature set {name} with {width} columns; found {have}; "
                    f"run: sfhq embed --features {name}, or fit the model anew"
                )
    counts = {len(b) for b in blocks.values()}
    if len(counts) != 1:
        raise UsageError(f"feature sets of different lengths: {sorted(counts)}")
    for name, block in blocks.items():
        if not np.isfinite(block).all():
            raise UsageError(f"feature set {name}: values that are not finite; embed it again")
    return counts.pop()


def check_labels(labels: Labels, fewest: int, use: str) -> None:
    """Raises UsageError where there are fewer labels of one kind than are needed for a use."""
    kept, rejected = int(labels.sum()), int((~labels).sum())
    if min(kept, rejected) < fewest:
        raise UsageError(
            f"{kept} kept and {rejected} rejected faces to {use}; wanted {fewest} or more "
            "of each: label some more"
        )


def _reduce(blocks: Blocks, axes: int) -> _Reduction:
    names = tuple(sorted(blocks))
    parts = [np.asarray(blocks[n], dtype=np.float32) for n in names]
    widths = tuple(p.shape[1] for p in parts)
    x = np.concatenate(parts, axis=1)
    mean = x.mean(axis=0)
    # Wide sets keep the proportions of their columns; narrow ones have units of their own.
    scales = []
    columns: list[Array] = []
    for part, width in zip(parts, widths, strict=True):
        own = part.std(axis=0)
        if width > PLAIN:
            own = np.full(width, float(np.sqrt((own**2).mean())))
        scales.append(np.maximum(own, 1e-8))
    scale = np.concatenate(scales).astype(np.float32)
    z = (x - mean) / scale
    start = 0
    total = sum(widths)
    for width in widths:
        block = z[:, start : start + width]
        chosen = np.zeros((total, min(width, axes if width > PLAIN else width)), np.float32)
        if width > PLAIN:
            values, vectors = np.linalg.eigh((block.T @ block).astype(np.float64))
            keep = min(chosen.shape[1], max(len(x) // 4, 1))
            chosen = chosen[:, :keep]
            top = vectors[:, ::-1][:, :keep]
            spread = np.sqrt(np.maximum(values[::-1][:keep], 1e-12) / len(x))
            chosen[start : start + width] = top / max(float(spread[0]), 1e-6)
        else:
            chosen[start : start + width] = np.eye(width, dtype=np.float32)
        columns.append(chosen)
        start += width
    return _Reduction(names, widths, mean, scale, np.concatenate(columns, axis=1))


def _logit(p: Array) -> Array:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    odds: Array = np.log(p / (1 - p))
    return odds


def _sigmoid(x: Array) -> Array:
    p: Array = 1 / (1 + np.exp(-np.clip(x, -50, 50)))
    return p


@dataclass(frozen=True)
class _Members:
    """The three learners, fitted."""

    weights: Array  # (D,) of the logistic regression
    intercept: float
    trees: Trees
    points: Array  # (N, K) float32
    labels: Labels  # (N,)
    neighbours: int
    prior: float

    def odds(self, flat: Array, reduced: Array) -> Array:
        """(N, 3) log odds, one column a member."""
        linear = flat @ self.weights + self.intercept
        columns = [linear, self.trees(reduced), self._near(reduced)]
        odds: Array = np.clip(np.stack(columns, axis=1), -MOST_ODDS, MOST_ODDS)
        return odds

    def _near(self, reduced: Array) -> Array:
        """Share of keeps among the nearest, weighted by nearness, drawn to the prior."""
        k = min(self.neighbours, len(self.points))
        wide = min(k + 8, len(self.points))
        found = np.empty(len(reduced))
        squares = (self.points**2).sum(axis=1)
        for start in range(0, len(reduced), 2048):
            some = reduced[start : start + 2048].astype(np.float32)
            rough = squares - 2 * some @ self.points.T
            near = np.argpartition(rough, wide - 1, axis=1)[:, :wide]
            # A small distance is what that leaves of large sums; its root would be noise.
            exact = np.linalg.norm(some[:, None].astype(np.float64) - self.points[near], axis=2)
            order = np.lexsort((near, exact))[:, :k]
            near = np.take_along_axis(near, order, axis=1)
            away = np.take_along_axis(exact, order, axis=1)
            weight = 1 / (away + 0.1 * away.mean(axis=1, keepdims=True) + 1e-6)
            weight /= weight.mean(axis=1, keepdims=True)
            kept = (weight * self.labels[near]).sum(axis=1)
            found[start : start + 2048] = (kept + 2 * self.prior) / (weight.sum(axis=1) + 2)
        return _logit(found)


def _fit_members(
    flat: Array, reduced: Array, y: Labels, strength: float, settings: TasteSettings
) -> _Members:
    weights, intercept = _fit_logistic(flat, y, strength)
    trees = fit_trees(reduced, y, settings.rounds, settings.leaves, settings.rate, settings.seed)
    points = reduced.astype(np.float32)
    return _Members(weights, intercept, trees, points, y, settings.neighbours, float(y.mean()))


def _fit_logistic(
    flat: Array, y: Labels, strength: float, near: tuple[Array, float] | None = None
) -> tuple[Array, float]:
    """Weights and intercept; `near` is a solution to start from."""
    from scipy.optimize import minimize

    x = np.asarray(flat, dtype=np.float32)
    sign = np.where(y, 1.0, -1.0)
    # Both kinds weigh the same; the stack puts the true shares back.
    each = np.where(y, 0.5 / max(y.mean(), 1e-9), 0.5 / max(1 - y.mean(), 1e-9))
    signed = (each * sign).astype(np.float32)

    def loss(w: Array) -> tuple[float, Array]:
        margin = (x @ w[:-1].astype(np.float32) + w[-1]) * sign
        value = float((each * np.logaddexp(0, -margin)).sum() + w[:-1] @ w[:-1] / (2 * strength))
        slope = -signed * _sigmoid(-margin).astype(np.float32)
        return value, np.append(slope @ x + w[:-1] / strength, slope.sum())

    start = np.zeros(x.shape[1] + 1) if near is None else np.append(*near)
    options = {"maxiter": 200, "ftol": 1e-6}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    return found[:-1].astype(np.float32), float(found[-1])


def fold_numbers(y: Labels, groups: npt.NDArray[np.int64], folds: int, seed: int) -> Array:
    """(N,) fold of each face; a group stays whole, both kinds are spread evenly."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    numbers = np.zeros(len(y), dtype=np.int64)
    folds = max(min(folds, *(len(np.unique(groups[y == kept])) for kept in (True, False))), 2)
    # The same where every group is one face, but quicker.
    if len(np.unique(groups)) == len(groups):
        split = StratifiedKFold(folds, shuffle=True, random_state=seed).split(y, y)
    else:
        split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(y, y, groups)
    for number, (_, test) in enumerate(split):
        numbers[test] = number
    return numbers


def fit_stack(odds: Array, y: Labels) -> tuple[Array, float]:
    """Weights (3,), none negative, and an offset: the calibrated sum of log odds."""
    from scipy.optimize import minimize

    sign = np.where(y, 1.0, -1.0)

    def loss(w: Array) -> tuple[float, Array]:
        margin = (odds @ w[:-1] + w[-1]) * sign
        slope = -sign * _sigmoid(-margin)
        value = float(np.logaddexp(0, -margin).sum() + 0.5 * ((w[:-1] - 1 / 3) ** 2).sum())
        return value, np.append(odds.T @ slope + w[:-1] - 1 / 3, slope.sum())

    bounds = [(0, None)] * odds.shape[1] + [(None, None)]
    start = np.append(np.full(odds.shape[1], 1 / 3), 0.0)
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return found[:-1], float(found[-1])


def thresholds(p: Array, y: Labels, precision: float) -> tuple[float, float]:
    """Where to accept and where to reject.

    Args:
        p: (N,) out-of-fold probabilities.
        y: (N,) labels.
        precision: share of keeps among the accepted, and of rejects among the rejected.

    Returns:
        accept: the smallest score above which the precision holds; inf where it never does.
        reject: the largest score below which it does; -inf where it never does. Where both
            would claim a score, they meet half way.
    """
    accept, reject = _cut(p, y, precision), -_cut(-p, ~y, precision)
    if reject >= accept:
        accept = (accept + reject) / 2
        reject = float(np.nextafter(accept, -np.inf))
    return accept, reject


def _cut(p: Array, y: Labels, precision: float) -> float:
    order = np.argsort(-p, kind="stable")
    scores, kept = p[order], np.cumsum(y[order])
    share = kept / np.arange(1, len(p) + 1)
    last = np.append(scores[1:] != scores[:-1], True)  # a cut cannot part equal scores
    fine = np.nonzero((share >= precision) & last & (np.arange(1, len(p) + 1) >= 5))[0]
    return float(scores[fine[-1]]) if len(fine) else float("inf")


@dataclass(frozen=True)
class TasteModel:
    """A taste, ready to score.

    Attributes:
        settings: how it was learned.
        accept, reject: a score from `accept` on is accepted, up to `reject` rejected.
        counts: labels it was learned from, kept and rejected.
        out_of_fold: (N,) probabilities of its own labels, none from a model that saw them.
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
    _reduction: _Reduction = field(repr=False)
    _members: _Members = field(repr=False)

    @property
    def features(self) -> dict[str, int]:
        """Name of each feature set it needs -> its columns."""
        return dict(zip(self._reduction.names, self._reduction.widths, strict=True))

    @property
    def labels(self) -> Labels:
        """(N,) what it was learned from, in the order of `out_of_fold`."""
        return self._members.labels

    @property
    def version(self) -> str:
        """12 hex digits that name this model by its numbers."""
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
            UsageError: other feature sets than it was learned from.
        """
        return self.judge(blocks)[0]

    def judge(self, blocks: Blocks) -> tuple[Array, Array]:
        """(N,) probabilities, and (N,) how far the members disagree, 0 to 0.5."""
        odds = self._odds(blocks)
        p = _sigmoid(odds @ self.weights + self.offset)
        spread: Array = _sigmoid(odds + self.offset / 3).std(axis=1)
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
            IntegrityError: it is damaged or something else.
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
            raise IntegrityError(
                f"{path}: not a taste model that can be read ({error}); "
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
        members = _Members(
            a["logistic"],
            intercept,
            trees,
            a["points"],
            a["labels"].astype(bool),
            settings.neighbours,
            prior,
        )
        features: dict[str, int] = about["features"]
        names = tuple(sorted(features))
        widths = tuple(features[n] for n in names)
        reduction = _Reduction(names, widths, a["mean"], a["scale"], a["axes"])
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
        return model


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
        groups: (N,) faces of one group, such as near-duplicates, never part between folds.
        settings: how.

    Raises:
        UsageError: fewer than 8 labels of one kind.
    """
    settings = settings or TasteSettings()
    y = np.asarray(labels, dtype=np.bool_)
    if check_blocks(blocks) != len(y):
        raise UsageError(f"{len(y)} labels for {check_blocks(blocks)} faces")
    check_labels(y, FEWEST, "learn from")
    groups = np.arange(len(y)) if groups is None else np.asarray(groups)
    reduction = _reduce(blocks, settings.axes)
    flat = reduction.flat(blocks)
    reduced = reduction.narrow(flat)
    folds = fold_numbers(y, groups, settings.folds, settings.seed)
    strength, linear = _best_strength(flat, y, folds, settings)
    odds = np.zeros((len(y), len(MEMBERS)))
    for number in range(int(folds.max()) + 1):
        test = folds == number
        fold = replace(settings, seed=settings.seed + number)
        members = _fit_rest(linear[number], flat, reduced[~test], y[~test], fold)
        odds[test] = members.odds(flat[test], reduced[test])
    weights, offset = fit_stack(odds, y)
    # Each fold's probabilities come from a stack that did not see it either.
    out_of_fold = np.zeros(len(y))
    for number in range(int(folds.max()) + 1):
        test = folds == number
        w, b = fit_stack(odds[~test], y[~test])
        out_of_fold[test] = _sigmoid(odds[test] @ w + b)
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
        _members=_fit_members(flat, reduced, y, strength, settings),
    )


def _fit_rest(
    linear: tuple[Array, float], flat: Array, reduced: Array, y: Labels, settings: TasteSettings
) -> _Members:
    trees = fit_trees(reduced, y, settings.rounds, settings.leaves, settings.rate, settings.seed)
    points = reduced.astype(np.float32)
    return _Members(*linear, trees, points, y, settings.neighbours, float(y.mean()))


def _best_strength(
    flat: Array, y: Labels, folds: Array, settings: TasteSettings
) -> tuple[float, list[tuple[Array, float]]]:
    """The strength with the smallest out-of-fold loss, and its fits by fold.

    With many labels one fold is enough to tell the strengths apart.
    """
    count = int(folds.max()) + 1
    trial = range(count) if len(y) < 1000 else range(1)
    fits: dict[float, list[tuple[Array, float]]] = {}
    losses: dict[float, float] = {}
    near: list[tuple[Array, float] | None] = [None] * count
    for strength in sorted(settings.strengths):
        fits[strength], losses[strength] = [], 0.0
        for number in trial:
            test = folds == number
            w, b = _fit_logistic(flat[~test], y[~test], strength, near[number])
            near[number] = (w, b)
            margin = (flat[test] @ w + b) * np.where(y[test], 1, -1)
            losses[strength] += float(np.logaddexp(0, -margin).sum())
            fits[strength].append((w, b))
    best = min(losses, key=losses.__getitem__)
    for number in range(len(trial), count):
        test = folds == number
        fits[best].append(_fit_logistic(flat[~test], y[~test], best))
    return best, fits[best]
