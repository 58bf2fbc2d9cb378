"""Recipes of rendered heads: shares by name; one clear line for what cannot be."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from sfhq.errors import UsageError
from sfhq.render.people.attributes import ATTRIBUTES, BEARD_KINDS, EXCLUSIVE, LIMITS, UNKNOWN
from sfhq.render.people.features import EXPRESSIONS
from sfhq.render.people.limits import ages, ancestries, beards, genders, styles
from sfhq.render.people.recipe import KNOWN, RenderRecipe, check_recipe, load_render_recipe
from sfhq.render.person import BEARDS, HAIR_STYLES

TABLES = ("age", *KNOWN)


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "people.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path: Path, *words: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_render_recipe(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    for word in words:
        assert word in message, message
    return message


def test_the_default_recipe_is_a_recipe() -> None:
    default = load_render_recipe(None)
    assert default == RenderRecipe()
    for key in TABLES:
        table = getattr(default, key)
        assert not table or math.isclose(sum(table.values()), 1), key
        assert key == "age" or set(table) <= set(KNOWN[key])
    values = {k: v for k, v in default.settings().items() if v != []}
    assert check_recipe(json.loads(json.dumps(values)), "settings") == default


def test_names_are_those_of_what_is_drawn() -> None:
    assert set(KNOWN["expression"]) == set(EXPRESSIONS)
    assert set(RenderRecipe().settings()) == set(RenderRecipe.__dataclass_fields__)
    for name in {n for pair in EXCLUSIVE for n in pair} | set(BEARD_KINDS) | set(LIMITS):
        assert name in ATTRIBUTES
    assert {k for kinds in BEARD_KINDS.values() for k in kinds} == set(BEARDS)
    assert len(ATTRIBUTES) == 40 and sorted(ATTRIBUTES) == list(ATTRIBUTES)


def test_a_recipe_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "yaw = 20\nzoom = [0.9, 1]\nalways = ['Smiling', 'Smiling']\nnever = []\n"
        "[age]\n18-29 = 0.5\n30-30 = 0.5\n[gender]\nfemale = 1\n[hair_colour]\n",
    )
    recipe = load_render_recipe(path)
    assert (recipe.yaw, recipe.zoom, recipe.always) == (20.0, (0.9, 1.0), ("Smiling",))
    assert recipe.age == {"18-29": 0.5, "30-30": 0.5} and recipe.gender == {"female": 1.0}
    assert recipe.hair_colour == {} and recipe.pitch == RenderRecipe().pitch
    assert all(isinstance(v, float) for v in (recipe.yaw, *recipe.gender.values()))


def test_windows_line_ends_and_a_byte_order_mark_are_no_error(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbfyaw = 7\r\n[gender]\r\nmale = 1\r\n")
    assert load_render_recipe(path).yaw == 7


def test_nearly_one_is_one(tmp_path: Path) -> None:
    thirds = "\n".join(f"{b} = 0.3333333" for b in ("18-29", "30-39", "40-49"))
    assert load_render_recipe(write(tmp_path, f"[age]\n{thirds}\n")).age


def test_an_unreadable_file_says_why(tmp_path: Path) -> None:
    refused(tmp_path / "none.toml", "cannot read the recipe", "No such file")
    refused(tmp_path, "cannot read the recipe", "Is a directory")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"yaw = \xff\n", ("byte 6", "not UTF-8")),
        ("yaw = \n", ("not TOML", "line 1")),
        ("yaw = 1\nyaw = 2\n", ("not TOML", "line 2")),
        ("[" * 3000, ("not TOML",)),
        ("yaw = " + "9" * 5000, ("not TOML",)),
        ("pixels = 3\n", ("unknown key pixels", "known: age, always")),
        ("glases = 3\n", ("unknown key glases", "did you mean glasses?")),
        ('"a\\nb" = 3\n', ("unknown key 'a\\nb'",)),
        ("age = 3\n", ("age is 3", "wanted a table of shares under [age]")),
        ("[gender]\n", ("gender is {}", "wanted a table")),
        ("[gender]\nfemale = 1\nfrog = 0\n", ("unknown gender.frog", "known: female, male")),
        ("[hair_male]\nbald = 0.5\nafros = 0.5\n", ("unknown hair_male.afros", "mean afro?")),
        ("[age]\n20 = 1\n", ("age.20 is not a range of years", "within 5-85", "such as 18-29")),
        ("[age]\n30-20 = 1\n", ("age.30-20 is not a range",)),
        ("[age]\n1-20 = 1\n", ("age.1-20 is not a range",)),
        ("[age]\n20-90 = 1\n", ("age.20-90 is not a range",)),
        ('[age]\n"٢٠-٣٠" = 1\n', ("is not a range",)),
        ("[gender]\nfemale = 0.7\nmale = 0.7\n", ("gender sum to 1.4", "wanted 1", "divide all")),
        ("[gender]\nfemale = 0.5\n", ("gender sum to 0.5",)),
        ("[gender]\nfemale = 1.5\nmale = -0.5\n", ("gender.female is 1.5", "0 to 1")),
        ("[gender]\nfemale = nan\nmale = 1\n", ("gender.female is nan", "0 to 1")),
        ("[gender]\nfemale = inf\n", ("gender.female is inf",)),
        ("[gender]\nfemale = true\n", ("gender.female is True", "wanted a share")),
        ("[gender]\nfemale = 'all'\n", ("gender.female is all", "wanted a share")),
        ("[gender.female]\nx = 1\n", ("gender.female is {'x': 1}",)),
        ("yaw = 'left'\n", ("yaw is left", "degrees, 0 to 90")),
        ("yaw = nan\n", ("yaw is nan", "degrees, 0 to 90")),
        ("yaw = 91\n", ("yaw is 91", "degrees, 0 to 90")),
        ("pitch = -1\n", ("pitch is -1", "degrees, 0 to 30")),
        ("roll = true\n", ("roll is True", "degrees")),
        ("gaze = 2024-01-01\n", ("gaze is datetime.date(2024, 1, 1)", "degrees, 0 to 20")),
        ("bangs = 2\n", ("bangs is 2", "a share, 0 to 1")),
        ("make_up = [1]\n", ("make_up is [1]", "a share, 0 to 1")),
        ("zoom = 1\n", ("zoom is 1", "two numbers from 0.3 to 2")),
        ("zoom = [1.2, 0.8]\n", ("zoom is [1.2, 0.8]", "ascending")),
        ("zoom = [nan, 1]\n", ("zoom is [nan, 1]",)),
        ("zoom = [0.1, 1]\n", ("zoom is [0.1, 1]",)),
        ("zoom = [1, 1, 1]\n", ("zoom is [1, 1, 1]",)),
        ("always = 'Smiling'\n", ("always is Smiling", "wanted a list of attributes")),
        ("always = [3]\n", ("always is [3]", "wanted a list")),
        ("always = ['Smilng']\n", ("unknown attribute Smilng", "did you mean Smiling?")),
        ("never = ['Attractive']\n", ("never has Attractive", "cannot judge", "remove it")),
        ("blurry = 2\n", ("blurry is 2", "a share, 0 to 1")),
        ("yaw = '" + "x" * 500 + "'\n", ("...; wanted degrees",)),
    ],
)
def test_a_bad_value_is_told_with_what_was_wanted(
    tmp_path: Path, text: str | bytes, words: tuple[str, ...]
) -> None:
    assert len(refused(write(tmp_path, text), *words)) < 600 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("always", "never", "words"),
    [
        ("Smiling", "Smiling", ("Smiling is in always and in never", "remove it from one")),
        ("Bald,Bangs", "", ("Bald and Bangs, which contradict each other",)),
        ("No_Beard,Goatee", "", ("Goatee and No_Beard, which contradict",)),
        ("Goatee,5_o_Clock_Shadow", "", ("5_o_Clock_Shadow and Goatee",)),
        ("Wearing_Hat,Bangs", "", ("Bangs and Wearing_Hat",)),
        ("Black_Hair,Gray_Hair", "", ("Black_Hair and Gray_Hair",)),
        ("Mustache", "Male", ("always Mustache and never Male", "only men have beards")),
        ("", "No_Beard,Male", ("never No_Beard and never Male", "only men")),
        ("Goatee", "Mustache", ("always Goatee, never Mustache", "no kind of beard")),
        ("", ",".join(BEARD_KINDS), ("never Goatee", "no kind of beard")),
        ("Bangs", "Straight_Hair,Wavy_Hair", ("always Bangs, never Straight", "no style of hair")),
        ("Gray_Hair", "Straight_Hair,Wavy_Hair", ()),
        ("Sideburns,Mustache", "", ()),
        ("Receding_Hairline,Wavy_Hair", "", ()),
        ("Bald,Wearing_Hat,Eyeglasses", "Young", ()),
        ("Young,Gray_Hair", "", ()),
    ],
)
def test_wishes_that_contradict_each_other(
    tmp_path: Path, always: str, never: str, words: tuple[str, ...]
) -> None:
    lists = {"always": always, "never": never}
    lines = [f"{k} = {[n for n in v.split(',') if n]}\n" for k, v in lists.items()]
    path = write(tmp_path, "".join(lines))
    if words:
        refused(path, *words, "remove")
    else:
        assert load_render_recipe(path).always == tuple(always.split(","))


FEMALE = "[gender]\nfemale = 1\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("always = ['Male']\n" + FEMALE, ("always Male needs", "raise gender.male")),
        ("never = ['Male']\n[gender]\nmale = 1\n", ("never Male needs", "gender.female")),
        ("always = ['Goatee']\n" + FEMALE, ("always Goatee needs", "raise gender.male")),
        ("never = ['No_Beard']\n" + FEMALE, ("never No_Beard needs", "male is 0")),
        (
            "always = ['Young']\n[age]\n50-80 = 1\n",
            ("always Young needs people under 45", "age has 50-80", "add a range"),
        ),
        ("never = ['Young']\n[age]\n5-44 = 1\n", ("never Young", "45 or older", "has 5-44")),
        ("always = ['Mustache']\n[age]\n5-16 = 1\n", ("always Mustache", "17 or older")),
        (
            "always = ['Pale_Skin']\n[ancestry]\nafrican = 1\n",
            ("always has Pale_Skin", "ancestry has only african"),
        ),
        ("bangs = 1\n[hair_female]\nbuzz = 1\n", ("bangs is 1", "hair_female has no style")),
        ("bangs = 0.5\n[gender]\nmale = 1\n", ("bangs is 0.5", "gender.female is 0")),
        ("make_up = 0.5\n[gender]\nmale = 1\n", ("make_up is 0.5", "gender.female is 0")),
    ],
)
def test_wishes_and_shares_that_the_tables_rule_out(
    tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    refused(write(tmp_path, text), *words)


@pytest.mark.parametrize(
    "text",
    [
        "always = ['Eyeglasses']\n[glasses]\nnone = 1\n",
        "always = ['Bangs']\n[hair_female]\nbuzz = 1\n",
        "always = ['Smiling']\n[expression]\nneutral = 1\n",
        "never = ['Narrow_Eyes']\nclosed_eyes = 1\n",
        "always = ['Blond_Hair']\n[ancestry]\nasian = 1\n",
        "always = ['Bald', 'Wearing_Lipstick']\n[gender]\nmale = 1\n",
        "bangs = 0\nmake_up = 0\n[gender]\nmale = 1\n",
        "always = ['Blurry']\nblurry = 0\n",
        "never = ['Blurry']\nblurry = 1\n",
        "always = ['Wearing_Earrings']\n[hair_female]\nlong = 1\n[hair_male]\nlong = 1\n",
        FEMALE + "[beard]\nfull = 1\n",
    ],
)
def test_other_tables_give_way(tmp_path: Path, text: str) -> None:
    load_render_recipe(write(tmp_path, text))


def test_wishes_cut_the_tables() -> None:
    age = {"16-29": 0.5, "30-49": 0.5}
    assert ages(age, {"Young": True}) == pytest.approx(
        {"16-29": 0.5 / 0.875, "30-44": 0.375 / 0.875}
    )
    assert ages(age, {"Young": False}) == {"45-49": 1}
    assert ages(age, {"Goatee": True}) == pytest.approx(
        {"17-29": 0.4815, "30-49": 0.5185}, abs=1e-3
    )
    assert ages({"5-9": 1.0}, {"Goatee": True}) == {}
    assert ages({"20-29": 1.0}, {"Gray_Hair": True}) == {"20-29": 1}
    gender = {"female": 0.25, "male": 0.75}
    assert genders(gender, {}) == gender
    assert genders(gender, {"Male": False}) == {"female": 1}
    assert genders(gender, {"No_Beard": False}) == {"male": 1}
    assert genders({"male": 1.0}, {"Wearing_Lipstick": True}) == {"male": 1}
    assert ancestries({"african": 1.0}, {"Pale_Skin": True}) == {"african": 1}
    assert ancestries({"african": 0.5, "asian": 0.5}, {"Pale_Skin": True}) == {"asian": 1}


def test_wishes_leave_what_shows_them() -> None:
    assert beards({}) == BEARDS and styles({}) == HAIR_STYLES
    assert styles({"Wearing_Earrings": True, "Wearing_Necklace": True}) == HAIR_STYLES
    assert beards({"Mustache": True, "Goatee": False}) == ("moustache", "full")
    assert beards({"No_Beard": False, "5_o_Clock_Shadow": False}) == BEARDS[2:]
    assert styles({"Bald": True}) == ("bald",)
    assert styles({"Straight_Hair": False, "Wavy_Hair": False}) == ("bald", "buzz")
    assert set(styles({"Bangs": True, "Wavy_Hair": True})) == {"wavy", "curly"}
    assert "bald" not in styles({"Gray_Hair": True})


def test_pairs_of_wishes_are_refused_in_one_line_or_taken() -> None:
    refused: set[tuple[str, ...]] = set()
    askable = [n for n in ATTRIBUTES if n not in UNKNOWN]
    for a, b in combinations(askable, 2):
        values: list[dict[str, Any]] = [{"always": [a, b]}, {"never": [a, b]}]
        values += [{"always": [a], "never": [b]}, {"always": [b], "never": [a]}]
        for value in values:
            try:
                check_recipe(value, "x")
            except UsageError as error:
                assert str(error).startswith("x: ") and "\n" not in str(error)
                refused.add(
                    (*value.get("always", []), *(f"no {n}" for n in value.get("never", [])))
                )
    bearded = [n for n in BEARD_KINDS if n != "No_Beard"]
    assert {tuple(sorted(p)) for p in EXCLUSIVE} <= {tuple(sorted(p)) for p in refused}
    assert refused - {p for p in refused if "no " not in "".join(p)} == {
        *((n, "no Male") for n in bearded),
        ("no Male", "no No_Beard"),
        ("Goatee", "no Mustache"),
    }
