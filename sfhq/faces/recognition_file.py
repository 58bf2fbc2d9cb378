"""The weights of dlib's face recognition network, read from dlib's own file without dlib.

Source: the network is that of dlib's `dnn_face_recognition_ex.cpp`; `dlib_file` reads its layers.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from sfhq.faces.dlib_file import (
    FIRST,
    PLAIN,
    WRAPPER,
    Cursor,
    read_activation,
    read_convolution,
    read_mean,
    read_scales,
    read_state,
)

CHIP_SIZE = 150
STEM = 32  # channels that the first convolution gives
EMBEDDING = 128

# (channels, halves): the residual blocks, first to last. One that halves has stride 2.
BLOCKS = (
    *((32, False),) * 3,
    *((64, True), (64, False), (64, False), (64, False)),
    *((128, True), (128, False), (128, False)),
    *((256, True), (256, False), (256, False)),
    (256, True),
)

_MAX_BYTES = 32 * 2**20  # the file has 22 million


def read_recognition_weights(path: Path) -> dict[str, Tensor]:
    """The state of `RecognitionNetwork`, float32: each affine layer is folded into its convolution.

    Args:
        path: `dlib_face_recognition_resnet_model_v1.dat`.

    Raises:
        UsageError: the file cannot be opened.
        IntegrityError: it is damaged, or another file.
    """
    cursor = Cursor(path, "dlib's face recognition network", _MAX_BYTES)
    _read_head(cursor)
    weights = {"mean": _read_input(cursor)}
    weights |= _read_convolution(cursor, "stem", (STEM, 3, 7), stride=2)
    read_activation(cursor)
    _read_pool(cursor, "max_pool_2", (3, 3, 2, 2))
    channels = STEM
    for index, (width, halves) in enumerate(BLOCKS):
        weights |= _read_block(cursor, f"blocks.{index}", channels, width, halves)
        channels = width
    _read_pool(cursor, "avg_pool_2", (0, 0, 1, 1))
    weights["project.weight"] = _read_projection(cursor, channels)
    cursor.expect_end()
    return weights


def _read_head(cursor: Cursor) -> None:
    """The loss that the network was trained with, then the versions, last layer first."""
    cursor.expect_integers("version", 1)
    cursor.expect_text("loss_metric_2")
    cursor.skip_numbers(2)  # margin and threshold of the loss
    versions = [FIRST, *(PLAIN,) * 3]  # convolution, affine, relu, max_pool
    for _, halves in BLOCKS:
        # tag; convolution, affine, relu, convolution, affine
        versions += [WRAPPER, *(PLAIN,) * 5]
        versions += [WRAPPER, WRAPPER, PLAIN] * halves  # tag, skip, avg_pool
        versions += [PLAIN] * 2  # add_prev, relu
    versions += [PLAIN] * 2  # avg_pool, fc
    cursor.expect_integers("version of a layer", *reversed(versions))


def _read_input(cursor: Cursor) -> Tensor:
    """(3, 1, 1) RGB values that the network subtracts."""
    cursor.expect_text("input_rgb_image_sized")
    mean = read_mean(cursor)
    cursor.expect_integers("size of the image", CHIP_SIZE, CHIP_SIZE)
    return mean


def _read_block(
    cursor: Cursor, name: str, channels: int, width: int, halves: bool
) -> dict[str, Tensor]:
    first = (width, channels, 3)
    weights = _read_convolution(cursor, f"{name}.first", first, stride=2 if halves else 1)
    read_activation(cursor)
    weights |= _read_convolution(cursor, f"{name}.second", (width, width, 3), stride=1)
    if halves:
        _read_pool(cursor, "avg_pool_2", (2, 2, 2, 2))
    cursor.expect_text("add_prev_")
    read_state(cursor)
    read_activation(cursor)
    return weights


def _read_convolution(
    cursor: Cursor, name: str, shape: tuple[int, int, int], stride: int
) -> dict[str, Tensor]:
    """A convolution and its affine layer as one; `shape` as in `read_convolution`."""
    weight, bias = read_convolution(cursor, shape, stride, first=name == "stem")
    cursor.expect_text("affine_")
    scale, shift = read_scales(cursor, len(bias))
    cursor.expect_integers("mode of an affine layer", 0)  # one scale a channel
    read_state(cursor)
    return {
        f"{name}.weight": weight * scale.view(-1, 1, 1, 1),
        f"{name}.bias": bias * scale + shift,
    }


def _read_pool(cursor: Cursor, kind: str, window: tuple[int, int, int, int]) -> None:
    """Check a pooling layer: height, width and both strides, without padding."""
    cursor.expect_text(kind)
    cursor.expect_integers("setting of a pool", *window, 0, 0)
    read_state(cursor)


def _read_projection(cursor: Cursor, channels: int) -> Tensor:
    """(128, channels) weights of the last layer, which has no bias."""
    cursor.expect_text("fc_2")
    cursor.expect_integers("size of the last layer", EMBEDDING, channels)
    values = cursor.tensor(channels, EMBEDDING, 1, 1)
    cursor.expect_integers("place of the weights", 1, channels, EMBEDDING, 1, 1)
    cursor.expect_integers("place of the biases", 1, 0, 0, 0, 0)
    cursor.expect_integers("mode of the last layer", 1)  # no bias
    cursor.skip_numbers(4)
    read_state(cursor)
    return values.view(channels, EMBEDDING).T.contiguous()
