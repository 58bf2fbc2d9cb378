"""Limit a recipe's tables of gender, age and ancestry by its wishes, `always` and `never`.

A wish is the name of an attribute with True (always) or False (never). Some wishes exclude people:
only men have beards. Other wishes prefer people: bangs go to women, unless the recipe has none.
"""

from __future__ import annotations

from collections.abc import Mapping

from sfhq.render.people.attributes import BEARD_KINDS, YOUNG
from sfhq.render.person import BEARDS, HAIR_STYLES

Shares = Mapping[str, float]
Wishes = Mapping[str, bool]
BEARDED = 17  # youngest age of a person with a beard
OLDEST = 85
# Who is preferred for an attribute: gender, youngest age, and ancestries that do not have it.
USUAL: dict[str, tuple[str | None, int, tuple[str, ...]]] = {
    "Bald": ("male", 25, ()),
    "Bangs": ("female", 0, ()),
    "Gray_Hair": (None, 45, ()),
    "Heavy_Makeup": ("female", 16, ()),
    "Pale_Skin": (None, 0, ("african", "mixed")),
    "Receding_Hairline": ("male", 25, ()),
    "Rosy_Cheeks": (None, 0, ("african",)),
    "Wearing_Lipstick": ("female", 16, ()),
}
FRINGED = ("bob", "long", "wavy", "curly")  # styles that can have bangs
TEXTURED = ("wavy", "curly", "afro")
CROPPED = ("short", "crop")  # styles that can be straight or curly
RECEDED = ("buzz", "short", "crop", "swept-back")  # styles for a receding hairline


def wishes(always: tuple[str, ...], never: tuple[str, ...]) -> dict[str, bool]:
    """The wishes of a recipe: attribute -> True (always) or False (never)."""
    return {**dict.fromkeys(never, False), **dict.fromkeys(always, True)}


def span(band: str) -> tuple[int, int]:
    """First and last year of a key of the table `age`, such as "18-29"."""
    first, last = band.split("-")
    return int(first), int(last)


def beards(wished: Wishes) -> tuple[str, ...]:
    """Kinds of beard that fit the wishes."""
    return tuple(
        kind
        for kind in BEARDS
        if all((kind in kinds) == wished.get(n, kind in kinds) for n, kinds in BEARD_KINDS.items())
    )


def styles(wished: Wishes) -> tuple[str, ...]:
    """Styles of hair that fit the wishes.

    Styles that can be straight or curly count only if no style with the wished texture is left.
    """
    left = [s for s in HAIR_STYLES if wished.get("Bald", s == "bald") == (s == "bald")]
    if wished.get("Bangs"):
        left = [s for s in left if s in FRINGED]
    if wished.get("Receding_Hairline"):
        left = [s for s in left if s in RECEDED]
    if wished.get("Wavy_Hair"):
        left = [s for s in left if s in TEXTURED] or [s for s in left if s in CROPPED]
    if wished.get("Straight_Hair"):
        left = [s for s in left if s not in (*TEXTURED, "bald", "buzz")]
    if wished.get("Wavy_Hair") is False:
        left = [s for s in left if s not in TEXTURED]
    if wished.get("Straight_Hair") is False:
        plain = [s for s in left if s in (*TEXTURED, "bald", "buzz")]
        left = plain or [s for s in left if s in CROPPED and wished.get("Wavy_Hair") is not False]
    if any(wished.get(f"{c}_Hair") for c in ("Black", "Blond", "Brown", "Gray")):
        left = [s for s in left if s != "bald"]
    return tuple(left)


def genders(table: Shares, wished: Wishes) -> dict[str, float]:
    """Shares of genders that fit the wishes; they sum to 1. Empty if none fits."""
    left = {n: s for n, s in table.items() if s > 0}
    if "Male" in wished:
        left = {n: s for n, s in left.items() if (n == "male") == wished["Male"]}
    if "none" not in beards(wished):
        left = {n: s for n, s in left.items() if n == "male"}
    for name, (gender, _, _) in USUAL.items():
        if wished.get(name) and gender is not None:
            left = {n: s for n, s in left.items() if n == gender} or left
    return _whole(left)


def ages(table: Shares, wished: Wishes) -> dict[str, float]:
    """Shares of ranges of years that fit the wishes; they sum to 1. Empty if none fits."""
    left = {n: s for n, s in table.items() if s > 0}
    if "Young" in wished:
        left = _within(left, 0, int(YOUNG) - 1) if wished["Young"] else _within(left, int(YOUNG))
    if "none" not in beards(wished):
        left = _within(left, BEARDED)
    for name, (_, youngest, _) in USUAL.items():
        if wished.get(name) and youngest:
            left = _within(left, youngest) or left
    return _whole(left)


def ancestries(table: Shares, wished: Wishes) -> dict[str, float]:
    """Shares of ancestries that fit the wishes; they sum to 1. At least one is left."""
    left = {n: s for n, s in table.items() if s > 0}
    for name, (_, _, without) in USUAL.items():
        if wished.get(name):
            left = {n: s for n, s in left.items() if n not in without} or left
    return _whole(left)


def _within(table: Shares, first: int, last: int = OLDEST) -> dict[str, float]:
    out: dict[str, float] = {}
    for band, share in table.items():
        low, high = span(band)
        a, b = max(low, first), min(high, last)
        if a <= b:
            out[f"{a}-{b}"] = out.get(f"{a}-{b}", 0.0) + share * (b - a + 1) / (high - low + 1)
    return out


def _whole(table: Shares) -> dict[str, float]:
    total = sum(table.values())
    return {name: share / total for name, share in table.items()}
