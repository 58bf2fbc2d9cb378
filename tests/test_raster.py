"""The rasteriser against integers, ray casting and areas, each worked out another way."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sfhq.render.raster import triangles as raster
from sfhq.render.raster.ribbons import ribbons
from sfhq.render.raster.triangles import Fragments, coverage, nearest, rasterize

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int32]
WIDTH, HEIGHT = 37, 29
SUB = raster.SUBSAMPLES


def inside(corners: Array, width: int, height: int) -> npt.NDArray[np.bool_]:
    """The samples of one triangle by edge functions in Python's integers, (height, width)."""
    xy = [[round(float(v) * SUB) for v in corner[:2]] for corner in corners]
    (ax, ay), (bx, by), (cx, cy) = xy
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if area == 0:
        return np.zeros((height, width), bool)
    if area < 0:
        xy.reverse()  # clockwise on the screen, as y points down
    covered = np.ones((height, width), bool)
    for (px, py), (qx, qy) in zip(xy, xy[1:] + xy[:1], strict=True):
        top_left = qy < py or (qy == py and qx > px)
        for row in range(height):
            for column in range(width):
                x, y = column * SUB + SUB // 2, row * SUB + SUB // 2
                side = (qx - px) * (y - py) - (qy - py) * (x - px)
                covered[row, column] &= side > 0 or (side == 0 and top_left)
    return covered


def scene(seed: int, count: int = 25, spread: float = 0.3) -> tuple[Array, Index]:
    """Triangles on, across and off the grid; some with corners on sample centres."""
    rng = np.random.default_rng(seed)
    size = np.array([WIDTH, HEIGHT])
    middle = rng.uniform(-0.2, 1.2, (count, 1, 2)) * size
    xy = middle + rng.normal(0, spread, (count, 3, 2)) * size
    xy[::3] = np.round(xy[::3] * 2) / 2
    depth = rng.uniform(0.5, 4, (count, 3, 1))
    points = np.concatenate([xy, depth], axis=2).reshape(-1, 3)
    return points, np.arange(3 * count, dtype=np.int32).reshape(-1, 3)


def counts(fragments: Fragments, width: int = WIDTH, height: int = HEIGHT) -> Index:
    """How many fragments each sample has."""
    found = np.bincount(fragments.pixel, minlength=width * height)
    return found.reshape(height, width).astype(np.int32)


def cast(points: Array, triangle: Index, pixel: int, focal: float) -> tuple[float, Array]:
    """Depth and weights where the ray through a sample meets the triangle in space."""
    x, y, z = points[triangle].T
    corners = np.stack([(x - WIDTH / 2) * z / focal, (y - HEIGHT / 2) * z / focal, z])
    row, column = divmod(pixel, WIDTH)
    ray = [(column + 0.5 - WIDTH / 2) / focal, (row + 0.5 - HEIGHT / 2) / focal, 1.0]
    weights = np.linalg.solve(corners, ray)  # of a point of the triangle's plane, up to scale
    return float(1 / weights.sum()), weights / weights.sum()


@pytest.mark.parametrize("seed", range(4))
def test_the_samples_are_those_of_integer_edge_functions(seed: int) -> None:
    points, triangles = scene(seed)
    fragments = rasterize(points, triangles, WIDTH, HEIGHT)
    for index, triangle in enumerate(triangles):
        found = np.flatnonzero(inside(points[triangle], WIDTH, HEIGHT))
        np.testing.assert_array_equal(fragments.pixel[fragments.triangle == index], found)
    assert (np.diff(fragments.triangle) >= 0).all()
    assert len(np.unique(fragments.triangle)) > 10


@pytest.mark.parametrize("seed", range(3))
def test_corners_on_centres_and_lines_follow_the_top_left_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    xy = rng.integers(-2, 14, (60, 3, 2)) / 2
    points = np.concatenate([xy, np.ones((60, 3, 1))], axis=2).reshape(-1, 3)
    triangles = np.arange(180).reshape(-1, 3)
    fragments = rasterize(points, triangles, 6, 5)
    assert fragments.bary.min() == 0  # on an edge, not beyond it
    for index, triangle in enumerate(triangles):
        found = np.flatnonzero(inside(points[triangle], 6, 5))
        np.testing.assert_array_equal(fragments.pixel[fragments.triangle == index], found)


