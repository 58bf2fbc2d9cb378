"""Random views of samples: moved, turned, mirrored, recoloured, blurred, compressed, covered.

So that a network that has seen few photos does not depend on what renders have and photos lack.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from annotate.teachers.masks import ANY
from annotate.training.samples import Samples
from sfhq.faces.classes import SIDED
from sfhq.networks.names import POINTS, mirrored_points

SCALE, SHIFT, TURN = 0.15, 0.1, 15.0  # largest change: share, share of the side, degrees


@dataclass(frozen=True, eq=False)
class Batch:
    """n augmented samples of side S; NaN stands for unknown.

    Attributes:
        images: (n, 3, S, S) float32 in [-1, 1].
        bits: (n, S, S) int64, bit c is set where class c is possible.
        hair: (n, S, S) float32 share of hair; NaN where unknown.
        exact: (n,) bool.
        points: (n, 112, 2) pixels.
        weights: (n, 112).
        seen, pose, gaze, attributes, years: as in `Samples`.
    """

    images: Tensor
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


def augment(samples: Samples, indices: Tensor, generator: torch.Generator) -> Batch:
    """Random views of some samples.

    Args:
        samples: of side S.
        indices: (n,) which.
        generator: decides everything.
    """
    count, size = len(indices), samples.pixels.shape[-1]

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    flipped = draw(count) < 0.5
    turn = (draw(count) * 2 - 1) * draw(count).sqrt() * TURN
    scale = 1 + (draw(count) * 2 - 1) * SCALE
    shift = (draw(count, 2) * 2 - 1) * draw(count, 1) * SHIFT * size
    matrix = _matrix(turn, scale, shift)  # from points of the sample to points of the view
    pixels = samples.pixels[indices].float() / 255
    layers = [pixels, samples.hair[indices].float()[:, None] / 255]
    layers.append(samples.bits[indices].float()[:, None])  # whole numbers below 2 ** 24 are exact
    whole = torch.cat(layers, 1)
    whole = torch.where(flipped[:, None, None, None], whole.flip(3), whole)
    grid, inside = _grid(matrix, size)
    moved = F.grid_sample(whole[:, :4], grid, "bilinear", "reflection", align_corners=False)
    bits = F.grid_sample(whole[:, 4:], grid, "nearest", "border", align_corners=False)[:, 0].long()
    bits = torch.where(flipped[:, None, None], _swapped(bits), bits)
    bits = torch.where(inside, bits, ANY)
    hair = torch.where(inside, moved[:, 3], torch.nan)
    points, weights, seen = _moved_points(samples, indices, flipped, matrix, size)
    images, covered = _covered(_photographed(moved[:, :3], generator), generator)
    bits = torch.where(covered, ANY, bits)
    hair = torch.where(covered, torch.nan, hair)
    sign = torch.where(flipped, -1.0, 1.0)
    pose = samples.pose[indices] * torch.stack([sign, torch.ones(count), sign], 1)
    # The picture turned clockwise by an angle turns the head towards the subject's left shoulder.
    pose[:, 2] -= turn
    gaze = samples.gaze[indices] * torch.stack([sign, torch.ones(count)], 1)
    return Batch(
        images=images * 2 - 1,
        bits=bits,
        hair=hair,
        exact=samples.exact[indices],
        points=points,
        weights=weights,
        seen=seen,
        pose=pose,
        gaze=gaze,
        attributes=samples.attributes[indices],
        years=samples.years[indices],
    )


def plain(samples: Samples, indices: Tensor) -> Batch:
    """Samples as they are."""
    return Batch(
        images=samples.pixels[indices].float() / 127.5 - 1,
        bits=samples.bits[indices].long(),
        hair=samples.hair[indices].float() / 255,
        exact=samples.exact[indices],
        points=samples.points[indices],
        weights=samples.weights[indices],
        seen=samples.seen[indices],
        pose=samples.pose[indices],
        gaze=samples.gaze[indices],
        attributes=samples.attributes[indices],
        years=samples.years[indices],
    )


def _matrix(turn: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """(n, 2, 3) about the middle of the picture: clockwise by degrees, scaled, moved by pixels."""
    angle = torch.deg2rad(turn)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = [torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)]
    return torch.stack(rows, 1)


def _grid(matrix: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Where each pixel of the views comes from, for `grid_sample`, and whether it is inside."""
    steps = torch.arange(size) - (size - 1) / 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    there = torch.stack([x, y], -1).reshape(1, -1, 2) - matrix[:, None, :, 2]
    back = torch.linalg.inv(matrix[:, :, :2])
    grid = (there @ back.transpose(1, 2)).reshape(-1, size, size, 2) * (2 / size)
    return grid, (grid.abs() <= 1).all(-1)


