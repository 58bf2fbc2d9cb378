"""Landmarks of rendered people: places on the mesh, visibility, hairline and contour."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pytest

from sfhq.render.labels import classes
from sfhq.render.labels import landmarks as lm
from sfhq.render.labels.classes import ID, Labels
from sfhq.render.labels.landmarks import HIDDEN, MISSING, VISIBLE, mirror
from sfhq.render.person import Hair, Person, View, Wear

Floats = npt.NDArray[np.float32]
needs_heads = pytest.mark.skipif(
    importlib.util.find_spec("anny") is None, reason="anny is not installed"
)
BALD = Person(hair=Hair(style="bald"), wear=Wear(clothes="bare"))
MIDDLE = (8, 27, 28, 29, 30, 33, 51, 57, 62, 66)
LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))


def blink(strength: float) -> dict[str, float]:
    return {"eyeBlinkLeft": strength, "eyeBlinkRight": strength}


def seen(person: Person, size: int = 128) -> tuple[Floats, Labels]:
    from sfhq.render.scene import model

    made = model.make(person)
    found = classes.read(made, size)
    return lm.landmarks(made, found), found


@lru_cache(maxsize=4)
def bald(yaw: float = 0.0, size: int = 128) -> tuple[Floats, Labels]:
    return seen(replace(BALD, view=View(yaw=yaw, body_yaw=yaw)), size)


def surface(**expression: float) -> Floats:
    """(80, 3) places on the mean adult's face, not posed."""
    from sfhq.render.head.assets import ANCESTRIES
    from sfhq.render.head.bust import build, macro_weights

    weights = macro_weights(25, 0.5, dict.fromkeys(ANCESTRIES, 1.0))
    return build({**weights, **expression}).points[lm.vertices()]


def test_the_mirror_of_a_mirror_is_the_point() -> None:
    both = np.array([mirror(i) for i in range(lm.COUNT)])
    assert np.array_equal(both[both], np.arange(lm.COUNT))
    assert np.flatnonzero(both == np.arange(lm.COUNT)).tolist() == [*MIDDLE, 84, 99]
    pairs = {0: 16, 17: 26, 31: 35, 36: 45, 41: 46, 48: 54, 59: 55, 60: 64, 67: 65, 69: 71, 79: 76}
    assert all(mirror(i) == k for i, k in pairs.items())


def test_each_place_stands_for_one_side() -> None:
    assert all(x < 0 for i, (x, _, _) in lm.PLACES.items() if i not in MIDDLE)
    assert all(lm.PLACES[i][0] == 0 for i in MIDDLE)
    assert all((i in lm.PLACES) != (mirror(i) in lm.PLACES) for i in range(80) if i not in MIDDLE)


@needs_heads
def test_vertices_are_distinct_where_they_were_looked_for_and_mirrored() -> None:
    places = surface()
    assert len(set(lm.vertices().tolist())) == lm.FIXED
    other = places[[mirror(i) for i in range(lm.FIXED)]] * [-1, 1, 1]
    assert np.abs(places - other).max() < 0.02
    assert np.abs(places[list(MIDDLE), 0]).max() < 1e-4
    for i, place in lm.PLACES.items():
        assert np.linalg.norm(places[i] - place) < 0.01, i


@needs_heads
def test_the_jaw_takes_the_lower_lip_with_it() -> None:
    moved = np.linalg.norm(surface(jawOpen=0.3) - surface(), axis=1)
    assert moved[[65, 66, 67, 77, 78, 57, 8]].min() > 0.05
    assert moved[[61, 62, 63, 73, 74, 51, 33]].max() < 0.02


@needs_heads
def test_the_lids_meet_and_do_not_pass_each_other() -> None:
    gaps = {}
    for strength in (0.0, 0.5, 1.0):
        points, _ = seen(replace(BALD, expression=blink(strength)))
        gaps[strength] = np.array([points[low, 1] - points[up, 1] for up, low in LIDS])
    assert gaps[0.0].min() > 2
    assert (gaps[0.5] < 0.8 * gaps[0.0]).all()
    assert np.abs(gaps[1.0]).max() < 0.5