def test_a_square_owns_its_top_and_left_edges() -> None:
    points = np.array([[1.5, 1.5, 1], [4.5, 1.5, 1], [4.5, 3.5, 1], [1.5, 3.5, 1]])
    found = counts(rasterize(points, np.array([[0, 1, 2], [0, 2, 3]]), 6, 5), 6, 5)
    expected = np.zeros((5, 6), np.int32)
    expected[1:3, 1:4] = 1
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", range(3))
def test_depth_and_weights_are_those_of_the_ray(seed: int) -> None:
    points, triangles = scene(seed + 10)
    points[:, :2] = np.rint(points[:, :2] * SUB) / SUB
    fragments = rasterize(points, triangles, WIDTH, HEIGHT)
    assert len(fragments.pixel) > 500
    np.testing.assert_allclose(fragments.bary.sum(axis=1), 1, atol=1e-6)
    assert fragments.bary.min() >= 0
    for index in range(0, len(fragments.pixel), 7):
        triangle = triangles[fragments.triangle[index]]
        depth, weights = cast(points, triangle, int(fragments.pixel[index]), focal=50)
        assert fragments.depth[index] == pytest.approx(depth, rel=2e-6)
        np.testing.assert_allclose(fragments.bary[index], weights, atol=3e-6)


def test_a_long_span_keeps_its_precision() -> None:
    points = np.array([[-3, -1, 1.0], [5000, 1, 9.0], [-3, 3.5, 2.0]])
    fragments = rasterize(points, np.array([[0, 1, 2]]), 4096, 2)
    screen = fragments.bary * points[:, 2] / fragments.depth[:, None]
    assert len(screen) > 4000
    np.testing.assert_allclose(screen @ points[:, 0], fragments.pixel % 4096 + 0.5, atol=5e-3)
    np.testing.assert_allclose(screen @ points[:, 1], fragments.pixel // 4096 + 0.5, atol=5e-6)


@pytest.mark.parametrize("hub", [(18.5, 14.5), (18.2, 13.9), (20.0, 14.5)])
@pytest.mark.parametrize("rim", ["halves", "anywhere"])
def test_a_fan_covers_its_union_exactly_once(hub: tuple[float, float], rim: str) -> None:
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    ring = np.array([18.5, 14.5]) + 13 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    if rim == "halves":
        ring = np.round(ring * 2) / 2
    points = np.column_stack([np.concatenate([[hub], ring]), np.ones(41)])
    around = np.arange(40)
    fan = np.stack([0 * around, 1 + around, 1 + (around + 1) % 40], axis=1)
    found = counts(rasterize(points, fan, WIDTH, HEIGHT))
    assert found.max() == 1
    corner = np.stack([1 + 0 * around[1:-1], 1 + around[1:-1], 2 + around[1:-1]], axis=1)
    np.testing.assert_array_equal(found, counts(rasterize(points, corner, WIDTH, HEIGHT)))
    union = sum(inside(points[t], WIDTH, HEIGHT).astype(np.int32) for t in corner)
    np.testing.assert_array_equal(found, union)


def test_a_crumpled_sheet_covers_the_grid_exactly_once() -> None:
    rng = np.random.default_rng(5)
    rows, columns = 120, 150  # much finer than the samples
    y, x = np.meshgrid(np.linspace(-1, 30, rows), np.linspace(-1, 38, columns), indexing="ij")
    jitter = rng.uniform(-0.05, 0.05, (2, rows, columns))
    points = np.stack([x + jitter[0], y + jitter[1], 1 + rng.random((rows, columns))], axis=2)
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (
        q.ravel() for q in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:])
    )
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([b, c, d], 1)])
    assert (counts(rasterize(points.reshape(-1, 3), triangles, WIDTH, HEIGHT)) == 1).all()
    as_float32 = points.reshape(-1, 3).astype(np.float32)
    assert (counts(rasterize(as_float32, triangles, WIDTH, HEIGHT)) == 1).all()


