"""Feature sets as columns for the learners: standardised; wide sets reduced to principal axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sfhq.errors import UsageError
from sfhq.parts.records import Array

Blocks = Mapping[str, Array]  # name of a feature set -> (N, D) float32

PLAIN = 64  # columns; wider sets are reduced


def unit_vectors(blocks: Blocks) -> Array:
    """(N, D) unit vectors that say how alike faces are: of the embedding, else of the first set."""
    block = blocks.get("embedding", next(iter(blocks.values())))
    lengths = np.linalg.norm(block, axis=1, keepdims=True)
    unit: Array = block / np.maximum(lengths, 1e-9)
    return unit


def check_blocks(blocks: Blocks, wanted: Mapping[str, int] | None = None) -> int:
    """Number of faces.

    Raises:
        UsageError: no features, other features than wanted, or values that are not finite.
    """
    if not blocks:
        raise UsageError("no features to judge by; run: sfhq embed --redo")
    found = {name: int(np.asarray(b).shape[1]) for name, b in blocks.items()}
    if wanted is not None:
        for name, width in wanted.items():
            if found.get(name) != width:
                have = ", ".join(f"{n} ({w})" for n, w in sorted(found.items()))
                raise UsageError(
                    f"the model wants the feature set {name} with {width} columns; found {have}; "
                    f"run: sfhq embed --features {name}, or fit the model anew"
                )
    counts = {len(b) for b in blocks.values()}
    if len(counts) != 1:
        raise UsageError(f"feature sets of different lengths: {sorted(counts)}")
    for name, block in blocks.items():
        if not np.isfinite(block).all():
            raise UsageError(f"feature set {name}: values that are not finite; embed it again")
    return counts.pop()


@dataclass(frozen=True)
class Reduction:
    """Standardised columns, and the principal axes of wide sets."""

    names: tuple[str, ...]
    widths: tuple[int, ...]
    mean: Array  # (D,)
    scale: Array  # (D,)
    axes: Array  # (D, K): from standardised columns to what trees and neighbours see

    def flat(self, blocks: Blocks) -> Array:
        """(N, D) standardised columns."""
        check_blocks(blocks, dict(zip(self.names, self.widths, strict=True)))
        x = np.concatenate([np.asarray(blocks[n], np.float32) for n in self.names], axis=1)
        flat: Array = (x - self.mean) / self.scale
        return flat

    def narrow(self, flat: Array) -> Array:
        """(N, K) float32 of (N, D); computed in float64, so that a face gets the same values in any
        batch."""
        narrow: Array = (flat.astype(np.float64) @ self.axes.astype(np.float64)).astype(np.float32)
        return narrow


def reduce_blocks(blocks: Blocks, axes: int) -> Reduction:
    """Learn means, scales and axes.

    Args:
        blocks: the feature sets.
        axes: how many axes a wide set is reduced to, at most.
    """
    names = tuple(sorted(blocks))
    parts = [np.asarray(blocks[n], dtype=np.float32) for n in names]
    widths = tuple(p.shape[1] for p in parts)
    x = np.concatenate(parts, axis=1)
    mean = x.mean(axis=0)
    # Columns of a wide set share one scale; those of a narrow set have units of their own.
    scales = []
    columns: list[Array] = []
    for part, width in zip(parts, widths, strict=True):
        own = part.std(axis=0)
        if width > PLAIN:
            own = np.full(width, float(np.sqrt((own**2).mean())))
        scales.append(np.maximum(own, 1e-8))
    scale = np.concatenate(scales).astype(np.float32)
    z = (x - mean) / scale
    start = 0
    total = sum(widths)
    for width in widths:
        block = z[:, start : start + width]
        chosen = np.zeros((total, min(width, axes if width > PLAIN else width)), np.float32)
        if width > PLAIN:
            values, vectors = np.linalg.eigh((block.T @ block).astype(np.float64))
            keep = min(chosen.shape[1], max(len(x) // 4, 1))
            chosen = chosen[:, :keep]
            top = vectors[:, ::-1][:, :keep]
            spread = np.sqrt(np.maximum(values[::-1][:keep], 1e-12) / len(x))
            chosen[start : start + width] = top / max(float(spread[0]), 1e-6)
        else:
            chosen[start : start + width] = np.eye(width, dtype=np.float32)
        columns.append(chosen)
        start += width
    return Reduction(names, widths, mean, scale, np.concatenate(columns, axis=1))
