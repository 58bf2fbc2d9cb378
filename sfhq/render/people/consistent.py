"""Check that a recipe can be met: wishes against each other and against the tables."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from sfhq.errors import UsageError
from sfhq.render.people.attributes import BEARD_KINDS, COLOURS, EXCLUSIVE, YOUNG
from sfhq.render.people.limits import (
    BEARDED,
    FRINGED,
    Wishes,
    ages,
    beards,
    genders,
    styles,
    wishes,
)

if TYPE_CHECKING:
    from sfhq.render.people.recipe import RenderRecipe

HAIRY = ("Bald", "Bangs", "Receding_Hairline", "Straight_Hair", "Wavy_Hair", *COLOURS)


def check_consistent(recipe: RenderRecipe, given: Container[str], where: str) -> None:
    """Check that people with the wishes of a recipe can exist.

    Args:
        recipe: the recipe; each value is within its range.
        given: the keys that were set.
        where: the start of each message, such as the path of the recipe.

    Raises:
        UsageError: wishes contradict each other or the tables of gender, age and ancestry, or a
            share is set for something that nobody in the recipe can have.
    """
    _check_shares(recipe, given, where)
    _check_wishes(recipe, where)
    _check_tables(recipe, where)


def _check_shares(recipe: RenderRecipe, given: Container[str], where: str) -> None:
    women = recipe.gender.get("female", 0.0) > 0
    for key in ("bangs", "make_up"):
        if key in given and getattr(recipe, key) > 0 and not women:
            raise UsageError(
                f"{where}: {key} is {getattr(recipe, key):g}, but only women have it and "
                f"gender.female is 0; set {key} to 0, or raise gender.female"
            )
    fringed = any(recipe.hair_female.get(s, 0.0) > 0 for s in FRINGED)
    if "bangs" in given and recipe.bangs > 0 and not fringed and "Bangs" not in recipe.always:
        raise UsageError(
            f"{where}: bangs is {recipe.bangs:g}, but hair_female has no style with bangs "
            f"({', '.join(FRINGED)}); raise the share of one, or set bangs to 0"
        )


def _check_wishes(recipe: RenderRecipe, where: str) -> None:
    always, never = set(recipe.always), set(recipe.never)
    for name in sorted(always & never):
        raise UsageError(f"{where}: {name} is in always and in never; remove it from one of them")
    for a, b in EXCLUSIVE:
        if {a, b} <= always:
            raise UsageError(
                f"{where}: always has {a} and {b}, which contradict each other; remove one"
            )
    wished = wishes(recipe.always, recipe.never)
    for what, left, of in (
        ("kind of beard", beards(wished), BEARD_KINDS),
        ("style of hair", styles(wished), HAIRY),
    ):
        if not left:
            raise UsageError(f"{where}: no {what} fits {_told(wished, of)}; remove one of these")
    if _bearded(wished) and wished.get("Male") is False:
        raise UsageError(
            f"{where}: {_told(_bearded(wished))} and never Male contradict each other, because "
            "only men have beards; remove one"
        )


def _check_tables(recipe: RenderRecipe, where: str) -> None:
    wished = wishes(recipe.always, recipe.never)
    bearded = _bearded(wished)
    if not genders(recipe.gender, wished):
        asked = {"Male": wished["Male"]} if "Male" in wished else bearded
        lacks = "male" if wished.get("Male", True) else "female"
        raise UsageError(
            f"{where}: {_told(asked)} needs people who are {lacks}, but gender.{lacks} is 0; "
            f"raise gender.{lacks}, or remove the attribute"
        )
    if not ages(recipe.age, wished):
        asked = {n: w for n, w in wished.items() if n == "Young" or n in bearded}
        years = []
        if "Young" in wished:
            years.append(f"under {YOUNG:g}" if wished["Young"] else f"{YOUNG:g} or older")
        if bearded:
            years.append(f"{BEARDED} or older")
        has = ", ".join(n for n, s in recipe.age.items() if s > 0)
        raise UsageError(
            f"{where}: {_told(asked)} needs people {' and '.join(years)}, but age has {has}; "
            "add a range of years, or remove the attribute"
        )
    african = all(n == "african" for n, s in recipe.ancestry.items() if s > 0)
    for name in ("Pale_Skin", "Rosy_Cheeks"):
        if african and wished.get(name):
            raise UsageError(
                f"{where}: always has {name}, but ancestry has only african, whose skin does not "
                "show it; raise another share of ancestry, or remove the attribute"
            )


def _bearded(wished: Wishes) -> dict[str, bool]:
    """The wishes that need a beard; empty if a person without a beard fits all wishes."""
    if "none" in beards(wished):
        return {}
    return {n: w for n, w in wished.items() if n in BEARD_KINDS and w != (n == "No_Beard")}


def _told(wished: Wishes, of: Container[str] | None = None) -> str:
    """Wishes as text, such as "always Goatee, never Mustache"; only names in `of`, if given."""
    return ", ".join(
        f"{'always' if wish else 'never'} {name}"
        for name, wish in sorted(wished.items())
        if of is None or name in of
    )
