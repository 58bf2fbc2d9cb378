"""Data from the renderer about each pixel, which helps the styles to draw better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sfhq.render.styles.fields import Floats, blur, gradient, smoothstep

Labels = npt.NDArray[np.uint8]

BACKGROUND, CLOTH, HAIR, HAT = 0, 16, 17, 18
BROWS, EYES = (2, 3), (4, 5)
FEATURES = (*BROWS, *EYES, 6, 11, 12, 13)  # brows, eyes, glasses, mouth and lips
FACE = (1, *FEATURES, 7, 8, 9, 10)
# SURFACE: nose, ears and neck count as skin, because they are not patches of another colour.
# OUTLINED: brows and lips count as skin too, because no line is drawn around them.
SURFACE = np.array([0, 1, 2, 2, 4, 4, 6, 1, 1, 9, 1, 11, 12, 12, 1, 15, 16, 17, 18], np.uint8)
OUTLINED = np.array([0, 1, 1, 1, 4, 4, 6, 1, 1, 9, 1, 11, 1, 1, 1, 15, 16, 17, 18], np.uint8)


@dataclass(frozen=True)
class Guides:
    """Data about each pixel of a photo; each field may be None.

    Attributes:
        labels: (H, W) uint8, class ids 0-18 of CelebAMask-HQ; 0 is background.
        normals: (H, W, 3) float32 unit vectors in camera space (x right, y up, z towards the
            camera); 0 in the background.
        depth: (H, W) float32 in any unit; only its jumps are used, and only where it is finite.
    """

    labels: Labels | None = None
    normals: Floats | None = None
    depth: Floats | None = None

    def check(self, height: int, width: int) -> None:
        """Raise ValueError unless every field fits an image of this size."""
        wanted = {
            "labels": ((height, width), self.labels),
            "normals": ((height, width, 3), self.normals),
            "depth": ((height, width), self.depth),
        }
        for name, (shape, value) in wanted.items():
            if value is not None and value.shape != shape:
                raise ValueError(f"guides.{name} has shape {value.shape}; wanted {shape}")
        if self.labels is not None and self.labels.dtype != np.uint8:
            raise ValueError(f"guides.labels are {self.labels.dtype}; wanted uint8 class ids 0-18")

    def share(self, classes: tuple[int, ...], sigma: float) -> Floats | None:
        """(H, W) in [0, 1], blurred mask of the classes; None without labels."""
        if self.labels is None:
            return None
        return blur(np.isin(self.labels, classes).astype(np.float32), sigma)

    def face(self, height: int, width: int) -> Floats:
        """(H, W) in [0, 1], importance of detail: 1 at eyes and mouth, less elsewhere in the face.

        Without labels the place of the face in an aligned photo is used.
        """
        unit = min(height, width) / 256
        face, features = self.share(FACE, 5 * unit), self.share(FEATURES, 3 * unit)
        if face is not None and features is not None:
            return np.minimum(0.75 * face + 0.5 * features, 1)
        y, x = np.mgrid[:height, :width].astype(np.float32)
        r = np.hypot((x / width - 0.5) / 0.30, (y / height - 0.53) / 0.34)
        return smoothstep(1.5, 0.7, r.astype(np.float32))

    def surfaces(self) -> Labels | None:
        """(H, W) labels with nose, ears and neck counted as skin; None without labels."""
        return None if self.labels is None else SURFACE[np.minimum(self.labels, 18)]

    def outlines(self) -> Floats | None:
        """(H, W) in [0, 1], 1 where surfaces meet, fold or hide each other; None without guides."""
        form: list[Floats] = []
        if self.normals is not None:
            form.append(_folds(self.normals))
        if self.depth is not None:
            form.append(_jumps(self.depth))
        if self.labels is None:
            return np.maximum.reduce(form) if form else None
        solid = (self.labels != HAIR).astype(np.float32)  # strands have no outlines
        borders = _differs(OUTLINED[np.minimum(self.labels, 18)])
        edges: Floats = np.maximum.reduce([borders, *(f * solid for f in form)])
        return edges


def _differs(labels: Labels) -> Floats:
    edge = np.zeros(labels.shape, np.float32)
    edge[:, 1:] = labels[:, 1:] != labels[:, :-1]
    edge[1:] = np.maximum(edge[1:], labels[1:] != labels[:-1])
    return edge


def _folds(normals: Floats) -> Floats:
    """1 along the silhouette, and where normals 2 pixels apart differ by about 50 degrees."""
    known = (normals**2).sum(-1) > 0.25
    edge = _differs(known.view(np.uint8))
    for axis in (0, 1):
        ahead, behind = (np.roll(normals, s, axis) for s in (-1, 1))
        both = np.roll(known, -1, axis) & np.roll(known, 1, axis)
        edge = np.maximum(edge, both * smoothstep(0.25, 0.5, 1 - (ahead * behind).sum(-1)))
    edge[[0, -1]] = 0
    edge[:, [0, -1]] = 0
    return edge


def _jumps(depth: Floats) -> Floats:
    """1 where depth jumps by more than a twentieth of the range of its middle 90 %."""
    finite = np.isfinite(depth)
    if not finite.any():
        return np.zeros(depth.shape, np.float32)
    low, high = np.percentile(depth[finite], (5, 95))
    filled = np.clip(np.where(finite, depth, high), low, high).astype(np.float32)
    gx, gy = gradient(filled / max(float(high - low), 1e-6))
    slope = np.hypot(gx, gy)
    return smoothstep(0.03, 0.08, slope - blur(slope, 2.0))
