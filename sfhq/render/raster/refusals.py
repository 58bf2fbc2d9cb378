"""Check the arrays that the rasteriser takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
Integers = npt.NDArray[np.integer[Any]]


def refuse_mesh(points: Reals, triangles: Integers) -> None:
    """Raise ValueError unless points are finite (V, 3) and triangles are (T, 3) indices of them."""
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points have shape {points.shape}; wanted (V, 3)")
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"triangles have shape {triangles.shape}; wanted (T, 3)")
    if not np.issubdtype(triangles.dtype, np.integer):
        raise ValueError(f"triangles are {triangles.dtype}; wanted integers")
    refuse_odd("points", points)
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(points):
        raise ValueError(
            f"triangles have indices from {triangles.min()} to {triangles.max()}; "
            f"wanted 0 to {len(points) - 1}"
        )


def refuse_grid(width: int, height: int, near: float) -> None:
    """Raise ValueError if the grid has no samples or 2**31 or more, or `near` is not above 0."""
    if width < 1 or height < 1 or width * height >= 2**31:
        raise ValueError(f"the grid is {width} x {height}; wanted 1 to 2**31 - 1 samples")
    if not near > 0:
        raise ValueError(f"near is {near}; wanted more than 0")


def refuse_odd(name: str, values: Reals) -> None:
    """Raise ValueError if a value is not finite; the message shows the first such value."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.sum(dtype=np.float64)
    if np.isfinite(total):  # a fast check: the sum is finite only if all values are
        return
    odd = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
    if odd.size:
        raise ValueError(
            f"{name}: {odd.size} of {len(values)} are not finite, the first is {name}[{odd[0]}] = "
            f"{values[odd[0]].tolist()}; wanted finite numbers"
        )


def refuse_outside(name: str, values: Integers, limit: int) -> None:
    """Raise ValueError unless all values are from 0 to `limit` - 1."""
    if values.size and not 0 <= values.min() <= values.max() < limit:
        raise ValueError(
            f"{name} goes from {values.min()} to {values.max()}; wanted 0 to {limit - 1}"
        )
