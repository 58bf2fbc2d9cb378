"""Measure quality and variety of generated images, on feature vectors of any network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfhq.parts.records import Array


def frechet_distance(a: Array, b: Array) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features.

    Args:
        a: (N, D) features.
        b: (M, D) features.

    Returns:
        |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)), 0 for equal Gaussians.

    Source: Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule".
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    shift = x.mean(axis=0) - y.mean(axis=0)
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, axes = np.linalg.eigh(first)
    root = (axes * np.sqrt(values.clip(min=0))) @ axes.T
    inner = np.linalg.eigvalsh(root @ second @ root).clip(min=0)
    return float(shift @ shift + np.trace(first) + np.trace(second) - 2.0 * np.sqrt(inner).sum())


def distances(a: Array, b: Array) -> Array:
    """(N, M) Euclidean distances between the rows of (N, D) and (M, D)."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    squared = (x * x).sum(1)[:, None] + (y * y).sum(1)[None] - 2.0 * x @ y.T
    result: Array = np.sqrt(squared.clip(min=0))
    return result


def _radii(points: Array, k: int) -> Array:
    """(N,) distance of each point to its k-th nearest neighbour."""
    gaps = distances(points, points)
    np.fill_diagonal(gaps, np.inf)
    result: Array = np.sort(gaps, axis=1)[:, k - 1]
    return result


def precision_recall(real: Array, fake: Array, k: int = 3) -> tuple[float, float]:
    """Precision and recall of generated images, 0 to 1 each.

    Precision is the share of generated images in the neighbourhood of a real image; recall is the
    share of real images in the neighbourhood of a generated image. The neighbourhood of a point
    reaches to its k-th nearest neighbour.

    Args:
        real: (N, D) features of real images.
        fake: (M, D) features of generated images.
        k: number of neighbours.

    Source: Kynkaanniemi et al. 2019, "Improved Precision and Recall Metric".
    """
    gaps = distances(real, fake)
    precision = (gaps <= _radii(real, k)[:, None]).any(axis=0).mean()
    recall = (gaps <= _radii(fake, k)[None]).any(axis=1).mean()
    return float(precision), float(recall)


@dataclass(frozen=True)
class CopyAudit:
    """Distances of generated images to training photos.

    Attributes:
        nearest: (M,) distance of each generated image to its nearest training photo.
        limit: a smaller distance counts as a near-copy. It is the first percentile of the
            distances of held-out photos to their nearest training photo.
        copies: share of generated images that are near-copies.
    """

    nearest: Array
    limit: float
    copies: float


def audit_copies(fake: Array, train: Array, held_out: Array) -> CopyAudit:
    """Find near-copies of training photos among generated images.

    Args:
        fake: (M, D) features of generated images.
        train: (N, D) features of the training photos.
        held_out: (K, D) features of photos that the generator was not trained on.
    """
    nearest = distances(fake, train).min(axis=1)
    natural = distances(held_out, train).min(axis=1)
    limit = float(np.percentile(natural, 1))
    return CopyAudit(nearest, limit, float((nearest < limit).mean()))
