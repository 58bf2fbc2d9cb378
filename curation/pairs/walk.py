"""The walk from best to worst over pairs that are known already."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from curation.pairs.cosines import Places
from sfhq.parts.records import Array


@dataclass(frozen=True)
class Pairs:
    """Pairs above a threshold.

    Attributes:
        a, b: (P,) int64, the two of each pair.
        cosine: (P,) float64.
    """

    a: Places
    b: Places
    cosine: Array

    def __len__(self) -> int:
        return len(self.cosine)


def walk(pairs: Pairs, order: Places, frozen: int = 0) -> dict[int, tuple[int, float]]:
    """What `curation.pairs.search.greedy_best_first` says, from all pairs.

    Args:
        pairs: of indices, each once; those with an index that is not in the order do not count.
        order: (N,) indices, best first.
        frozen: how many at the start of the order stay whatever is near them.

    Returns:
        dropped index -> (index kept instead, their cosine).
    """
    if not len(pairs):
        return {}
    place = np.full(int(max(pairs.a.max(), pairs.b.max(), order.max(initial=0))) + 1, -1)
    place[order] = np.arange(len(order))
    first, second = place[pairs.a], place[pairs.b]
    later, earlier = np.maximum(first, second), np.minimum(first, second)
    counts = np.nonzero((earlier >= 0) & (later >= frozen))[0]
    # Of each one the nearest first, and of equally near ones the best.
    by = counts[np.lexsort((earlier[counts], -pairs.cosine[counts], later[counts]))]
    later, earlier, cosine = later[by], earlier[by], pairs.cosine[by]
    ends = np.nonzero(np.diff(later, prepend=-1, append=len(order)))[0]
    gone = np.zeros(len(order), dtype=np.bool_)
    dropped = {}
    for start, end in pairwise(ends.tolist()):
        kept = np.nonzero(~gone[earlier[start:end]])[0]
        if len(kept):
            winner, at = start + int(kept[0]), int(later[start])
            gone[at] = True
            dropped[int(order[at])] = (int(order[earlier[winner]]), float(cosine[winner]))
    return dropped


def in_pairs(pairs: Pairs, frozen: int) -> set[int]:
    """All indices from `frozen` on that are in a pair with another from `frozen` on."""
    both = (pairs.a >= frozen) & (pairs.b >= frozen)
    return {*np.unique(np.concatenate([pairs.a[both], pairs.b[both]])).tolist()}
