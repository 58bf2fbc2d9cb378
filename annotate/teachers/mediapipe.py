"""MediaPipe's small networks (Apache-2.0) as teachers: 478 points, hair and the person's outline.

They need the package `ai-edge-litert` (extra `[teachers]`) and a folder with the files of `FILES`,
which MediaPipe publishes. They are used while training only; the trained network does not need
them.

Source: Kartynnik et al. 2019, "Real-time Facial Surface Geometry"; Bazarevsky et al. 2019,
"BlazeFace"; Tkachenka et al. 2019, "Real-time Hair Segmentation".
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sfhq.errors import MissingExtra, UsageError
from sfhq.faces.alignment import FloatArray
from sfhq.parts.records import Pixels

LANDMARKER = "face_landmarker.task"
HAIR = "hair_segmentation.tflite"
PERSON = "selfie_segmentation.tflite"
FILES = (LANDMARKER, HAIR, PERSON)
DETECTED = 128  # side of the detector's input
STRIDES = ((8, 2), (16, 6))  # of BlazeFace's grids, and anchors a cell
LOOKED = 256  # side of the landmark network's input
ROOM = 1.5  # side of its crop over the longer side of the face's box
OUTER_EYES = (33, 263)  # outer corners of the eyes: subject's right, left
LEAST_SCORE = 0.5
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Mesh:
    """478 points of one face.

    Attributes:
        points: (478, 3) x, y and depth in pixels of the image, pixel centres; the last ten are
            the irises: centre and rim of the subject's right one, then of the left one.
        presence: 0 to 1, how sure the network is of a face there.
    """

    points: FloatArray
    presence: float


class Network:
    """A .tflite file, ready to run on one image."""

    def __init__(self, content: bytes) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise MissingExtra("teaching", "ai-edge-litert", "teachers") from None
        self.interpreter: Any = Interpreter(model_content=content, num_threads=1)
        self.interpreter.allocate_tensors()

    def __call__(self, given: Floats) -> list[Floats]:
        """All outputs, largest first."""
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], given)
        self.interpreter.invoke()
        details = self.interpreter.get_output_details()
        found = [np.array(self.interpreter.get_tensor(d["index"]), np.float32) for d in details]
        return sorted(found, key=lambda a: -a.size)


class Teachers:
    """The three networks.

    Args:
        folder: holds `FILES`.

    Raises:
        UsageError: a file is missing.
        MissingExtra: `ai-edge-litert` is not installed.
    """

    def __init__(self, folder: Path) -> None:
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise UsageError(
                f"{folder}: lacks {', '.join(missing)}; wanted MediaPipe's files (Apache-2.0): "
                f"{LANDMARKER} and {HAIR} from its public model store, {PERSON} from the npm "
                "package @mediapipe/selfie_segmentation"
            )
        with zipfile.ZipFile(folder / LANDMARKER) as packed:
            self._detector = Network(packed.read("face_detector.tflite"))
            self._landmarks = Network(packed.read("face_landmarks_detector.tflite"))
        self._hair = Network((folder / HAIR).read_bytes())
        self._person = Network((folder / PERSON).read_bytes())

    def mesh(self, image: Pixels) -> Mesh | None:
        """The points of the surest face, or None where the detector sees none.

        Args:
            image: (H, W, 3) uint8 RGB.
        """
        found = self._detect(image)
        if found is None:
            return None
        centre, right, side = found
        mesh = self._look(image, centre, right, side)
        # Once more on the box of the points, as MediaPipe does from frame to frame.
        return self._look(image, *_frame(mesh.points))

    def hair(self, image: Pixels) -> Floats:
        """(H, W) probability of hair.

        Args:
            image: (H, W, 3) uint8 RGB; a square gives the best results.
        """
        four = np.zeros((1, 512, 512, 4), np.float32)
        four[0, ..., :3] = _resized(image, 512)
        (logits,) = self._hair(four)
        apart = logits.reshape(512, 512, 2)
        share = 1 / (1 + np.exp(np.clip(apart[..., 0] - apart[..., 1], -30, 30)))
        return _to_size(share, image)

    def person(self, image: Pixels) -> Floats:
        """(H, W) probability of a person; argument as in `hair`."""
        share = self._person(_resized(image, 256)[None])[0].reshape(256, 256)
        return _to_size(np.clip(share, 0, 1), image)

    def _detect(self, image: Pixels) -> tuple[FloatArray, FloatArray, float] | None:
        """Centre, direction of the face's right in the image, and side of its crop."""
        height, width = image.shape[:2]
        longer = max(height, width)
        square = np.zeros((longer, longer, 3), np.uint8)
        square[:height, :width] = image
        boxes, scores = self._detector(
            (_resized(square, DETECTED)[None] * 2 - 1).astype(np.float32)
        )
        scores, boxes = scores.reshape(-1), boxes.reshape(-1, 16)
        best = int(scores.argmax())
        if 1 / (1 + np.exp(-float(np.clip(scores[best], -30, 30)))) < LEAST_SCORE:
            return None
        place = boxes[best].reshape(8, 2) / DETECTED
        place[[0, 2, 3, 4, 5, 6, 7]] += anchors()[best]
        place = place * longer - 0.5
        across = place[3] - place[2]
        right = across / max(float(np.hypot(*across)), 1e-6)
        side = ROOM * float(boxes[best, 2:4].max()) / DETECTED * longer
        return place[0].astype(np.float64), right.astype(np.float64), side

    def _look(self, image: Pixels, centre: FloatArray, right: FloatArray, side: float) -> Mesh:
        down = np.array([-right[1], right[0]])
        step = side / LOOKED
        corner = centre - (right + down) * side / 2 + (right + down) * step / 2
        # PIL counts from the edge of the first pixel; a step of one pixel is `step` in the image.
        matrix = (
            *(right[0] * step, down[0] * step, corner[0] + 0.5 - (right[0] + down[0]) * step / 2),
            *(right[1] * step, down[1] * step, corner[1] + 0.5 - (right[1] + down[1]) * step / 2),
        )
        crop = Image.fromarray(image).transform(
            (LOOKED, LOOKED), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        )
        found = self._landmarks(_scaled(crop)[None])
        points = found[0].reshape(478, 3).astype(np.float64)
        presence = 1 / (1 + np.exp(-float(np.clip(found[1].reshape(-1)[0], -30, 30))))
        out = corner + (points[:, :1] - 0.5) * step * right + (points[:, 1:2] - 0.5) * step * down
        return Mesh(np.concatenate([out, points[:, 2:] * step], 1), presence)


