"""Quality of a photo as one of a face: components from 0 (unusable) to 100, under ISO's names.

The names are those of ISO/IEC 29794-5:2025. The measures are our own, from the standard's
descriptions in words, and none is certified by anybody; `FORMULAS` states each. `overall` is their
geometric mean, so that one bad component counts; the standard's unified score is a trained network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from annotate.labels.colour import Colour, class_colour, eroded
from annotate.labels.looks import Openings
from annotate.labels.points import Points
from sfhq.faces.classes import FACE, HEAD, ID, among
from sfhq.parts.records import Pixels

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

FORMULAS = {
    "background_uniformity": "100 exp(-g / 8): g is the mean gradient of luminance behind the head",
    "illumination_uniformity": "overlap of the histograms of luminance of both halves of the face",
    "luminance_mean": "100 where the face's mean luminance is 0.3 to 0.7, falling to 0 at 0 and 1",
    "luminance_variance": "100 where its deviation is 0.08 to 0.25, falling to 0 at 0 and 0.5",
    "under_exposure_prevention": "share of the face's pixels above 25 of 255",
    "over_exposure_prevention": "share of the face's pixels below 248 of 255",
    "dynamic_range": "entropy of the face's luminance in bits, of 8",
    "sharpness": "100 (1 - exp(-v / 60)): v is the Laplacian's variance, face of 256 px",
    "natural_colour": "100 exp(-d / 10): d is how far the skin's a*, b* lie outside 5-25, 5-35",
    "single_face_present": "100 for one face, else 100 (1 - area of the second / of the first)",
    "eyes_open": "lids' distance over 0.06 of the distance of the outer eye corners",
    "mouth_closed": "100 (1 - lips' distance over 0.25 of the distance of the outer eye corners)",
    "eyes_visible": "share of the eyes' outline that is not hair, hat or dark glasses",
    "mouth_occlusion_prevention": "share of the mouth's outline that is lips, mouth or skin",
    "face_occlusion_prevention": "share of the face's outline that is a class of the face",
    "inter_eye_distance": "100 / (1 + exp((45 - e) / 12)): e pixels between the eyes' centres",
    "head_size": "100 where the head is 0.4 to 0.9 of the photo's height, falling to 0 at 0, 1.3",
    "leftward_crop": "margin left of the head over 0.1 of the photo's width",
    "rightward_crop": "margin right of the head over 0.1 of the photo's width",
    "margin_above": "margin above the head over 0.05 of the photo's height",
    "margin_below": "distance from the chin to the lower edge over 0.1 of the photo's height",
    "pose_yaw": "100 cos(yaw)^2",
    "pose_pitch": "100 cos(pitch)^2",
    "pose_roll": "100 cos(roll)^2",
    "expression_neutrality": "100 (1 - p(smiling)) (1 - lips' distance over 0.25)",
    "no_head_coverings": "100 (1 - share of the hat in hat and hair)",
}
COMPONENTS = tuple(FORMULAS)
FLOOR = 1.0  # in the geometric mean, so that one 0 does not hide all the others
FACE_SIDE = 256  # pixels of the face's height at which sharpness is measured
HIDING = (ID["hair"], ID["hat"])


@dataclass(frozen=True, eq=False)
class Seen:
    """What quality is measured on.

    Attributes:
        photo: (H, W, 3) uint8 RGB.
        classes: (H, W) uint8 ids.
        points: (110, 2 or more) in its pixels.
        pose: yaw, pitch and roll in degrees.
        smiling: probability.
        sunglasses: probability.
        margins: of the head, left, top, right and bottom, in shares of the photo's side.
        second: area of the second largest face over that of the face, 0 where it is alone.
    """

    photo: Pixels
    classes: Pixels
    points: Points
    pose: tuple[float, float, float]
    smiling: float
    sunglasses: float
    margins: tuple[float, ...]
    second: float = 0.0

    @cached_property
    def skin(self) -> Colour | None:
        """The skin's colour; None where there is too little of it."""
        return class_colour(self.photo, self.classes, "skin")


