"""Labels against the truth, in figures: masks, points, angles, attributes, and the worst photos."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from annotate.judge.pairs import Pair
from annotate.metrics import attributes as of_attributes
from annotate.metrics import parsing, points
from sfhq.errors import UsageError
from sfhq.faces.classes import CLASSES, ID, SIDED
from sfhq.faces.points import FIXED, GROUPS, HIDDEN, VISIBLE
from sfhq.networks.names import ATTRIBUTES
from sfhq.parts.records import Json

Floats = npt.NDArray[np.float64]

BORDERS = ("hair", "skin")  # classes whose borders are judged
PIXELS = (1, 2)  # distances at which borders count as met
ANGLES = ("yaw", "pitch", "roll", "gaze_yaw", "gaze_pitch")
PROBABILITIES = "attribute_probabilities"
ALPHA = "hair"  # image folder of soft hair
GROUPS_OF_PEOPLE: dict[str, Callable[[dict[str, Json]], bool]] = {
    "men": lambda d: d.get("male", 0) >= 0.5,
    "women": lambda d: d.get("male", 1) < 0.5,
    "under 18": lambda d: d.get("years", 99) < 18,
    "18 to 44": lambda d: 18 <= d.get("years", -1) < 45,
    "45 and over": lambda d: d.get("years", -1) >= 45,
    "light skin": lambda d: d.get("ita", -99) > 28,
    "medium skin": lambda d: -30 < d.get("ita", -99) <= 28,
    "dark skin": lambda d: d.get("ita", 99) <= -30,
}


@dataclass
class Figures:
    """What was found.

    Attributes:
        photos: number of photos compared.
        classes: class -> "f1", "iou", and of some borders' figures; "left or right" classes also
            merged.
        mean_f1: over the classes that the truth has, without the background.
        groups: group of points -> "mean", "median", "p95" error in shares of the eye distance.
        faces: "mean", "failure_rate", "area" of the 68 points, a face at a time.
        curves: "hairline" and "contour" -> median distance from the true line, in the same shares.
        flags: "visible" and "hidden" -> precision and recall of the points' flags.
        angles: name -> mean absolute error in degrees.
        years: mean absolute error; NaN where it is unknown.
        alpha: error of soft hair; NaN where there is none.
        attributes: name -> "balanced_accuracy", "auc", "calibration", "worst_group".
        worst: (name, kind, error) of photos, the worst first.
    """

    photos: int = 0
    classes: dict[str, dict[str, float]] = field(default_factory=dict)
    mean_f1: float = math.nan
    groups: dict[str, dict[str, float]] = field(default_factory=dict)
    faces: dict[str, float] = field(default_factory=dict)
    curves: dict[str, float] = field(default_factory=dict)
    flags: dict[str, dict[str, float]] = field(default_factory=dict)
    angles: dict[str, float] = field(default_factory=dict)
    years: float = math.nan
    alpha: float = math.nan
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    worst: list[tuple[str, str, float]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Json]:
        """All of it as JSON can hold it; None for what is not known."""
        found: dict[str, Json] = _plain(vars(self))
        return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if math.isfinite(value) else None
    return value


@dataclass
class _Gathered:
    """Sums and rows of all photos."""

    table: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((19, 19), np.int64))
    merged: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((19, 19), np.int64))
    borders: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    told: list[Floats] = field(default_factory=list)
    truth: list[Floats] = field(default_factory=list)
    angles: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    attributes: list[tuple[Floats, Floats, dict[str, Json]]] = field(default_factory=list)
    alphas: list[float] = field(default_factory=list)
    errors: list[tuple[str, str, float]] = field(default_factory=list)


def figures(compared: Iterable[Pair], worst: int = 24) -> Figures:
    """Compare all photos.

    Args:
        compared: photos with their truth.
        worst: how many of the worst photos to name, of masks and of points.

    Raises:
        UsageError: the maps or points of both have nothing in common to compare.
        IntegrityError: something in a part is damaged.
    """
    all_, count = _Gathered(), 0
    for pair in compared:
        count += 1
        _masks(pair, all_)
        _points(pair, all_)
        _numbers(pair, all_)
    if not (all_.table.any() or all_.told or all_.angles or all_.attributes):
        raise UsageError("nothing to compare: the parts have no labels of one kind in common")
    found = Figures(count)
    if all_.table.any():
        _of_classes(all_, found)
    if all_.told:
        _of_points(all_, found)
    found.angles = {
        name: float(
            points.angle_errors(*(np.array(v)[:, None] for v in zip(*rows, strict=True)))[0]
        )
        for name, rows in all_.angles.items()
        if name in ANGLES
    }
    if all_.angles.get("years"):
        found.years = float(np.mean([abs(a - b) for a, b in all_.angles["years"]]))
    if all_.alphas:
        found.alpha = float(np.mean(all_.alphas))
    if all_.attributes:
        _of_attributes(all_, found)
    for kind in ("masks", "points"):
        rows = [row for row in all_.errors if row[1] == kind]
        found.worst += sorted(rows, key=lambda row: -row[2])[:worst]
    return found


def _masks(pair: Pair, all_: _Gathered) -> None:
    told, truth = pair.told.mask, pair.truth.mask
    if truth is None:
        return
    if told is None:  # no face was found: all of it is told to be background
        told = np.zeros(pair.told.photo.shape[:2], np.uint8)
    laid = pair.mask(told, *truth.shape)
    inside = laid < len(CLASSES)
    one = parsing.confusion(laid[inside], truth[inside])
    all_.table += one
    together = np.arange(256, dtype=np.uint8)
    for left, right in SIDED:
        together[right] = left
    all_.merged += parsing.confusion(together[laid[inside]], together[truth[inside]])
    laid = np.where(inside, laid, truth)  # what lies outside of the crop is not judged
    for name in BORDERS:
        a, b = laid == ID[name], truth == ID[name]
        if not b.any():
            continue
        for pixels in PIXELS:
            all_.borders[name, f"border_f_{pixels}px"].append(parsing.boundary_f(a, b, pixels))
        all_.borders[name, "border_iou"].append(parsing.boundary_iou(a, b))
        all_.borders[name, "hd95"].append(parsing.hd95(a, b))
    f1 = parsing.class_f1(one)
    present = one.sum(1) > 0
    present[0] = False
    if present.any():
        all_.errors.append((pair.told.name, "masks", float(1 - np.nan_to_num(f1[present]).mean())))
    if ALPHA in pair.told.record.hashes and ALPHA in pair.truth.record.hashes:
        from sfhq.parts.photos import read_pixels

        soft = [read_pixels(f.part, f.record, ALPHA)[..., 0] for f in (pair.told, pair.truth)]
        if soft[0].shape == soft[1].shape:
            all_.alphas.append(parsing.alpha_error(soft[0] / 255, soft[1] / 255))


def _points(pair: Pair, all_: _Gathered) -> None:
    truth = pair.truth.points
    if truth is None:
        return
    told = pair.told.points
    if told is None:
        told = np.full_like(truth, np.nan)
    laid = told.copy()
    laid[:, :2] = pair.points(told[:, :2])
    all_.told.append(laid)
    all_.truth.append(truth)
    known = truth[:68, 2] > 0
    apart = np.hypot(*(laid[:68, :2] - truth[:68, :2])[known].T)
    error = float(apart.mean() / points.eye_distance(truth[None, :, :2])[0]) if len(apart) else 0.0
    all_.errors.append((pair.told.name, "points", error if math.isfinite(error) else 1.0))


def _numbers(pair: Pair, all_: _Gathered) -> None:
    about, params = pair.told.record.about, pair.truth.record.params
    details = params.get("details") or {}
    for name in (*ANGLES, "years"):
        if isinstance(about.get(name), float) and name in details:
            all_.angles[name].append((about[name], float(details[name])))
    known = params.get("attributes")
    if known and PROBABILITIES in pair.told.record.rows:
        told = np.asarray(pair.told.part.row(PROBABILITIES, pair.told.record), np.float64)
        values = [known.get(name) for name in ATTRIBUTES]
        truth = np.array([math.nan if v is None else float(v) for v in values])
        if np.isfinite(told).all():
            all_.attributes.append((told, truth, details))


def _of_classes(all_: _Gathered, found: Figures) -> None:
    f1, iou = parsing.class_f1(all_.table), parsing.class_iou(all_.table)
    truth = all_.table.sum(1) > 0
    for i, name in enumerate(CLASSES):
        if truth[i]:
            found.classes[name] = {"f1": float(f1[i]), "iou": float(iou[i])}
    f1_merged = parsing.class_f1(all_.merged)
    for left, _ in SIDED:
        if all_.merged.sum(1)[left]:
            name = CLASSES[left].removeprefix("l_") + "s"
            found.classes[name] = {"f1": float(f1_merged[left])}
    present = truth.copy()
    present[0] = False
    found.mean_f1 = float(np.nanmean(f1[present])) if present.any() else math.nan
    for (name, figure), values in all_.borders.items():
        known = [v for v in values if math.isfinite(v)]
        found.classes.setdefault(name, {})[figure] = float(np.mean(known)) if known else math.nan


def _of_points(all_: _Gathered, found: Figures) -> None:
    told, truth = np.stack(all_.told), np.stack(all_.truth)
    unit = points.eye_distance(truth[..., :2])
    known = truth[..., 2] > 0
    errors = points.errors(told[..., :2], truth[..., :2], unit, known)
    read: npt.NDArray[np.bool_] = np.asarray(np.isfinite(told[..., 0]).all(1))
    found.groups = points.by_group(errors[read], {**GROUPS, "the 68": (0, 68)})
    faces = points.face_errors(errors[:, :68])
    faces[~read] = math.nan
    found.faces = {
        "mean": float(np.nanmean(faces)) if read.any() else math.nan,
        "failure_rate": points.failure_rate(faces),
        "area": points.curve_area(faces),
    }
    for name, first, last in (("hairline", FIXED, FIXED + 9), ("contour", FIXED + 9, 110)):
        away = [
            points.to_curve(a[first:last, :2], b[first:last, :2]) / u
            for a, b, u, r in zip(told, truth, unit, read, strict=True)
            if r
        ]
        if away:
            found.curves[name] = float(np.median(np.concatenate(away)))
    for name, value in (("visible", VISIBLE), ("hidden", HIDDEN)):
        said, right = told[read][..., 2] == value, truth[read][..., 2] == value
        both = float((said & right).sum())
        found.flags[name] = {
            "precision": both / said.sum() if said.any() else math.nan,
            "recall": both / right.sum() if right.any() else math.nan,
        }


def _of_attributes(all_: _Gathered, found: Figures) -> None:
    told = np.stack([row[0] for row in all_.attributes])
    truth = np.stack([row[1] for row in all_.attributes])
    people = {
        name: np.array([belongs(row[2]) for row in all_.attributes])
        for name, belongs in GROUPS_OF_PEOPLE.items()
    }
    for i, name in enumerate(ATTRIBUTES):
        if np.isnan(truth[:, i]).all():
            continue
        group, value = of_attributes.worst_group(told[:, i], truth[:, i], people)
        found.attributes[name] = {
            "balanced_accuracy": of_attributes.balanced_accuracy(told[:, i], truth[:, i]),
            "auc": of_attributes.auc(told[:, i], truth[:, i]),
            "calibration": of_attributes.calibration_error(told[:, i], truth[:, i]),
            "worst_group": group,
            "worst": value,
        }
