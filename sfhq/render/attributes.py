"""CelebA's forty attributes of a rendered person, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from sfhq.records import Json
from sfhq.render.measure import measures as measures
from sfhq.render.measure import measures_of as measures_of
from sfhq.render.person import Person

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
# The kinds of beard that show each of these.
BEARD_KINDS = {
    "5_o_Clock_Shadow": ("stubble",),
    "Goatee": ("goatee",),
    "Mustache": ("moustache", "goatee", "full"),
    "No_Beard": ("none",),
    "Sideburns": ("sideburns", "full"),
}
COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
# What cannot be true of one person at once.
EXCLUSIVE = (
    *(("Bald", other) for other in ("Bangs", "Receding_Hairline", "Straight_Hair", "Wavy_Hair")),
    *(("Bald", colour) for colour in COLOURS),
    *(pair for pair in combinations(COLOURS, 2)),
    ("Straight_Hair", "Wavy_Hair"),
    ("Bangs", "Receding_Hairline"),
    ("Bangs", "Wearing_Hat"),
    *(
        (a, b)
        for a, b in combinations(BEARD_KINDS, 2)
        if not set(BEARD_KINDS[a]) & set(BEARD_KINDS[b])
    ),
)
# Borders of what is more or less, put where about CelebA's share of people lies beyond them, of
# 4000 drawn by the default recipe. The measures are those of `measures`, or made of them below.
LIMITS = {
    "Arched_Eyebrows": 0.63,  # brows.arch
    "Bags_Under_Eyes": 0.5,  # skin.bags
    "Big_Lips": 0.38,  # lips
    "Big_Nose": 0.62,  # geometric mean of the nose's width, length and depth
    "Bushy_Eyebrows": 0.7,  # brows.thickness
    "Chubby": 0.72,  # weight
    "Double_Chin": 0.35,  # of the target neck-double-incr
    "Heavy_Makeup": 1.4,  # sum of lipstick, shadow and liner
    "High_Cheekbones": 1.04,  # width at the cheekbones over that of the jaw, more if raised
    "Mouth_Slightly_Open": 0.025,  # lips_gap
    "Narrow_Eyes": 0.095,  # eye_opening, below
    "Pale_Skin": 58.0,  # ita
    "Pointy_Nose": 0.7,  # depth of the nose over its width
    "Rosy_Cheeks": 0.75,  # skin.rosy and blush, together
    "Smiling": 0.25,  # smile: half a smile is one to CelebA
}
OVAL_TAPER = 0.85  # an oval face's jaw is narrower than this share of its width
OVAL_LENGTH = (1.25, 1.35)  # and its height over its width lies between
YOUNG = 45.0


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
