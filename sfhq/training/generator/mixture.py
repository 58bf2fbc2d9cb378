"""Give a generator a mapping that draws between the codes of known faces."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

import torch
from torch import Tensor

from stylegan2_ops.generator import Generator
from stylegan2_ops.mapping import MixtureMapping

# Length of the keys: the longer, the fewer codes a draw mixes. LEAD keeps it from being a copy of
# one photo: no code weighs more than twice the next. Both: docs/training.md.
SHARPNESS = 4.0
LEAD = math.log(2)
LONGER = 1.05  # codes in the mapping over those of photos; a mixture is nearer to the mean
RARE = 0.15  # of the faces; a look that more have is drawn often enough by itself
TOGETHER = 0.45  # how far keys of a rare look are moved, 1 where their draws outweigh all others
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
    together: Sequence[float] | None = None,
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
        together: K numbers, how far keys of each look are moved; None for `TOGETHER`.

    Raises:
        ValueError: `looks` has another shape, or `together` another length.
    """
    config = generator.config
    made = copy.deepcopy(generator)
    made.config = replace(config, modes=len(codes), code_dim=codes.shape[1], lead=LEAD)
    mapping = MixtureMapping(config.z_dim, config.w_dim, len(codes), codes.shape[1], LEAD)
    rng = torch.Generator().manual_seed(KEYS_SEED + seed)
    mapping.keys.copy_(_keys(len(codes), config.z_dim, looks, together, rng))
    mean = codes.mean(dim=0)
    mapping.codes.copy_(LONGER * (codes - mean))
    mapping.basis.copy_(basis)
    mapping.bias.copy_(mean @ basis + (0 if bias is None else bias))
    total = torch.zeros(config.w_dim, dtype=torch.float64)
    for _ in range(AVERAGED // 2048):
        total += mapping(torch.randn(2048, config.z_dim, generator=rng)).double().sum(dim=0)
    mapping.w_avg.copy_(total / AVERAGED)
    made.mapping = mapping
    return made


def _keys(
    count: int,
    width: int,
    looks: Tensor | None,
    together: Sequence[float] | None,
    rng: torch.Generator,
) -> Tensor:
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
    strengths = torch.tensor([TOGETHER] * looks.shape[1] if together is None else [*together])
    if len(strengths) != looks.shape[1]:
        raise ValueError(f"together has {len(strengths)} numbers; wanted {looks.shape[1]}")
    share = looks.float().mean(dim=0)
    few = (share > 0) & (share <= RARE)
    rare = looks.float()[:, few]
    if rare.shape[1] == 0:
        return keys
    axes = torch.linalg.qr(torch.randn(width, rare.shape[1], generator=rng)).Q
    keys = keys - keys @ axes @ axes.t()
    for axis, look, strength in zip(axes.t(), rare.t(), strengths[few].tolist(), strict=True):
        p = float(look.mean())
        deviation = math.sqrt(p * (1 - p))
        step = deviation * math.log((1 - p) / p) / NormalDist().inv_cdf(1 - p)
        keys = keys + strength * step * ((look - p) / deviation)[:, None] * axis
    return keys
