from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sfhq.faces.alignment import (
    FloatArray,
    align_crop,
    apply_transform,
    ffhq_quad,
    inverse_transform,
    outside_share,
    quad_size,
    quad_transform,
)


def face(
    eye_distance: float,
    eye_to_mouth: float,
    centre: tuple[float, float] = (0.0, 0.0),
    degrees: float = 0.0,
) -> FloatArray:
    """68 points; only eyes and mouth corners mean something. `centre` is between the eyes."""
    points = np.zeros((68, 2))
    points[36:42] = (-eye_distance / 2, 0.0)
    points[42:48] = (eye_distance / 2, 0.0)
    points[48], points[54] = (-eye_distance / 3, eye_to_mouth), (eye_distance / 3, eye_to_mouth)
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned: FloatArray = points @ turn + np.array(centre)
    return turned


def in_crop(landmarks: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Left eye, right eye and mouth as shares of the crop."""
    matrix = inverse_transform(quad_transform(ffhq_quad(landmarks), 1000))
    points = (apply_transform(matrix, landmarks) + 0.5) / 1000
    return points[36:42].mean(0), points[42:48].mean(0), points[[48, 54]].mean(0)


class TestRecipe:
    @pytest.mark.parametrize("degrees", [0.0, 17.0, -40.0, 180.0])
    def test_long_face(self, degrees: float) -> None:
        left, right, mouth = in_crop(face(100, 130, (300, 250), degrees))
        assert (left[1], right[1]) == pytest.approx((0.5 - 0.1 / 3.6,) * 2)
        assert left[1] == pytest.approx(0.4722, abs=1e-4)
        assert mouth == pytest.approx((0.5, 0.75))
        assert right[0] - left[0] < 0.25

    @pytest.mark.parametrize("degrees", [0.0, 17.0, -40.0, 180.0])
    def test_wide_face(self, degrees: float) -> None:
        left, right, mouth = in_crop(face(100, 80, (300, 250), degrees))
        assert (left[0], right[0]) == pytest.approx((0.375, 0.625))
        assert mouth[1] - left[1] < 1 / 3.6

    def test_corners_go_round_from_the_top_left(self) -> None:
        quad = ffhq_quad(face(100, 80, (300, 250)))
        centre = np.array([300, 258])
        assert quad - centre == pytest.approx(
            np.array([(-200, -200), (-200, 200), (200, 200), (200, -200)])
        )
        assert quad_size(quad) == pytest.approx(400)

    def test_refuses_what_has_no_direction(self) -> None:
        with pytest.raises(ValueError, match="coincide"):
            ffhq_quad(np.ones((68, 2)))
        with pytest.raises(ValueError, match="68, 2"):
            ffhq_quad(np.ones((5, 2)))


class TestTransform:
    def test_round_trip(self) -> None:
        matrix = quad_transform(ffhq_quad(face(90, 100, (200, 180), 25)), 256)
        points = np.random.default_rng(0).uniform(0, 256, (50, 2))
        back = apply_transform(inverse_transform(matrix), apply_transform(matrix, points))
        assert back == pytest.approx(points)

    def test_whole_image_is_the_identity(self) -> None:
        quad = np.array([(-0.5, -0.5), (-0.5, 63.5), (63.5, 63.5), (63.5, -0.5)])
        assert quad_transform(quad, 64) == pytest.approx(np.eye(3))
        assert outside_share(quad, 64, 64) == 0.0

    def test_corners_of_the_crop_are_the_quad(self) -> None:
        quad = ffhq_quad(face(90, 100, (200, 180), 25))
        corners = np.array([(-0.5, -0.5), (-0.5, 99.5), (99.5, 99.5), (99.5, -0.5)])
        assert apply_transform(quad_transform(quad, 100), corners) == pytest.approx(quad)

    def test_outside_share(self) -> None:
        quad = np.array([(-32.5, -0.5), (-32.5, 63.5), (31.5, 63.5), (31.5, -0.5)])
        assert outside_share(quad, 64, 64) == pytest.approx(0.5)


def marked(points: FloatArray, width: int, height: int, sigma: float) -> Image.Image:
    """Soft white dots on black."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    values = np.zeros((height, width))
    for px, py in points:
        values += 255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
    grey = values.round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.repeat(grey[..., None], 3, axis=2))


def centroid(image: Image.Image, near: FloatArray, radius: int) -> FloatArray:
    """Centre of brightness around a point, in pixels."""
    values = np.asarray(image, dtype=np.float64)[..., 0]
    cx, cy = near.round().astype(int)
    y0, x0 = max(cy - radius, 0), max(cx - radius, 0)
    window = values[y0 : cy + radius + 1, x0 : cx + radius + 1]
    y, x = np.mgrid[y0 : y0 + window.shape[0], x0 : x0 + window.shape[1]]
    found: FloatArray = np.array([(x * window).sum(), (y * window).sum()]) / window.sum()
    return found


class TestCrop:
    # The same size, a warp that enlarges, one that shrinks the source first, each at an angle.
    @pytest.mark.parametrize("size", [400, 1024, 61])
    @pytest.mark.parametrize("degrees", [0.0, 20.0])
    def test_marks_end_where_the_transform_says(self, size: int, degrees: float) -> None:
        landmarks = face(100, 80, (330.3, 300.6), degrees)
        quad = ffhq_quad(landmarks)
        at = np.array([(0.2, 0.2), (0.8, 0.25), (0.3, 0.7), (0.75, 0.8)])
        marks = quad[0] + at[:, :1] * (quad[3] - quad[0]) + at[:, 1:] * (quad[1] - quad[0])
        crop = align_crop(marked(marks, 661, 605, sigma=6.0), landmarks, size)
        assert crop.image.size == (size, size)
        assert crop.padded == 0.0
        expected = apply_transform(inverse_transform(quad_transform(crop.quad, size)), marks)
        for point in expected:
            found = centroid(crop.image, point, radius=max(4, round(24 * size / 400)))
            assert found == pytest.approx(point, abs=0.15)

    def test_marks_hold_where_the_crop_is_padded(self) -> None:
        landmarks = face(100, 80, (120, 130))
        marks = np.array([(80.0, 100.0), (200.0, 220.0)])
        crop = align_crop(marked(marks, 400, 400, sigma=6.0), landmarks, 400)
        expected = apply_transform(inverse_transform(quad_transform(crop.quad, 400)), marks)
        for point in expected:
            found = centroid(crop.image, point, radius=12)
            assert found == pytest.approx(point, abs=1.0)
        assert crop.padded == pytest.approx(1 - 0.8 * 0.845, abs=0.02)

    def test_nothing_is_left_black_where_the_source_ends(self) -> None:
        image = Image.new("RGB", (300, 300), (200, 150, 100))
        crop = align_crop(image, face(100, 80, (60, 60)), 256)
        assert crop.padded > 0.3
        assert np.asarray(crop.image).reshape(-1, 3).min(axis=0) == pytest.approx(
            (200, 150, 100), abs=2
        )

    def test_small_source(self) -> None:
        image = Image.new("RGB", (20, 14), "white")
        crop = align_crop(image, face(5, 4, (10, 7)), 64)
        assert crop.image.size == (64, 64)
