"""An imperceptible mark in the brightness of a photo, and its detector, which everybody may run.

The mark is a sum of 12,438 cosines that span the picture from edge to edge, with signs drawn from a
published key. It belongs to the picture and not to its pixels: scaling an image scales it along,
and a mirrored one is found as well. A third of the cosines say that a mark is there; the others
carry 36 bits, in three words of the Golay code.

The detector divides the picture's own cosines by what is usual at their frequency and compares
signs with the key. For an image that knows nothing of the key the sum of n such products is that
of n tosses of a coin, whatever the image shows: above `FOUND` standard deviations it lies with
a chance of about one in 10^9. Since the key is public, a mark is a label and no proof: anybody
can put it on a photograph, and whoever wants to can remove it.

Sources of the idea: Cox et al. 1997, "Secure Spread Spectrum Watermarking for Multimedia", and
Malvar and Florencio 2003, "Improved Spread Spectrum".
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from sfhq.marks import code

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

KEY = b"sfhq watermark 1"  # public: the detector is for everybody
FOUND = 6.0  # standard deviations; by chance 1 in 10^9, and there are two ways to look
PSNR, LARGE = 42.7, 384  # decibels between a photo and its marked copy; and from this size on
PSNR_LARGE = 45.0  # fewer changes do, because JPEG takes less of them away
LOWEST, HIGHEST = 20, 128  # half periods from edge to edge
LEAST_SIDE = 128  # pixels of an image that can carry enough of them
BLOCKS = 3  # words of the code
GROUPS = code.WORD * BLOCKS + 1
PAYLOAD_BITS = 32
CHECK_BITS = 4
LEAD = 9.0  # deviations of the cosines that say a mark is there, to those of a bit
STRENGTH = 0.04  # grey levels of a cosine at `PSNR`
LUMA = (0.299, 0.587, 0.114)
CLIP = 2.0  # a cosine of the picture counts for no more than this many times what is usual
AROUND = 9  # half periods in which the usual is taken
LEAST = 0.03  # grey levels; nothing is as weak as that after rounding
APART = 3.0  # deviations between the likeliest word and the next that make it certain
FLAT, BUSY, USUAL = 0.45, 1.6, 6.0  # strength in flat and busy places; grey levels between them
CELLS = 64  # places a side that are told apart


@dataclass(frozen=True)
class Found:
    """What the detector says.

    Attributes:
        deviations: how far above chance the key's signs agree; `FOUND` and more is a mark.
        payload: the number it carries; None where none is found or its check bits disagree.
        mirrored: whether the picture was mirrored since.
    """

    deviations: float
    payload: int | None
    mirrored: bool = False

    @property
    def there(self) -> bool:
        """Whether there is a mark."""
        return self.deviations >= FOUND

    @property
    def chance(self) -> float:
        """Probability that an image without a mark reaches this, of both ways to look."""
        return min(1.0, math.erfc(self.deviations / math.sqrt(2)))


@dataclass(frozen=True)
class _Plan:
    """The cosines, in one order.

    Attributes:
        u, v: (M,) half periods down and across.
        signs: (M,) of the key.
        groups: (M,) 0 for those that say a mark is there, 1 to 72 for the bits.
        around: (M,) how many cosines lie around each.
    """

    u: npt.NDArray[np.intp]
    v: npt.NDArray[np.intp]
    signs: Floats
    groups: npt.NDArray[np.intp]
    around: Floats


@lru_cache(maxsize=1)
def _plan() -> _Plan:
    u, v = np.meshgrid(np.arange(1, HIGHEST + 1), np.arange(1, HIGHEST + 1), indexing="ij")
    radius = np.hypot(u, v)
    inside = (radius >= LOWEST) & (radius <= HIGHEST)
    u, v = u[inside], v[inside]
    count = len(u)
    stream = hashlib.shake_256(KEY).digest(9 * count)
    signs = 1.0 - 2.0 * (np.frombuffer(stream[:count], np.uint8) & 1).astype(np.float64)
    order = np.argsort(np.frombuffer(stream[count:], "<u8"), kind="stable")
    bits = code.WORD * BLOCKS
    groups = np.empty(count, np.intp)
    places = np.arange(count)
    groups[order] = np.where(places % 3 == 0, 0, 1 + (places * 2 // 3) % bits)
    around = _filtered(inside.astype(np.float64))[u - 1, v - 1]
    return _Plan(u, v, signs, groups, around)


def _filtered(table: Floats) -> Floats:
    found: Floats = ndimage.uniform_filter(table, AROUND, mode="constant")
    return found


def _luma(pixels: Pixels) -> Floats:
    weights = np.array(LUMA)
    found: Floats = pixels.reshape(-1, 3) @ weights
    return found.reshape(pixels.shape[:2])


def _table(luma: Floats) -> Floats:
    """(128, 128) amplitudes, in grey levels, of cosines of 1 to 128 half periods in a picture."""
    height, width = luma.shape
    across = fft.dct(luma, axis=1)[:, 1 : HIGHEST + 1]
    both = fft.dct(across, axis=0)[1 : HIGHEST + 1] / (height * width)
    table = np.zeros((HIGHEST, HIGHEST))
    table[: both.shape[0], : both.shape[1]] = both
    return table


def _wave(table: Floats, height: int, width: int) -> Floats:
    """(H, W) the sum of cosines with the amplitudes of a table."""
    padded = np.zeros((height, HIGHEST))
    padded[1 : HIGHEST + 1] = table[: height - 1]
    down = fft.idct(padded, axis=0) * height
    wide = np.zeros((height, width))
    wide[:, 1 : HIGHEST + 1] = down[:, : width - 1]
    found: Floats = fft.idct(wide, axis=1) * width
    return found


@dataclass(frozen=True)
class _Look:
    """What a picture has of the plan's cosines.

    Attributes:
        weights: (M,) one over what is usual around each cosine's frequency, in grey levels.
        relative: (M,) the picture's amplitudes, weighed and limited.
    """

    weights: Floats
    relative: Floats

    @classmethod
    def at(cls, table: Floats) -> _Look:
        """The look at a table of amplitudes."""
        plan = _plan()
        amplitudes = table[plan.u - 1, plan.v - 1]
        bare = np.zeros_like(table)
        bare[plan.u - 1, plan.v - 1] = np.abs(amplitudes)
        weights = 1.0 / (_filtered(bare)[plan.u - 1, plan.v - 1] / plan.around + LEAST)
        relative = np.clip(amplitudes * weights, -CLIP, CLIP) * weights
        return cls(weights, relative)

    def agreement(self, mirrored: bool = False) -> tuple[Floats, Floats]:
        """(73,) sums by group of the key's signs times what is there, and of their squares."""
        plan = _plan()
        signs = plan.signs * (1.0 - 2.0 * (plan.v & 1)) if mirrored else plan.signs
        return (
            np.bincount(plan.groups, signs * self.relative, GROUPS).astype(np.float64),
            np.bincount(plan.groups, self.relative**2, GROUPS).astype(np.float64) + 1e-12,
        )


