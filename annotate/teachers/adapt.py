"""From the mesh of 478 points to our points, pose and gaze, learned on rendered heads.

The mesh has its own places; ours are elsewhere. Rendered heads know our points exactly, and the
teacher sees their pictures as well, so a linear map between both is fitted there. Its error on
heads that it was not fitted on says how far the teacher can be believed, point by point.

The mesh is brought into a frame in which the outer corners of the eyes are at (-0.5, 0) and
(0.5, 0), so that the map does not depend on where the face lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotate.teachers.mediapipe import OUTER_EYES
from sfhq.faces.alignment import FloatArray
from sfhq.faces.points import COUNT, FIXED

IRISES = (COUNT, COUNT + 1)
TAUGHT = (
    *range(FIXED),
    *IRISES,
)  # points that the mesh can place: not the hairline, not the contour
COMPONENTS = 64
RIDGE = 1e-3
LEAST_SCALE = 1e-4  # of a direction, as a share of the largest
PARTS = 5  # folds of the cross-validation


@dataclass(frozen=True, eq=False)
class Adapter:
    """A linear map from a framed mesh to points, pose and gaze.

    Attributes:
        mean: (478 * 3,) of framed meshes.
        basis: (478 * 3, C) principal directions.
        weights: (C + 1, 2 * 82 + 5) the map; the last row is the constant.
        point_error: (82,) root mean square of the distance to the exact point, in eye distances,
            on heads that were not fitted.
        angle_error: (5,) mean absolute error of yaw, pitch, roll, gaze yaw and pitch in degrees,
            measured likewise.
    """

    mean: FloatArray
    basis: FloatArray
    weights: FloatArray
    point_error: FloatArray
    angle_error: FloatArray

    def __call__(self, mesh: npt.NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
        """Points (N, 82, 2) in pixels, in the order of `TAUGHT`, and (N, 5) degrees.

        Args:
            mesh: (N, 478, 3) in pixels.
        """
        framed, origin, turn = _framed(np.asarray(mesh, np.float64))
        told = _inputs(framed, self.mean, self.basis) @ self.weights
        count = 2 * len(TAUGHT)
        points = _unframed(told[:, :count].reshape(len(mesh), -1, 2), origin, turn)
        angles = told[:, count:].copy()
        angles[:, 2] += _roll(turn)
        return points, angles


def fit_adapter(mesh: npt.NDArray[np.float32], points: FloatArray, angles: FloatArray) -> Adapter:
    """Fit the map on rendered heads.

    Args:
        mesh: (N, 478, 3) the teacher's points in pixels.
        points: (N, 112, 2) exact points and irises in the same pixels.
        angles: (N, 5) exact yaw, pitch, roll, gaze yaw and gaze pitch in degrees.
    """
    framed, origin, turn = _framed(np.asarray(mesh, np.float64))
    inside = (points[:, list(TAUGHT)] - origin[:, None]) @ _matrices(turn)
    told = angles.astype(np.float64).copy()
    told[:, 2] -= _roll(turn)
    wanted = np.concatenate([inside.reshape(len(mesh), -1), told], 1)
    flat = framed.reshape(len(mesh), -1)
    place = np.arange(len(mesh)) % PARTS
    off = np.zeros_like(wanted)
    for part in range(PARTS):
        mean, basis, weights = _fit(flat[place != part], wanted[place != part])
        off[place == part] = (
            _inputs(framed[place == part], mean, basis) @ weights - wanted[place == part]
        )
    count = 2 * len(TAUGHT)
    apart = np.hypot(off[:, :count:2], off[:, 1:count:2])
    return Adapter(
        *_fit(flat, wanted),
        point_error=np.sqrt((apart**2).mean(0)),
        angle_error=np.abs(off[:, count:]).mean(0),
    )


def _fit(flat: FloatArray, wanted: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    mean = flat.mean(0)
    _, scale, directions = np.linalg.svd(flat - mean, full_matrices=False)
    # What hardly varies is rounding, and would be blown up below.
    count = min(COMPONENTS, len(flat) // 4, int((scale > LEAST_SCALE * scale[0]).sum()))
    # Directions are scaled to unit variance, so that one ridge fits all.
    spread = np.maximum(scale[:count], 1e-9) / np.sqrt(len(flat))
    basis = directions[:count].T / spread
    given = _inputs(flat, mean, basis)
    penalty = RIDGE * len(flat) * np.eye(count + 1)
    penalty[-1, -1] = 0.0
    weights = np.linalg.solve(given.T @ given + penalty, given.T @ wanted)
    return mean, np.asarray(basis, np.float64), np.asarray(weights, np.float64)


def _inputs(framed: FloatArray, mean: FloatArray, basis: FloatArray) -> FloatArray:
    flat = framed.reshape(len(framed), -1)
    # Far outside of what was fitted a linear map is wild: stop at four standard deviations.
    scores = np.clip((flat - mean) @ basis, -4, 4)
    out: FloatArray = np.concatenate([scores, np.ones((len(flat), 1))], 1)
    return out


def _framed(mesh: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Meshes in the frame of the eyes, its origin in pixels, and its x axis in pixels (N, 2)."""
    a, b = mesh[:, OUTER_EYES[0], :2], mesh[:, OUTER_EYES[1], :2]
    origin, across = (a + b) / 2, b - a
    unit = np.maximum(np.hypot(across[:, 0], across[:, 1]), 1e-6)
    flat = (mesh[..., :2] - origin[:, None]) @ _matrices(across)
    depth = mesh[..., 2:] - mesh[:, list(OUTER_EYES), 2:].mean(1, keepdims=True)
    return np.concatenate([flat, depth / unit[:, None, None]], 2), origin, across


def _matrices(across: FloatArray) -> FloatArray:
    """(N, 2, 2): rows of points in pixels times it are points in the frame."""
    square = (across**2).sum(1)[:, None, None]
    x, y = across[:, 0], across[:, 1]
    turned = np.stack([np.stack([x, -y], 1), np.stack([y, x], 1)], 1)
    return np.asarray(turned / square, np.float64)


def _unframed(points: FloatArray, origin: FloatArray, across: FloatArray) -> FloatArray:
    x, y = across[:, 0], across[:, 1]
    back = np.stack([np.stack([x, y], 1), np.stack([-y, x], 1)], 1)
    return np.asarray(points @ back + origin[:, None], dtype=np.float64)


def _roll(across: FloatArray) -> FloatArray:
    """(N,) roll of the eyes' line in degrees, positive towards the subject's right shoulder."""
    return np.degrees(np.arctan2(-across[:, 1], across[:, 0]))
