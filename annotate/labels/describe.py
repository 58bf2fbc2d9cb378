"""All that is said of a face's looks and quality, as columns."""

from __future__ import annotations

from collections.abc import Mapping

from annotate.labels import looks
from annotate.labels.colour import class_colour, hair_colour, skin_tone, typology_angle
from annotate.labels.masks import FaceMap, facts
from annotate.labels.points import Points
from annotate.labels.quality import Seen, overall, quality
from annotate.labels.reading import Reading
from sfhq.parts.records import Json, Pixels

CELEBA = 40  # the first attributes, which captions are made of


def described(
    photo: Pixels,
    reading: Reading,
    attributes: Mapping[str, float],
    found: FaceMap,
    points: Points,
    *,
    second: float = 0.0,
    threshold: float = 0.85,
    least: int = 5,
    two_sided: bool = False,
) -> dict[str, Json]:
    """The columns of `annotate.attribute.Attribute` of one face.

    Args:
        photo: (H, W, 3) uint8 RGB.
        reading: of the face alone.
        attributes: name -> probability, CelebA's 40 first.
        found: its map.
        points: (110, 5) in pixels of the photo.
        second: area of the second largest face over that of this one.
        threshold, least, two_sided: which attributes count, and how many make a caption.
    """
    said = facts(found)
    celeba = dict(list(attributes.items())[:CELEBA])
    present, absent = looks.valid_labels(celeba, threshold, two_sided)
    yaw, pitch, roll = (round(float(v), 3) for v in reading.pose[0])
    gaze_yaw, gaze_pitch = (round(float(v), 3) for v in reading.gaze[0])
    openings = looks.Openings.of(points)
    hair = class_colour(photo, found.classes, "hair")
    length = looks.hair_length(found.classes, points)
    colour = "" if hair is None or length in ("bald", "hidden") else hair_colour(hair)
    seen = Seen(
        photo,
        found.classes,
        points,
        (yaw, pitch, roll),
        attributes["Smiling"],
        attributes["Sunglasses"],
        said.margins,
        second,
    )
    skin = seen.skin
    angle = None if skin is None else typology_angle(skin)
    parts = quality(seen)
    return {
        "attributes_present": ", ".join(present),
        "attributes_absent": ", ".join(absent),
        "attributes_valid": len(present) + len(absent) >= least,
        "years": round(float(reading.years[0]), 2),
        "male": round(attributes["Male"], 4),
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
        "gaze_yaw": gaze_yaw,
        "gaze_pitch": gaze_pitch,
        "smile": round(attributes["Smiling"], 4),
        "mouth_opening": round(openings.mouth, 4),
        "eye_opening": round(openings.eyes, 4),
        # On photos the attribute alone sees glasses four times as often as the map does.
        "glasses": looks.glasses(attributes) if "glasses" in said.flags else "none",
        "hat": looks.hat(attributes),
        "earrings": round(attributes["Wearing_Earrings"], 4),
        "facial_hair": looks.facial_hair(attributes),
        "skin_ita": None if angle is None else round(angle, 2),
        "skin_tone": "" if angle is None else skin_tone(angle),
        "skin_lab": [] if skin is None else _lab(skin.lightness, skin.a, skin.b),
        "hair_colour": colour,
        "hair_length": length,
        "hair_lab": [] if hair is None else _lab(hair.lightness, hair.a, hair.b),
        "quality": overall(parts),
        **{f"quality_{name}": value if value == value else None for name, value in parts.items()},
    }


def _lab(*values: float) -> list[float]:
    return [round(v, 2) for v in values]
