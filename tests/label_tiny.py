"""A label network small enough for tests."""

from __future__ import annotations

import numpy as np
import torch

from annotate.network.reader import Calibration, LabelReader
from sfhq.networks.backbone import BackboneShape
from sfhq.networks.labels import LabelConfig, LabelNetwork
from sfhq.parts.records import Pixels

TINY = LabelConfig(
    size=64,
    backbone=BackboneShape(4, (4, 4, 6, 6, 8, 8, 8), (1, 1, 1, 1, 1, 1, 1), 2),
    widths=(8, 8, 8, 8, 8),
    looks=4,
    hidden=8,
)


def tiny_network(seed: int = 0) -> LabelNetwork:
    """A network of random numbers, in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LabelNetwork(TINY)


def tiny_reader(calibration: Calibration | None = None) -> LabelReader:
    """A reader of a network of random numbers."""
    network = tiny_network()
    for module in network.modules():  # norms that have seen something
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.linspace(-0.2, 0.3, module.num_features)
            module.running_var = torch.linspace(0.5, 2.0, module.num_features)
    return LabelReader(network.fold().requires_grad_(False), calibration)


def crops(count: int, size: int = 64, seed: int = 1) -> Pixels:
    """Random pictures with large patches."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    done: Pixels = small.repeat(size // 8, 1).repeat(size // 8, 2)
    return done
