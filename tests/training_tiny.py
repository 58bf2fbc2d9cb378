"""Painted squares and a tiny recipe for tests of trainings."""

from __future__ import annotations

import torch
from torch import Tensor

from sfhq.training.generator.recipe import GeneratorRecipe
from sfhq.training.generator.training import GeneratorTraining
from sfhq.training.photos import Photos
from stylegan2_ops.generator import GeneratorConfig


def make_photos(count: int = 12, size: int = 32) -> Photos:
    """Smooth coloured images, each different."""
    rng = torch.Generator().manual_seed(3)
    coarse = torch.rand(count, 3, 4, 4, generator=rng)
    pixels = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    return Photos(
        (pixels.clamp(0, 1) * 255).to(torch.uint8), tuple(f"{i}.png" for i in range(count))
    )


def tiny_recipe(**changes: object) -> GeneratorRecipe:
    config = GeneratorConfig(64, channel_base=512, channel_max=16, mapping_layers=1)
    values: dict[str, object] = {
        "phases": ((32, 12), (64, 12)),
        "batch": 4,
        "drawn": 2,
        "code_dim": 6,
        "adversarial_from": 4,
        "pixel_sizes": (16,),
    }
    return GeneratorRecipe(config, **{**values, **changes})  # type: ignore[arg-type]


def ended(training: GeneratorTraining) -> dict[str, Tensor]:
    """The averaged weights of a training after its last step."""
    while training.images < training.total:
        training.step()
    return training.averaged.state_dict()
