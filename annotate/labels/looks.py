"""What a face looks like, from a network's probabilities, the map of classes and the points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from annotate.labels.points import Points
from sfhq.faces.classes import ID, among
from sfhq.parts.records import Pixels

FACIAL_HAIR = (  # name -> the attribute that says so, the surest first
    *(("full beard", "Full_Beard"), ("goatee", "Goatee"), ("moustache", "Mustache")),
    *(("sideburns", "Sideburns"), ("stubble", "5_o_Clock_Shadow")),
)
HATS = (("beanie", "Beanie"), ("cap", "Cap"), ("brimmed hat", "Brimmed_Hat"))
LEAST_HAIR = 0.02  # of the face's pixels; with less, a head is bald
SHORT, MEDIUM = 0.75, 1.25  # lower end of hair: 0 at the eyes, 1 at the chin
LOWER_END = 97  # percentile of the hair's pixels


def valid_labels(
    probabilities: Mapping[str, float], threshold: float = 0.85, two_sided: bool = False
) -> tuple[list[str], list[str]]:
    """Attributes that a network is sure of, by FaceCaption's rule.

    FaceCaption-15M keeps a label whose probability is above 0.85. Its text leaves open whether an
    attribute that is surely absent is a label as well; `two_sided` counts those below 1 - 0.85.

    Args:
        probabilities: attribute -> calibrated probability.
        threshold: above it a label holds; 0.5 to 1.
        two_sided: attributes that are surely absent count as well.

    Returns:
        The attributes that are there, and those that are surely absent (none unless `two_sided`).
    """
    present = [name for name, p in probabilities.items() if p > threshold]
    absent = [name for name, p in probabilities.items() if p + threshold < 1] if two_sided else []
    return present, absent


def likeliest(names: tuple[tuple[str, str], ...], probabilities: Mapping[str, float]) -> str:
    """Of (word, attribute) pairs the word of the likeliest attribute."""
    return max(names, key=lambda pair: probabilities[pair[1]])[0]


def glasses(probabilities: Mapping[str, float]) -> str:
    """The kind of glasses: "none", "clear" or "sunglasses"."""
    if probabilities["Sunglasses"] > 0.5:
        return "sunglasses"
    return "clear" if probabilities["Eyeglasses"] > 0.5 else "none"


def hat(probabilities: Mapping[str, float]) -> str:
    """The kind of hat: "none", "beanie", "cap", "brimmed hat", "headscarf", or "other"."""
    if probabilities["Headscarf"] > max(0.5, probabilities["Wearing_Hat"]):
        return "headscarf"
    if probabilities["Wearing_Hat"] <= 0.5:
        return "none"
    kind = likeliest(HATS, probabilities)
    return kind if probabilities[dict(HATS)[kind]] > 0.5 else "other"


def facial_hair(probabilities: Mapping[str, float]) -> str:
    """The likeliest kind of facial hair; "none" where none has a probability above 0.5."""
    kind = likeliest(FACIAL_HAIR, probabilities)
    return kind if probabilities[dict(FACIAL_HAIR)[kind]] > 0.5 else "none"


def hair_length(classes: Pixels, points: Points) -> str:
    """How far down the hair reaches: "bald", "short", "medium", "long", or "hidden" under a hat.

    Its lower end counts from the eyes, 0, to the chin, 1: short ends above 0.75, long below 1.25.

    Args:
        classes: (H, W) uint8 ids.
        points: (110, 2 or more) in pixels of the same picture.
    """
    hair = classes == ID["hair"]
    face = int(among(classes, (ID["skin"], ID["nose"])).sum())
    if hair.sum() < LEAST_HAIR * max(face, 1):
        return "hidden" if (classes == ID["hat"]).sum() > hair.sum() else "bald"
    eyes = points[36:48, :2].mean(0)
    down = points[8, :2] - eyes
    rows, columns = np.nonzero(hair)
    ways = (np.stack([columns, rows], 1) - eyes) @ down / max(float(down @ down), 1e-9)
    end = float(np.percentile(ways, LOWER_END))
    return "short" if end < SHORT else "medium" if end < MEDIUM else "long"


@dataclass(frozen=True)
class Openings:
    """How far eyes and mouth are open, in shares of the distance between the outer eye corners.

    Attributes:
        eyes: mean distance of the lids of the less open eye.
        mouth: distance between the lips in the middle.
    """

    eyes: float
    mouth: float

    @classmethod
    def of(cls, points: Points) -> Openings:
        """Those of (110, 2 or more) points."""
        unit = max(float(np.hypot(*(points[45, :2] - points[36, :2]))), 1e-6)

        def gap(upper: int, lower: int) -> float:
            return float(np.hypot(*(points[upper, :2] - points[lower, :2]))) / unit

        right = (gap(37, 41) + gap(38, 40)) / 2
        left = (gap(43, 47) + gap(44, 46)) / 2
        return cls(min(left, right), (gap(61, 67) + gap(62, 66) + gap(63, 65)) / 3)