@needs_heads
def test_points_lie_where_the_classes_end() -> None:
    points, found = bald(0.0, 256)
    y, x = np.nonzero(found.classes == ID["r_eye"])
    assert (x.min() - 0.5, x.max() + 0.5) == pytest.approx(points[[36, 39], 0], abs=1)
    rows = np.flatnonzero(found.classes[:, round(float(points[51, 0]))] == ID["u_lip"])
    assert rows.min() - 0.5 == pytest.approx(points[51, 1], abs=1)
    rows = np.flatnonzero(found.classes[:, round(float(points[57, 0]))] == ID["l_lip"])
    assert rows.max() + 0.5 == pytest.approx(points[57, 1], abs=1)
    for i in range(17, 27):
        x, y = np.round(points[i, :2]).astype(int)
        near = found.classes[y - 2 : y + 3, x - 2 : x + 3]
        assert (near == ID["r_brow" if i < 22 else "l_brow"]).any(), i


@needs_heads
def test_points_are_finite_and_flagged() -> None:
    points, _ = bald()
    assert points.shape == (lm.COUNT, 3) and points.dtype == np.float32
    assert np.isfinite(points).all() and set(points[:, 2].tolist()) <= {0.0, 1.0, 2.0}
    assert (points[17:80, 2] == VISIBLE).all()


@needs_heads
def test_a_turned_head_hides_its_far_side() -> None:
    points, _ = bald(40.0)
    assert (points[[10, 11, 12, 13, 14, 70, 71], 2] == HIDDEN).all()
    assert (points[[2, 3, 4, 5, 6, 36, 39, 68, 69], 2] == VISIBLE).all()
    other, _ = bald(-40.0)
    assert (other[[2, 3, 4, 5, 6, 68, 69], 2] == HIDDEN).all()
    assert (other[[10, 11, 12, 13, 14, 42, 45, 70, 71], 2] == VISIBLE).all()


@needs_heads
@pytest.mark.parametrize(("kind", "flag"), [("sunglasses", HIDDEN), ("round", VISIBLE)])
def test_only_dark_glasses_hide_the_eyes(kind: str, flag: int) -> None:
    points, _ = seen(replace(BALD, wear=Wear(glasses=kind)))
    assert (points[36:48, 2] == flag).all()
    assert (points[48:68, 2] == VISIBLE).all()


@needs_heads
def test_what_is_outside_the_picture_is_missing() -> None:
    points, _ = seen(replace(BALD, view=View(shift=(0.42, 0.0))))
    assert (points[[14, 15, 16], 2] == MISSING).all()
    assert points[36, 2] == VISIBLE
    points, _ = seen(replace(BALD, view=View(shift=(0.9, 0.0))))
    assert np.isfinite(points).all() and (points[80:, 2] == MISSING).all()


@needs_heads
def test_a_bald_skull_is_the_hairline() -> None:
    points, found = bald()
    assert (points[80:89, 2] == HIDDEN).all()
    for x, y in np.round(points[80:89, :2]).astype(int):
        near = found.classes[y - 1 : y + 2, x - 1 : x + 2]
        assert (near == 0).any() and (near == ID["skin"]).any()


@needs_heads
@pytest.mark.parametrize(
    ("person", "flag"),
    [
        (Person(hair=Hair(style="swept-back", length=0.8)), VISIBLE),
        (Person(hair=Hair(style="bald"), wear=Wear(hat="beanie")), HIDDEN),
    ],
    ids=["hair", "hat"],
)
def test_the_hairline_is_inside_the_contour(person: Person, flag: int) -> None:
    points, _ = seen(person)
    assert (points[81:88, 2] == flag).all()
    eyes = np.array([points[36:42, :2].mean(0), points[42:48, :2].mean(0)])
    down = np.array([0, 0.25 * np.linalg.norm(points[36, :2] - points[45, :2])])
    centre = eyes.mean(0) + down
    far = np.linalg.norm(points[80:, :2] - centre, axis=1)
    around = np.interp(-lm.INNER, -lm.OUTER, far[9:])
    assert (far[:9] < around + 1).all()
    assert (far[1:8] < 0.9 * around[1:8]).all()
    assert (points[81:88, 1] < points[17:27, 1].min()).all()


@needs_heads
def test_landmarks_scale_with_the_picture() -> None:
    small, _ = bald(0.0, 128)
    large, _ = bald(0.0, 256)
    scaled = (small[:, :2] + 0.5) * 2 - 0.5
    assert np.abs(scaled[:80] - large[:80, :2]).max() < 0.01
    assert np.abs(scaled[80:] - large[80:, :2]).max() < 1.5
    assert (small[:, 2] == large[:, 2]).mean() > 0.95