def test_needles_keep_their_weights_and_depths_in_range() -> None:
    rng = np.random.default_rng(6)
    ends = rng.uniform(-10, 40, (3000, 2, 2))
    third = ends.mean(axis=1, keepdims=True) + rng.normal(0, 1e-2, (3000, 1, 2))
    depth = rng.uniform(0.01, 50, (3000, 3, 1))
    points = np.concatenate([np.concatenate([ends, third], axis=1), depth], axis=2)
    triangles = np.arange(9000).reshape(-1, 3)
    fragments = rasterize(points.reshape(-1, 3), triangles, WIDTH, HEIGHT)
    assert len(fragments.pixel) > 100
    assert fragments.bary.min() >= 0
    np.testing.assert_allclose(fragments.bary.sum(axis=1), 1, atol=1e-6)
    corners = depth[fragments.triangle, :, 0]
    assert (fragments.depth >= corners.min(axis=1) * (1 - 1e-6)).all()
    assert (fragments.depth <= corners.max(axis=1) * (1 + 1e-6)).all()


@pytest.mark.parametrize("reach", [1e3, 1e5, 1e7])
def test_a_huge_triangle_covers_everything(reach: float) -> None:
    points = np.array([[-reach, -reach, 1.0], [4 * reach, -reach, 2.0], [-reach, 4 * reach, 3.0]])
    fragments = rasterize(points, np.array([[0, 1, 2]]), 300, 200)
    np.testing.assert_array_equal(fragments.pixel, np.arange(300 * 200))
    np.testing.assert_allclose(fragments.bary.sum(axis=1), 1, atol=1e-6)
    assert 1 < fragments.depth.min() <= fragments.depth.max() < 2


@pytest.mark.parametrize(
    "corners",
    [
        pytest.param([[-9, 2, 1], [-1, 2, 1], [-5, 9, 1]], id="left of the grid"),
        pytest.param([[38, 2, 1], [45, 2, 1], [40, 9, 1]], id="right of the grid"),
        pytest.param([[2, -9, 1], [9, -9, 1], [5, 0, 1]], id="above the grid"),
        pytest.param([[2, 30, 1], [9, 30, 1], [5, 40, 1]], id="below the grid"),
        pytest.param([[-20, 10, 1], [10, -20, 1], [-20, -20, 1]], id="its box alone overlaps"),
        pytest.param([[2, 2, 1], [8, 8, 1], [14, 14, 1]], id="on a line"),
        pytest.param([[2.5, 2.5, 1], [2.5, 9.5, 1], [2.5, 5.5, 1]], id="on a column of centres"),
        pytest.param([[2, 2.5, 1], [8, 2.5, 1], [4, 2.5, 1]], id="on a row of centres"),
        pytest.param([[5.5, 5.5, 1]] * 3, id="a point"),
        pytest.param([[4.6, 4.6, 1], [5.4, 4.6, 1], [5, 5.4, 1]], id="between the centres"),
        pytest.param([[1, 1, 1], [30, 2, 1], [5, 25, 5e-4]], id="a corner too near"),
        pytest.param([[1, 1, -1], [30, 2, -2], [5, 25, -3]], id="behind the camera"),
        pytest.param([[1, 1, 1], [30, 2, 0], [5, 25, 1]], id="a corner at the camera"),
    ],
)
def test_nothing_to_see_gives_no_fragments(corners: list[list[float]]) -> None:
    seen = [[3, 3, 1.0], [9, 3, 1.0], [3, 9, 1.0]]
    points = np.array([*corners, *seen], float)
    alone = rasterize(points, np.array([[0, 1, 2]]), WIDTH, HEIGHT)
    assert [len(a) for a in (alone.pixel, alone.depth, alone.triangle, alone.bary)] == [0] * 4
    beside = rasterize(points, np.array([[0, 1, 2], [3, 4, 5]]), WIDTH, HEIGHT)
    assert set(beside.triangle) == {1}


def test_near_is_where_triangles_stop() -> None:
    points = np.array([[1, 1, 2.0], [30, 2, 2.0], [5, 25, 3.0]])
    one = np.array([[0, 1, 2]])
    assert len(rasterize(points, one, WIDTH, HEIGHT, near=2).pixel) > 0
    assert len(rasterize(points, one, WIDTH, HEIGHT, near=2.01).pixel) == 0


@pytest.mark.parametrize("points", [0, 4])
def test_no_triangles_give_no_fragments(points: int) -> None:
    fragments = rasterize(np.ones((points, 3)), np.zeros((0, 3), np.int64), WIDTH, HEIGHT)
    assert fragments.pixel.shape == fragments.depth.shape == fragments.triangle.shape == (0,)
    assert fragments.bary.shape == (0, 3)
    np.testing.assert_array_equal(nearest(fragments, 6), np.full((1, 6), -1))


