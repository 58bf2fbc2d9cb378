"""Faces of rendered people: targets move what they name, and attributes follow the measures."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from sfhq.render.head.assets import base_mesh
from sfhq.render.head.bust import build, deform, macro_weights
from sfhq.render.people import looks
from sfhq.render.people.attributes import (
    COLOURS,
    LIMITS,
    amounts,
    attributes,
    measures,
    measures_of,
)
from sfhq.render.people.draw import Draw
from sfhq.render.people.features import middle, push, shape
from sfhq.render.people.recipe import RenderRecipe
from sfhq.render.people.sampling import person
from sfhq.render.person import Hair, Person, Setting, Wear
from sfhq.render.scene.model import weights_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("anny") is None, reason="needs pip install 'sfhq[render]'"
)


def measured(years: float = 25, male: float = 0.5, **units: float) -> dict[str, float]:
    """Of the middle head with targets; "__" stands for "-", "both_" for each side."""
    shape: dict[str, float] = {}
    for key, value in units.items():
        name = key.replace("__", "-")
        if name.startswith("both_"):
            name = name.removeprefix("both_")
            pair = (f"l-{name}", f"r-{name}") if "-" in name else (f"{name}Left", f"{name}Right")
            shape.update(dict.fromkeys(pair, value))
        else:
            shape[name] = value
    one = Person(
        years=years, male=male, ancestry=dict.fromkeys(("african", "asian", "caucasian"), 1)
    )
    one = replace(one, shape=middle(), expression=shape)
    return measures_of(one, deform(weights_of(one)))


def test_faces_are_drawn_about_the_middle() -> None:
    shapes = [shape(Draw(seed)) for seed in range(600)]
    for name, strength in middle().items():
        stem = name.rpartition("-")[0]
        ends = {n for n in base_mesh().targets if n.startswith(f"{stem}-") and n != name}
        mean = np.mean([s.get(name, 0) - sum(s.get(e, 0) for e in ends) for s in shapes])
        assert abs(mean - strength) < 0.05 or "trans" in name, name


def test_children_have_thinner_brows() -> None:
    young = [looks.brows(Draw(seed), True, 8.0) for seed in range(200)]
    grown = [looks.brows(Draw(seed), True, 30.0) for seed in range(200)]
    assert np.mean([b.thickness for b in grown]) - np.mean([b.thickness for b in young]) > 0.15
    assert np.mean([b.density for b in grown]) - np.mean([b.density for b in young]) > 0.2


def test_a_push_moves_a_target_either_way() -> None:
    shape = push({"nose-scale-horiz-incr": 0.1}, "nose-scale-horiz", -0.3)
    assert shape == {"nose-scale-horiz-decr": 0.2}
    assert push(shape, "nose-scale-horiz", 0.2) == {}
    assert push({}, "l-cheek-bones", 2.0) == {"l-cheek-bones-incr": 0.6, "r-cheek-bones-incr": 0.6}
    assert push({"head-oval": 0.2}, "head-oval", -1) == {}
    with pytest.raises(KeyError):
        push({}, "no-such", 0.1)


# Measures.


def test_measures_of_a_bust_are_those_of_its_base() -> None:
    one = person(4, RenderRecipe())
    bust = build(weights_of(one))
    assert measures(one, bust) == measures_of(one, bust.base)


def test_lips_grow_with_their_targets() -> None:
    for name in ("mouth__upperlip__height", "mouth__lowerlip__height", "mouth__lowerlip__volume"):
        sizes = [measured(**{f"{name}__decr": 0.5}), measured(), measured(**{f"{name}__incr": 0.5})]
        lips = [m["lips"] for m in sizes]
        assert lips[0] < lips[1] < lips[2], name
    assert measured(both_mouthSmile=0.7)["lips_width"] > measured()["lips_width"] + 0.1


def test_noses_grow_with_their_targets() -> None:
    plain = measured()
    for name, key in (
        ("nose__scale__horiz", "nose_width"),
        ("nose__width3", "nose_width"),
        ("nose__flaring", "nose_width"),
        ("nose__scale__vert", "nose_length"),
        ("nose__scale__depth", "nose_depth"),
    ):
        less, more = measured(**{f"{name}__decr": 0.6}), measured(**{f"{name}__incr": 0.6})
        assert less[key] < plain[key] < more[key], name
    african, asian, caucasian = (
        measures_of(Person(), deform(macro_weights(30, 0.5, {n: 1.0})))
        for n in ("african", "asian", "caucasian")
    )
    assert african["nose_width"] > asian["nose_width"] > caucasian["nose_width"]
    assert caucasian["nose_depth"] > african["nose_depth"]


def test_eyes_close_with_a_blink_and_widen_with_fear() -> None:
    shut = [measured(both_eyeBlink=b)["eye_opening"] for b in (-0.16, 0, 0.2, 0.4, 0.6, 0.8, 1)]
    assert all(a > b or b == 0 for a, b in pairwise(shut)) and shut[-1] == 0
    assert 0.1 < shut[1] < 0.2  # of the distance of the eyes, which is some 62 mm
    assert measured(both_eyeWide=1)["eye_opening"] > shut[1] + 0.04
    assert measured(both_eyeSquint=0.5)["eye_opening"] < shut[1]
    assert measured(both_eye__height2__decr=1)["eye_opening"] < shut[1]
    one = measured(eyeBlinkLeft=1)["eye_opening"]
    assert abs(one - shut[1] / 2) < 0.01  # the mean of both


def test_mouths_open_with_the_jaw() -> None:
    gaps = [measured(jawOpen=j)["lips_gap"] for j in (0, 0.05, 0.1, 0.2, 0.4)]
    assert all(a < b for a, b in pairwise(gaps)) and gaps[0] < LIMITS["Mouth_Slightly_Open"]
    assert gaps[1] > LIMITS["Mouth_Slightly_Open"]
    assert measured(both_mouthSmile=0.6)["lips_gap"] < 0.02
    assert measured(jawOpen=0.3)["chin_drop"] > measured()["chin_drop"] + 0.08
    parted = measured(both_mouthUpperUp=0.4, both_mouthLowerDown=0.4)
    assert parted["lips_gap"] > 0.03


def test_openings_are_those_that_are_seen() -> None:
    """Against the picture: the height of the eye and of the dark between the lips in pixels."""
    from sfhq.render.labels.classes import ID, read
    from sfhq.render.scene.model import make

    plain = Person(seed=1, hair=Hair(style="bald"))
    for units in ({"eyeBlink": 0.0}, {"eyeBlink": 0.4}, {"eyeWide": 0.8}):
        shown = {f"{n}{s}": v for n, v in units.items() for s in ("Left", "Right")}
        one = replace(plain, expression={**shown, "jawOpen": 0.25})
        model = make(one)
        classes = read(model, 256).classes
        unit = float(np.ptp([np.nonzero(classes == ID[f"{s}_eye"])[1].mean() for s in "lr"]))
        own = measures(one, model.bust)
        column = np.nonzero(classes == ID["l_eye"])[1]
        middle = int(np.median(column))
        high = (classes[:, middle - 8 : middle + 9] == ID["l_eye"]).sum(0).mean()
        assert abs(high / unit - own["eye_opening"]) < 0.03, units
        inside = classes == ID["mouth"]
        high = inside[:, np.nonzero(inside)[1].min() :][:, 14:-14].sum(0).max()
        assert abs(high / unit - own["lips_gap"]) < 0.04, units


def test_faces_widen_with_fat_and_lengthen_with_their_targets() -> None:
    plain = measured()
    fat = measured(head__fat__incr=1)
    assert fat["jaw_width"] > plain["jaw_width"] + 0.1
    assert fat["cheek_width"] > plain["cheek_width"] and fat["face_width"] > plain["face_width"]
    assert measured(head__round=0.5)["face_width"] > plain["face_width"] + 0.05
    assert measured(head__scale__vert__incr=0.5)["face_height"] > plain["face_height"] + 0.05
    assert measured(both_cheek__bones__incr=1)["cheek_width"] > plain["cheek_width"] + 0.1
    assert measured(both_cheekSquint=1)["cheek_drop"] < plain["cheek_drop"] - 0.05
    assert measured(years=6)["nose_length"] < plain["nose_length"]


def test_attributes_of_the_face_follow_their_measures() -> None:
    """The middle head is none of these; a strong target makes it one."""

    def has(name: str, **units: float) -> bool:
        return bool(attributes(Person(), measured(**units))[name])

    assert not has("Big_Lips") and not has("Big_Nose") and not has("Narrow_Eyes")
    assert has("Big_Lips", mouth__upperlip__height__incr=0.6, mouth__lowerlip__height__incr=0.6)
    wide = {"nose__scale__horiz__incr": 0.6, "nose__scale__vert__incr": 0.6}
    assert has("Big_Nose", **wide, nose__scale__depth__incr=0.6)
    assert has("Pointy_Nose", nose__scale__horiz__decr=0.8, nose__scale__depth__incr=0.9)
    assert has("Narrow_Eyes", both_eyeBlink=0.3) and has("Mouth_Slightly_Open", jawOpen=0.1)
    assert has("High_Cheekbones", both_cheek__bones__incr=1)
    assert not has("High_Cheekbones", both_cheek__bones__decr=1)
    assert has("Oval_Face", head__oval=0.5) and not has("Oval_Face", head__square=1)
    assert has("Oval_Face", head__oval=0.5, jawOpen=0.3)


def test_attributes_follow_the_persons_numbers() -> None:
    own = measured()

    def has(name: str, one: Person) -> bool:
        return bool(attributes(one, own)[name])

    assert has("Blurry", Person(setting=Setting(blur=9.0))) and not has("Blurry", Person())
    assert has("Bald", Person(hair=Hair(receding=0.9))) and has("Bald", Person(hair=Hair("bald")))
    assert not has("Bangs", Person(hair=Hair("bob", bangs=True), wear=Wear(hat="cap")))
    assert not has("Wearing_Necktie", Person(wear=Wear(necktie=True, clothes="tee")))
    assert not has("Wearing_Necklace", Person(wear=Wear(necklace=True, clothes="turtleneck")))
    for style, ears, neck in (("long", False, False), ("bob", False, True), ("tied", True, True)):
        adorned = Person(hair=Hair(style), wear=Wear(earrings=True, necklace=True))
        assert has("Wearing_Earrings", adorned) == ears
        assert has("Wearing_Necklace", adorned) == neck
        tucked = replace(adorned, hair=Hair(style, behind=True))
        assert has("Wearing_Earrings", tucked) and has("Wearing_Necklace", tucked)
    dyed = Person(hair=Hair(dye=(0.1, 0.5, 0.1)))
    assert not any(has(c, dyed) for c in COLOURS)
    for colour, amount in (("Black_Hair", 5.0), ("Brown_Hair", 1.5), ("Blond_Hair", 0.3)):
        assert [c for c in COLOURS if has(c, Person(hair=Hair(eumelanin=amount)))] == [colour]
        assert has("Gray_Hair", Person(hair=Hair(eumelanin=amount, grey=0.7)))
    compared = amounts(Person(), own)
    assert set(compared) == set(LIMITS) and np.isfinite(list(compared.values())).all()
