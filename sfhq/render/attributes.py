"""CelebA's forty attributes of a rendered person, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sfhq.records import Json
from sfhq.render.bust import Bust, topology
from sfhq.render.eyes import eyeball
from sfhq.render.person import Person
from sfhq.render.skin import reflectance, typology_angle

ATTRIBUTES = (
    *("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs"),
    *("Big_Lips", "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair"),
    *("Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses", "Goatee", "Gray_Hair"),
    *("Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache"),
    *("Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline"),
    *("Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings"),
    *("Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young"),
)
UNKNOWN = ("Attractive",)  # a judgement, which no renderer can give: its value is None
# What cannot be true of one person at once.
EXCLUSIVE = (
    ("Bald", "Bangs"),
    ("Bald", "Straight_Hair"),
    ("Bald", "Wavy_Hair"),
    ("Bald", "Receding_Hairline"),
    *(("Bald", f"{c}_Hair") for c in ("Black", "Blond", "Brown", "Gray")),
    ("Straight_Hair", "Wavy_Hair"),
    ("Bangs", "Receding_Hairline"),
    ("Bangs", "Wearing_Hat"),
    *(("No_Beard", b) for b in ("5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns")),
    *(
        (f"{a}_Hair", f"{b}_Hair")
        for i, a in enumerate(("Black", "Blond", "Brown", "Gray"))
        for b in ("Black", "Blond", "Brown", "Gray")[i + 1 :]
    ),
)


def measures(person: Person, bust: Bust) -> dict[str, float]:
    """Lengths of the face over the distance of the eyes' centres, and strengths.

    Args:
        person: who.
        bust: their shape, expression included.
    """
    f, points = topology().fields, bust.points
    eyes = np.stack([eyeball(bust, side)[0] for side in "lr"])
    unit = float(np.ptp(eyes[:, 0]))
    lips = points[f["lips"] > 0.5]
    nose = points[(f["nose"] > 0.5) & (points[:, 1] < eyes[:, 1].mean() - 0.25 * unit)]
    face = points[(f["neck"] < 0.5) & (f["ears"] < 0.2) & (f["mouth"] < 0.5)]
    lower = points[f["lower-lip"] > 0.5]
    upper = points[f["upper-lip"] > 0.5]
    middle = np.abs(lips[:, 0]) < 0.08
    chin = points[(f["jaw"] > 0.8) & (f["neck"] < 0.5)]
    level = np.abs(face[:, 1] - (eyes[:, 1].mean() - 0.35 * unit)) < 0.06
    jaw = np.abs(face[:, 1] - (lips[:, 1].mean() - 0.05)) < 0.06
    tip = nose[np.argmax(nose[:, 2])]
    e = person.expression
    melanin = person.skin.melanin
    return {
        "lips": float(
            np.ptp(upper[np.abs(upper[:, 0]) < 0.08][:, 1])
            + np.ptp(lower[np.abs(lower[:, 0]) < 0.08][:, 1])
        )
        / unit,
        "lips_width": float(np.ptp(lips[:, 0])) / unit,
        "lips_gap": _gap(bust) / unit if middle.any() else 0.0,
        "nose_width": float(np.ptp(nose[:, 0])) / unit,
        "nose_length": float(eyes[:, 1].mean() - tip[1]) / unit,
        "nose_depth": float(tip[2] - eyes[:, 2].mean()) / unit,
        "face_width": float(np.ptp(face[level][:, 0])) / unit,
        "jaw_width": float(np.ptp(face[jaw][:, 0])) / unit,
        "face_height": float(eyes[:, 1].mean() - chin[:, 1].min()) / unit,
        "eye_opening": _opening(bust) / unit,
        "smile": float(np.mean([e.get("mouthSmileLeft", 0), e.get("mouthSmileRight", 0)])),
        "jaw_open": float(e.get("jawOpen", 0.0)),
        "ita": typology_angle(reflectance(melanin, person.skin.haemoglobin)),
    }


def _gap(bust: Bust) -> float:
    """Height of the mouth's opening in the middle."""
    f, points = topology().fields, bust.points
    near = np.abs(topology().rest[:, 0]) < 0.04
    rim = near & (f["lips"] > 0.3) & (f["mouth"] < 0.6)
    top = points[rim & (f["upper-lip"] > 0.3)]
    bottom = points[rim & (f["lower-lip"] > 0.3)]
    return float(max(top[:, 1].min() - bottom[:, 1].max(), 0.0))


def _opening(bust: Bust) -> float:
    """Mean height of the eyes' openings, from lid to lid in the middle."""
    f, points, rest = topology().fields, bust.points, topology().rest
    heights = []
    for sign in (1, -1):
        centre = 0.31 * sign
        lids = (f["eyelids"] > 0.6) & (np.abs(rest[:, 0] - centre) < 0.05) & (rest[:, 2] > 1.2)
        y = points[lids, 1]
        above = rest[lids, 1] > 7.3
        heights.append(float(max(y[above].min() - y[~above].max(), 0.0)))
    return float(np.mean(heights))


# Borders that part about the share of people that CelebA has, from 400 drawn by the default recipe.
LIMITS = {
    "Big_Lips": ("lips", 0.40),
    "Big_Nose": ("nose_width", 0.72),
    "High_Cheekbones": ("face_width_over_jaw", 1.2),
    "Mouth_Slightly_Open": ("lips_gap", 0.03),
}


