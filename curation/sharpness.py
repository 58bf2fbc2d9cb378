"""How much fine detail a photo has: which of two copies is the undamaged one."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
from PIL import Image

from sfhq.errors import SfhqError
from sfhq.parts.part import Part
from sfhq.parts.photos import photo_folder, read_pixels
from sfhq.parts.records import FaceRecord, Pixels
from sfhq.parts.source import Source, source_of

BOX = Image.Resampling.BOX


class Detail(NamedTuple):
    """What is compared of copies of one size; the larger one is the less damaged photo.

    Attributes:
        coarse: detail of the photo reduced to a quarter; only clear blur lowers it.
        loss: minus the coarseness of the file's compression, 0 where it is lossless.
        fine: detail of the photo reduced to a half.
    """

    coarse: int
    loss: int
    fine: int


LEAST = -1000
WORST = Detail(LEAST, 0, LEAST)  # of a photo that cannot be read
FINE, COARSE = 1.25, 2.0  # steps; saving a JPEG once more changes `fine` by 1 %, mostly


def sharpness(pixels: Pixels, shrink: int = 2) -> float:
    """Variance of the Laplacian of a photo's luma over the variance of the luma itself.

    The ratio does not change with brightness and contrast; it falls where a photo is blurred or
    enlarged. The photo is reduced first: in the finest detail, the rounding of a JPEG that is saved
    once more looks like sharpness.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        shrink: how many times smaller it is made.

    Returns:
        0 or more; 0 for a photo of one colour, or of fewer than 3 reduced pixels a side.

    Source: Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy".
    """
    height, width = pixels.shape[:2]
    if min(height, width) < 3 * shrink:
        return 0.0
    small = Image.fromarray(pixels).convert("L").resize((width // shrink, height // shrink), BOX)
    luma = np.asarray(small, np.float32)
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    spread = float(luma.var())
    return float((around - 4 * luma[1:-1, 1:-1]).var()) / spread if spread else 0.0


def level(sharp: float, step: float) -> int:
    """A sharpness in steps by a factor, so that rounding does not decide between copies."""
    return round(math.log(sharp) / math.log(step)) if sharp > 0 else LEAST


def coarseness(data: bytes) -> int:
    """Sum of the largest quantisation table of a JPEG: the larger, the more was lost.

    Returns:
        64 for the finest JPEG, some thousands for a coarse one; 0 for other formats.
    """
    with Image.open(io.BytesIO(data)) as image:
        tables: dict[int, list[int]] = getattr(image, "quantization", {})
    return max((sum(table) for table in tables.values()), default=0)


def photo_details(part: Part, records: Sequence[FaceRecord]) -> Iterator[Detail]:
    """The detail of the photo of each face; `WORST` where it is missing, changed or damaged.

    Detail is read off the photo that the part has, or else off its source; the compression is that
    of the source.

    Args:
        part: the part.
        records: faces with `hashes`, `source` and `source_sha256`.
    """
    with ExitStack() as stack:
        try:
            source: Source | None = stack.enter_context(source_of(part))
        except SfhqError:
            source = None

        def loss(record: FaceRecord) -> int:
            try:
                return 0 if source is None else -coarseness(source.bytes_of(record))
            except (SfhqError, OSError):
                return 0

        def one(record: FaceRecord) -> Detail:
            folder = photo_folder(record)
            try:
                if folder is not None:
                    pixels = read_pixels(part, record, folder)
                elif source is not None:
                    pixels = np.asarray(source.image(record))
                else:
                    return WORST
            except SfhqError:
                return WORST
            coarse, fine = level(sharpness(pixels, 4), COARSE), level(sharpness(pixels, 2), FINE)
            return Detail(coarse, loss(record), fine)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            yield from pool.map(one, records)
