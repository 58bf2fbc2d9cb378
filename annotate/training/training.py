"""The training of the label network, one step at a time."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from annotate.training.augment import Batch, augment, plain
from annotate.training.losses import losses
from annotate.training.samples import Samples
from sfhq.errors import UsageError
from sfhq.images import CLASS_COLOURS
from sfhq.networks.labels import LabelConfig, LabelNetwork

AVERAGED = 0.97  # share of the average that a step of 16 samples leaves
SHOWN = 8  # samples in the grid
MOST_NORM = 5.0  # of the gradient


@dataclass(frozen=True)
class LabelRecipe:
    """Numbers of a training.

    Attributes:
        config: of the network.
        images: samples to see in all.
        batch: samples a step.
        seed: decides samples and views.
        rate: highest learning rate; the backbone learns at `slow` times it.
        slow: see `rate`.
        warm: share of the training in which the rate rises.
        exact: share of rendered heads in a batch, where there are photos.
        precision: "fp32" or "bf16".
        kept: stages of the backbone, with its stem, that stay as they were on ImageNet.
    """

    config: LabelConfig = field(default_factory=LabelConfig)
    images: int = 20000
    batch: int = 8
    seed: int = 0
    rate: float = 2e-3
    slow: float = 0.15
    warm: float = 0.03
    exact: float = 0.55
    precision: str = "fp32"
    kept: int = 2

    def __post_init__(self) -> None:
        if self.images < 1 or self.batch < 2:
            raise UsageError(f"images {self.images}, batch {self.batch}; wanted 1 and 2 or more")


class LabelTraining:
    """A training in memory; `sfhq.training.run.run_training` runs it.

    Args:
        recipe: its numbers.
        network: as it starts; trained in place.
        samples: rendered heads and photos to train on.
    """

    def __init__(self, recipe: LabelRecipe, network: LabelNetwork, samples: Samples) -> None:
        if not len(samples):
            raise UsageError("no sample to train on; wanted rendered heads or photos")
        self.recipe, self.samples = recipe, samples
        self.images = 0
        self.network = network.to(memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(False)
        for fixed in (network.backbone.stem, *network.backbone.stages[: recipe.kept]):
            fixed.requires_grad_(False)
        slow = [p for p in network.backbone.parameters() if p.requires_grad]
        backbone = set(network.backbone.parameters())
        fast = [p for p in network.parameters() if p.requires_grad and p not in backbone]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": fast, "lr": recipe.rate, "part": 1.0},
                {"params": slow, "lr": recipe.rate * recipe.slow, "part": recipe.slow},
            ],
            betas=(0.9, 0.99),
            weight_decay=1e-4,
        )
        self.generator = torch.Generator().manual_seed(recipe.seed)
        exact = samples.exact
        self.lots = [lot for lot in (exact.nonzero()[:, 0], (~exact).nonzero()[:, 0]) if len(lot)]

    @property
    def total(self) -> int:
        """Samples after which the training ends."""
        return self.recipe.images

    def rate(self) -> float:
        """The share of the highest learning rate that holds now: a rise, then half a cosine."""
        done = self.images / self.total
        rise = min(1.0, (self.images + self.recipe.batch) / (self.recipe.warm * self.total + 1))
        return rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))

    def _indices(self) -> Tensor:
        count = self.recipe.batch
        if len(self.lots) == 1:
            sizes = [count]
        else:
            first = min(max(round(count * self.recipe.exact), 1), count - 1)
            sizes = [first, count - first]
        drawn = [
            lot[torch.randint(len(lot), (size,), generator=self.generator)]
            for lot, size in zip(self.lots, sizes, strict=True)
        ]
        return torch.cat(drawn)

    def step(self) -> dict[str, Tensor]:
        """One update; losses by name."""
        batch = augment(self.samples, self._indices(), self.generator)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate * group["part"] * self.rate()
        self.network.train()
        phase = int(torch.randint(4, (1,), generator=self.generator))
        found = losses(self._outputs(batch, phase), batch, phase)
        total = torch.stack(list(found.values())).sum()
        self.optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), MOST_NORM)
        self.optimizer.step()
        self.images += self.recipe.batch
        self._average()
        return {name: value.detach() for name, value in found.items()}

    def _outputs(self, batch: Batch, phase: int) -> Any:
        half = self.recipe.precision == "bf16"
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return self.network(batch.images.contiguous(memory_format=torch.channels_last), phase)

    def _average(self) -> None:
        # Early on the average must follow quickly: it may hold no more than a tenth of the way.
        keep = min(AVERAGED ** (self.recipe.batch / 16), 1 - 10 / (self.images + 10))
        with torch.no_grad():
            mine = self.network.state_dict()
            for name, value in self.averaged.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(mine[name].detach(), 1 - keep)
                else:
                    value.copy_(mine[name])

    def grid(self) -> Tensor:
        """(2 or 4, 8, 3, S, S): pictures, and below each its classes and points as read."""
        rows = []
        for lot in self.lots:
            at = lot[torch.linspace(0, len(lot) - 1, SHOWN).long()]
            batch = plain(self.samples, at)
            out = self.averaged(batch.images.contiguous(memory_format=torch.channels_last))
            colours = torch.tensor(CLASS_COLOURS, dtype=torch.float32) / 127.5 - 1
            shown = 0.5 * batch.images + 0.5 * colours[out.classes.argmax(1)].permute(0, 3, 1, 2)
            size = shown.shape[-1]
            spots = ((out.places + 1) * size / 2).long().clamp(0, size - 1)
            for image, points in zip(shown, spots, strict=True):
                image[:, points[:, 1], points[:, 0]] = 1.0
            rows += [batch.images, shown]
        return torch.stack(rows)

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed run needs."""
        return {
            "images": self.images,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.images = int(state["images"])
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