def quality(seen: Seen) -> dict[str, float]:
    """The components of `COMPONENTS`, 0 to 100; NaN where one cannot be measured."""
    luminance = seen.photo @ np.array([0.2126, 0.7152, 0.0722])  # 0 to 255
    face = among(seen.classes, FACE)
    values = luminance[face] if face.any() else np.zeros(1)
    open_ = Openings.of(seen.points)
    eyes = np.stack([seen.points[36:42, :2].mean(0), seen.points[42:48, :2].mean(0)])
    mouth = 1 - min(open_.mouth / 0.25, 1)
    left, top, right, _ = seen.margins or (0.0, 0.0, 0.0, 0.0)
    height = seen.photo.shape[0]
    head = np.flatnonzero(among(seen.classes, HEAD).any(1))
    tall = (head[-1] - head[0] + 1) / height if len(head) else 0.0
    hat, hair = (int((seen.classes == ID[n]).sum()) for n in ("hat", "hair"))
    yaw, pitch, roll = np.cos(np.radians(seen.pose)) ** 2
    found = {
        "background_uniformity": _background(luminance, seen.classes),
        "illumination_uniformity": _halves(luminance, face, seen.points),
        "luminance_mean": _plateau(float(values.mean()) / 255, 0, 0.3, 0.7, 1),
        "luminance_variance": _plateau(float(values.std()) / 255, 0, 0.08, 0.25, 0.5),
        "under_exposure_prevention": float((values > 25).mean()),
        "over_exposure_prevention": float((values < 248).mean()),
        "dynamic_range": _entropy(values) / 8,
        "sharpness": _sharpness(luminance, face),
        "natural_colour": _natural(seen.skin),
        "single_face_present": 1 - seen.second,
        "eyes_open": open_.eyes / 0.06,
        "mouth_closed": mouth,
        "eyes_visible": _eyes(seen),
        "mouth_occlusion_prevention": _share(
            seen, range(48, 60), (ID["mouth"], ID["u_lip"], ID["l_lip"], ID["skin"])
        ),
        "face_occlusion_prevention": _share(seen, (*range(17), *range(26, 16, -1)), FACE),
        "inter_eye_distance": 1 / (1 + np.exp((45 - np.hypot(*(eyes[1] - eyes[0]))) / 12)),
        "head_size": _plateau(tall, 0, 0.4, 0.9, 1.3),
        "leftward_crop": left / 0.1,
        "rightward_crop": right / 0.1,
        "margin_above": top / 0.05,
        "margin_below": (height - 1 - seen.points[8, 1]) / (0.1 * height),
        "pose_yaw": yaw,
        "pose_pitch": pitch,
        "pose_roll": roll,
        "expression_neutrality": (1 - seen.smiling) * mouth,
        "no_head_coverings": 1 - hat / max(hat + hair, 1),
    }
    return {name: round(100 * float(np.clip(found[name], 0, 1)), 2) for name in COMPONENTS}


def overall(components: dict[str, float]) -> float:
    """Geometric mean of the components that could be measured, 0 to 100."""
    values = np.array([v for v in components.values() if np.isfinite(v)])
    if not len(values):
        return 0.0
    return round(float(np.exp(np.log(np.maximum(values, FLOOR)).mean())), 2)


def _plateau(value: float, zero: float, low: float, high: float, end: float) -> float:
    """1 between `low` and `high`, falling in a line to 0 at `zero` and at `end`."""
    return float(np.interp(value, [zero, low, high, end], [0, 1, 1, 0]))


def _entropy(values: Floats) -> float:
    counts = np.bincount(np.clip(values, 0, 255).astype(int), minlength=256)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _background(luminance: Floats, classes: Pixels) -> float:
    behind = eroded(classes == 0, 2)
    if not behind.any():
        return float("nan")
    gradient = np.hypot(ndimage.sobel(luminance, 0), ndimage.sobel(luminance, 1)) / 8
    return float(np.exp(-gradient[behind].mean() / 8))


def _halves(luminance: Floats, face: Mask, points: Points) -> float:
    across = points[45, :2] - points[36, :2]
    middle = points[27:31, :2].mean(0)
    rows, columns = np.nonzero(face)
    side = (np.stack([columns, rows], 1) - middle) @ across
    values = luminance[face]
    parts = [values[side > 0], values[side < 0]]
    if min(len(part) for part in parts) < 16:
        return 0.0  # a profile: one half is not seen
    hists = [np.histogram(part, 32, (0, 256))[0] / len(part) for part in parts]
    return float(np.minimum(hists[0], hists[1]).sum())


def _sharpness(luminance: Floats, face: Mask) -> float:
    rows, columns = np.flatnonzero(face.any(1)), np.flatnonzero(face.any(0))
    if not len(rows):
        return 0.0
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    part = Image.fromarray(np.clip(luminance[box], 0, 255).astype(np.uint8))
    factor = FACE_SIDE / part.height
    size = (max(8, round(part.width * factor)), FACE_SIDE)
    pixels = np.asarray(part.resize(size, Image.Resampling.BICUBIC), np.float64)
    inside = np.asarray(Image.fromarray(face[box]).resize(size, Image.Resampling.NEAREST))
    return float(1 - np.exp(-ndimage.laplace(pixels)[inside].var() / 60))


def _natural(skin: Colour | None) -> float:
    if skin is None:
        return float("nan")
    off = [max(low - v, v - high, 0) for v, low, high in ((skin.a, 5, 25), (skin.b, 5, 35))]
    return float(np.exp(-np.hypot(off[0], off[1]) / 10))


def _outline(seen: Seen, places: tuple[int, ...] | range) -> Mask:
    """(H, W) True inside the polygon of some points."""
    height, width = seen.classes.shape
    image = Image.new("1", (width, height))
    corners = [(float(seen.points[i, 0]), float(seen.points[i, 1])) for i in places]
    ImageDraw.Draw(image).polygon(corners, fill=1)
    return np.asarray(image)


def _share(seen: Seen, places: tuple[int, ...] | range, ids: tuple[int, ...]) -> float:
    inside = _outline(seen, places)
    if not inside.any():
        return 0.0
    return float(np.isin(seen.classes[inside], ids).mean())


def _eyes(seen: Seen) -> float:
    shares = []
    for places in (range(36, 42), range(42, 48)):
        inside = _outline(seen, places)
        hidden = np.isin(seen.classes[inside], HIDING).mean() if inside.any() else 1.0
        shares.append(1 - float(hidden))
    return min(shares) * (1 - seen.sunglasses)
