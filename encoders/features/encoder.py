"""What turns images into vectors: the interface of all encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from sfhq.parts.records import Array, Pixels

if TYPE_CHECKING:
    from sfhq.faces.detector import Detection


class ImageEncoder(Protocol):
    """What turns images into vectors."""

    @property
    def name(self) -> str:
        """Name by which thresholds are kept, such as "dlib-face"."""

    @property
    def digest(self) -> str:
        """sha256 of the weights."""

    @property
    def reads_faces(self) -> bool:
        """Whether it looks for the face in the image, and can be told where it is."""

    def __call__(
        self, images: list[Pixels], faces: Sequence[Sequence[Detection]] | None = None
    ) -> Array:
        """Vectors of images.

        Args:
            images: (H, W, 3) uint8 RGB, each of its own size.
            faces: what a detector found in each, the best first, in pixels of the image; None
                where nobody looked.

        Returns:
            (N, D) float32, not normalised yet.
        """
