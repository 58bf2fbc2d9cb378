"""All labels of one picture at once, without a part: `Labeller.load()(image)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from annotate.labels.describe import described
from annotate.labels.landmarks import crop_points, in_photo, summary
from annotate.labels.masks import facts, read_map
from annotate.labels.points import Points
from annotate.labels.reading import Reader
from annotate.labels.views import View, view_of_face, whole_view
from sfhq.faces.detector import Detector, FaceDetector, by_rank
from sfhq.parts.records import Json, Pixels


@dataclass(frozen=True, eq=False)
class FaceLabels:
    """The labels of one face.

    Attributes:
        mask: (H, W) uint8 ids of the 19 classes of `annotate.labels.classes.CLASSES`.
        hair: (H, W) uint8, how much of each pixel is hair, 0 to 255.
        points: (110, 5): x, y in pixels, flag, expected error in pixels and reason; see
            docs/landmarks.md.
        attributes: name -> calibrated probability, CelebA's 40 first.
        looks: the columns of the stage `attribute`: pose, colours, quality and so on. They are
            predicted looks of a picture, not facts about a person.
        flags: what cannot be trusted, in words.
    """

    mask: Pixels
    hair: Pixels
    points: Points
    attributes: Mapping[str, float]
    looks: Mapping[str, Json]
    flags: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Labeller:
    """Reads all labels of the faces of a picture.

    Attributes:
        reader: the label network.
        names: of its attributes.
        detector: finds the faces.
    """

    reader: Reader
    names: tuple[str, ...]
    detector: Detector

    @classmethod
    def load(cls, weights: Path | None = None) -> Labeller:
        """The embedded label network, or that of a file, and dlib's detector.

        Raises:
            UsageError, IntegrityError: there is no such file, or it is damaged.
        """
        from annotate.network.reader import load_labels
        from sfhq.networks.names import ATTRIBUTES

        return cls(load_labels(weights)[0], ATTRIBUTES, FaceDetector())

    def __call__(self, image: Image.Image | Pixels, aligned: bool = False) -> list[FaceLabels]:
        """The labels of every face, the most likely one first; none where no face was found.

        Args:
            image: RGB of any size, a Pillow image or (H, W, 3) uint8.
            aligned: the image is an FFHQ crop already and is read whole.
        """
        rgb = image.convert("RGB") if isinstance(image, Image.Image) else image
        photo = np.array(rgb, np.uint8)
        if aligned:
            return [self._one(photo, whole_view(photo, self.reader.size), 0.0)]
        faces = by_rank(self.detector.detect(Image.fromarray(photo)))
        found = [view_of_face(photo, face.landmarks, self.reader.size) for face in faces]
        second = faces[1].area / max(faces[0].area, 1e-6) if len(faces) > 1 else 0.0
        return [self._one(photo, view, min(second, 1.0)) for view in found]

    def _one(self, photo: Pixels, view: View, second: float) -> FaceLabels:
        reading = self.reader.read(view.crop[None])
        found = read_map(reading.parsing[0], view.frame, alpha=reading.alpha[0])
        assert found.alpha is not None
        points = in_photo(crop_points(reading, 0), view.frame)
        attributes = dict(zip(self.names, reading.attributes[0].tolist(), strict=True))
        looks = described(photo, reading, attributes, found, points, second=second)
        flags = {*facts(found).flags, *summary(points, reading, 0), *view.flags}
        return FaceLabels(
            found.classes, found.alpha, points, attributes, looks, tuple(sorted(flags))
        )