def _swapped(bits: Tensor) -> Tensor:
    """Bits of classes with left and right exchanged."""
    out = bits
    for a, b in SIDED:
        differ = ((bits >> a) ^ (bits >> b)) & 1
        out = out ^ (differ << a) ^ (differ << b)
    return out


def _moved_points(
    samples: Samples, indices: Tensor, flipped: Tensor, matrix: Tensor, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    order = torch.tensor(mirrored_points())
    middle = (size - 1) / 2
    points = samples.points[indices] - middle
    mirrored = points[:, order] * torch.tensor([-1.0, 1.0])
    points = torch.where(flipped[:, None, None], mirrored, points)
    weights = samples.weights[indices]
    weights = torch.where(flipped[:, None], weights[:, order], weights)
    seen = samples.seen[indices]
    seen = torch.where(flipped[:, None], seen[:, order[:POINTS]], seen)
    points = points @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2] + middle
    inside = ((points > 0) & (points < size - 1)).all(-1)
    seen = torch.where(inside[:, :POINTS], seen, torch.nan)
    return points, weights * inside, seen


def _photographed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Colour, sharpness, noise and compression of another camera; images in [0, 1]."""
    count, size = len(images), images.shape[-1]

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    def some(share: float) -> Tensor:
        return (rand(count) < share)[:, None, None, None]

    gain = 1 + 0.25 * (rand(count, 3, 1, 1) * 2 - 1) * rand(count, 1, 1, 1)
    out = images * gain * (0.65 + 0.7 * rand(count, 1, 1, 1))
    mean = out.mean((1, 2, 3), keepdim=True)
    out = (out - mean) * (0.65 + 0.7 * rand(count, 1, 1, 1)) + mean
    grey = out.mean(1, keepdim=True)
    colour = torch.where(some(0.06), torch.zeros(1), 0.5 + rand(count, 1, 1, 1))
    out = (grey + (out - grey) * colour).clamp(0, 1)
    out = out ** torch.exp(0.5 * (rand(count, 1, 1, 1) * 2 - 1))
    noise = torch.randn(out.shape, generator=generator) * 0.06 * rand(count, 1, 1, 1)
    out = torch.where(some(0.35), out + noise, out).clamp(0, 1)
    done = []
    for image, low, factor, packed, quality in zip(
        out,
        (rand(count) < 0.35).tolist(),
        (1.3 + 3.2 * rand(count) ** 2).tolist(),
        (rand(count) < 0.35).tolist(),
        (25 + 65 * rand(count)).int().tolist(),
        strict=True,
    ):
        if low:
            small = F.interpolate(
                image[None], size=round(size / factor), mode="bilinear", antialias=True
            )
            image = F.interpolate(small, size=size, mode="bilinear")[0]
        done.append(_compressed(image, quality) if packed else image)
    return torch.stack(done)


def _compressed(image: Tensor, quality: int) -> Tensor:
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    packed = np.asarray(Image.open(buffer), np.float32) / 255
    return torch.from_numpy(packed).permute(2, 0, 1)


def _covered(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cover a rectangle of some images with a colour; also (n, S, S) whether a pixel is covered."""
    count, size = len(images), images.shape[-1]
    chosen = torch.rand(count, generator=generator) < 0.2
    sides = 0.06 + 0.22 * torch.rand(count, 2, generator=generator)
    middle = torch.rand(count, 2, generator=generator)
    colour = torch.rand(count, 3, 1, 1, generator=generator)
    steps = (torch.arange(size) + 0.5) / size
    across = (steps - middle[:, :1]).abs() < sides[:, :1] / 2
    down = (steps - middle[:, 1:]).abs() < sides[:, 1:] / 2
    covered = across[:, None, :] & down[:, :, None] & chosen[:, None, None]
    return torch.where(covered[:, None], colour, images), covered
