"""A threshold is found where copies end and others begin."""

from __future__ import annotations

import numpy as np
import pytest

from curation.labels.agreement import Share
from curation.pairs.calibrate import COPIES, calibrate, calibration_page
from sfhq.errors import UsageError
from sfhq.parts.records import Array, Pixels


def scenes(count: int, seed: int = 0) -> list[Pixels]:
    """Smooth pictures, each its own."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (count, 6, 6, 3)).astype(np.uint8)
    return [
        np.asarray(Image.fromarray(s).resize((96, 96), Image.Resampling.BICUBIC)) for s in small
    ]


def little(images: list[Pixels]) -> Array:
    """An encoder: colours of an 8 x 8 grid about their mean."""
    from PIL import Image

    grids = [np.asarray(Image.fromarray(i).resize((8, 8), Image.Resampling.BOX)) for i in images]
    flat = np.stack(grids).reshape(len(images), -1).astype(np.float32)
    centred: Array = flat - flat.mean(axis=1, keepdims=True)
    return centred


def test_copies_and_others_come_apart() -> None:
    images = scenes(60)
    found = calibrate("little", little, images, [str(i) for i in range(60)])
    assert found.pairs == 60 * 59 // 2
    assert found.taken <= found.allowed * found.pairs
    assert found.upper == Share.of(found.taken, found.pairs).high > found.taken / found.pairs
    assert found.others_median < 0.3 < found.threshold < 0.95
    by = {c.name: c for c in found.copies}
    assert set(by) == set(COPIES)
    assert by["JPEG of quality 60"].found == 1.0
    assert by["mirrored"].found < 0.2  # the little encoder knows left from right
    assert sum(found.copy_counts) == pytest.approx(1.0)
    assert sum(found.other_counts) == pytest.approx(1.0)


def test_pairs_of_one_source_are_left_out() -> None:
    images = scenes(30)
    found = calibrate("little", little, images + images, [str(i % 30) for i in range(60)])
    assert found.pairs == 4 * (30 * 29 // 2)
    assert found.others_maximum < 0.9


def test_the_page_stands_alone() -> None:
    found = calibrate("<little>", little, scenes(20), [str(i) for i in range(20)])
    page = calibration_page(found)
    assert "&lt;little&gt;" in page and "<little>" not in page
    assert "http" not in page and "<script" not in page
    assert f"{found.threshold:.4f}" in page
    assert page.count("<polygon") == 2


def test_too_few_or_all_of_one() -> None:
    with pytest.raises(UsageError, match="3 photos to calibrate with; wanted 20"):
        calibrate("little", little, scenes(3), ["a", "b", "c"])
    with pytest.raises(UsageError, match="one source"):
        calibrate("little", little, scenes(20), ["a"] * 20)
