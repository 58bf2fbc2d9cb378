"""A generator in training grows by doubling its resolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor, nn

from stylegan2_ops.generator import Generator, GeneratorConfig


def at_resolution(config: GeneratorConfig, resolution: int) -> GeneratorConfig:
    """The same sizes at another resolution."""
    return GeneratorConfig(**{**asdict(config), "resolution": resolution})


@torch.no_grad()
def grow_into(small: Generator, large: Generator) -> None:
    """Copy a generator into one of twice its resolution, which then gives the same image.

    The new block keeps its own initial weights, except that its image branch is set to zero. Into
    one of half its resolution, all but the last block is copied.
    """
    state = large.state_dict()
    state.update({k: v for k, v in small.state_dict().items() if k in state})
    last = f"synthesis.b{large.config.resolution}.torgb"
    for name in (f"{last}.weight", f"{last}.bias"):
        if name not in small.state_dict():
            state[name] = torch.zeros_like(state[name])
    large.load_state_dict(state)


@torch.no_grad()
def take_blocks(network: nn.Module, known: Mapping[str, Tensor]) -> None:
    """Copy what a network has of known weights into it; the rest of both stays."""
    state = network.state_dict()
    network.load_state_dict(state | {k: v for k, v in known.items() if k in state})
