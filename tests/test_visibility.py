"""Visible triangles against all fragments at once, and the compiled kernel against numpy."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sfhq.render.raster import triangles as raster
from sfhq.render.raster import visibility
from sfhq.render.raster.ribbons import ribbons
from sfhq.render.raster.triangles import Fragments, nearest, rasterize
from sfhq.render.raster.visibility import SOURCE, barycentric, visible
from stylegan2_ops.build import BuildError, Impl, load

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int32]
WIDTH, HEIGHT, GROUPS = 37, 29, 4


def have_kernel() -> bool:
    try:
        load(SOURCE)
    except BuildError:
        return False
    return True


needs_kernel = pytest.mark.skipif(not have_kernel(), reason="no kernel for visibility here")
each_impl = pytest.mark.parametrize("impl", ["ref", pytest.param("native", marks=needs_kernel)])


def scene(seed: int, count: int = 80, spread: float = 0.3) -> tuple[Array, Index, Index]:
    """Triangles on, across and off the grid; some with corners on centres, some of one depth."""
    rng = np.random.default_rng(seed)
    size = np.array([WIDTH, HEIGHT])
    xy = rng.uniform(-0.2, 1.2, (count, 1, 2)) * size
    xy = xy + rng.normal(0, spread, (count, 3, 2)) * size
    xy[::3] = np.round(xy[::3] * 2) / 2
    depth = rng.uniform(0.5, 4, (count, 3, 1))
    depth[::4] = 2
    points = np.concatenate([xy, depth], axis=2).reshape(-1, 3)
    triangles = np.arange(3 * count, dtype=np.int32).reshape(-1, 3)
    return points, triangles, rng.integers(0, GROUPS, count).astype(np.int32)


def held(
    points: Array, triangles: Index, group: Index, width: int = WIDTH, height: int = HEIGHT
) -> tuple[Index, npt.NDArray[np.float32]]:
    """The same from all fragments, held at once."""
    fragments = rasterize(points, triangles, width, height)
    of = group[fragments.triangle]
    found = nearest(fragments, width * height, of, GROUPS)
    if not len(fragments.pixel):
        return found, np.full(found.shape, np.inf, np.float32)
    index = np.where(found < 0, -1, fragments.triangle[found])
    return index, np.where(found < 0, np.float32(np.inf), fragments.depth[found])


def agree(points: Array, triangles: Index, group: Index, impl: Impl, width: int = WIDTH) -> Index:
    """Assert that `visible` finds what is held; the index."""
    index, depth = visible(points, triangles, group, GROUPS, width, HEIGHT, impl=impl)
    wanted, at = held(points, triangles, group, width)
    np.testing.assert_array_equal(index, wanted)
    np.testing.assert_array_equal(depth, at)
    return index


@each_impl
@pytest.mark.parametrize("spread", [0.02, 0.3, 3])
@pytest.mark.parametrize("seed", range(4))
def test_it_sees_the_nearest_of_all_fragments(impl: Impl, spread: float, seed: int) -> None:
    index = agree(*scene(seed, count=300, spread=spread), impl)
    assert index.shape == (GROUPS, WIDTH * HEIGHT)
    assert len(np.unique(index)) > 10


@each_impl
@pytest.mark.parametrize("width", [1, 2, 7, 8, 9, 15, 16, 17, 64])
def test_rows_of_any_width_end_where_they_end(impl: Impl, width: int) -> None:
    points, triangles, group = scene(width, count=150)
    points[:, 0] *= width / WIDTH
    assert (agree(points, triangles, group, impl, width) >= 0).any()


@each_impl
def test_hair_over_a_mesh(impl: Impl) -> None:
    rng = np.random.default_rng(3)
    rows, columns = np.meshgrid(np.linspace(-1, 30, 90), np.linspace(-1, 38, 90), indexing="ij")
    sheet = np.stack([columns, rows, 3 + rng.random((90, 90))], axis=2).reshape(-1, 3)
    at = np.arange(90 * 90).reshape(90, 90)
    a, b, c, d = (q.ravel() for q in (at[:-1, :-1], at[:-1, 1:], at[1:, :-1], at[1:, 1:]))
    mesh = np.concatenate([np.stack([a, b, c], 1), np.stack([b, c, d], 1)])
    steps = rng.normal(0, 3, (300, 9, 2)) + np.array([0, 3])
    xy = rng.uniform(0, 37, (300, 1, 2)) + np.cumsum(steps, axis=1)
    lines = np.concatenate([xy, rng.uniform(2, 4, (300, 9, 1))], axis=2)
    points, strips, _ = ribbons(lines, np.full((300, 9), 0.7))
    triangles = np.concatenate([mesh, strips + len(sheet)]).astype(np.int32)
    group = np.repeat([0, 2], [len(mesh), len(strips)]).astype(np.int32)
    index = agree(np.concatenate([sheet, points]), triangles, group, impl)
    assert (index[0] >= 0).all()
    assert (index[2] >= len(mesh)).mean() > 0.5
    assert (index[[1, 3]] == -1).all()


@each_impl
@pytest.mark.parametrize("reach", [1e2, 1e4, 1e5, 1e7, 1e12])
def test_huge_triangles(impl: Impl, reach: float) -> None:
    """Beyond 8192 samples crossings are rounded, so the order of operations shows."""
    rng = np.random.default_rng(int(reach))
    points, triangles, group = scene(int(reach) % 97, count=60)
    points[:, :2] += rng.normal(0, reach, points[:, :2].shape) * rng.integers(0, 2, (180, 1))
    assert (agree(points, triangles, group, impl) >= 0).any()
    corners = np.array([[-reach, -reach, 1.0], [4 * reach, -reach, 2.0], [-reach, 4 * reach, 3.0]])
    index, depth = visible(corners, triangles[:1], group[:1] * 0, 1, 300, 200, impl=impl)
    if reach >= 1e3:
        assert (index == 0).all()
        assert 1 < depth.min() <= depth.max() < 2


@each_impl
def test_far_edges_through_centres(impl: Impl) -> None:
    """A fused product, or another order, puts some of these crossings a sample farther."""
    rng = np.random.default_rng(11)
    count = 5000
    centre = rng.integers(0, [WIDTH, HEIGHT], (count, 2)) + 0.5
    along = rng.integers(-(2**24), 2**24, (count, 2)) / raster.SUBSAMPLES
    far = rng.integers(1, 2 ** rng.integers(1, 28, (count, 2, 1)))
    ends = [centre - far[:, 0] * along, centre + far[:, 1] * along]
    away = rng.normal(0, 40, centre.shape) * rng.choice([1, 1e5, 1e12], (count, 1))
    xy = np.stack([*ends, centre + away], axis=1)
    points = np.concatenate([xy, rng.uniform(1, 2, (count, 3, 1))], axis=2).reshape(-1, 3)
    triangles = np.arange(3 * count).reshape(-1, 3)
    each = np.arange(count)
    index, depth = visible(points, triangles, each, count, WIDTH, HEIGHT, impl=impl)
    fragments = rasterize(points, triangles, WIDTH, HEIGHT)
    wanted = np.full(depth.shape, np.inf, np.float32)
    wanted[fragments.triangle, fragments.pixel] = fragments.depth
    np.testing.assert_array_equal(depth, wanted)
    np.testing.assert_array_equal(index, np.where(np.isinf(wanted), -1, each[:, None]))


@each_impl
def test_values_that_overflow_are_seen_nowhere_and_break_nothing(impl: Impl) -> None:
    points, triangles, group = scene(5, count=30)
    points[9:18] *= 1e200
    points[18:27] *= 1e306
    with np.errstate(all="ignore"):
        index, _ = visible(points, triangles, group, GROUPS, WIDTH, HEIGHT, impl=impl)
    rest = np.r_[0:3, 9:30]
    wanted, _ = visible(points, triangles[rest], group[rest], GROUPS, WIDTH, HEIGHT, impl="ref")
    kept = (index < 3) | (index > 8)
    np.testing.assert_array_equal(index[kept], np.where(wanted < 0, -1, rest[wanted])[kept])


@each_impl
def test_of_equal_depths_the_lower_triangle_is_seen(impl: Impl) -> None:
    corners = np.array([[1, 1, 2.0], [30, 2, 3.0], [5, 25, 2.5]])
    behind = corners + np.array([0, 0, 1])
    points = np.concatenate([behind, corners])
    triangles = np.array([[0, 1, 2], *[[3, 4, 5]] * 3, [0, 1, 2]], np.int32)
    group = np.array([0, 0, 0, 1, 1], np.int32)
    index = agree(points, triangles, group, impl)
    assert [set(row) for row in index] == [{-1, 1}, {-1, 3}, {-1}, {-1}]


@each_impl
def test_the_order_of_triangles_changes_nothing(impl: Impl) -> None:
    points, triangles, group = scene(4)
    points[:, 2] = np.random.default_rng(4).uniform(0.5, 4, len(points))
    seen = agree(points, triangles, group, impl)
    order = np.random.default_rng(0).permutation(len(triangles)).astype(np.int32)
    again = agree(points, triangles[order], group[order], impl)
    np.testing.assert_array_equal(np.where(again < 0, -1, order[again]), seen)
    turned = agree(points, triangles[:, ::-1], group, impl)
    np.testing.assert_array_equal(turned >= 0, seen >= 0)


@each_impl
@pytest.mark.parametrize(
    "corners",
    [
        pytest.param([[-9, 2, 1], [-1, 2, 1], [-5, 9, 1]], id="left of the grid"),
        pytest.param([[38, 2, 1], [45, 2, 1], [40, 9, 1]], id="right of the grid"),
        pytest.param([[2, -9, 1], [9, -9, 1], [5, 0, 1]], id="above the grid"),
        pytest.param([[2, 30, 1], [9, 30, 1], [5, 40, 1]], id="below the grid"),
        pytest.param([[-20, 10, 1], [10, -20, 1], [-20, -20, 1]], id="its box alone overlaps"),
        pytest.param([[2, 2, 1], [8, 8, 1], [14, 14, 1]], id="on a line"),
        pytest.param([[5.5, 5.5, 1]] * 3, id="a point"),
        pytest.param([[4.6, 4.6, 1], [5.4, 4.6, 1], [5, 5.4, 1]], id="between the centres"),
        pytest.param([[1, 1, 1], [30, 2, 1], [5, 25, 5e-4]], id="a corner too near"),
        pytest.param([[1, 1, -1], [30, 2, -2], [5, 25, -3]], id="behind the camera"),
    ],
)
def test_there_is_nothing_to_see(impl: Impl, corners: list[list[float]]) -> None:
    points = np.array([*corners, [3, 3, 1.0], [9, 3, 1.0], [3, 9, 1.0]], float)
    triangles, group = np.array([[0, 1, 2], [3, 4, 5]], np.int32), np.zeros(2, np.int32)
    assert set(agree(points, triangles, group, impl).flat) == {-1, 1}
    assert set(agree(points, triangles[:1], group[:1], impl).flat) == {-1}


@each_impl
def test_near_is_where_triangles_stop(impl: Impl) -> None:
    points = np.array([[1, 1, 2.0], [30, 2, 2.0], [5, 25, 3.0]])
    one, of = np.array([[0, 1, 2]]), np.array([0])
    index, _ = visible(points, one, of, 1, WIDTH, HEIGHT, near=2, impl=impl)
    assert (index == 0).any()
    index, depth = visible(points, one, of, 1, WIDTH, HEIGHT, near=2.01, impl=impl)
    assert (index == -1).all() and np.isposinf(depth).all()


@each_impl
@pytest.mark.parametrize("points", [0, 4])
def test_no_triangles(impl: Impl, points: int) -> None:
    none = np.zeros(0, np.int32)
    index, depth = visible(np.ones((points, 3)), none.reshape(0, 3), none, 3, 5, 4, impl=impl)
    np.testing.assert_array_equal(index, np.full((3, 20), -1))
    np.testing.assert_array_equal(depth, np.full((3, 20), np.inf))


@each_impl
def test_types_and_layouts_of_arrays_change_nothing(impl: Impl) -> None:
    points, triangles, group = scene(6)
    points = points.astype(np.float32).astype(np.float64)
    index, depth = visible(points, triangles, group, GROUPS, WIDTH, HEIGHT, impl=impl)
    assert index.dtype == np.int32 and depth.dtype == np.float32
    others: tuple[tuple[Any, Any, Any], ...] = (
        (points.astype(np.float32), triangles.astype(np.int64), group.astype(np.uint8)),
        (np.asfortranarray(points), np.asfortranarray(triangles), np.repeat(group, 2)[::2]),
    )
    for other in others:
        again, at = visible(*other, GROUPS, WIDTH, HEIGHT, impl=impl)
        np.testing.assert_array_equal(again, index)
        np.testing.assert_array_equal(at, depth)


@pytest.mark.parametrize("block", [1, 50, 5000])
def test_the_size_of_the_blocks_changes_nothing(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, triangles, group = scene(7)
    index = agree(points, triangles, group, "ref")
    samples = np.arange(WIDTH * HEIGHT)[index[0] >= 0]
    which = index[0, samples]
    weights = barycentric(points, triangles, which, samples, WIDTH)
    monkeypatch.setattr(raster, "BLOCK", block)
    again, _ = visible(points, triangles, group, GROUPS, WIDTH, HEIGHT, impl="ref")
    np.testing.assert_array_equal(again, index)
    again_weights = barycentric(points, triangles, which, samples, WIDTH)
    np.testing.assert_array_equal(again_weights, weights)


def test_a_triangle_covers_fewer_samples_than_is_reckoned() -> None:
    for seed, spread in enumerate([0.005, 0.03, 0.3, 3, 100]):
        points, triangles, _ = scene(seed, count=500, spread=spread)
        fragments = rasterize(points, triangles, WIDTH, HEIGHT)
        counts = np.bincount(fragments.triangle, minlength=500)
        most = visibility._most(points, triangles, WIDTH, HEIGHT)
        assert (counts < most).all()
        assert (most <= WIDTH * HEIGHT + 1).all()
    hair = np.array([[0, 0, 1], [36, 28, 1], [36.5, 28, 1]])
    assert visibility._most(hair, np.array([[0, 1, 2]]), WIDTH, HEIGHT)[0] < 100


def test_memory_does_not_grow_with_the_fragments() -> None:
    rng = np.random.default_rng(0)
    size, count = 1024, 30
    corners = np.array([[-9, -9], [size, -9], [-9, size]])
    xy = corners + rng.uniform(0, 5, (count, 3, 2))
    points = np.concatenate([xy, rng.uniform(1, 2, (count, 3, 1))], axis=2).reshape(-1, 3)
    triangles = np.arange(3 * count).reshape(-1, 3)
    tracemalloc.start()
    try:
        index, _ = visible(points, triangles, np.arange(count) % 7, 7, size, size, impl="ref")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (index >= 0).mean() > 0.45
    assert peak < 200e6  # fragments alone would be 24 * 15e6


def fail(source: object, *, threaded: bool = True) -> None:
    raise BuildError("no C++ compiler")


def test_without_a_compiler_auto_is_ref_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visibility, "load", fail)
    agree(*scene(8), "auto")
    with pytest.raises(BuildError, match="no C"):
        agree(*scene(8), "native")


@needs_kernel
def test_auto_is_native_where_there_is_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visibility, "_by_blocks", fail)
    points, triangles, group = scene(8)
    visible(points, triangles, group, GROUPS, WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"impl": "fast"}, r"impl is 'fast'; wanted one of \('auto', 'ref', 'native'\)"),
        ({"points": np.array([[0, 0, 1], [np.nan, 1, 1]])}, r"points\[1\] = \[nan, 1.0, 1.0\]"),
        ({"points": np.array([[0, 0, np.inf], [0, 1, 1]])}, "1 of 2 are not finite"),
        ({"points": np.zeros((4, 2))}, r"points have shape \(4, 2\); wanted \(V, 3\)"),
        ({"triangles": np.zeros((4, 2), int)}, r"triangles have shape \(4, 2\)"),
        ({"triangles": np.zeros((4, 3))}, "triangles are float64; wanted integers"),
        ({"triangles": np.array([[0, 1, 4]])}, "have indices from 0 to 4; wanted 0 to 3"),
        ({"triangles": np.array([[0, 1, -1]])}, "have indices from -1 to 1; wanted 0 to 3"),
        ({"group": np.array([0, 1])}, r"group has shape \(2,\); wanted \(1,\)"),
        ({"group": np.array([2])}, "group goes from 2 to 2; wanted 0 to 1"),
        ({"group": np.array([-1])}, "group goes from -1 to -1; wanted 0 to 1"),
        ({"width": 0}, "the grid is 0 x 4"),
        ({"width": 2**30}, "the grid is 1073741824 x 4"),
        ({"near": 0.0}, "near is 0.0; wanted more than 0"),
        ({"near": float("nan")}, "near is nan"),
    ],
)
def test_visible_refuses(change: dict[str, object], message: str) -> None:
    given: dict[str, Any] = {
        "points": np.ones((4, 3)),
        "triangles": np.array([[0, 1, 2]]),
        "group": np.array([0]),
        "groups": 2,
        "width": 4,
        "height": 4,
    }
    with pytest.raises(ValueError, match=message):
        visible(**given | change)


def everywhere(fragments: Fragments, points: Array, triangles: Index) -> Any:
    return barycentric(points, triangles, fragments.triangle, fragments.pixel, WIDTH)


@pytest.mark.parametrize("spread", [0.05, 0.3, 3])
def test_weights_are_those_of_the_fragments(spread: float) -> None:
    points, triangles, _ = scene(9, count=300, spread=spread)
    fragments = rasterize(points, triangles, WIDTH, HEIGHT)
    weights = everywhere(fragments, points, triangles)
    assert weights.shape == fragments.bary.shape
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, fragments.bary, atol=2e-6)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=2e-7)
    assert weights.min() >= 0
    depth = (weights * points[triangles[fragments.triangle], 2]).sum(axis=1)
    np.testing.assert_allclose(depth, fragments.depth, rtol=2e-6)


def test_weights_lead_back_to_the_centre() -> None:
    points, triangles, _ = scene(10, count=300)
    points[:, :2] = np.rint(points[:, :2] * raster.SUBSAMPLES) / raster.SUBSAMPLES
    fragments = rasterize(points, triangles, WIDTH, HEIGHT)
    corners = points[triangles[fragments.triangle]]  # (F, 3, 3)
    # A weight times its corner's depth, over the depth, is the weight in the image.
    flat = everywhere(fragments, points, triangles) * corners[..., 2]
    flat /= flat.sum(axis=1, keepdims=True)
    place = np.einsum("fk,fkc->fc", flat, corners[..., :2])
    np.testing.assert_allclose(place[:, 0], fragments.pixel % WIDTH + 0.5, atol=5e-5)
    np.testing.assert_allclose(place[:, 1], fragments.pixel // WIDTH + 0.5, atol=5e-5)


def test_outside_the_triangle_weights_stay_in_range() -> None:
    points = np.array([[2, 2, 1.0], [9, 2, 2.0], [2, 9, 4.0]])
    samples = np.arange(WIDTH * HEIGHT)
    weights = barycentric(points, np.array([[0, 1, 2]]), samples * 0, samples, WIDTH)
    assert weights.min() == 0 and weights.max() == 1
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=2e-7)


def test_no_samples_have_no_weights() -> None:
    none = np.zeros(0, np.int32)
    assert barycentric(np.ones((3, 3)), np.array([[0, 1, 2]]), none, none, 5).shape == (0, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": np.full((3, 3), np.nan)}, "3 of 3 are not finite"),
        ({"triangles": np.array([[0, 1, 3]])}, "have indices from 0 to 3"),
        ({"which": np.array([0, 0])}, r"which has shape \(2,\) and sample \(1,\); wanted \(N,\)"),
        ({"which": np.array([1])}, "which goes from 1 to 1; wanted 0 to 0"),
        ({"which": np.array([-1])}, "which goes from -1 to -1"),
        ({"sample": np.array([-2])}, "sample goes down to -2"),
        ({"width": 0}, "width is 0"),
        ({"points": np.ones((3, 3))}, "triangle 0 covers no sample: it has no area"),
        ({"points": np.diag([9.0, 9.0, 1.0])}, "a corner that is not in front of the camera"),
    ],
)
def test_barycentric_refuses(change: dict[str, object], message: str) -> None:
    given: dict[str, Any] = {
        "points": np.array([[0, 0, 1.0], [9, 0, 1.0], [0, 9, 1.0]]),
        "triangles": np.array([[0, 1, 2]]),
        "which": np.array([0]),
        "sample": np.array([7]),
        "width": 5,
    }
    with pytest.raises(ValueError, match=message):
        barycentric(**given | change)
