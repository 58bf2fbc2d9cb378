"""Arithmetic on many short rows, column by column: numpy is slow if the last axis is short."""

from __future__ import annotations

import numpy as np

from sfhq.render.head.assets import Floats


def blend(a: Floats, b: Floats, share: Floats | float) -> Floats:
    """(N, C) rows a + share * (b - a).

    Args:
        a: (N, C).
        b: (N, C) or (C,).
        share: (N,), or one number for all rows.
    """
    out = np.empty(a.shape, np.result_type(a, b, share))
    for i in range(a.shape[1]):
        out[:, i] = a[:, i] + share * (b[..., i] - a[:, i])
    return out


def shifted(rows: Floats, by: Floats, factor: Floats | float) -> Floats:
    """(N, C) rows with `factor` times `by` added; shapes as in `blend`."""
    out = np.empty(rows.shape, np.result_type(rows, by, factor))
    for i in range(rows.shape[1]):
        out[:, i] = rows[:, i] + factor * by[..., i]
    return out