def anchors() -> FloatArray:
    """(896, 2) centres of BlazeFace's anchors as shares of the side."""
    out = []
    for stride, count in STRIDES:
        steps = (np.arange(DETECTED // stride) + 0.5) * stride / DETECTED
        x, y = np.meshgrid(steps, steps)
        out.append(np.stack([x, y], -1).reshape(-1, 2).repeat(count, 0))
    return np.concatenate(out)


def _frame(points: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Centre, direction and side of the crop around points."""
    flat = points[:, :2]
    across = flat[OUTER_EYES[1]] - flat[OUTER_EYES[0]]
    right = across / max(float(np.hypot(*across)), 1e-6)
    turned = np.stack([flat @ right, flat @ np.array([-right[1], right[0]])], 1)
    low, high = turned.min(0), turned.max(0)
    middle = (low + high) / 2
    centre = middle[0] * right + middle[1] * np.array([-right[1], right[0]])
    return centre, right, ROOM * float((high - low).max())


def _resized(image: Pixels, side: int) -> Floats:
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    return _scaled(small)


def _scaled(image: Image.Image) -> Floats:
    return (np.asarray(image, np.float32) / 255).astype(np.float32)


def _to_size(share: Floats, image: Pixels) -> Floats:
    size = (image.shape[1], image.shape[0])
    return np.asarray(
        Image.fromarray(share.astype(np.float32)).resize(size, Image.Resampling.BILINEAR),
        np.float32,
    )
