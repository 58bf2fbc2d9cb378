"""Make photographs look painted, so that an encoder learns to invert paintings.

Each style is a sequence of seeded filters on a batch of images, without learned parts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STYLES = ("oil", "watercolour", "pencil", "cel")
LUMA = (0.299, 0.587, 0.114)


def paint(images: Tensor, style: str, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """The images in one style.

    Args:
        images: (N, 3, H, W) in [-1, 1].
        style: one of `STYLES`.
        generator: random number generator for palette, paper and stroke size.
        strength: 0 returns the image unchanged, 1 gives the full style.

    Returns:
        (N, 3, H, W) in [-1, 1].

    Raises:
        ValueError: the style is unknown.
    """
    painters = {"oil": _oil, "watercolour": _watercolour, "pencil": _pencil, "cel": _cel}
    if style not in painters:
        raise ValueError(f"style is {style!r}; wanted one of {', '.join(STYLES)}")
    painted = painters[style](images, generator)
    return images.lerp(painted.clamp(-1, 1), strength)


def paint_randomly(images: Tensor, generator: torch.Generator, share: float = 0.5) -> Tensor:
    """A batch in which about `share` of the images have a random style and a random strength.

    Images of one style share palette and size of strokes.
    """
    count = len(images)
    painted = torch.rand(count, generator=generator) < share
    style = torch.randint(len(STYLES), (count,), generator=generator)
    strength = 0.4 + 0.6 * torch.rand(count, 1, 1, 1, generator=generator)
    out = images.clone()
    for number, name in enumerate(STYLES):
        rows = (painted & (style == number)).nonzero()[:, 0]
        if len(rows):
            there = rows.to(images.device)
            chosen = images[there]
            amount = strength[rows].to(images.device)
            out[there] = torch.lerp(chosen, paint(chosen, name, generator), amount)
    return out


def kuwahara(images: Tensor, radius: int) -> Tensor:
    """Smooth images and keep their edges.

    A pixel becomes the mean of one of the four square windows with the pixel in a corner: the
    window with the smallest variance.

    Args:
        images: (N, 3, H, W).
        radius: side of the windows minus one, in pixels.

    Source: Kuwahara et al. 1976, "Processing of RI-angiocardiographic images".
    """
    size = radius + 1
    padded = F.pad(images, (radius, radius, radius, radius), mode="reflect")
    mean = F.avg_pool2d(padded, size, stride=1)  # (N, 3, H + r, W + r)
    spread = (F.avg_pool2d(padded.square(), size, stride=1) - mean.square()).sum(1, keepdim=True)
    h, w = images.shape[-2:]
    corners = [(0, 0), (0, radius), (radius, 0), (radius, radius)]
    means = torch.stack([mean[..., y : y + h, x : x + w] for y, x in corners])
    spreads = torch.stack([spread[..., y : y + h, x : x + w] for y, x in corners])
    pick = spreads.argmin(dim=0, keepdim=True).expand(1, -1, 3, -1, -1)
    return means.gather(0, pick)[0]


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _smooth_noise(like: Tensor, cell: int, generator: torch.Generator) -> Tensor:
    h, w = like.shape[-2:]
    coarse = torch.randn(len(like), 1, max(h // cell, 2), max(w // cell, 2), generator=generator)
    return F.interpolate(coarse.to(like.device), (h, w), mode="bicubic", align_corners=False)


def _luma(images: Tensor) -> Tensor:
    return (images * images.new_tensor(LUMA).reshape(1, 3, 1, 1)).sum(1, keepdim=True)


def _edges(images: Tensor) -> Tensor:
    """(N, 1, H, W) gradient magnitude of the luma."""
    grey = F.pad(_luma(images), (1, 1, 1, 1), mode="replicate")
    dx = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]
    dy = grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    return (dx.square() + dy.square()).sqrt()


def _palette(images: Tensor, generator: torch.Generator, amount: float) -> Tensor:
    """The images with a random colour cast and a random change of saturation."""
    cast = torch.randn(1, 3, 1, 1, generator=generator).to(images.device) * amount
    grey = _luma(images)
    saturation = _uniform(generator, 0.7, 1.7)
    return grey + (images - grey) * saturation + cast


def _oil(images: Tensor, generator: torch.Generator) -> Tensor:
    scale = images.shape[-1] / 128
    radius = max(1, round(_uniform(generator, 2.0, 4.0) * scale))
    x = kuwahara(_palette(images, generator, 0.08), radius)
    canvas = _smooth_noise(x, max(2, round(2 * scale)), generator)
    return x + 0.03 * canvas


def _watercolour(images: Tensor, generator: torch.Generator) -> Tensor:
    scale = images.shape[-1] / 128
    x = kuwahara(images, max(1, round(3 * scale)))
    wash = _smooth_noise(x, max(4, round(16 * scale)), generator)
    x = _palette(x, generator, 0.05)
    x = 1.0 - (1.0 - x) * (0.8 + 0.12 * wash)
    return x - 0.5 * _edges(x).clamp(max=0.6)


def _pencil(images: Tensor, generator: torch.Generator) -> Tensor:
    scale = images.shape[-1] / 128
    grey = (_luma(images) + 1.0) / 2.0
    size = 2 * max(1, round(3 * scale)) + 1
    blurred = F.avg_pool2d(grey, size, stride=1, padding=size // 2, count_include_pad=False)
    dodge = (grey / blurred.clamp(min=0.05)).clamp(0, 1)
    shade = _uniform(generator, 0.35, 0.7)
    drawn = dodge * (1.0 - shade) + grey * shade
    paper = images.new_tensor([1.0, 0.98, 0.93]).reshape(1, 3, 1, 1)
    return (drawn * paper + 0.02 * _smooth_noise(images, 2, generator)) * 2.0 - 1.0


def _cel(images: Tensor, generator: torch.Generator) -> Tensor:
    scale = images.shape[-1] / 128
    x = kuwahara(_palette(images, generator, 0.05), max(1, round(2 * scale)))
    levels = round(_uniform(generator, 5.0, 9.0))
    flat = ((x + 1.0) / 2.0 * levels).round() / levels * 2.0 - 1.0
    lines = (_edges(x) * _uniform(generator, 1.5, 3.0)).clamp(0, 1)
    return flat - 0.8 * lines
