"""The extended Golay code (24, 12): 12 bits become 24, any two words differ in 8 or more."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.int8]  # +1 and -1
WORD, DATA = 24, 12
GENERATOR = 0b101011100011  # x^11 + x^9 + x^7 + x^6 + x^5 + x + 1


@lru_cache(maxsize=1)
def words() -> npt.NDArray[np.float64]:
    """(4096, 24) all code words as +1 and -1, in the order of the numbers that they carry.

    Source: Golay 1949, "Notes on digital coding"; the cyclic (23, 12) code and a parity bit.
    """
    found = np.empty((1 << DATA, WORD))
    for number in range(1 << DATA):
        rest = number << 11
        for place in range(22, 10, -1):
            if rest >> place & 1:
                rest ^= GENERATOR << (place - 11)
        word = number << 11 | rest
        word = word << 1 | (word.bit_count() & 1)
        found[number] = [1 - 2 * (word >> (WORD - 1 - i) & 1) for i in range(WORD)]
    return found


def encode(number: int, blocks: int) -> Bits:
    """A number as code words.

    Args:
        number: 0 to 2 ** (12 * blocks) - 1.
        blocks: how many words.

    Returns:
        (24 * blocks,) of +1 and -1.
    """
    parts = [number >> (DATA * (blocks - 1 - i)) & ((1 << DATA) - 1) for i in range(blocks)]
    return np.concatenate([words()[part] for part in parts]).astype(np.int8)


def decode(soft: npt.NDArray[np.float64], blocks: int) -> tuple[int, float]:
    """The likeliest number, of all there are, for bits that came back with noise.

    Args:
        soft: (24 * blocks,); the sign is the bit, the size how sure it is.
        blocks: how many words.

    Returns:
        The number, and by how much the likeliest word stood out from the next, at least.
    """
    number, least = 0, np.inf
    for block in soft.reshape(blocks, WORD):
        scores = words() @ block
        best = int(np.argmax(scores))
        second = float(np.partition(scores, -2)[-2])
        number, least = number << DATA | best, min(least, float(scores[best]) - second)
    return number, float(least)