def test_types_are_the_promised_ones() -> None:
    points, triangles = scene(1)
    fragments = rasterize(points, triangles, WIDTH, HEIGHT)
    assert fragments.pixel.dtype == fragments.triangle.dtype == np.int32
    assert fragments.depth.dtype == fragments.bary.dtype == np.float32
    assert nearest(fragments, WIDTH * HEIGHT).dtype == np.int32


@pytest.mark.parametrize("block", [1, 10, 1000])
def test_the_size_of_the_blocks_changes_nothing(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, triangles = scene(2)
    ids = np.random.default_rng(2).integers(0, 3, (HEIGHT * 2, WIDTH * 2))
    fragments = rasterize(points, triangles, WIDTH, HEIGHT)
    visible, shares = nearest(fragments, WIDTH * HEIGHT), coverage(ids, 3, 2)
    monkeypatch.setattr(raster, "BLOCK", block)
    again = rasterize(points, triangles, WIDTH, HEIGHT)
    for name in ("pixel", "depth", "triangle", "bary"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fragments, name))
    np.testing.assert_array_equal(nearest(fragments, WIDTH * HEIGHT), visible)
    for found, expected in zip(coverage(ids, 3, 2), shares, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": np.array([[0, 0, 1], [np.nan, 1, 1]])}, r"points\[1\] = \[nan, 1.0, 1.0\]"),
        ({"points": np.array([[0, 0, np.inf], [0, 1, 1]])}, r"1 of 2 are not finite"),
        ({"points": np.zeros((4, 2))}, r"points have shape \(4, 2\)"),
        ({"triangles": np.zeros((4, 2), int)}, r"triangles have shape \(4, 2\)"),
        ({"triangles": np.zeros((4, 3))}, "triangles are float64; wanted integers"),
        ({"triangles": np.array([[0, 1, 4]])}, "have indices from 0 to 4; wanted 0 to 3"),
        ({"triangles": np.array([[0, 1, -1]])}, "have indices from -1 to 1; wanted 0 to 3"),
        ({"width": 0}, "the grid is 0 x 4"),
        ({"width": 2**30}, "the grid is 1073741824 x 4"),
        ({"near": 0.0}, "near is 0.0"),
        ({"near": float("nan")}, "near is nan"),
    ],
)
def test_rasterize_refuses(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {
        "points": np.ones((4, 3)),
        "triangles": np.array([[0, 1, 2]]),
        "width": 4,
        "height": 4,
    }
    with pytest.raises(ValueError, match=message):
        rasterize(**given | change)  # type: ignore[arg-type]


def visible(fragments: Fragments, index: Index) -> Index:
    """Triangles seen, -1 where none is."""
    return np.where(index < 0, -1, fragments.triangle[index])


def test_nearest_is_the_least_depth_of_each_sample_and_group() -> None:
    points, triangles = scene(3, count=60)
    fragments = rasterize(points, triangles, WIDTH, HEIGHT)
    group = (fragments.triangle % 4).astype(np.uint8)
    found = nearest(fragments, WIDTH * HEIGHT, group, 5)
    assert found.shape == (5, WIDTH * HEIGHT)
    best: dict[tuple[int, int], tuple[float, int]] = {}
    every = zip(group, fragments.pixel, fragments.depth, fragments.triangle, strict=True)
    for g, pixel, depth, triangle in every:
        key, value = (int(g), int(pixel)), (float(depth), int(triangle))
        best[key] = min(best.get(key, value), value)
    for (g, pixel), (_, triangle) in best.items():
        assert fragments.triangle[found[g, pixel]] == triangle
        assert fragments.pixel[found[g, pixel]] == pixel
    assert (found >= 0).sum() == len(best)
    assert (found[4] == -1).all()
    # The nearest of all is the nearest of the groups' nearest.
    depths = np.where(found < 0, np.inf, fragments.depth[found]).min(axis=0)
    alone = nearest(fragments, WIDTH * HEIGHT)[0]
    np.testing.assert_array_equal(depths, np.where(alone < 0, np.inf, fragments.depth[alone]))


def test_of_equal_depths_the_lower_triangle_is_seen_in_any_order() -> None:
    points = np.array([[1, 1, 2.0], [30, 2, 3.0], [5, 25, 2.5]])
    fragments = rasterize(points, np.array([[0, 1, 2]] * 3), WIDTH, HEIGHT)
    seen = visible(fragments, nearest(fragments, WIDTH * HEIGHT)[0])
    assert set(seen) == {-1, 0}
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(fragments.pixel))
        shuffled = Fragments(
            fragments.pixel[order],
            fragments.depth[order],
            fragments.triangle[order],
            fragments.bary[order],
        )
        again = visible(shuffled, nearest(shuffled, WIDTH * HEIGHT)[0])
        np.testing.assert_array_equal(again, seen)