def drawing(roll: float, hat: str = "hair", fringe: float = 60.0) -> tuple[Floats, Labels]:
    """A disc of a face with hair outside a radius, both about the rays' origin, tilted."""
    size, k = 256, 4
    middle = np.array([127.3, 131.8])
    turn = np.radians(roll)
    level = np.array([np.cos(turn), np.sin(turn)])
    down = np.array([-level[1], level[0]])
    grid = (np.mgrid[: size * k, : size * k] + 0.5) / k - 0.5
    from_middle = np.stack([grid[1] - middle[0], grid[0] - middle[1]], -1)
    far, high = np.linalg.norm(from_middle, axis=-1), -from_middle @ down
    samples = np.where(far < 80, ID["skin"], 0)
    samples[(far < 80) & (far > fringe) & (high > 5)] = ID[hat]
    samples[(far < 80) & (np.abs(high - 45) < 0.3)] = ID["hair"]  # a strand across the forehead
    points = np.zeros((lm.COUNT, 3), np.float32)
    for first, side in ((36, -1), (42, 1)):
        points[first : first + 6, :2] = middle + 30 * side * level - 20 * down
    points[36, :2] -= 10 * level
    points[45, :2] += 10 * level
    for i in range(17, 27):
        points[i, :2] = middle - 28 * down + (i - 21.5) * 7 * level
    blank = np.zeros((size, size), np.float32)
    tiny = blank.astype(np.uint8)
    found = Labels(
        classes=tiny,
        shares=blank,
        bare=tiny,
        covers=tiny,
        solid=blank,
        hairy=blank,
        albedo=blank,
        normals=blank,
        depth=np.full((size * k, size * k), np.inf, np.float32),
        samples=samples.astype(np.uint8),
    )
    return points, found


def polar(points: Floats, roll: float) -> tuple[Floats, Floats]:
    turn = np.radians(roll)
    level = np.array([np.cos(turn), np.sin(turn)])
    from_middle = points[:, :2] - np.array([127.3, 131.8])
    x, y = from_middle @ level, -from_middle @ np.array([-level[1], level[0]])
    angle = (np.degrees(np.arctan2(y, x)) + 90) % 360 - 90
    return np.hypot(x, y).astype(np.float32), angle.astype(np.float32)


@pytest.mark.parametrize("roll", [0.0, 25.0])
def test_rays_find_the_circles_of_a_drawing(roll: float) -> None:
    inner, outer = lm._rays(*drawing(roll))
    far, angle = polar(inner, roll)
    assert far == pytest.approx(np.full(9, 60), abs=0.4)
    assert angle == pytest.approx(lm.INNER, abs=0.5)
    far, angle = polar(outer, roll)
    assert far == pytest.approx(np.full(21, 80), abs=0.4)
    assert angle == pytest.approx(lm.OUTER, abs=0.5)
    assert (inner[:, 2] == VISIBLE).all() and (outer[:, 2] == VISIBLE).all()


def test_a_hat_and_a_fringe_hide_the_hairline() -> None:
    inner, _ = lm._rays(*drawing(0.0, "hat"))
    assert (inner[:, 2] == HIDDEN).all()
    inner, _ = lm._rays(*drawing(0.0, fringe=20.0))
    assert (inner[:, 2] == HIDDEN).all()
    assert polar(inner, 0)[0] == pytest.approx(np.full(9, 20), abs=0.4)


def test_without_hair_the_hairline_is_the_contour() -> None:
    inner, _ = lm._rays(*drawing(0.0, "skin"))
    assert (inner[:, 2] == HIDDEN).all()
    assert polar(inner, 0)[0] == pytest.approx(np.full(9, 80), abs=0.4)


def test_a_contour_beyond_the_picture_is_flagged() -> None:
    points, found = drawing(0.0)
    found.samples[: 256 * 2] = ID["hair"]
    _, outer = lm._rays(points, found)
    top = slice(6, 15)
    assert (outer[top, 2] == HIDDEN).all()
    assert (outer[[0, 1, 19, 20], 2] == VISIBLE).all()
