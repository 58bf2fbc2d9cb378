"""The settings of a FLIP training, and its learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from encoders.flip.network import FlipConfig
from sfhq.errors import UsageError

# What a training of each size does unless told otherwise. Networks of few images learn nothing from
# a queue of keys of a network that knows nothing yet: after thousands of steps all vectors are
# alike. Large ones have ALBEF's settings. Measured: docs/flip.md.
FEW: dict[str, Any] = {"lr": 1e-3, "queue": 0, "momentum": 0.0, "alpha": 0.0}
MANY: dict[str, Any] = {"lr": 3e-4, "queue": 4096, "momentum": 0.995, "alpha": 0.4}
USUAL: dict[str, dict[str, Any]] = {
    "tiny": FEW | {"left_out": 0.0},
    "hybrid": FEW | {"left_out": 0.3},
    "small": MANY | {"left_out": 0.0},
    "paper": MANY | {"left_out": 0.0},
}


@dataclass(frozen=True)
class FlipRecipe:
    """Settings of a training run.

    Attributes:
        config: sizes of the network.
        images: number of images of the run, counted as often as they are seen.
        batch: images per step, over all processes.
        slices: parts of the batch that are done one after the other, to need less memory.
        seed: seed of all random numbers.
        lr: AdamW's learning rate after the warm-up.
        least_lr: what the learning rate starts from and falls to.
        warm_up: images over which the learning rate rises.
        schedule: "cosine", or "step" for `step_factor` per epoch.
        step_factor: factor of the learning rate per epoch.
        decay: weight decay; gains, biases, the temperature and the class token have none.
        clip: longest gradient; longer ones are shortened.
        queue: keys of earlier steps that are kept.
        momentum: share that the momentum networks keep in each step; 0 for none: the keys are the
            networks' own, and have gradients, too.
        alpha: share of the momentum networks in the targets.
        alpha_images: images over which `alpha` rises from 0.
        matching: weight of the matching loss; 0 leaves it out.
        only_matching: train the matching head and its cross-attention; all vectors stay the same.
            The contrastive loss is told, but not trained; negatives are easier at first.
        left_out: share of an image's places, and of a stem's numbers of the whole face, that a step
            does not look at; others each time.
        keep_stem: leave the stem of a hybrid as it is, and compute its features once.
        flip: share of images that are mirrored; their captions change left and right.
        precision: "fp32", or "bf16" or "fp16" to run the networks in 16 bits; weights stay float32,
            and with "fp16" the loss is scaled so that small gradients do not vanish.
        checkpointing: compute layers twice, to need less memory.
        validate: images between two validations; 0 for none.
    """

    config: FlipConfig
    images: int = 200_000
    batch: int = 64
    slices: int = 1
    seed: int = 0
    lr: float = 3e-4
    least_lr: float = 1e-6
    warm_up: int = 5_000
    schedule: str = "cosine"
    step_factor: float = 0.9
    decay: float = 0.05
    clip: float = 1.0
    queue: int = 4096
    momentum: float = 0.995
    alpha: float = 0.4
    alpha_images: int = 20_000
    matching: float = 1.0
    only_matching: bool = False
    left_out: float = 0.0
    keep_stem: bool = False
    flip: float = 0.5
    precision: str = "fp32"
    checkpointing: bool = False
    validate: int = 0

    def __post_init__(self) -> None:
        if min(self.images, self.batch, self.slices) < 1 or self.batch % self.slices:
            raise UsageError(
                f"a batch of {self.batch} in {self.slices} slices; wanted slices that divide it"
            )
        if not self.momentum and self.slices > 1:
            raise UsageError(
                f"{self.slices} slices without momentum; wanted a momentum above 0, such as 0.995"
            )
        if self.only_matching and not self.matching:
            raise UsageError("only_matching without matching: nothing would be trained")
        if not 0 <= self.left_out < 1:
            raise UsageError(f"left_out is {self.left_out}; wanted 0 or more, below 1")
        if self.keep_stem and self.config.vision.stem is None:
            raise UsageError("keep_stem: these sizes have no stem; wanted those of hybrid")
        if self.schedule not in ("cosine", "step"):
            raise UsageError(f"schedule {self.schedule!r}; wanted cosine or step")
        if self.precision not in ("fp32", "bf16", "fp16"):
            raise UsageError(f"precision {self.precision!r}; wanted fp32, bf16 or fp16")

    def lr_at(self, images: int, per_epoch: int) -> float:
        """The learning rate after some images.

        Args:
            images: how many were seen.
            per_epoch: how many there are.
        """
        if images < self.warm_up:
            return self.least_lr + (self.lr - self.least_lr) * images / self.warm_up
        if self.schedule == "step":
            return max(self.lr * self.step_factor ** (images // per_epoch), self.least_lr)
        share = (images - self.warm_up) / max(self.images - self.warm_up, 1)
        share = 0.5 + 0.5 * math.cos(math.pi * min(share, 1.0))
        return self.least_lr + (self.lr - self.least_lr) * share