def embed(pixels: Pixels, payload: int, psnr: float | None = None) -> Pixels:
    """A copy of a photo with the mark.

    Args:
        pixels: (H, W, 3) uint8 RGB, sides of at least `LEAST_SIDE` pixels.
        payload: 0 to 2 ** 32 - 1; the detector reads it back.
        psnr: decibels between the copy and the photo, up to rounding; None for what suits its size.

    Raises:
        ValueError: too small, or no such payload.
    """
    if pixels.ndim != 3 or min(pixels.shape[:2]) < LEAST_SIDE:
        raise ValueError(f"shape {pixels.shape}; wanted at least {LEAST_SIDE} pixels a side")
    if psnr is None:
        psnr = PSNR if min(pixels.shape[:2]) < LARGE else PSNR_LARGE
    luma = _luma(pixels)
    plan = _plan()
    strengths = _strengths(_Look.at(_table(luma)), _bits(payload))
    table = np.zeros((HIGHEST, HIGHEST))
    table[plan.u - 1, plan.v - 1] = strengths[plan.groups] * plan.signs
    wave = _wave(table, *luma.shape) * _room(luma)
    wave *= 255.0 / 10 ** (psnr / 20) / max(float(np.sqrt(np.mean(wave**2))), 1e-12)
    changed = np.rint(pixels + wave.astype(np.float32)[:, :, None])
    found: Pixels = np.clip(changed, 0, 255).astype(np.uint8)
    return found


