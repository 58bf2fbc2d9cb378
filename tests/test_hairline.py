"""Hairline and outline along rays: exact on drawn heads, with a reason where they are not seen."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from reading import TinyReader, face_points
from scipy import ndimage

from annotate.fan import FanPoints, decode, load_fan
from annotate.labels.frame import whole_frame
from annotate.labels.hairline import Hairlines, RayFrame, _own_piece, fused
from annotate.labels.landmarks import completed, crop_points, in_photo, summary
from annotate.labels.points import DOUBTFUL, REASON, REASONS, Points, judged, unknown
from annotate.landmark import Hairline
from sfhq.errors import IntegrityError, UsageError
from sfhq.faces.classes import CLASSES, ID
from sfhq.faces.points import HIDDEN, INNER, MIRROR, MISSING, OUTER, VISIBLE

SIZE = 128
Planes = npt.NDArray[np.float32]
RENDERER = all(importlib.util.find_spec(n) for n in ("anny", "mitsuba"))


def points() -> npt.NDArray[np.float64]:
    return face_points() * SIZE - 0.5


FRAME = RayFrame.of(points())
INNER_RADIUS, OUTER_RADIUS = 0.29 * SIZE, 0.40 * SIZE


@pytest.mark.parametrize("seed", range(6))
def test_the_heads_own_piece_is_filled_as_scipy_does(seed: int) -> None:
    head = ndimage.uniform_filter(np.random.default_rng(seed).random((33, 33)), 3) > 0.45
    pieces, _ = ndimage.label(head)
    for row, column in ((5, 7), (16, 16), (30, 2)):
        own = pieces == pieces[row, column]
        wanted = ndimage.binary_fill_holes(own) if head[row, column] else np.ones_like(head)
        np.testing.assert_array_equal(_own_piece(head, np.array([column, row])), wanted)


def drawn(
    inner: float = INNER_RADIUS,
    outer: float = OUTER_RADIUS,
    cover: str = "hair",
    **more: tuple[float, float],
) -> Planes:
    """A head of two circles about the rays' origin: face within `inner`, hair above to `outer`.

    Args:
        inner, outer: radii in pixels.
        cover: class between them, above the ears.
        more: class -> (from, to) radii of a ring of it above the brows.
    """
    k = 8
    y, x = (np.mgrid[: SIZE * k, : SIZE * k] + 0.5) / k - 0.5
    radius = np.hypot(x - FRAME.origin[0], y - FRAME.origin[1])
    classes = np.zeros(radius.shape, np.uint8)
    classes[radius < outer] = ID["l_ear"]
    classes[(radius < outer) & (y < FRAME.origin[1])] = ID[cover]
    classes[radius < inner] = ID["skin"]
    for name, (start, stop) in more.items():
        ring = (radius >= start) & (radius < stop) & (y < FRAME.origin[1])
        classes[ring] = ID[name]
    shares = [
        (classes == i).reshape(SIZE, k, SIZE, k).mean((1, 3), dtype=np.float32)
        for i in range(len(CLASSES))
    ]
    return np.stack(shares)


def radii(rows: Points) -> npt.NDArray[np.float64]:
    out: npt.NDArray[np.float64] = np.hypot(*(rows[:, :2] - FRAME.origin).T)
    return out


def reasons(rows: Points) -> set[str]:
    return {REASONS[int(r)] for r in rows[:, 4]}


def test_circles_are_found_between_pixels() -> None:
    for shift in (0.0, 0.3, 0.77):
        lines = Hairlines(drawn(INNER_RADIUS + shift, OUTER_RADIUS + shift), FRAME)
        inner, outer = lines.inner(), lines.outer()
        assert np.abs(radii(inner) - INNER_RADIUS - shift).max() < 0.12
        assert np.abs(radii(outer) - OUTER_RADIUS - shift).max() < 0.12
        assert (inner[:, 2] == VISIBLE).all() and (outer[:, 2] == VISIBLE).all()
        assert reasons(inner) == reasons(outer) == {""}


def test_points_lie_on_their_rays() -> None:
    lines = Hairlines(drawn(), FRAME)
    for rows, angles in ((lines.inner(), INNER), (lines.outer(), OUTER)):
        across = rows[:, 0] - FRAME.origin[0]
        up = FRAME.origin[1] - rows[:, 1]
        found = np.degrees(np.arctan2(up, across))
        assert np.allclose((found - angles + 180) % 360 - 180, 0, atol=1e-6)


def test_a_turned_face_has_turned_rays() -> None:
    turn = np.radians(20)
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    turned = RayFrame.of((points() - FRAME.origin) @ spin.T + FRAME.origin)
    assert np.allclose(turned.origin, FRAME.origin)
    assert turned.unit == pytest.approx(FRAME.unit) and turned.brow == pytest.approx(FRAME.brow)
    assert np.allclose(turned.direction(70), spin @ FRAME.direction(70))


def test_strands_and_gaps_do_not_count() -> None:
    thin = 0.4 * 0.02 * FRAME.unit
    strand = drawn(hair=(INNER_RADIUS - 6, INNER_RADIUS - 6 + thin))
    assert np.abs(radii(Hairlines(strand, FRAME).inner()) - INNER_RADIUS).max() < 0.2
    gap = drawn(background=(OUTER_RADIUS - 6, OUTER_RADIUS - 6 + thin))
    assert np.abs(radii(Hairlines(gap, FRAME).outer()) - OUTER_RADIUS).max() < 0.2


def test_another_head_beside_does_not_count() -> None:
    planes = drawn(outer=0.35 * SIZE)
    planes[:, :20, :20] = 0
    planes[ID["hair"], :20, :20] = 1
    assert np.abs(radii(Hairlines(planes, FRAME).outer()) - 0.35 * SIZE).max() < 0.2


def test_a_bald_head_has_its_outline_for_a_hairline() -> None:
    lines = Hairlines(drawn(inner=OUTER_RADIUS), FRAME)
    inner = lines.inner()
    assert np.abs(radii(inner) - OUTER_RADIUS).max() < 0.12
    assert (inner[:, 2] == HIDDEN).all() and reasons(inner) == {"no hair"}


def test_a_hat_is_no_hairline() -> None:
    inner = Hairlines(drawn(cover="hat"), FRAME).inner()
    assert np.abs(radii(inner) - INNER_RADIUS).max() < 0.12
    assert (inner[:, 2] == HIDDEN).all() and reasons(inner) == {"hat"}


def test_bangs_are_a_fringe() -> None:
    low = 0.8 * FRAME.brow
    inner = Hairlines(drawn(inner=low), FRAME).inner()
    up = np.abs(INNER - 90) < 30
    assert np.abs(radii(inner[up]) - low).max() < 0.15
    assert (inner[up, 2] == HIDDEN).all() and reasons(inner[up]) == {"fringe"}


def test_what_lies_between_face_and_hair_is_said() -> None:
    inner = Hairlines(drawn(cloth=(INNER_RADIUS - 5, INNER_RADIUS + 5)), FRAME).inner()
    assert (inner[:, 2] == HIDDEN).all() and reasons(inner) == {"occluded"}
    assert np.abs(radii(inner) - INNER_RADIUS).max() < 1
    assert inner[:, 3] == pytest.approx(5, abs=0.6), "the error says how wide the gap is"


def test_a_head_that_leaves_the_crop_is_truncated() -> None:
    outer = Hairlines(drawn(outer=2 * SIZE), FRAME).outer()
    assert (outer[:, 2] == HIDDEN).all() and reasons(outer) == {"truncated"}
    edge = np.minimum(outer[:, :2] + 0.5, SIZE - 0.5 - outer[:, :2]).min(1)
    assert (edge >= 0).all() and (edge < 1).all(), "they lie on the edge, and say so"


def test_a_soft_border_is_a_low_margin() -> None:
    vague = np.stack([ndimage.gaussian_filter(p, 7) for p in drawn()])
    outer = Hairlines(vague, FRAME).outer()
    assert (outer[:, 3] > 3).all() and "low margin" in reasons(outer)
    assert (outer[outer[:, 4] == REASON["low margin"], 2] == HIDDEN).all()


def test_nothing_is_read_off_an_empty_map() -> None:
    planes = np.zeros((19, SIZE, SIZE), np.float32)
    planes[0] = 1
    lines = Hairlines(planes, FRAME)
    assert (lines.outer()[:, 2] == MISSING).all() and (lines.inner()[:, 2] == MISSING).all()


def test_eyes_in_one_place_are_no_frame() -> None:
    with pytest.raises(ValueError, match="eyes coincide"):
        RayFrame.of(np.zeros((68, 2)))


def row(angle: float, radius: float, error: float) -> Points:
    place = FRAME.origin + radius * FRAME.direction(angle)
    return np.array([*place, VISIBLE, error, 0])


def test_two_readings_are_fused_by_their_errors() -> None:
    angles = np.array([60.0, 90.0, 120.0])
    one = np.stack([row(60, 30, 1), row(90, 30, 1), row(120, 30, 0.5)])
    two = np.stack([row(60, 32, 2), row(90, 30, 1), row(120, 60, 2)])
    both = fused(one, two, FRAME, angles)
    assert radii(both) == pytest.approx([30.4, 30, 30])
    assert both[0, 3] == pytest.approx((1 + 1 / 4) ** -0.5)
    assert both[:, 2].tolist() == [VISIBLE, VISIBLE, HIDDEN], "they contradict each other"
    assert REASONS[int(both[2, 4])] == "low margin"
    two[0, 2] = MISSING
    assert np.allclose(fused(one, two, FRAME, angles)[0], one[0])


def test_points_of_a_crop_and_of_the_photo() -> None:
    reader = TinyReader(64)
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    reading = reader.read(crop[None])
    ways: tuple[Hairline, ...] = ("network", "rays", "fused")
    for hairline in ways:
        rows = crop_points(reading, 0, None, hairline)
        assert rows.shape == (110, 5) and np.isfinite(rows).all()
        assert np.allclose(rows[:80, :2], reading.points[0][:80])
        inner = np.allclose(rows[80:, :2], reading.points[0][80:])
        assert inner == (hairline == "network")
    frame = whole_frame(256, 256, 64)
    there = in_photo(rows, frame)
    assert np.allclose(there[:, :2], (rows[:, :2] + 0.5) * 4 - 0.5)
    assert np.allclose(there[:, 3], rows[:, 3] * 4)
    assert isinstance(summary(there, reading, 0), tuple)


def test_a_ray_that_reads_nothing_leaves_the_networks_point() -> None:
    reading = TinyReader(64).read(np.full((1, 64, 64, 3), 90, np.uint8))
    parsing = torch.zeros(1, 19, 64, 64)
    parsing[:, 0] = 1
    empty = replace(reading, parsing=parsing)
    rows = crop_points(empty, 0, None, "rays")
    assert np.allclose(rows[80:, :2], reading.points[0][80:])
    assert (rows[80:, 2] == HIDDEN).all() and (rows[80:, 4] == REASON["low margin"]).all()


def test_errors_on_rays_are_those_of_border_and_eyes() -> None:
    reading = TinyReader(64).read(np.full((1, 64, 64, 3), 90, np.uint8))
    planes = torch.zeros(1, 19, 64, 64)
    planes[:, ID["skin"]] = 1
    rows = crop_points(replace(reading, parsing=planes, sigma=torch.full((1, 110), 3.0)), 0)
    wide = crop_points(replace(reading, parsing=planes, sigma=torch.full((1, 110), 6.0)), 0)
    assert (rows[89:, 3] >= 3).all() and (wide[89:, 3] > rows[89:, 3]).all()


def test_points_mirror_with_the_crop() -> None:
    reader = TinyReader(64)
    crop = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    here = crop_points(reader.read(crop[None]), 0)
    there = crop_points(reader.read(np.ascontiguousarray(crop[None, :, ::-1])), 0)
    mirrored = there[list(MIRROR)]
    assert np.allclose(here[:, 0], 63 - mirrored[:, 0], atol=1e-4)
    assert np.allclose(here[:, 1], mirrored[:, 1], atol=1e-4)
    assert (here[:, 2] == mirrored[:, 2]).all()


def test_points_outside_the_photo_are_missing_and_doubtful_ones_inferred() -> None:
    rows = np.zeros((110, 5))
    rows[:, :2], rows[:, 2], rows[:, 3] = points(), VISIBLE, 1
    unit = rows[45, 0] - rows[36, 0]
    rows[3, 3] = 1.1 * DOUBTFUL * unit
    rows[5, 0] = -0.6
    done = judged(rows, SIZE, SIZE)
    assert (done[3, 2], REASONS[int(done[3, 4])]) == (HIDDEN, "low margin")
    assert (done[5, 2], REASONS[int(done[5, 4])]) == (MISSING, "outside")
    assert (np.delete(done, (3, 5), 0) == np.delete(rows, (3, 5), 0)).all()
    nothing = unknown()
    assert np.isnan(nothing[:, :2]).all() and (nothing[:, 2] == MISSING).all()


def test_the_68_are_completed_to_80() -> None:
    rows = np.zeros((80, 5))
    rows[:68, :2] = points()[:68]
    done = completed(rows)
    assert np.allclose(done[:68], rows[:68])
    width = done[35, 0] - done[31, 0]
    for right, left in ((68, 70), (69, 71)):
        assert done[right, 0] < done[31, 0] < done[35, 0] < done[left, 0]
        assert done[right, 1] == pytest.approx(done[left, 1])
        assert done[31, 0] - done[right, 0] < width
    assert done[68, 1] < done[69, 1] < done[31, 1]
    for before, place, after in ((60, 72, 73), (72, 73, 61), (63, 74, 75), (74, 75, 64)):
        assert done[before, 0] < done[place, 0] < done[after, 0]
    assert (done[68:, 2] == HIDDEN).all()
    assert {REASONS[int(r)] for r in done[68:, 4]} == {"interpolated"}


def test_another_detectors_points_take_the_place_of_the_68() -> None:
    reading = TinyReader(64).read(np.full((1, 64, 64, 3), 90, np.uint8))
    given = face_points()[:68] * 64 + 1.5
    rows = crop_points(reading, 0, given)
    assert np.allclose(rows[:68, :2], given)
    assert (rows[68:80, 4] == REASON["interpolated"]).all()


@pytest.mark.skipif(not RENDERER, reason="needs anny and mitsuba: pip install 'sfhq[render]'")
def test_rays_find_the_exact_hairline_of_rendered_heads() -> None:
    from sfhq.render.labels.classes import read
    from sfhq.render.labels.landmarks import landmarks
    from sfhq.render.people.recipe import RenderRecipe
    from sfhq.render.people.sampling import person
    from sfhq.render.scene.model import make

    errors: dict[str, list[float]] = {"inner": [], "outer": []}
    agreed = []
    for seed in (900003, 900007, 900020):
        model = make(person(seed, RenderRecipe()))
        labels = read(model, 128)
        truth = landmarks(model, labels).astype(np.float64)
        frame = RayFrame.of(truth)
        lines = Hairlines(labels.shares, frame)
        for name, rows, exact in (
            ("inner", lines.inner(), truth[80:89]),
            ("outer", lines.outer(), truth[89:]),
        ):
            known = exact[:, 2] > MISSING
            errors[name] += list(np.hypot(*(rows - np.pad(exact, ((0, 0), (0, 2))))[known, :2].T))
            errors[name][-known.sum() :] = [e / frame.unit for e in errors[name][-known.sum() :]]
            agreed += list(rows[known, 2] == exact[known, 2])
    assert np.median(errors["inner"]) < 0.01 and np.median(errors["outer"]) < 0.01
    assert np.mean(agreed) > 0.9


def gaussians(centres: npt.NDArray[np.float64], sigma: float = 1.0) -> npt.NDArray[np.float32]:
    y, x = np.mgrid[:64, :64]
    parts = [np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2)) for cx, cy in centres]
    return np.stack(parts).astype(np.float32)


def test_heat_maps_are_decoded_between_cells() -> None:
    centres = np.random.default_rng(4).uniform(2, 61, (68, 2))
    found, heights = decode(gaussians(centres))
    assert np.abs(found - centres).max() < 0.01, "of a cell; FAN's own decoding is off by a quarter"
    assert (heights > 0.7).all()
    at_edges = np.array([[0.0, 30.0], [63.0, 5.0], [20.0, 63.0]])
    assert np.allclose(decode(gaussians(at_edges))[0], at_edges, atol=1e-6)
    flat = np.ones((1, 8, 8), np.float32)
    assert np.isfinite(decode(flat)[0]).all()


def test_fan_reads_places_in_pixels_of_the_crop() -> None:
    from torch import Tensor

    wanted = points()[:68] * 4 + 1.5  # in a crop of 512 pixels

    def network(x: Tensor) -> list[Tensor]:
        cells = (wanted + 0.5) / 8 - 0.5
        mirrored = cells[list(MIRROR[:68])] * (-1, 1) + (63, 0)
        dark = x[..., 0].mean() < x[..., -1].mean()  # which side up tells which image it is
        heat = torch.from_numpy(gaussians(cells if dark else mirrored))[None]
        return [torch.zeros_like(heat), heat]

    crop = np.zeros((512, 512, 3), np.uint8)
    crop[:, 256:] = 255
    found, heights = FanPoints(network, "").read(crop)
    assert np.abs(found - wanted).max() < 0.1 and (heights > 0.7).all()


def test_missing_weights_of_fan_name_the_command(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFHQ_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="sfhq models fetch fan-4 --accept-licence 300W-NC"):
        load_fan()


def test_published_weights_of_fan_are_read(tmp_path: Path) -> None:
    """A file of random numbers in the layout of 2DFAN4-11f355bf06.pth.tar."""
    models = pytest.importorskip("face_alignment.models")
    torch.manual_seed(0)
    network = models.FAN(4)
    path = tmp_path / "2DFAN4-11f355bf06.pth.tar"
    torch.save(network.state_dict(), path)
    fan = load_fan(path)
    assert len(fan.digest) == 64
    found, heights = fan.read(np.full((64, 64, 3), 120, np.uint8))
    assert found.shape == (68, 2) and np.isfinite(found).all() and heights.shape == (68,)
    assert (found >= -0.5).all() and (found <= 63.5).all()
    state = network.state_dict()
    del state["conv1.weight"]
    torch.save(state, path)
    with pytest.raises(IntegrityError, match=r"no weights of FAN-4: conv1\.weight"):
        load_fan(path)