def test_the_order_of_triangles_changes_nothing() -> None:
    points, triangles = scene(4, count=80)
    fragments = rasterize(points, triangles, WIDTH, HEIGHT)
    seen = visible(fragments, nearest(fragments, WIDTH * HEIGHT)[0])
    order = np.random.default_rng(0).permutation(len(triangles)).astype(np.int32)
    other = rasterize(points, triangles[order], WIDTH, HEIGHT)
    again = visible(other, nearest(other, WIDTH * HEIGHT)[0])
    np.testing.assert_array_equal(np.where(again < 0, -1, order[again]), seen)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 5}, "pixel goes from 2 to 5; wanted 0 to 4"),
        ({"group": np.array([0])}, r"group has shape \(1,\); wanted \(2,\)"),
        ({"group": np.array([0, 2]), "groups": 2}, "group goes from 0 to 2; wanted 0 to 1"),
        ({"group": np.array([-1, 0]), "groups": 2}, "group goes from -1 to 0"),
    ],
)
def test_nearest_refuses(change: dict[str, object], message: str) -> None:
    two = np.array([2, 5], np.int32)
    fragments = Fragments(two, np.ones(2, np.float32), two, np.ones((2, 3), np.float32))
    given: dict[str, object] = {"size": 6}
    with pytest.raises(ValueError, match=message):
        nearest(fragments, **given | change)  # type: ignore[arg-type]


def strands(seed: int, count: int, step: float, bend: float, points: int = 13) -> Array:
    """Random walks that bend a little at every point, around the middle of 256 x 256."""
    rng = np.random.default_rng(seed)
    turn = rng.uniform(0, 2 * np.pi, (count, 1))
    turn = turn + np.cumsum(rng.normal(0, bend, (count, points - 1)), axis=1)
    steps = step * np.stack([np.cos(turn), np.sin(turn)], axis=2)
    xy = np.concatenate([np.zeros((count, 1, 2)), np.cumsum(steps, axis=1)], axis=1)
    xy += rng.uniform(100, 156, (count, 1, 2))
    depth = rng.uniform(1, 2, (count, points, 1))
    return np.concatenate([xy, depth], axis=2)


@pytest.mark.parametrize(
    ("half", "bend", "tolerance"),
    [(0.02, 0.1, 0.06), (0.1, 0.4, 0.02), (0.5, 0.4, 0.01), (3, 0.1, 0.005), (1, 2, 0.02)],
)
def test_ribbons_cover_width_times_length(half: float, bend: float, tolerance: float) -> None:
    lines = strands(7, 2000, step=6, bend=bend)
    half_widths = np.broadcast_to(np.linspace(1.5, 0.5, 13) * half, lines.shape[:2])
    points, triangles, owner = ribbons(lines, half_widths)
    assert len(triangles) == len(owner) == 2000 * 12 * 2
    fragments = rasterize(points, triangles, 256, 256)
    assert len(fragments.pixel) == pytest.approx(2000 * 72 * 2 * half, rel=tolerance)


def test_a_smooth_ribbon_has_each_sample_once_and_in_its_place() -> None:
    lines = strands(8, 40, step=9, bend=0.1)
    points, triangles, owner = ribbons(lines, np.full(lines.shape[:2], 2.0))
    np.testing.assert_array_equal(owner, np.repeat(np.arange(40), 24))
    fragments = rasterize(points, triangles, 256, 256)
    cells = owner[fragments.triangle].astype(np.int64) * 256 * 256 + fragments.pixel
    assert len(np.unique(cells)) == len(cells)
    segment = triangles[:, 0] // 4  # as promised of the points
    np.testing.assert_array_equal(segment, np.repeat(np.arange(40 * 12), 2))
    start, end = (lines[:, s].reshape(-1, 3) for s in (slice(None, -1), slice(1, None)))
    np.testing.assert_allclose(points.reshape(-1, 2, 2, 3).mean(axis=2)[:, 0], start)
    np.testing.assert_allclose(points.reshape(-1, 2, 2, 3).mean(axis=2)[:, 1], end)


