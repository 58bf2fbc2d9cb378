"""The first look of a search: pairs that may be above a cosine, none that is above missing.

By hand, because libraries for neighbours either are approximate or cannot bound what float32 and
eight-bit products lose.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from curation.pairs.bound import SAMPLE, Plan, float32_slack, plan_codes
from curation.pairs.cosines import BLOCK, RECHECK, Places, over
from curation.pairs.native import NONE, CodedVectors, levels, path
from sfhq.kernels import BuildError, cpu_features
from sfhq.parts.records import Array

Way = Literal["auto", "int8", "bf16", "f32"]
WAYS: tuple[Way, ...] = ("auto", "int8", "bf16", "f32")

WORTH_CODING = 6000  # with fewer vectors float32 is done before the codes are made
LEAST_COSINE = 0.3  # below it codes prove too little to be worth making

Rows = Callable[[Places], Array]


class Candidates(Protocol):
    """A first look: pairs that may be above the threshold, none that is above missing."""

    count: int

    def search(self, vectors: Array) -> Iterator[tuple[Places, Places]]:
        """Rows of a block and columns: kept places, then `count` plus earlier rows."""

    def keep(self, chosen: npt.NDArray[np.bool_]) -> None:
        """Keep rows of the block searched last."""

    def add(self, vectors: Array) -> None:
        """Keep a block without searching it."""


class ProductVectors:
    """The first look as products of blocks, in float32 or bfloat16.

    Args:
        threshold: the cosine.
        dimension: D.
        bf16: multiply in bfloat16, through torch.
        kept: gives the float32 rows of kept places; only a block of them is held.
    """

    def __init__(self, threshold: float, dimension: int, bf16: bool, kept: Rows) -> None:
        # bfloat16: half a unit in the last of 8 bits, for both factors and for the result.
        slack = float32_slack(dimension) + (2.0**-9 * 3 + 2.0**-16 if bf16 else 0.0)
        self.limit = threshold - max(slack, RECHECK)
        self.bf16, self._kept, self.count = bf16, kept, 0
        self._rows = 0

    def _products(self, a: Array, b: Array) -> Array:
        if not self.bf16:
            return a @ b.T
        import torch

        x, y = torch.from_numpy(a).bfloat16(), torch.from_numpy(b).bfloat16()
        products: Array = (x @ y.T).float().numpy()
        return products

    def search(self, vectors: Array) -> Iterator[tuple[Places, Places]]:
        """As `Candidates.search`."""
        self._rows = len(vectors)
        for first in range(0, self.count, BLOCK):
            places = np.arange(first, min(first + BLOCK, self.count))
            rows, columns = over(self._products(vectors, self._kept(places)), self.limit)
            yield rows, columns + first
        rows, columns = over(self._products(vectors, vectors), self.limit)
        below = columns < rows
        yield rows[below], columns[below] + self.count

    def keep(self, chosen: npt.NDArray[np.bool_]) -> None:
        """As `Candidates.keep`."""
        self.count += int(chosen.sum())

    def add(self, vectors: Array) -> None:
        """As `Candidates.add`."""
        self.count += len(vectors)


@dataclass(frozen=True)
class Look:
    """How the candidates among some vectors are looked for; chosen once, for any number of them.

    Attributes:
        threshold: the cosine.
        dimension: D.
        bf16: of float products.
        plan: of codes; None for float products.
        instructions: of codes, as `curation.pairs.native.path`.
    """

    threshold: float
    dimension: int
    bf16: bool = False
    plan: Plan | None = None
    instructions: int = NONE

    def among(self, count: int, threads: int | None, kept: Rows) -> Candidates:
        """Nothing kept yet, and room for `count` vectors and a block that is searched.

        Args:
            count: the most that will be kept.
            threads: for the codes; None takes all.
            kept: as `ProductVectors`.
        """
        if self.plan is None:
            return ProductVectors(self.threshold, self.dimension, self.bf16, kept)
        # A block lies beside the kept ones while it is searched.
        return CodedVectors(self.plan, self.threshold, count + BLOCK, self.instructions, threads)


def choose_look(rows: Rows, order: Places, threshold: float, way: Way) -> Look:
    """The quickest first look on this machine.

    Args:
        rows: gives the (n, D) float32 unit vectors of some indices.
        order: (N,) all indices.
        threshold: the cosine.
        way: "auto" takes codes if they pay and the kernel works here, else bfloat16 if the
            processor multiplies it, else float32.

    Raises:
        BuildError: "int8", and the kernel cannot be built or run here.
        ValueError: `way` is none of `WAYS`.
    """
    if way not in WAYS:
        raise ValueError(f"way is {way!r}; wanted one of {WAYS}")
    dimension = rows(order[:1]).shape[1] if len(order) else 0
    worth = len(order) >= WORTH_CODING and threshold >= LEAST_COSINE and dimension >= 64
    if way == "int8" or (way == "auto" and worth):
        try:
            instructions = path()
            if instructions == NONE:
                raise BuildError("this processor has neither AVX2 nor AVX-512 VNNI")
            step = max(len(order) // SAMPLE, 1)
            plan = plan_codes(rows(order[::step][:SAMPLE]), threshold, levels(instructions))
            return Look(threshold, dimension, plan=plan, instructions=instructions)
        except BuildError as error:
            if way == "int8":
                raise
            warnings.warn(
                f"no kernel for pairs: {error}; going on with float products, which are slower",
                RuntimeWarning,
                stacklevel=4,
            )
    bf16 = way == "bf16" or (way == "auto" and worth and "avx512_bf16" in cpu_features().split())
    return Look(threshold, dimension, bf16)


def candidates_for(
    rows: Rows, order: Places, threshold: float, way: Way, threads: int | None, kept: Rows
) -> Candidates:
    """The quickest first look on this machine, with room for all vectors.

    Args:
        rows, order, threshold, way: as `choose_look`, with its errors.
        threads: for the codes; None takes all.
        kept: as `ProductVectors`.
    """
    return choose_look(rows, order, threshold, way).among(len(order), threads, kept)
