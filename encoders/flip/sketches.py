"""Retrieval of a photo by a sketch that is being drawn: how early, and how well it is found.

Source: Bhunia et al. 2020, "Sketch Less for More"; Dai et al. 2024, "Sketch Less Face Image
Retrieval", for the weighted forms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SketchScores:
    """Scores of photos that are searched by unfinished sketches, each of T steps.

    Attributes:
        m_a: mean ranking percentile, (N - rank) / (N - 1).
        m_b: mean of 1 / rank.
        weighted_a, weighted_b: the same with the weight exp(-t / T) of step t, so that finding a
            photo early counts more; divided by T.
        weighted_most: the largest value of the weighted forms.
        a1, a5, a10: share of photos among the first 1, 5, 10 for the finished sketch.
        photos, steps, gallery: how many photos were searched, with how many steps, among how many.
    """

    m_a: float
    m_b: float
    weighted_a: float
    weighted_b: float
    weighted_most: float
    a1: float
    a5: float
    a10: float
    photos: int
    steps: int
    gallery: int


def sketch_ranks(similarity: Tensor, truth: Tensor) -> Tensor:
    """(P, T) rank of the true photo at each step: how many photos are at least as close as it.

    Args:
        similarity: (P, T, N) of sketches and the gallery's photos.
        truth: (P,) the place of the true photo.
    """
    own = similarity.gather(2, truth[:, None, None].expand(*similarity.shape[:2], 1))
    return (similarity >= own).sum(2)


def sketch_scores(ranks: Tensor, gallery: int) -> SketchScores:
    """The scores of some ranks.

    Args:
        ranks: (P, T) int64, 1 to `gallery`, the finished sketch last.
        gallery: number of photos, 2 or more.

    Raises:
        ValueError: a rank lies outside the gallery.
    """
    if gallery < 2 or not ranks.numel() or int(ranks.min()) < 1 or int(ranks.max()) > gallery:
        raise ValueError(f"ranks outside 1 to {gallery}, or a gallery of less than 2 photos")
    steps = ranks.shape[1]
    places = ranks.double()
    percentile, reciprocal = (gallery - places) / (gallery - 1), 1 / places
    weights = torch.tensor([math.exp(-t / steps) for t in range(1, steps + 1)], dtype=torch.float64)
    last = ranks[:, -1]
    found = SketchScores(
        m_a=float(percentile.mean()),
        m_b=float(reciprocal.mean()),
        weighted_a=float((percentile * weights).mean()),
        weighted_b=float((reciprocal * weights).mean()),
        weighted_most=float(weights.mean()),
        a1=float((last <= 1).double().mean()),
        a5=float((last <= 5).double().mean()),
        a10=float((last <= 10).double().mean()),
        photos=len(ranks),
        steps=steps,
        gallery=gallery,
    )
    # A rank's percentile is below its reciprocal only at the last place, and by 1 / N.
    assert found.m_a >= found.m_b - 1 / gallery - 1e-12, "m@A < m@B - 1/N: the ranks are wrong"
    return found
