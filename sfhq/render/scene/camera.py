"""The camera: framing of the face, and projection of points to the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfhq.render.head.assets import Floats
from sfhq.render.head.bust import Bust, rotation, topology, turn
from sfhq.render.head.eyes import eyeball
from sfhq.render.head.rows import blend
from sfhq.render.person import View


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along -z.

    Attributes:
        at: (3,) place of the camera in decimetres.
        fov: field of view in degrees, over the side of the square picture.
    """

    at: tuple[float, float, float]
    fov: float

    def project(self, points: Floats, size: int) -> Floats:
        """(..., 3) x and y in pixels, and depth in decimetres.

        x is right and y is down; the centre of the first pixel is at 0.5.

        Args:
            points: (..., 3) points in the scene.
            size: side of the picture in pixels.
        """
        # In float64, so that both sides of the middle are rounded in the same way.
        x, y, z = np.moveaxis(points.astype(np.float64) - np.array(self.at), -1, 0)
        focal = size / 2 / np.tan(np.radians(self.fov) / 2)
        depth = np.maximum(-z, 1e-4)
        out: Floats = np.stack(
            [size / 2 + focal * x / depth, size / 2 - focal * y / depth, depth], -1
        )
        return out


def head_turn(view: View) -> Floats:
    """(3, 3) rotation of the head."""
    return rotation(view.yaw, view.pitch, view.roll)


def body_turn(view: View) -> Floats:
    """(3, 3) rotation of the shoulders."""
    return rotation(view.body_yaw, 0, 0)


def posed(points: Floats, follows: Floats | float, view: View) -> Floats:
    """Points (..., 3) of the rest pose in the scene, after the rotations of body and head.

    Args:
        points: (..., 3) in the rest pose.
        follows: share of the head's rotation, 0 (body) to 1 (head): one for all, or one per point.
        view: the pose.
    """
    head = turn(points, 1.0, head_turn(view))
    if np.ndim(follows) == 0 and follows == 1:
        return head
    body = turn(points, 1.0, body_turn(view))
    share = np.asarray(follows, np.float32).ravel()
    return blend(body.reshape(-1, 3), head.reshape(-1, 3), share).reshape(points.shape)


def frame(bust: Bust, view: View) -> Camera:
    """The camera that frames a face as FFHQ's alignment does, then changed by zoom and shift.

    As in Karras et al. 2019, the side of the frame is twice the larger of 2.0 times the distance of
    the eyes and 1.8 times the distance from eyes to mouth. Its centre is a tenth of the way from
    the eyes to the mouth.
    """
    shared = topology()
    eyes = np.stack([eyeball(bust, side)[0] for side in "lr"])
    lips = bust.points[shared.fields["lips"] > 0.5]
    mouth = np.array([0, lips[:, 1].mean(), lips[:, 2].max() - 0.05], np.float32)
    between = eyes.mean(0)
    side = 2 * max(2.0 * float(np.ptp(eyes[:, 0])), 1.8 * float(np.hypot(*(between - mouth)[1:])))
    side /= view.zoom
    middle = posed((between + 0.1 * (mouth - between))[None], 1.0, view)[0]
    away = side / 2 / np.tan(np.radians(view.fov) / 2)
    x = float(middle[0]) - view.shift[0] * side
    y = float(middle[1]) + view.shift[1] * side
    return Camera((x, y, float(middle[2] + away)), view.fov)
