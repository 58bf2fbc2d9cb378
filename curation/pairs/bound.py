"""Codes of eight bits for unit vectors, and a proof that no pair above a cosine is lost.

Rotate a unit vector by an orthogonal matrix and cut it in two: x = (h, t), head and tail. Round
the head to codes, h = s q + e, and keep |e| and |t|. For two vectors

    <h, h'> = s^2 <q, q'> + <e, h'> + <s q, e'>
           <= s^2 <q, q'> + |e| |h'| + (|h| + |e|) |e'|
    <t, t'> <= |t| |t'|                                            (Cauchy and Schwarz)

so a pair whose cosine is above a threshold has an integer product <q, q'> above a number that
splits into a row's and a column's share. What passes is decided again, exactly; what does not
is proved to be below. The rotation spreads every coordinate over all codes, so that rounding
costs little (about 0.012 a vector of 768). The tail is empty unless the vectors lie near a
plane of few dimensions: then the head is their principal plane, and the tails' own codes are
looked at only where the bound says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sfhq.parts.records import Array

LONGEST = 1.001  # of a unit vector or of its head, rounding included
MOST_LOST = 0.049  # up to this |e|, |h| + |e| stays below REACH; with more, every pair passes
REACH = 1.05
SAMPLE = 4096  # vectors that choose the scale and the plane
# Measured costs; 1 is to compare all codes of two vectors.
SECOND_LOOK = 15.0
DECISION = 400.0
WIDTHS = (64, 128, 192, 256, 384)  # of a principal plane


@dataclass(frozen=True)
class Plan:
    """How vectors become codes.

    Attributes:
        rotation: (D, D) float32, orthogonal up to `slack`; vectors are multiplied from the left.
        width: coordinates of the head; D where there is no tail.
        scale, rest_scale: what one step of a code is worth, head and tail.
        levels: the largest code.
        slack: how far rotation and rounding in float32 may move a cosine.
    """

    rotation: npt.NDArray[np.float32]
    width: int
    scale: float
    rest_scale: float
    levels: int
    slack: float


def float32_slack(dimension: int, rotation: Array | None = None) -> float:
    """How far a cosine of rotated unit vectors may be from the true one.

    A sum of D products in float32 errs by at most gamma = D u / (1 - D u) of the sum of
    their sizes, in any order (Higham, "Accuracy and Stability of Numerical Algorithms",
    3.1); over D coordinates that is sqrt(D) gamma a vector.

    Args:
        dimension: D.
        rotation: (D, D); None where vectors are multiplied as they are.
    """
    gamma = dimension * 2.0**-24 / (1 - dimension * 2.0**-24)
    if rotation is None:
        return gamma + 1e-6
    exact = rotation.astype(np.float64)
    off = float(np.linalg.norm(exact.T @ exact - np.eye(dimension)))
    one = math.sqrt(dimension) * gamma * (1 + off)
    return 2 * one + one * one + off + 2e-5  # the last for sums of squares in float32


def plan_codes(sample: Array, threshold: float, levels: int, seed: int = 0) -> Plan:
    """Choose rotation, scale and, if the sample says that it pays, a principal plane.

    Args:
        sample: (n, D) float32 unit vectors, a few thousand.
        threshold: the cosine to be searched.
        levels: the largest code.
        seed: of the random rotation.
    """
    dimension = sample.shape[1]
    rng = np.random.default_rng(seed)
    best = _plan(_random_rotation(dimension, rng), dimension, sample, levels)
    if len(sample) >= 1024 and dimension >= 256:
        cheapest = cost_of(best, sample, threshold)
        axes = principal_axes(sample)
        for width in (w for w in WIDTHS if w < dimension):
            plan = plane_plan(axes, width, sample, levels, rng)
            cost = cost_of(plan, sample, threshold)
            if cost < cheapest:
                best, cheapest = plan, cost
    return best


def principal_axes(sample: Array) -> Array:
    """(D, D) float64, directions with the most energy first; the mean is not taken out."""
    second = sample.astype(np.float64).T @ sample.astype(np.float64)
    axes: Array = np.linalg.eigh(second)[1][:, ::-1]
    return axes


def plane_plan(
    axes: Array, width: int, sample: Array, levels: int, rng: np.random.Generator
) -> Plan:
    """A head of the first axes and a tail of the others, each rotated within itself."""
    head = axes[:, :width] @ _random_rotation(width, rng)
    tail = axes[:, width:] @ _random_rotation(len(axes) - width, rng)
    return _plan(np.concatenate([head, tail], axis=1), width, sample, levels)


def _random_rotation(dimension: int, rng: np.random.Generator) -> Array:
    q, r = np.linalg.qr(rng.standard_normal((dimension, dimension)))
    rotation: Array = q * np.sign(np.diag(r))
    return rotation


def _plan(rotation: Array, width: int, sample: Array, levels: int) -> Plan:
    rotation = rotation.astype(np.float32)
    rotated = sample @ rotation
    return Plan(
        rotation=rotation,
        width=width,
        scale=_scale(rotated[:, :width], levels),
        rest_scale=_scale(rotated[:, width:], levels),
        levels=levels,
        slack=float32_slack(len(rotation), rotation),
    )


def _scale(values: Array, levels: int) -> float:
    """The step with the smallest rounding error; values may be cut off, and the bound allows it."""
    if values.size == 0:
        return 1.0
    values = values[:512]
    largest = max(float(np.abs(values).max()), 1e-6)
    losses = []
    for share in (1.0, 0.9, 0.8, 0.7, 0.6):
        step = largest * share / levels
        codes = np.clip(np.rint(values / step), -levels, levels)
        losses.append((float(((values - codes * step) ** 2).sum()), step))
    return min(losses)[1]


def cost_of(plan: Plan, sample: Array, threshold: float) -> float:
    """The expected cost of a plan; 1 is a first look at all coordinates of all pairs."""
    rotated = sample[:2048] @ plan.rotation
    head, tail = rotated[:, : plan.width], rotated[:, plan.width :]
    dimension = rotated.shape[1]
    # Of evenly spread rounding errors, for both vectors of a pair.
    lost = 2 * math.sqrt(plan.width / 12) * plan.scale + plan.slack
    rest_lost = 2 * math.sqrt(tail.shape[1] / 12) * plan.rest_scale
    tails = np.linalg.norm(tail, axis=1)
    products = head @ head.T
    pairs = max(len(head) * (len(head) - 1) / 2, 1)
    first = (products + np.outer(tails, tails)) > threshold - lost
    second = (products + tail @ tail.T) > threshold - lost - rest_lost
    looked, decided = (float(np.triu(m, k=1).sum()) / pairs for m in (first, second))
    work = (plan.width + 24) / (dimension + 24)
    share = 768 / dimension
    second_looks = looked * SECOND_LOOK if tail.size else 0.0
    return float(work + (second_looks + decided * DECISION) * share)


@dataclass(frozen=True)
class Shares:
    """The numbers that the search compares: a row's and a column's share of the bound.

    Attributes:
        limit: (n,) float32; as rows: a tile's sum above it passes.
        add: (n,) int32; as columns: what a tile's sum starts from.
        tail: (n,) float32, length of the tail in steps.
        row_base, column_base: (n,) float64, shares of the second look's bound.
    """

    limit: npt.NDArray[np.float32]
    add: npt.NDArray[np.int32]
    tail: npt.NDArray[np.float32]
    row_base: npt.NDArray[np.float64]
    column_base: npt.NDArray[np.float64]


def shares(
    plan: Plan,
    threshold: float,
    offset: int,
    sums: npt.NDArray[np.int32],
    lost: npt.NDArray[np.float64],
    rest_lost: npt.NDArray[np.float64],
    tail: npt.NDArray[np.float64],
) -> Shares:
    """Shares of the bound, rounded to the safe side.

    Args:
        plan: what made the codes.
        threshold: the cosine.
        offset: what is added to a column's codes to make them unsigned.
        sums: (n,) sum of the head's codes.
        lost, rest_lost: (n,) lengths of what rounding left, head and tail.
        tail: (n,) lengths of the tails.
    """
    unit = plan.scale * plan.scale
    lost = lost * (1 + 1e-5) + 1e-7
    rest_lost = rest_lost * (1 + 1e-5) + 1e-7
    aim = threshold - plan.slack
    # The offset enters every sum of the tile as offset * (the row's codes).
    limit = (aim - LONGEST * lost) / unit + float(offset) * sums
    limit = limit - np.abs(limit) * 1e-6 - 4
    limit[lost > MOST_LOST] = -np.inf
    add = np.ceil(REACH * lost / unit)
    whole = lost + rest_lost
    row_base = LONGEST * whole - unit * float(offset) * sums
    row_base[whole > MOST_LOST] = np.inf
    return Shares(
        limit=limit.astype(np.float32),
        add=add.astype(np.int32),
        tail=(tail / plan.scale * (1 + 1e-5)).astype(np.float32),
        row_base=row_base,
        column_base=REACH * whole - unit * add,
    )
