"""A board: a row of sample faces for each value of a column."""

from __future__ import annotations

import numpy as np

from curation.explore.explorer import Explorer
from curation.explore.facets import Facet, finite
from curation.explore.views import View
from sfhq.errors import UsageError
from sfhq.parts.records import Array, Json


def board(explorer: Explorer, view: View, column: str, across: int) -> list[dict[str, Json]]:
    """Rows of sample faces, the samples spread evenly over the view.

    Args:
        explorer: with the faces.
        view: which faces.
        column: a facet; numbers are cut at round steps into at most eleven ranges.
        across: faces in a row at most.

    Returns:
        Of each row `label`, `count`, `faces` as cards, and what filters them: `value` or `range`.

    Raises:
        UsageError: no such facet, or something in the view cannot be.
        SfhqError: the encoder cannot be had.
    """
    facet = explorer.facets.get(column)
    if facet is None:
        raise UsageError(f"board: no column {column[:80]!r} that tells faces apart")
    rows = []
    for label, chosen in _groups(explorer, facet, explorer.order(view)):
        spread = chosen[np.linspace(0, len(chosen) - 1, min(across, len(chosen))).astype(int)]
        cards = explorer.cards(spread.tolist())
        rows.append({**label, "count": len(chosen), "faces": cards})
    return rows


def _groups(explorer: Explorer, facet: Facet, order: Array) -> list[tuple[dict[str, Json], Array]]:
    if facet.kind != "number":
        groups = [(v, order[facet.holding(k)[order]]) for k, v in enumerate(facet.values)]
        return [({"label": v, "value": v}, g) for v, g in groups if len(g)]
    sql = f"SELECT coalesce({finite(facet.name)}, 'nan'::DOUBLE) FROM faces ORDER BY i"
    values = explorer.faces.column(sql)[order]
    step = _step(facet.high - facet.low)
    first, last = int(np.floor(facet.low / step)), int(np.floor(facet.high / step))
    found = []
    for k in range(first, last + 1):
        low, high = float(f"{k * step:.12g}"), float(f"{(k + 1) * step:.12g}")
        group = order[(values >= low) & (values < high)]
        if len(group):
            found.append(({"label": f"{low:g} to {high:g}", "range": [low, high]}, group))
    return found


def _step(span: float) -> float:
    """1, 2 or 5 times a power of ten that cuts a span into five to eleven ranges."""
    power = 10.0 ** np.floor(np.log10(span / 10))
    return float(next(k * power for k in (1, 2, 5, 10, 20) if span / (k * power) <= 10))
