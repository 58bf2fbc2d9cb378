"""Samples of one size in memory: pictures with what is known of each, and what is not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from annotate.teachers.adapt import TAUGHT, Adapter
from annotate.teachers.masks import ANY, allowed
from annotate.teachers.photos import Taught
from annotate.training.heads import Heads
from annotate.training.words import attributes_of, shows_one_face, years_of
from sfhq.networks.names import ATTRIBUTES, POINTS, TRACKED
from sfhq.training.photos import is_held_out

LEAST_PRESENCE = 0.8  # of a face, below which points and mask of a photo are not believed
DOUBTED = 0.03  # eye distances: a taught point with this error has half the weight of an exact one
MOST_ANGLE_ERROR = 6.0  # degrees: what the mesh tells no better is not taught


@dataclass(frozen=True, eq=False)
class Samples:
    """N pictures of side S; NaN stands for unknown.

    Attributes:
        pixels: (N, 3, S, S) uint8.
        bits: (N, S, S) int32, bit c is set where class c is possible.
        hair: (N, S, S) uint8, share of hair times 255.
        exact: (N,) bool, labels are exact; otherwise they are teachers'.
        points: (N, 112, 2) pixels.
        weights: (N, 112) 0 to 1, how much a point counts.
        seen: (N, 110) 1 visible, 0 hidden.
        pose: (N, 3) degrees.
        gaze: (N, 2) degrees.
        attributes: (N, K) 0 or 1.
        years: (N,).
        names: N names of files or faces, by which some are held out.
    """

    pixels: Tensor
    bits: Tensor
    hair: Tensor
    exact: Tensor
    points: Tensor
    weights: Tensor
    seen: Tensor
    pose: Tensor
    gaze: Tensor
    attributes: Tensor
    years: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def select(self, keep: Iterable[bool]) -> Samples:
        """The samples whose flag is true."""
        chosen = [i for i, flag in enumerate(keep) if flag]
        kept: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(Samples)}
        names = tuple(self.names[i] for i in chosen)
        del kept["names"]
        return Samples(**{name: value[chosen] for name, value in kept.items()}, names=names)


def part_of(name: str) -> str:
    """Which of "test", "calibration" and "train" a file or face belongs to, by its name alone.

    A tenth is for tests, as in all trainings of this project, and a tenth of the rest calibrates.
    """
    if is_held_out(name):
        return "test"
    return (
        "calibration" if is_held_out(f"calibration {name.rpartition('.')[0] or name}") else "train"
    )


def one_kind(samples: Samples, exact: float) -> Samples:
    """The samples that a share of rendered heads leaves: one kind for 0 and 1, else all.

    Args:
        samples: rendered heads and photos.
        exact: share of rendered heads in a batch, 0 to 1.
    """
    if exact not in (0, 1):
        return samples
    return samples.select((samples.exact == bool(exact)).tolist())


def joined(parts: Iterable[Samples]) -> Samples:
    """All samples of several lots of one size."""
    lots = list(parts)
    tensors: dict[str, Any] = {
        f.name: torch.cat([getattr(lot, f.name) for lot in lots])
        for f in fields(Samples)
        if f.name != "names"
    }
    return Samples(**tensors, names=tuple(name for lot in lots for name in lot.names))


def head_samples(heads: Heads) -> Samples:
    """Rendered heads as samples: everything is known but what no renderer can judge."""
    count = len(heads.names)
    flags = torch.from_numpy(heads.flags)
    points = torch.from_numpy(np.concatenate([heads.points, heads.irises], 1).astype(np.float32))
    weights = torch.ones(count, TRACKED)
    weights[:, :POINTS] = (flags > 0).float()
    # A point behind hair or beyond the profile is inferred: it counts, but less.
    weights[:, :POINTS] *= torch.where(flags == 1, 0.5, 1.0)
    return Samples(
        pixels=torch.from_numpy(heads.pixels).permute(0, 3, 1, 2).contiguous(),
        bits=(1 << torch.from_numpy(heads.classes).int()),
        hair=torch.from_numpy(heads.hair),
        exact=torch.ones(count, dtype=torch.bool),
        points=points,
        weights=weights,
        seen=torch.where(flags > 0, (flags == 2).float(), torch.nan),
        pose=torch.from_numpy(heads.angles[:, :3].astype(np.float32)),
        gaze=torch.from_numpy(heads.angles[:, 3:].astype(np.float32)),
        attributes=torch.from_numpy(heads.attributes),
        years=torch.from_numpy(heads.years.astype(np.float32)),
        names=heads.names,
    )


def photo_samples(photos: Taught, words: dict[str, str], adapter: Adapter) -> Samples:
    """Photos as samples: masks and points by the teachers, attributes by words.

    Photos whose words say that they do not show one plain face are left out.

    Args:
        photos: what the teachers saw.
        words: file name -> words; names without words have no attributes.
        adapter: from the mesh to our points.
    """
    rows = [i for i, n in enumerate(photos.names.tolist()) if shows_one_face(words.get(n, ""))]
    names = tuple(str(photos.names[i]) for i in rows)
    mesh, presence = photos.mesh[rows], photos.presence[rows]
    told = [words.get(name, "") for name in names]
    placed, angles = adapter(mesh)
    count, size = len(rows), photos.crops.shape[1]
    points = np.full((count, TRACKED, 2), 0.0, np.float32)
    points[:, list(TAUGHT)] = placed
    trust = 1 / (1 + (adapter.point_error / DOUBTED) ** 2)
    weights = np.zeros((count, TRACKED), np.float32)
    weights[:, list(TAUGHT)] = trust * (presence > LEAST_PRESENCE)[:, None]
    angles[:, adapter.angle_error > MOST_ANGLE_ERROR] = np.nan
    angles[presence <= LEAST_PRESENCE] = np.nan
    attributes = np.stack([attributes_of(t) for t in told])
    lenses = attributes[:, ATTRIBUTES.index("Eyeglasses")]
    bits = np.stack(
        [
            allowed(mesh[k], photos.hair[i], photos.person[i], glasses=bool(lenses[k] != 0))
            if presence[k] > LEAST_PRESENCE
            else np.full((size, size), ANY, np.int32)
            for k, i in enumerate(rows)
        ]
    )
    return Samples(
        pixels=torch.from_numpy(photos.crops[rows]).permute(0, 3, 1, 2).contiguous(),
        bits=torch.from_numpy(bits),
        hair=torch.from_numpy(photos.hair[rows]),
        exact=torch.zeros(count, dtype=torch.bool),
        points=torch.from_numpy(points),
        weights=torch.from_numpy(weights),
        seen=torch.full((count, POINTS), torch.nan),
        pose=torch.from_numpy(angles[:, :3].astype(np.float32)),
        gaze=torch.from_numpy(angles[:, 3:].astype(np.float32)),
        attributes=torch.from_numpy(attributes),
        years=torch.tensor([years_of(t) for t in told]),
        names=names,
    )
