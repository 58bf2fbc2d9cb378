"""How much fine detail a photo has: which of two copies is the undamaged one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
from PIL import Image

from sfhq.errors import SfhqError
from sfhq.parts.part import Part
from sfhq.parts.photos import photo_folder, read_pixels
from sfhq.parts.records import FaceRecord, Pixels
from sfhq.parts.source import Source, source_of


def sharpness(pixels: Pixels) -> float:
    """Variance of the Laplacian of a photo's luma over the variance of the luma itself.

    The ratio does not change with brightness and contrast; it falls where a photo is blurred,
    enlarged or strongly compressed.

    Args:
        pixels: (H, W, 3) uint8 RGB.

    Returns:
        0 or more; 0 for a photo of one colour, or of fewer than 3 pixels a side.

    Source: Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy".
    """
    luma = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)
    if min(luma.shape) < 3:
        return 0.0
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    spread = float(luma.var())
    return float((around - 4 * luma[1:-1, 1:-1]).var()) / spread if spread else 0.0


def photo_sharpness(part: Part, records: Sequence[FaceRecord]) -> Iterator[float | None]:
    """The sharpness of the photo of each face; None where it is missing, changed or damaged.

    Args:
        part: the part.
        records: faces with `hashes`, `source` and `source_sha256`.
    """
    with ExitStack() as stack:
        try:
            source: Source | None = stack.enter_context(source_of(part))
        except SfhqError:
            source = None

        def one(record: FaceRecord) -> float | None:
            folder = photo_folder(record)
            try:
                if folder is not None:
                    return sharpness(read_pixels(part, record, folder))
                return None if source is None else sharpness(np.asarray(source.image(record)))
            except SfhqError:
                return None

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            yield from pool.map(one, records)
