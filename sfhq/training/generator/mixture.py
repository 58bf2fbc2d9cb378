"""Give a generator a mapping that draws between the codes of known faces."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from statistics import NormalDist

import torch
from torch import Tensor

from stylegan2_ops.generator import Generator
from stylegan2_ops.mapping import MixtureMapping

# Length of the keys. Of 1,790 codes a draw takes two with 8 and fifteen with 3. Longer keys draw
# more people, but some of their images are near-copies of a photo: docs/training.md.
SHARPNESS = 3.0
RARE = 0.15  # of the faces; a look that more have is drawn often enough by itself
TOGETHER = 0.6  # how far keys of a rare look are moved, 1 where their draws outweigh all others
# Far from seeds that people give: a z drawn like a key would be the code of one photo.
KEYS_SEED = 7_210_633_518
AVERAGED = 65_536  # draws for the mean of w


@torch.no_grad()
def with_mixture(
    generator: Generator,
    codes: Tensor,
    basis: Tensor,
    bias: Tensor | None = None,
    seed: int = 0,
    looks: Tensor | None = None,
) -> Generator:
    """A copy of a generator with a `MixtureMapping`; the synthesis stays.

    No random numbers of torch's default generator are drawn.

    Args:
        generator: any, on the CPU.
        codes: (M, dim) of faces, at least one.
        basis: (dim, w_dim), from codes to w before the leaky ReLU.
        bias: (w_dim,) w of the code 0 before the leaky ReLU; None for zeros.
        seed: of the keys.
        looks: (M, K) of 0 and 1, which faces have which look; None for none. Keys of a look that
            few have lie together, or a draw of several codes would hardly ever show it.

    Raises:
        ValueError: `looks` has another shape.
    """
    config = generator.config
    made = copy.deepcopy(generator)
    made.config = replace(config, modes=len(codes), code_dim=codes.shape[1])
    mapping = MixtureMapping(config.z_dim, config.w_dim, len(codes), codes.shape[1])
    rng = torch.Generator().manual_seed(KEYS_SEED + seed)
    mapping.keys.copy_(_keys(len(codes), config.z_dim, looks, rng))
    mean = codes.mean(dim=0)
    mapping.codes.copy_(codes - mean)
    mapping.basis.copy_(basis)
    mapping.bias.copy_(mean @ basis + (0 if bias is None else bias))
    total = torch.zeros(config.w_dim, dtype=torch.float64)
    for _ in range(AVERAGED // 2048):
        total += mapping(torch.randn(2048, config.z_dim, generator=rng)).double().sum(dim=0)
    mapping.w_avg.copy_(total / AVERAGED)
    made.mapping = mapping
    return made


def _keys(count: int, width: int, looks: Tensor | None, rng: torch.Generator) -> Tensor:
    """(count, width): random keys, moved along a random axis for each rare look.

    Of n faces a share p has a look. Where z reaches along the axis as far as a share p of all draws
    does, keys that are moved by `step` (of a look's deviation) outweigh all others together.
    """
    keys: Tensor = torch.randn(count, width, generator=rng)
    keys = SHARPNESS * keys / keys.norm(dim=1, keepdim=True)
    if looks is None:
        return keys
    if looks.dim() != 2 or len(looks) != count or looks.shape[1] >= width:
        raise ValueError(
            f"looks have shape {tuple(looks.shape)}; wanted ({count}, fewer than {width})"
        )
    share = looks.float().mean(dim=0)
    rare = looks.float()[:, (share > 0) & (share <= RARE)]
    if rare.shape[1] == 0:
        return keys
    axes = torch.linalg.qr(torch.randn(width, rare.shape[1], generator=rng)).Q
    keys = keys - keys @ axes @ axes.t()
    for axis, look in zip(axes.t(), rare.t(), strict=True):
        p = float(look.mean())
        deviation = math.sqrt(p * (1 - p))
        step = deviation * math.log((1 - p) / p) / NormalDist().inv_cdf(1 - p)
        keys = keys + TOGETHER * step * ((look - p) / deviation)[:, None] * axis
    return keys