def test_ribbons_turn_back_stop_and_end_where_counts_say() -> None:
    nan = np.nan
    lines = np.array(
        [
            [[10, 10.2, 1], [60, 10.2, 1], [10, 10.2, 1], [10, 10.2, 1]],  # back on itself
            [[10, 30, 1], [30, 30, 1], [30, 30, 1], [30, 50, 1]],  # waits at its corner
            [[10, 70, 1], [30, 70, 1], [nan, nan, nan], [nan, 0, 0]],
            [[10, 80, 1], [nan, nan, nan], [nan, nan, nan], [nan, nan, nan]],
            [[nan, nan, nan]] * 4,
            [[80, 80, 1]] * 4,  # seen end on
        ]
    )
    half_widths = np.full((6, 4), 1.5)
    half_widths[2, 2:] = nan
    points, triangles, owner = ribbons(lines, half_widths, np.array([4, 4, 2, 1, 0, 4]))
    np.testing.assert_array_equal(np.bincount(owner, minlength=6), [6, 6, 2, 0, 0, 6])
    fragments = rasterize(points, triangles, 100, 100)
    samples = np.bincount(owner[fragments.triangle], minlength=6)
    np.testing.assert_array_equal(samples, [2 * 50 * 3, 2 * 20 * 3, 20 * 3, 0, 0, 0])


@pytest.mark.parametrize("shape", [(0, 5, 3), (3, 1, 3), (3, 0, 3)])
def test_no_segments_give_no_ribbons(shape: tuple[int, int, int]) -> None:
    points, triangles, owner = ribbons(np.ones(shape), np.ones(shape[:2]))
    assert points.shape == (0, 3)
    assert triangles.shape == (0, 3)
    assert owner.shape == (0,)
    assert len(rasterize(points, triangles, 4, 4).pixel) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lines": np.ones((2, 3))}, r"lines have shape \(2, 3\)"),
        ({"lines": np.full((2, 3, 3), np.nan)}, "lines: 2 of 2 are not finite"),
        ({"half_widths": np.ones((2, 2))}, r"half_widths have shape \(2, 2\); wanted \(2, 3\)"),
        ({"half_widths": np.full((2, 3), np.nan)}, "half_widths: 2 of 2 are not finite"),
        ({"half_widths": np.full((2, 3), -0.5)}, "half_widths go down to -0.5"),
        ({"counts": np.array([4, 1])}, r"go up to 4; wanted \(2,\) and 3 at most"),
        ({"counts": np.array([1])}, r"counts have shape \(1,\)"),
    ],
)
def test_ribbons_refuse(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"lines": np.ones((2, 3, 3)), "half_widths": np.ones((2, 3))}
    with pytest.raises(ValueError, match=message):
        ribbons(**given | change)  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_coverage_counts_samples(k: int, dtype: type[np.integer]) -> None:
    ids = np.random.default_rng(k).integers(0, 4, (5 * k, 7 * k)).astype(dtype)
    shares, most = coverage(ids, 5, k)
    assert shares.shape == (5, 5, 7)
    assert shares.dtype == np.float32
    assert most.dtype == dtype
    np.testing.assert_array_equal(shares.sum(axis=0), 1)
    assert (shares[4] == 0).all()
    for row in range(5):
        for column in range(7):
            tile = ids[row * k : (row + 1) * k, column * k : (column + 1) * k]
            found = [float((tile == c).mean()) for c in range(5)]
            np.testing.assert_array_equal(shares[:, row, column], np.array(found, np.float32))
            assert most[row, column] == found.index(max(found))


def test_a_tie_of_classes_goes_to_the_lower() -> None:
    _, most = coverage(np.array([[3, 1], [1, 3]]), 4, 2)
    assert most.tolist() == [[1]]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros((4, 5), int), r"shape \(4, 5\); wanted \(H \* 2, W \* 2\)"),
        (np.zeros(4, int), r"shape \(4,\)"),
        (np.full((4, 4), 3), "ids goes from 3 to 3; wanted 0 to 2"),
        (np.full((4, 4), -1), "ids goes from -1 to -1"),
    ],
)
def test_coverage_refuses(ids: npt.NDArray[np.int64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coverage(ids, 3, 2)
