"""The weights of dlib's convolutional face detector, read from dlib's own file without dlib.

Source: the network is that of dlib's `dnn_mmod_face_detection_ex.cpp`; the settings of its loss are
those of `dnn/loss.h`. `dlib_file` reads its layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sfhq.faces.dlib_file import (
    FIRST,
    PLAIN,
    Cursor,
    read_activation,
    read_convolution,
    read_mean,
    read_scales,
    read_state,
)

WINDOW = 80  # pixels, the side of every face in its level of the pyramid

# (channels, width of the kernel, stride): the convolutions, first to last. Batch normalisation and
# ReLU follow each but the last, which gives the confidence.
LAYERS = (
    *((16, 5, 2), (32, 5, 2), (32, 5, 2)),
    *((45, 5, 1), (45, 5, 1), (45, 5, 1)),
    (1, 9, 1),
)

_MAX_BYTES = 2**20  # the file has 730 thousand


@dataclass(frozen=True)
class MmodFile:
    """What the file says.

    Attributes:
        weights: the state of `MmodNetwork`, float32: normalisation is folded into convolutions.
        overlap: share of the box around two faces that both cover; above it only the surer counts.
    """

    weights: dict[str, Tensor]
    overlap: float


def read_mmod_file(path: Path) -> MmodFile:
    """Read `mmod_human_face_detector.dat`.

    Raises:
        UsageError: the file cannot be opened.
        IntegrityError: it is damaged, or another file.
    """
    cursor = Cursor(path, "dlib's face detector", _MAX_BYTES)
    overlap = _read_loss(cursor)
    # Convolution, normalisation and relu in turn, last layer first; the last is a convolution only.
    cursor.expect_integers("version of a layer", *(PLAIN,) * (3 * len(LAYERS) - 3), FIRST)
    cursor.expect_text("input_rgb_image_pyramid")
    weights = {"mean": read_mean(cursor)}
    channels = 3
    for index, (width, kernel, stride) in enumerate(LAYERS):
        first, last = index == 0, index == len(LAYERS) - 1
        weight, bias = read_convolution(cursor, (width, channels, kernel), stride, first)
        if not last:
            scale, shift = _read_normalisation(cursor, width)
            weight, bias = weight * scale.view(-1, 1, 1, 1), bias * scale + shift
            read_activation(cursor)
        name = "last" if last else f"layers.{index}"
        weights |= {f"{name}.weight": weight, f"{name}.bias": bias}
        channels = width
    cursor.expect_end()
    return MmodFile(weights, overlap)


def _read_loss(cursor: Cursor) -> float:
    """The loss that the network was trained with: how far two faces may overlap."""
    cursor.expect_integers("version", 1)
    cursor.expect_text("loss_mmod_")
    cursor.expect_integers("version of the loss", 1)
    cursor.expect_integers("side of a face", WINDOW, WINDOW)
    cursor.skip_numbers(3)  # prices of mistakes, and what counts as a match
    overlap, covered = cursor.number(), cursor.number()
    if not 0.0 < overlap < 1.0:
        raise cursor.error(f"overlap {overlap}", "0 to 1")
    if covered != 1.0:  # below 1, a face inside another would be dropped, too
        raise cursor.error(f"covered share {covered}", "1")
    cursor.skip_numbers(2)  # which overlaps the training ignored
    return overlap


def _read_normalisation(cursor: Cursor, channels: int) -> tuple[Tensor, Tensor]:
    """Batch normalisation by the statistics of the training, as scales and shifts (C,)."""
    cursor.expect_text("bn_con2")
    scale, shift = read_scales(cursor, channels)
    # The last batch's means and reciprocal deviations, then those of the training.
    _, _, mean, variance = (cursor.tensor(1, channels, 1, 1) for _ in range(4))
    for what in ("number of updates", "window of the statistics"):
        if cursor.integer() < 0:
            raise cursor.error(f"negative {what}", "0 or more")
    cursor.skip_numbers(4)  # rates of its training
    deviation = variance + cursor.number()
    if not (deviation > 0.0).all():
        raise cursor.error("a variance below 0", "more")
    read_state(cursor)
    scale = scale / deviation.sqrt()
    return scale, shift - scale * mean
