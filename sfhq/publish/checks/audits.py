"""Audits: what gives photos away that should not, and what making them does to skin."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from sfhq import stages
from sfhq.colour import to_lab
from sfhq.errors import SfhqError
from sfhq.parts.photos import read_pixels
from sfhq.parts.records import FaceRecord, Pixels
from sfhq.publish.checks.context import Context, Face
from sfhq.publish.checks.result import Z95, Result

Floats = npt.NDArray[np.float64]
SMALL = 32  # pixels of the copy whose colours count
LEAST = 20  # photos of each kind; fewer tell nothing
FOLDS = 5
GIVEN_AWAY = 0.7  # AUC whose lower end tells kinds apart
MOST_KINDS = 6
# Cheeks in FFHQ's frame, as shares of the side: left, top, right, bottom.
CHEEKS = ((0.30, 0.56, 0.40, 0.66), (0.60, 0.56, 0.70, 0.66))
SKIN_HUE = (20.0, 100.0)  # degrees between which skin lies; art of other colours does not count
DRIFT = 5.0  # degrees of the typology angle that are more than chance and light


def features(face: Face) -> Floats:
    """(14,) of a photo: mean and deviation of L*, a*, b* and of saturation, bytes a pixel of its
    file, of a JPEG of it, and of its smoothed copy, and the share of black and white pixels."""
    assert face.pixels is not None
    image = Image.fromarray(face.pixels)
    small = np.asarray(image.resize((SMALL, SMALL), Image.Resampling.BOX))
    lab = to_lab(small).reshape(-1, 3)
    spread = small.reshape(-1, 3).astype(np.float64).max(1) - small.reshape(-1, 3).min(1)
    pixels = image.width * image.height
    light = small.reshape(-1, 3).mean(1)
    buffer = io.BytesIO()
    image.reduce(2).save(buffer, "JPEG", quality=75)
    return np.array(
        [
            *lab.mean(0),
            *lab.std(0),
            spread.mean(),
            spread.std(),
            math.log(face.size / pixels),
            math.log(len(buffer.getvalue()) / pixels),
            (light < 16).mean(),
            (light > 239).mean(),
            np.abs(np.diff(light.reshape(SMALL, SMALL), axis=0)).mean(),
            np.abs(np.diff(light.reshape(SMALL, SMALL), axis=1)).mean(),
        ]
    )


def shortcuts(context: Context, result: Result) -> None:
    """Colour and file size do not tell keep from reject, or source from source."""
    labels = stages.reader("labels")(context.part)
    records = [r for r in context.alive if r.face_id in context.features]
    tasks: dict[str, tuple[list[str], Sequence[bool]]] = {}
    judged = [r.face_id for r in records if labels.get(r.face_id) in ("keep", "reject")]
    tasks["keep from reject"] = judged, [labels[f] == "keep" for f in judged]
    for title, kind in (("source", _source), ("candidate", lambda r: r.candidate)):
        kinds = [kind(r) for r in records]
        names = sorted({k for k in kinds if k}, key=lambda k: (-kinds.count(k), k))[:MOST_KINDS]
        if len({*kinds}) < 3:  # one of two kinds tells the same as the other
            names = names[: len({*kinds}) - 1]
        for name in names:
            members = [r.face_id for r in records]
            tasks[f"{title} {name} from others"] = members, [k == name for k in kinds]
    aucs: dict[str, dict[str, float | int]] = {}
    for title, (faces, truth) in tasks.items():
        few = min(sum(truth), len(truth) - sum(truth))
        if few < LEAST:
            continue
        found = auc(np.stack([context.features[f] for f in faces]), np.array(truth))
        aucs[title] = {"auc": found[0], "low": found[1], "high": found[2], "photos": len(faces)}
        if found[1] > GIVEN_AWAY:
            result.add(
                title,
                f"AUC {found[0]:.3f} ({found[1]:.3f} to {found[2]:.3f}) from colour and file size "
                f"alone; wanted at most {GIVEN_AWAY}",
            )
    if not aucs:
        return result.skip(
            f"needs {LEAST} photos each of two kinds: people's keep and reject, sources or "
            "candidates"
        )
    result.tell({"auc": aucs})
    return None


def _source(record: FaceRecord) -> str:
    """The kind of a source: its provenance, else its folder."""
    if record.provenance:
        return record.provenance[:60]
    folder = str(PurePosixPath(record.source).parent)
    return "" if folder in ("", ".") else folder


def auc(features: Floats, truth: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Area under the curve of a linear model, cross-validated, with its 95 % interval.

    Args:
        features: (N, D).
        truth: (N,).

    Source: Hanley and McNeil 1982, "The Meaning and Use of the Area under a ROC Curve".
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced")
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    scores = cross_val_predict(model, features, truth, cv=folds, method="decision_function")
    order = scores.argsort(kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    yes, no = int(truth.sum()), int((~truth).sum())
    area = (ranks[truth].sum() - yes * (yes + 1) / 2) / (yes * no)
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (yes - 1) * (first - area**2) + (no - 1) * (second - area**2)
    half = Z95 * math.sqrt(max(variance, 0.0) / (yes * no))
    return round(area, 4), round(max(0.0, area - half), 4), round(min(1.0, area + half), 4)


def skin(context: Context, result: Result) -> None:
    """Making photos of art neither lightens nor darkens skin.

    Compared on the cheeks of the aligned art and of its photos, both in FFHQ's frame, by the
    individual typology angle; art whose cheeks are not of a colour of skin is left out.
    """
    aligned = {r.face_id: r for r in _aligned(context)}
    drifts: list[float] = []
    left_out = 0
    for record in context.alive:
        art = aligned.get(record.parent_id)
        if art is None or "images" not in record.hashes:
            continue
        try:
            before = angle_of(read_pixels(context.part, art, "aligned"))
            after = angle_of(read_pixels(context.part, record, "images"))
        except SfhqError:
            continue  # the check `files` says so
        if before is None or after is None:
            left_out += 1
        else:
            drifts.append(after - before)
    if len(drifts) < LEAST:
        return result.skip(
            f"{len(drifts)} photos whose art has cheeks of a skin's colour; wanted {LEAST}"
        )
    mean = float(np.mean(drifts))
    half = Z95 * float(np.std(drifts, ddof=1)) / math.sqrt(len(drifts))
    result.tell(
        {
            "mean_drift": round(mean, 2),
            "low": round(mean - half, 2),
            "high": round(mean + half, 2),
            "median_drift": round(float(np.median(drifts)), 2),
            "lighter_by_10": round(float(np.mean(np.array(drifts) > 10)), 4),
            "darker_by_10": round(float(np.mean(np.array(drifts) < -10)), 4),
            "photos": len(drifts),
            "left_out": left_out,
        },
        f"photos' skin is {abs(mean):.1f} degrees {'lighter' if mean > 0 else 'darker'} than the "
        f"art's (95 %: {mean - half:.1f} to {mean + half:.1f})",
    )
    if mean - half > DRIFT or mean + half < -DRIFT:
        result.add("all photos", f"{result.note}; wanted less than {DRIFT} degrees")
    return None


def _aligned(context: Context) -> list[FaceRecord]:
    part = context.part
    if "align" not in part.stages() or not part.stage_info("align")["complete"]:
        return []
    return [r for r in part.records("align") if "aligned" in r.hashes]


def angle_of(pixels: Pixels) -> float | None:
    """The typology angle of the cheeks in degrees; None where they are not of a colour of skin.

    Args:
        pixels: (H, W, 3) uint8 RGB, in FFHQ's frame.
    """
    height, width = pixels.shape[:2]
    patches = [
        pixels[int(t * height) : int(b * height), int(x * width) : int(r * width)].reshape(-1, 3)
        for x, t, r, b in CHEEKS
    ]
    lightness, a, b = np.median(to_lab(np.concatenate(patches)), axis=0)
    hue = math.degrees(math.atan2(b, a))
    if not SKIN_HUE[0] <= hue <= SKIN_HUE[1] or math.hypot(a, b) < 5:
        return None
    return math.degrees(math.atan2(lightness - 50, b))