def _strengths(look: _Look, bits: code.Bits) -> Floats:
    """(73,) how strong each group's cosines are to be, so that all stand out from chance alike.

    What the picture itself contributes is known, so less goes where it agrees by chance.
    """
    plan = _plan()
    wanted = np.concatenate([[1.0], bits])
    sums, squares = look.agreement()
    here = wanted * sums / np.sqrt(squares)  # deviations that the picture has already
    # One grey level more in all of a group moves it by so many deviations.
    moved = np.bincount(plan.groups, look.weights**2, GROUPS) / np.sqrt(squares)
    sizes = np.bincount(plan.groups, minlength=GROUPS).astype(np.float64)
    level = np.ones(GROUPS)
    level[0] = LEAD
    low, high = 0.0, 1000.0
    for _ in range(40):  # the level that costs one grey level a cosine; scaled later
        middle = (low + high) / 2
        strengths = np.maximum((middle * level - here) / moved, 0.0)
        if float((sizes * strengths**2).sum()) > float(sizes.sum()) * STRENGTH**2:
            high = middle
        else:
            low = middle
    return wanted * np.maximum((high * level - here) / moved, 0.0)


def _room(luma: Floats) -> Floats:
    """(H, W) how much change a place hides: little where it is smooth, more where it is busy."""
    rows, columns = (np.linspace(0, n, CELLS, endpoint=False).astype(int) for n in luma.shape)
    size = np.outer(np.diff(rows, append=luma.shape[0]), np.diff(columns, append=luma.shape[1]))

    def mean(values: Floats) -> Floats:
        sums = np.add.reduceat(np.add.reduceat(values, rows, 0), columns, 1)
        found: Floats = ndimage.uniform_filter(sums / size, 3)
        return found

    average = mean(luma)
    spread = np.sqrt(np.maximum(mean(luma**2) - average**2, 0.0))
    room = FLAT + (BUSY - FLAT) * spread / (spread + USUAL)
    down, across = (np.arange(n) * CELLS // n for n in luma.shape)
    found: Floats = room[down][:, across]
    return found


def detect(pixels: Pixels) -> Found:
    """Look for the mark, in the picture and in its mirror image.

    Args:
        pixels: (H, W, 3) uint8 RGB, of any size.
    """
    look = _Look.at(_table(_luma(pixels)))
    found = []
    for mirrored in (False, True):
        sums, squares = look.agreement(mirrored)
        found.append((float(sums[0] / math.sqrt(squares[0])), mirrored, sums[1:], squares[1:]))
    deviations, mirrored, soft, squares = max(found, key=lambda one: one[0])
    payload = None
    if deviations >= FOUND:
        number, least = code.decode(soft, BLOCKS)
        value, check = number >> CHECK_BITS, number & ((1 << CHECK_BITS) - 1)
        sure = least >= APART * math.sqrt(float(np.mean(squares)))
        payload = value if sure and check == _check(value) else None
    return Found(deviations, payload, mirrored)


def _bits(payload: int) -> code.Bits:
    if not 0 <= payload < 1 << PAYLOAD_BITS:
        raise ValueError(f"payload {payload}; wanted 0 to 2 ** {PAYLOAD_BITS} - 1")
    return code.encode(payload << CHECK_BITS | _check(payload), BLOCKS)


def _check(payload: int) -> int:
    """Four bits of a digest: a number that was read wrongly mostly lacks them."""
    return hashlib.sha256(payload.to_bytes(4, "big")).digest()[0] & ((1 << CHECK_BITS) - 1)


def payload_of(name: str) -> int:
    """The number that stands for a name, such as that of a dataset: 32 bits of its sha256."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
