"""Whether labels depend on what must not matter: mirroring, batches, and how a face was cropped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, is_dataclass

import numpy as np
import torch

from annotate.labels.classes import flip_ids
from annotate.labels.masks import read_map
from annotate.labels.reading import Reader, Reading
from annotate.labels.views import View, view_of_face
from sfhq.faces.alignment import FloatArray, ffhq_quad, quad_size
from sfhq.faces.points import MIRROR
from sfhq.parts.records import Json, Pixels

MOST = 0.08  # of the crop's side, and of its scale


@dataclass(frozen=True)
class Consistency:
    """What was found.

    Attributes:
        photos: number of photos.
        flipped_pixels: pixels whose class in the mirrored crop is not the mirrored class.
        flipped_points: largest distance of a point from its mirror image, in pixels of the crop.
        batch_differs: readings of a batch that are not those of its crops alone, bit by bit.
        moved: median distance that a point moves when the crop is shifted and scaled by up to 8 %,
            in shares of the distance between the outer eye corners.
        moved_worst: 95th percentile of the same.
        changed: share of the head's pixels whose class changes then.
    """

    photos: int
    flipped_pixels: int
    flipped_points: float
    batch_differs: int
    moved: float
    moved_worst: float
    changed: float

    def to_dict(self) -> dict[str, Json]:
        """As JSON can hold it."""
        return asdict(self)


def consistency(
    reader: Reader, photos: Iterable[tuple[Pixels, View]], crops: int = 4, seed: int = 0
) -> Consistency:
    """Read photos again mirrored, in a batch, and from other crops.

    Args:
        reader: the network.
        photos: pictures and the view of a face in each.
        crops: other crops of each face, drawn at random.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    seen: list[Pixels] = []
    single: list[Reading] = []
    pixels, apart = 0, 0.0
    moves: list[float] = []
    changes: list[float] = []
    for photo, view in photos:
        here = reader.read(view.crop[None])
        there = reader.read(np.ascontiguousarray(view.crop[None, :, ::-1]))
        seen.append(view.crop)
        single.append(here)
        maps = [r.parsing[0].argmax(0).numpy().astype(np.uint8) for r in (here, there)]
        pixels += int((maps[1] != flip_ids(maps[0])).sum())
        mirrored = there.points[0][list(MIRROR)].double().numpy()
        mirrored[:, 0] = reader.size - 1 - mirrored[:, 0]
        away = np.abs(mirrored - here.points[0].double().numpy())
        apart = max(apart, float(away.max()))
        base = view.frame.to_photo(here.points[0].double().numpy()[:68])
        try:
            found = _moved(reader, photo, base, crops, rng)
        except ValueError:  # points of no face
            continue
        moves += found[0]
        changes += found[1]
    differs = _batch(reader, seen, single)
    return Consistency(
        len(seen),
        pixels,
        apart,
        differs,
        float(np.median(moves)) if moves else float("nan"),
        float(np.percentile(moves, 95)) if moves else float("nan"),
        float(np.mean(changes)) if changes else float("nan"),
    )


def _moved(
    reader: Reader, photo: Pixels, base: FloatArray, crops: int, rng: np.random.Generator
) -> tuple[list[float], list[float]]:
    """Ways of the 68 points in eye distances, and shares of changed pixels, of other crops."""
    side = quad_size(ffhq_quad(base))
    unit = float(np.hypot(*(base[45] - base[36])))
    middle = base.mean(0)
    read = []
    for number in range(crops + 1):
        scale = 1 + rng.uniform(-MOST, MOST) * (number > 0)
        shift = rng.uniform(-MOST, MOST, 2) * side * (number > 0)
        view = view_of_face(photo, (base - middle) * scale + middle + shift, reader.size)
        reading = reader.read(view.crop[None])
        points = view.frame.to_photo(reading.points[0].double().numpy()[:68])
        read.append((points, read_map(reading.parsing[0], view.frame)))
    ways: list[float] = []
    changed = []
    first, plain = read[0]
    for points, found in read[1:]:
        ways += (np.hypot(*(points - first).T) / unit).tolist()
        both = plain.read & found.read & ((plain.classes > 0) | (found.classes > 0))
        if both.any():
            changed.append(float((plain.classes != found.classes)[both].mean()))
    return ways, changed


def _batch(reader: Reader, seen: list[Pixels], single: list[Reading]) -> int:
    """Number of crops whose reading in a batch has other bits than alone."""
    if not seen:
        return 0
    whole = reader.read(np.stack(seen))
    differs = 0
    for i, alone in enumerate(single):
        assert is_dataclass(alone)
        names = [f.name for f in fields(alone)]
        same = all(torch.equal(getattr(whole, n)[i], getattr(alone, n)[0]) for n in names)
        differs += not same
    return differs
