"""Rendered people: balanced, repeatable, as wished for; attributes that mean what they say."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfhq.render.head.assets import base_mesh
from sfhq.render.head.bust import deform
from sfhq.render.people.attributes import (
    ATTRIBUTES,
    COLOURS,
    EXCLUSIVE,
    HANGING,
    UNKNOWN,
    attributes,
    details,
    ears_free,
    measures_of,
    neck_free,
)
from sfhq.render.people.draw import AXES, Draw, even
from sfhq.render.people.features import EXPRESSIONS, MIDDLES, axes
from sfhq.render.people.limits import FRINGED, span
from sfhq.render.people.recipe import RenderRecipe, check_recipe
from sfhq.render.people.sampling import NoSuchPerson, attributes_of, person
from sfhq.render.person import HAIR_STYLES, Hair, MakeUp, Person
from sfhq.render.scene.model import weights_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("anny") is None, reason="needs pip install 'sfhq[render]'"
)
ROOT = Path(__file__).parents[1]
DEFAULT = RenderRecipe()
ASKABLE = [n for n in ATTRIBUTES if n not in UNKNOWN]
FIRST = 7_000  # seed of the people that are looked at together
CELEBA = {  # share of the training images, of what is a matter of degree
    "Arched_Eyebrows": 0.27,
    "Bags_Under_Eyes": 0.2,
    "Big_Lips": 0.24,
    "Big_Nose": 0.23,
    "Blurry": 0.05,
    "Bushy_Eyebrows": 0.14,
    "Chubby": 0.058,
    "Double_Chin": 0.047,
    "High_Cheekbones": 0.45,
    "Narrow_Eyes": 0.115,
    "Oval_Face": 0.28,
    "Pale_Skin": 0.043,
    "Pointy_Nose": 0.28,
    "Rosy_Cheeks": 0.066,
    "Smiling": 0.48,
}
DRAWN = {  # share of 8000 people of the default recipe, of what it draws otherwise than CelebA
    "Bangs": 0.12,
    "Black_Hair": 0.465,
    "Blond_Hair": 0.14,
    "Brown_Hair": 0.245,
    "Gray_Hair": 0.086,
    "Heavy_Makeup": 0.33,
    "Mouth_Slightly_Open": 0.35,
    "Wavy_Hair": 0.305,
    "Wearing_Earrings": 0.185,
    "Wearing_Lipstick": 0.33,
    "Wearing_Necklace": 0.111,
}


@pytest.fixture(scope="module")
def people() -> list[Person]:
    return [person(seed, DEFAULT) for seed in range(FIRST, FIRST + 400)]


@pytest.fixture(scope="module")
def found(people: list[Person]) -> list[dict[str, float]]:
    return [measures_of(p, deform(weights_of(p))) for p in people]


# Balance.


def test_a_person_is_the_same_whatever_else_is_drawn() -> None:
    wishes = RenderRecipe(always=("Big_Lips",), never=("Young",))
    alone = [person(5, DEFAULT), person(5, wishes)]
    person(6, DEFAULT), person(4, wishes), np.random.default_rng(0).random()
    assert [person(5, DEFAULT), person(5, wishes)] == alone
    code = (
        "from sfhq.render.people.sampling import person\n"
        "from sfhq.render.people.recipe import RenderRecipe as R\n"
        "import sys\n"
        "print([person(5, R()), person(5, R(always=('Big_Lips',), never=('Young',)))])\n"
        "print({'torch', 'mitsuba', 'anny', 'dlib'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [repr(alone), "set()"]


def test_seeds_differ_and_remember_themselves(people: list[Person]) -> None:
    assert len({repr(replace(p, seed=0)) for p in people}) == len(people)
    assert [p.seed for p in people] == list(range(FIRST, FIRST + 400))


@pytest.mark.parametrize("first", [0, 12_345, 2**31 - 500])
def test_every_run_of_400_seeds_is_even(first: int) -> None:
    values = np.array([even(seed) for seed in range(first, first + 400)])
    assert values.shape == (400, len(AXES)) and values.min() >= 0 and values.max() < 1
    for border in (0.1, 0.25, 1 / 3, 0.5, 0.7, 0.9):
        assert np.abs((values < border).mean(0) - border).max() < 0.012
    for i in range(len(AXES)):
        for j in range(i):
            quarter = ((values[:, i] < 0.5) & (values[:, j] < 0.5)).mean()
            assert abs(quarter - 0.25) < 0.022, (AXES[i], AXES[j])


def test_400_people_are_balanced(people: list[Person]) -> None:
    n = len(people)
    for band, share in DEFAULT.age.items():
        first, last = span(band)
        assert abs(sum(first <= p.years < last + 1 for p in people) / n - share) < 0.02
    assert abs(sum(p.male > 0.5 for p in people) / n - 0.5) < 0.02
    main = Counter(max(p.ancestry, key=lambda k: p.ancestry[k]) for p in people)
    mixed = DEFAULT.ancestry["mixed"] / 3
    for name, count in main.items():
        assert abs(count / n - DEFAULT.ancestry[name] - mixed) < 0.04
    for male, table in ((True, DEFAULT.hair_male), (False, DEFAULT.hair_female)):
        group = [p for p in people if (p.male > 0.5) == male]
        styles = Counter(p.hair.style for p in group)
        for style, share in table.items():  # those who go bald wear it short
            slack = 0.14 if male and style in ("short", "side-part") else 0.04
            assert abs(styles[style] / len(group) - share) < slack, style
    glasses = Counter(p.wear.glasses for p in people)
    for kind, share in DEFAULT.glasses.items():
        assert abs(glasses[kind] / n - share) < 0.015
    for table, kinds in (
        (DEFAULT.hat, Counter(p.wear.hat for p in people)),
        (DEFAULT.clothes, Counter(p.wear.clothes for p in people)),
        (DEFAULT.light, Counter(p.setting.light for p in people)),
        (DEFAULT.background, Counter(p.setting.background for p in people)),
    ):
        for kind, share in table.items():
            assert abs(kinds[kind] / n - share) < 4 * np.sqrt(share * (1 - share) / n), kind
    yaw = np.array([p.view.yaw for p in people])
    assert abs(yaw.mean()) < 1 and abs(yaw.std() - DEFAULT.yaw) < 1
    assert abs((np.abs(yaw) < DEFAULT.yaw).mean() - 0.683) < 0.02  # a bell, not two


def test_expressions_come_by_their_shares(people: list[Person]) -> None:
    jaw = np.array([p.expression.get("jawOpen", 0) > 0 for p in people])
    smile = np.array([p.expression.get("mouthSmileRight", 0) > 0 for p in people])
    shares = DEFAULT.expression
    assert abs(jaw.mean() - shares["laugh"] - shares["open"] - shares["surprise"]) < 0.015
    assert abs(smile.mean() - shares["smile"] - shares["laugh"]) < 0.015
    assert abs((jaw & smile).mean() - shares["laugh"]) < 0.015


def test_picking_follows_the_shares() -> None:
    d = Draw(3)
    table = {"never": 0.0, "some": 0.3, "most": 0.7, "no": 0.0}
    assert [d.pick(table, at) for at in (0.0, 0.29, 0.31, 0.999999)] == ["some"] * 2 + ["most"] * 2
    drawn = Counter(d.pick(table) for _ in range(4000))
    assert set(drawn) == {"some", "most"} and abs(drawn["some"] / 4000 - 0.3) < 0.03
    assert {Draw(3, 1).even("age"), Draw(3, 9).even("age")} == {Draw(3).even("age")}
    assert Draw(3, 1, loose=True).even("age") != Draw(3).even("age") != Draw(3).even("hair")


# Who is drawn.

RANGES = {
    "years": (5, 85),
    "male": (0, 1),
    "muscle": (0, 1),
    "weight": (0, 1),
    "skin.melanin": (0.05, 1.7),
    "skin.haemoglobin": (0.1, 0.5),
    **{f"skin.{n}": (0, 1) for n in ("rosy", "bags", "wrinkles", "freckles", "oil")},
    **{f"make_up.{n}": (0, 1) for n in ("lipstick", "shadow", "liner", "blush")},
    **{f"hair.{n}": (0, 1) for n in ("grey", "receding", "wave", "curl", "frizz")},
    "hair.length": (0, 3),
    "hair.eumelanin": (0.05, 14),
    "hair.pheomelanin": (0.02, 3),
    "hair.part": (-1, 1),
    "hair.volume": (0.5, 1.6),
    **{f"brows.{n}": (0, 1) for n in ("thickness", "arch", "density")},
    "beard.length": (0, 0.2),
    "beard.density": (0, 1),
    "beard.grey": (0, 1),
    "view.yaw": (-45, 45),
    **{f"view.{n}": (-40, 40) for n in ("pitch", "roll", "body_yaw", "gaze_yaw", "gaze_pitch")},
    "view.fov": (10, 30),
    "view.zoom": (0.92, 1.12),
    "setting.azimuth": (-180, 180),
    "setting.elevation": (-90, 90),
    "setting.hardness": (0, 1),
    "setting.warmth": (-1, 1),
    "setting.exposure": (-1, 1),
    "setting.blur": (1.5, 16),
}


def numbers(of: Any, before: str = "") -> dict[str, float]:
    out: dict[str, float] = {}
    for f in fields(of):
        value = getattr(of, f.name)
        if isinstance(value, float) and not isinstance(value, bool):
            out[before + f.name] = value
        elif hasattr(value, "__dataclass_fields__"):
            out.update(numbers(value, f"{f.name}."))
    return out


def test_numbers_stay_within_what_is_documented(people: list[Person]) -> None:
    for p in people:
        own = numbers(p)
        assert set(own) == set(RANGES)
        for name, value in own.items():
            low, high = RANGES[name]
            assert low <= value <= high, (name, value)
        colours = [p.iris, p.wear.cloth_colour, p.wear.tie_colour, p.wear.hat_colour, p.wear.metal]
        colours += [p.make_up.lip_colour, p.make_up.shadow_colour, p.wear.frame_colour]
        colours += [p.hair.dye] if p.hair.dye else []
        assert all(len(c) == 3 and min(c) >= 0 and max(c) <= 1 for c in colours)
        assert abs(sum(p.ancestry.values()) - 1) < 1e-3
        assert all(0 < v <= 1 for v in p.shape.values())
        assert all(-0.16 <= v <= 1 for v in p.expression.values())
        assert max(abs(v) for v in p.view.shift) <= 0.05


def test_no_one_contradicts_themselves(people: list[Person], found: list[dict[str, float]]) -> None:
    for p, own in zip(people, found, strict=True):
        values = attributes(p, own)
        assert list(values) == list(ATTRIBUTES)
        assert all(isinstance(v, bool) for n, v in values.items() if n not in UNKNOWN)
        assert values["Attractive"] is None
        for a, b in EXCLUSIVE:
            assert not (values[a] and values[b]), (p.seed, a, b)
        covered = p.wear.hat == "headscarf"
        shown = not values["Bald"] and not covered and p.hair.dye is None
        assert sum(bool(values[c]) for c in COLOURS) == shown
        assert not covered or p.male < 0.5
        bearded = p.beard.kind != "none"
        assert not bearded or (values["Male"] and p.years >= 17)
        assert not p.hair.bangs or (p.hair.style in FRINGED and p.hair.receding == 0)
        assert not p.hair.bangs or p.wear.hat == "none"
        assert not values["Wearing_Lipstick"] or not values["Male"]
        assert not p.hair.behind or p.hair.style in HANGING
        assert values["Wearing_Earrings"] == p.wear.earrings
        assert values["Wearing_Necklace"] == p.wear.necklace
        for axis in axes().values():
            low, high = set(axis.at(-1)), set(axis.at(1))
            assert low == high or not (low & set(p.shape) and high & set(p.shape))


def test_children_are_children() -> None:
    recipe = RenderRecipe(age={"5-14": 1.0})
    for p in (person(seed, recipe) for seed in range(200)):
        assert 5 <= p.years < 15 and p.beard.kind == "none" and p.make_up == MakeUp()
        assert p.hair.style != "bald" and p.hair.receding == 0 and p.hair.grey == 0
        assert p.skin.wrinkles == 0


def test_hair_goes_grey_with_age() -> None:
    men = RenderRecipe(gender={"male": 1.0}, age={"16-34": 0.25, "35-44": 0.25, "65-80": 0.5})
    drawn = [person(seed, men) for seed in range(400)]
    grey = {old: [p.hair.grey for p in drawn if (p.years > 60) == old] for old in (False, True)}
    assert all(p.hair.grey == 0 for p in drawn if p.years < 35)
    assert max(grey[False]) < 0.5 and np.mean(np.array(grey[False]) > 0) < 0.1
    assert 0.6 < np.mean(np.array(grey[True]) >= 0.5) < 0.9
    women = replace(men, gender={"female": 1.0}, age={"65-80": 1.0})
    shown = [person(seed, women).hair.grey > 0 for seed in range(400)]
    assert abs(np.mean(shown) - 0.5) < 0.08


@pytest.mark.long
def test_hair_has_the_colours_of_its_ancestry() -> None:
    def shares(origin: str, gender: str) -> dict[str, float]:
        recipe = RenderRecipe(ancestry={origin: 1.0}, gender={gender: 1.0}, age={"20-34": 1.0})
        hair = [person(seed, recipe).hair for seed in range(400)]
        depths = np.array([h.eumelanin + 0.4 * h.pheomelanin for h in hair if h.dye is None])
        return {"black": float((depths >= 3).mean()), "blond": float((depths < 0.62).mean())}

    for origin in ("african", "asian"):
        assert shares(origin, "male")["black"] > 0.9
        assert abs(shares(origin, "female")["black"] - 0.77) < 0.07
    fair = shares("caucasian", "male")
    assert fair["black"] < 0.2 and abs(fair["blond"] - 0.31) < 0.07


def test_hair_that_falls_is_sometimes_behind(people: list[Person]) -> None:
    falls = [p.hair.behind for p in people if p.hair.style in HANGING]
    assert abs(np.mean(falls) - 0.35) < 0.1
    for style in HAIR_STYLES:
        assert ears_free(Hair(style)) == (style not in HANGING)
        assert neck_free(Hair(style)) == (style not in ("curly", "long", "wavy"))
        assert ears_free(Hair(style, behind=True)) and neck_free(Hair(style, behind=True))


def test_a_share_of_pictures_is_blurry() -> None:
    for seed in range(20):
        plain, blurry = person(seed, DEFAULT), person(seed, replace(DEFAULT, blurry=1.0))
        assert blurry.setting.blur > 7.5
        assert person(seed, replace(DEFAULT, blurry=0.0)).setting.blur < 5
        assert replace(blurry, setting=replace(blurry.setting, blur=0.0)) == replace(
            plain, setting=replace(plain.setting, blur=0.0)
        )


def test_shut_eyes_are_shut() -> None:
    one = person(3, RenderRecipe(closed_eyes=1.0, expression={"surprise": 1.0}))
    assert one.expression["eyeBlinkLeft"] == one.expression["eyeBlinkRight"] == 1
    assert measures_of(one, deform(weights_of(one)))["eye_opening"] < 0.01


# Wishes.


@pytest.mark.parametrize("name", ASKABLE)
@pytest.mark.parametrize("wish", ["always", "never"])
def test_a_wish_is_granted(name: str, wish: str) -> None:
    recipe = check_recipe({wish: [name]}, "recipe")
    for seed in (1, 2, 3):
        one = person(seed, recipe)
        assert attributes_of(one)[name] == (wish == "always")
        assert one.seed == seed
        if one.beard.kind != "none" or one.hair.receding > 0.3:
            assert one.male > 0.5


@pytest.mark.parametrize(
    "values",
    [
        {"always": ["Goatee", "Bald", "Eyeglasses", "Wearing_Necktie", "Smiling"]},
        {"always": ["Bangs", "Heavy_Makeup", "Blond_Hair", "Mouth_Slightly_Open", "Smiling"]},
        {"always": ["Big_Nose", "Big_Lips", "Narrow_Eyes"], "never": ["Young", "Male"]},
        {"always": ["Pale_Skin", "Rosy_Cheeks", "Chubby", "Double_Chin"], "never": ["No_Beard"]},
        {"never": ["Black_Hair", "Brown_Hair", "Blond_Hair", "Gray_Hair"]},
        {"never": ["Straight_Hair", "Wavy_Hair", "Bald"]},
        {"always": ["Receding_Hairline", "Wavy_Hair", "Gray_Hair"]},
        {"always": ["Heavy_Makeup"], "never": ["Wearing_Lipstick"]},
        {"always": ["Wearing_Lipstick"], "never": ["Heavy_Makeup"]},
        {"always": ["Bangs", "Bald"][:1], "hair_female": {"buzz": 1}},
        {"always": ["Bangs"], "gender": {"male": 1}},
        {"always": ["Eyeglasses", "Wearing_Hat"], "glasses": {"none": 1}, "hat": {"none": 1}},
        {"always": ["Smiling"], "expression": {"neutral": 1}},
        {"always": ["Mustache"], "beard": {"none": 0.5, "full": 0.5}},
        {"always": ["Blond_Hair"], "ancestry": {"asian": 1}, "hair_colour": {"dyed": 1}},
        {"never": ["Narrow_Eyes"], "closed_eyes": 1},
        {"always": ["Wearing_Earrings", "Wearing_Necklace"], "earrings": 0, "necklace": 0},
        {"always": ["Wearing_Earrings", "Bangs", "Wavy_Hair"], "hair_female": {"long": 1}},
        {"always": ["Wearing_Earrings"], "never": ["Wearing_Necklace"], "necklace": 1},
        {"always": ["Blurry"], "blurry": 0},
        {"never": ["Blurry"], "blurry": 1},
    ],
)
def test_wishes_are_granted_together(values: dict[str, Any]) -> None:
    recipe = check_recipe(values, "recipe")
    for seed in (10, 11):
        got = attributes_of(person(seed, recipe))
        assert all(got[n] for n in recipe.always) and not any(got[n] for n in recipe.never)


def test_what_remains_of_a_table_keeps_its_shares() -> None:
    kinds = {"none": 0.5, "moustache": 0.1, "full": 0.4}
    recipe = RenderRecipe(always=("Mustache",), beard=kinds)
    drawn = Counter(person(seed, recipe).beard.kind for seed in range(60))
    assert set(drawn) == {"moustache", "full"} and drawn["full"] > drawn["moustache"]


def test_hair_goes_behind_for_jewellery() -> None:
    long = RenderRecipe(gender={"female": 1.0}, hair_female={"long": 0.5, "bob": 0.5})
    for name, bobs in (("Wearing_Earrings", True), ("Wearing_Necklace", False)):
        drawn = [person(seed, replace(long, always=(name,))).hair for seed in range(40)]
        behind = {s: [h.behind for h in drawn if h.style == s] for s in ("long", "bob")}
        assert all(behind["long"]) and all(behind["bob"]) == bobs
        assert 16 <= len(behind["long"]) <= 24
        never = [person(seed, replace(long, never=(name,))).hair.behind for seed in range(40)]
        assert 4 < sum(never) < 24


def test_wishes_keep_the_balance() -> None:
    recipe = RenderRecipe(always=("Big_Lips",))
    drawn = [person(seed, recipe) for seed in range(60)]
    assert abs(sum(p.male > 0.5 for p in drawn) - 30) <= 5
    assert abs(sum(p.years < 45 for p in drawn) / 60 - 0.64) < 0.1


def test_wishes_that_no_one_has_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfhq.render.people.sampling.TRIES", 3)
    recipe = RenderRecipe(always=("Pale_Skin",), never=("Male",), ancestry={"african": 1.0})
    with pytest.raises(NoSuchPerson, match="seed 7: no person with Pale_Skin, no Male in 3 draws"):
        person(7, recipe)


def test_every_target_of_the_face_is_drawn(people: list[Person]) -> None:
    """Both of two axes with one stem: eyes sit higher or lower, and nearer or farther apart."""
    drawn = {name for p in people for name in p.shape}
    for name, axis in axes().items():
        for value in (1,) if axis.low is None or name in MIDDLES else (-1, 1):
            assert set(axis.at(value)) & set(base_mesh().targets) <= drawn, axis
    for name in ("l-eye-trans-up", "l-eye-trans-down", "r-eye-trans-out", "nose-trans-forward"):
        assert name in drawn
    assert not {"nose-trans-in", "nose-trans-out", "mouth-trans-in"} & drawn


def test_shares_are_about_those_of_celeba_or_of_the_recipe(
    people: list[Person], found: list[dict[str, float]]
) -> None:
    values = [attributes(p, own) for p, own in zip(people, found, strict=True)]
    for name, share in {**CELEBA, **DRAWN}.items():
        here = sum(bool(v[name]) for v in values) / len(values)
        slack = 2.5 * np.sqrt(share * (1 - share) / len(values)) + 0.02 * (name in CELEBA)
        assert abs(here - share) < slack, (name, here)


def test_details_are_plain_numbers(people: list[Person], found: list[dict[str, float]]) -> None:
    for p, own in zip(people[:20], found, strict=False):
        told = details(p, own)
        assert json.loads(json.dumps(told, allow_nan=False)) == told
        assert told["years"] == pytest.approx(p.years, abs=1e-4) and told["hat"] == p.wear.hat
        assert told["blur"] == pytest.approx(p.setting.blur, abs=1e-4)
    assert set(EXPRESSIONS) == set(DEFAULT.expression)
