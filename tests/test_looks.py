"""Colours, attributes, hair length and quality, on pictures whose values are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from reading import face_points
from scipy import ndimage
from test_masks import face_map

from annotate.attribute import COMPONENTS as COLUMNS
from annotate.labels import looks, quality
from annotate.labels.colour import (
    Colour,
    class_colour,
    eroded,
    hair_colour,
    skin_tone,
    typology_angle,
)
from annotate.labels.quality import COMPONENTS, FORMULAS, Seen, overall
from annotate.labels.sides import assign_sides
from sfhq.colour import to_lab
from sfhq.faces.classes import HEAD, ID, among

SIZE = 244


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (3, 3), (40, 31)])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_erosion_is_scipys(size: tuple[int, int], steps: int) -> None:
    mask = ndimage.uniform_filter(np.random.default_rng(steps).random(size), 3) > 0.4
    wanted = ndimage.binary_erosion(mask, iterations=steps) if steps else mask
    np.testing.assert_array_equal(eroded(mask, steps), wanted)


def test_among_is_numpys_isin() -> None:
    mask = np.random.default_rng(0).integers(0, 256, (9, 9), np.uint8)
    mask[0] = np.arange(9)
    np.testing.assert_array_equal(among(mask, HEAD), np.isin(mask, HEAD))


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [  # published values of CIELAB for sRGB under D65
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0.0, 0.0)),
    ],
)
def test_lab_of_known_colours(rgb: tuple[int, ...], lab: tuple[float, ...]) -> None:
    assert to_lab(np.array(rgb)) == pytest.approx(np.array(lab), abs=0.02)


def test_lab_agrees_with_another_implementation() -> None:
    skimage = pytest.importorskip("skimage.color")
    rgb = np.random.default_rng(0).integers(0, 256, (50, 3), dtype=np.uint8)
    assert np.allclose(to_lab(rgb), skimage.rgb2lab(rgb[None])[0], atol=0.02)


def test_typology_angle_and_its_groups() -> None:
    assert typology_angle(Colour(70, 10, 20, 1)) == pytest.approx(45.0)
    assert typology_angle(Colour(50, 10, 20, 1)) == 0.0
    found = [skin_tone(a) for a in (60, 45, 30, 15, -10, -31, -90)]
    assert found == ["very light", "light", "intermediate", "tan", "brown", "dark", "dark"]


def test_shade_and_shine_do_not_change_a_class_colour() -> None:
    classes = np.full((40, 40), ID["skin"], np.uint8)
    photo = np.full((40, 40, 3), (200, 160, 130), np.uint8)
    plain = class_colour(photo, classes, "skin")
    photo[:8], photo[-8:] = 255, 20
    mixed = class_colour(photo, classes, "skin")
    assert plain is not None and mixed is not None
    assert mixed.lightness == plain.lightness and mixed.b == plain.b
    wanted = to_lab(np.array((200, 160, 130)))
    assert (plain.lightness, plain.a, plain.b) == pytest.approx(tuple(wanted))
    assert class_colour(photo, classes, "hair") is None


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((22, 20, 19), "black"),
        ((75, 50, 32), "brown"),
        ((196, 160, 105), "blond"),
        ((150, 70, 35), "red"),
        ((150, 150, 150), "grey"),
        ((40, 90, 200), "dyed"),
    ],
)
def test_hair_colours_by_pixels(rgb: tuple[int, int, int], name: str) -> None:
    classes = np.full((20, 20), ID["hair"], np.uint8)
    found = class_colour(np.full((20, 20, 3), rgb, np.uint8), classes, "hair")
    assert found is not None and hair_colour(found) == name


def test_facecaptions_rule() -> None:
    given = {"A": 0.9, "B": 0.85, "C": 0.1, "D": 0.5, "E": 0.15}
    assert looks.valid_labels(given) == (["A"], []), "above 0.85, not at it"
    assert looks.valid_labels(given, two_sided=True) == (["A"], ["C"])
    assert looks.valid_labels(given, 0.5) == (["A", "B"], [])


def probabilities(**more: float) -> dict[str, float]:
    names = (
        *(name for _, name in (*looks.FACIAL_HAIR, *looks.HATS)),
        *("Sunglasses", "Eyeglasses", "Wearing_Hat", "Headscarf", "Smiling"),
    )
    return {name: more.get(name, 0.1) for name in names}


def test_kinds_of_what_is_worn() -> None:
    assert looks.glasses(probabilities()) == "none"
    assert looks.glasses(probabilities(Eyeglasses=0.9)) == "clear"
    assert looks.glasses(probabilities(Eyeglasses=0.9, Sunglasses=0.8)) == "sunglasses"
    assert looks.hat(probabilities(Cap=0.9)) == "none", "no hat, no cap"
    assert looks.hat(probabilities(Wearing_Hat=0.9, Cap=0.9)) == "cap"
    assert looks.hat(probabilities(Wearing_Hat=0.9)) == "other"
    assert looks.hat(probabilities(Headscarf=0.8, Wearing_Hat=0.7, Cap=0.6)) == "headscarf"
    assert looks.hat(probabilities(Headscarf=0.6, Wearing_Hat=0.7, Cap=0.6)) == "cap"
    assert looks.hat(probabilities(Headscarf=0.5)) == "none", "what was never taught"
    assert looks.facial_hair(probabilities()) == "none"
    assert looks.facial_hair(probabilities(Goatee=0.7, Mustache=0.6)) == "goatee"
    assert looks.likeliest(looks.HATS, probabilities(Beanie=0.4)) == "beanie"


def test_length_of_hair() -> None:
    points = face_points() * SIZE
    classes = np.kron(assign_sides(face_map()), np.ones((4, 4), np.uint8))
    assert classes.shape == (SIZE, SIZE)
    assert looks.hair_length(classes, points) == "short"
    long = classes.copy()
    long[60:240, 10:50] = ID["hair"]
    assert looks.hair_length(long, points) == "long"
    shoulder = classes.copy()
    shoulder[60 : int(points[8, 1]) + 10, 10:50] = ID["hair"]
    assert looks.hair_length(shoulder, points) == "medium"
    bald = np.where(classes == ID["hair"], ID["skin"], classes)
    assert looks.hair_length(bald, points) == "bald"
    hat = np.where(classes == ID["hair"], ID["hat"], classes)
    assert looks.hair_length(hat, points) == "hidden"


def test_openings_of_eyes_and_mouth() -> None:
    points = face_points() * 100
    unit = points[45, 0] - points[36, 0]
    found = looks.Openings.of(points)
    assert found.eyes == pytest.approx(4 / unit) and found.mouth == pytest.approx(1 / unit)
    points[43:45, 1] = points[46:48, 1][::-1]
    assert looks.Openings.of(points).eyes == 0, "of the less open eye"


def seen() -> Seen:
    """A drawn face in even light."""
    classes = np.kron(assign_sides(face_map()), np.ones((4, 4), np.uint8))
    rng = np.random.default_rng(0)
    colours = rng.integers(60, 200, (19, 3))
    colours[ID["skin"]] = (190, 150, 125)
    photo = colours[classes].astype(np.uint8)
    photo = np.clip(photo + rng.integers(-20, 20, photo.shape), 0, 255).astype(np.uint8)
    photo[classes == 0] = 128
    return Seen(photo, classes, face_points() * SIZE, (0, 0, 0), 0.0, 0.0, (0.1, 0.1, 0.1, 0.1))


def darker(s: Seen) -> Seen:
    return replace(s, photo=(s.photo // 12).astype(np.uint8))


def brighter(s: Seen) -> Seen:
    return replace(s, photo=np.clip(s.photo.astype(int) + 120, 0, 255).astype(np.uint8))


def blurred(s: Seen) -> Seen:
    from scipy import ndimage

    return replace(s, photo=ndimage.gaussian_filter(s.photo, (3, 3, 0)))


def half_dark(s: Seen) -> Seen:
    photo = s.photo.copy()
    photo[:, : SIZE // 2] //= 3
    return replace(s, photo=photo)


def wild(s: Seen) -> Seen:
    photo = s.photo.copy()
    behind = s.classes == 0
    photo[behind] = np.random.default_rng(1).integers(0, 256, (behind.sum(), 3))
    return replace(s, photo=photo)


def green(s: Seen) -> Seen:
    return replace(s, photo=np.ascontiguousarray(s.photo[..., [1, 0, 2]]))


def flat(s: Seen) -> Seen:
    return replace(s, photo=np.full_like(s.photo, 128))


def moved(s: Seen, places: slice, down: float) -> Seen:
    points = s.points.copy()
    points[places, 1] += down * SIZE
    return replace(s, points=points)


def covered(s: Seen, rows: slice, name: str) -> Seen:
    classes = s.classes.copy()
    classes[rows, 60:190] = ID[name]
    return replace(s, classes=classes)


CHANGES: dict[str, Callable[[Seen], Seen]] = {
    "background_uniformity": wild,
    "illumination_uniformity": half_dark,
    "luminance_mean": darker,
    "luminance_variance": flat,
    "under_exposure_prevention": darker,
    "over_exposure_prevention": brighter,
    "dynamic_range": flat,
    "sharpness": blurred,
    "natural_colour": green,
    "single_face_present": lambda s: replace(s, second=0.5),
    "eyes_open": lambda s: moved(moved(s, slice(37, 39), 0.02), slice(43, 45), 0.02),
    "mouth_closed": lambda s: moved(s, slice(65, 68), 0.1),
    "eyes_visible": lambda s: covered(s, slice(100, 130), "hair"),
    "mouth_occlusion_prevention": lambda s: covered(s, slice(170, 200), "cloth"),
    "face_occlusion_prevention": lambda s: covered(s, slice(120, 200), "cloth"),
    "inter_eye_distance": lambda s: replace(s, points=s.points / 5),
    "head_size": lambda s: replace(
        s, classes=np.where(np.arange(SIZE)[:, None] < 200, 0, s.classes)
    ),
    "leftward_crop": lambda s: replace(s, margins=(0.02, 0.1, 0.1, 0.1)),
    "rightward_crop": lambda s: replace(s, margins=(0.1, 0.1, 0.02, 0.1)),
    "margin_above": lambda s: replace(s, margins=(0.1, 0.0, 0.1, 0.1)),
    "margin_below": lambda s: moved(s, slice(8, 9), 0.12),
    "pose_yaw": lambda s: replace(s, pose=(40, 0, 0)),
    "pose_pitch": lambda s: replace(s, pose=(0, -40, 0)),
    "pose_roll": lambda s: replace(s, pose=(0, 0, 40)),
    "expression_neutrality": lambda s: replace(s, smiling=0.9),
    "no_head_coverings": lambda s: replace(
        s, classes=np.where(s.classes == ID["hair"], ID["hat"], s.classes).astype(np.uint8)
    ),
}


def test_components_carry_the_standards_names() -> None:
    assert COMPONENTS == COLUMNS and len(COMPONENTS) >= 12
    assert {*CHANGES} == {*FORMULAS}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_what_is_worse_scores_less(name: str) -> None:
    good = quality.quality(seen())
    bad = quality.quality(CHANGES[name](seen()))
    assert 0 <= bad[name] < good[name] - 5, (bad[name], good[name])
    assert good[name] > 40
    assert overall(bad) < overall(good)


def test_pose_scores_follow_the_cosine() -> None:
    found = quality.quality(replace(seen(), pose=(60, 0, 0)))
    assert found["pose_yaw"] == pytest.approx(25) and found["pose_roll"] == 100


def test_the_overall_score_is_the_geometric_mean() -> None:
    assert overall({"a": 100.0, "b": 25.0}) == pytest.approx(50)
    assert overall({"a": 100.0, "b": float("nan")}) == 100
    assert overall({"a": 0.0, "b": 100.0}) == pytest.approx(10), "0 counts as 1"
    assert overall({}) == 0


def test_nothing_is_measured_on_nobody() -> None:
    nobody = replace(
        seen(), classes=np.zeros((SIZE, SIZE), np.uint8), margins=(), photo=seen().photo * 0
    )
    found = quality.quality(nobody)
    assert set(found) == set(COMPONENTS)
    assert np.isnan(found["natural_colour"]) and found["head_size"] == 0
