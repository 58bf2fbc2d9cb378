"""Give a generator a mapping that draws between the codes of known faces."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from stylegan2_ops.generator import Generator
from stylegan2_ops.mapping import MixtureMapping

# Length of the keys. Of 1,790 codes a draw takes two with 8 and thirty with 2.5. Longer keys draw
# more people, but some of their images are near-copies of a photo: docs/training.md.
SHARPNESS = 2.5
# Far from seeds that people give: a z drawn like a key would be the code of one photo.
KEYS_SEED = 7_210_633_518
AVERAGED = 65_536  # draws for the mean of w


@torch.no_grad()
def with_mixture(
    generator: Generator, codes: Tensor, basis: Tensor, bias: Tensor | None = None, seed: int = 0
) -> Generator:
    """A copy of a generator with a `MixtureMapping`; the synthesis stays.

    No random numbers of torch's default generator are drawn.

    Args:
        generator: any, on the CPU.
        codes: (M, dim) of faces, at least one.
        basis: (dim, w_dim), from codes to w before the leaky ReLU.
        bias: (w_dim,) w of the code 0 before the leaky ReLU; None for zeros.
        seed: of the keys.
    """
    config = generator.config
    made = copy.deepcopy(generator)
    made.config = replace(config, modes=len(codes), code_dim=codes.shape[1])
    mapping = MixtureMapping(config.z_dim, config.w_dim, len(codes), codes.shape[1])
    rng = torch.Generator().manual_seed(KEYS_SEED + seed)
    keys = torch.randn(mapping.keys.shape, generator=rng)
    mapping.keys.copy_(SHARPNESS * keys / keys.norm(dim=1, keepdim=True))
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