def attributes(person: Person, found: Mapping[str, float], blur: float = 0.0) -> dict[str, bool | None]:
    """The forty, by CelebA's names.

    Args:
        person: who.
        found: what `measures` returned.
        blur: standard deviation of the picture's blur over its side, in thousandths.

    Returns:
        In the order of `ATTRIBUTES`; None for what cannot be known.
    """
    hair, beard, skin, wear, made = person.hair, person.beard, person.skin, person.wear, person.make_up
    bald = hair.style == "bald" or hair.receding > 0.85
    dark = hair.dye is None and not bald
    grey = dark and hair.grey >= 0.5
    depth = hair.eumelanin + 0.4 * hair.pheomelanin
    curly = hair.wave * min(hair.length, 1.0) > 0.25 or hair.curl > 0.3
    female_make_up = made.lipstick + made.shadow + made.liner
    adult_beard = beard.kind != "none"
    values: dict[str, bool | None] = {
        "5_o_Clock_Shadow": beard.kind == "stubble",
        "Arched_Eyebrows": person.brows.arch > 0.7,
        "Attractive": None,
        "Bags_Under_Eyes": skin.bags > 0.5,
        "Bald": bald,
        "Bangs": hair.bangs and wear.hat == "none",
        "Big_Lips": found["lips"] > LIMITS["Big_Lips"][1],
        "Big_Nose": found["nose_width"] > LIMITS["Big_Nose"][1],
        "Black_Hair": dark and not grey and depth >= 3.0,
        "Blond_Hair": dark and not grey and depth < 0.62,
        "Blurry": blur > 6.0,
        "Brown_Hair": dark and not grey and 0.62 <= depth < 3.0,
        "Bushy_Eyebrows": person.brows.thickness > 0.7 and person.brows.density > 0.5,
        "Chubby": person.weight > 0.72,
        "Double_Chin": person.shape.get("neck-double-incr", 0.0) > 0.35,
        "Eyeglasses": wear.glasses != "none",
        "Goatee": beard.kind == "goatee",
        "Gray_Hair": grey,
        "Heavy_Makeup": female_make_up > 1.4,
        "High_Cheekbones": found["face_width"] / found["jaw_width"] > LIMITS["High_Cheekbones"][1],
        "Male": person.male >= 0.5,
        "Mouth_Slightly_Open": found["lips_gap"] > LIMITS["Mouth_Slightly_Open"][1],
        "Mustache": beard.kind in ("moustache", "goatee", "full"),
        "Narrow_Eyes": found["eye_opening"] < 0.105,
        "No_Beard": not adult_beard,
        "Oval_Face": 1.02 < found["face_height"] / found["face_width"] * 1.75 < 1.35
        and person.weight < 0.6,
        "Pale_Skin": found["ita"] > 58,
        "Pointy_Nose": found["nose_width"] < 0.60,
        "Receding_Hairline": hair.receding > 0.35 and not bald,
        "Rosy_Cheeks": skin.rosy + made.blush > 0.75 and skin.melanin < 0.6,
        "Sideburns": beard.kind in ("sideburns", "full"),
        "Smiling": found["smile"] > 0.35,
        "Straight_Hair": not bald and not curly and hair.style != "buzz",
        "Wavy_Hair": not bald and curly,
        "Wearing_Earrings": wear.earrings,
        "Wearing_Hat": wear.hat != "none",
        "Wearing_Lipstick": made.lipstick > 0.35,
        "Wearing_Necklace": wear.necklace,
        "Wearing_Necktie": wear.necktie and wear.clothes in ("suit", "shirt"),
        "Young": person.years < 45,
    }
    return {name: None if values[name] is None else bool(values[name]) for name in ATTRIBUTES}


def details(person: Person, found: Mapping[str, float]) -> dict[str, Json]:
    """The continuous values behind the attributes, rounded; degrees, years, shares."""
    view, hair = person.view, person.hair
    numbers = {
        "years": person.years,
        "male": person.male,
        **{f"ancestry_{k}": v for k, v in sorted(person.ancestry.items())},
        "melanin": person.skin.melanin,
        "haemoglobin": person.skin.haemoglobin,
        "weight": person.weight,
        "yaw": view.yaw,
        "pitch": view.pitch,
        "roll": view.roll,
        "gaze_yaw": view.gaze_yaw,
        "gaze_pitch": view.gaze_pitch,
        "hair_length": hair.length if hair.style != "bald" else 0.0,
        "hair_eumelanin": hair.eumelanin,
        "hair_pheomelanin": hair.pheomelanin,
        "hair_grey": hair.grey,
        "receding": hair.receding,
        "wrinkles": person.skin.wrinkles,
        "bags": person.skin.bags,
        "rosy": person.skin.rosy,
        "freckles": person.skin.freckles,
        **found,
    }
    words = {
        "hair_style": hair.style,
        "beard": person.beard.kind,
        "glasses": person.wear.glasses,
        "hat": person.wear.hat,
        "clothes": person.wear.clothes,
        "light": person.setting.light,
    }
    return {**{k: round(float(v), 4) for k, v in numbers.items()}, **words}
