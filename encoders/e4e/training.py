"""Train e4e for a generator, so that it inverts photographs and paintings.

Half of each batch are generated images, whose latents are known. The other half are photos; if
their codes from the generator's training are given, these are known latents too. Some images of
both kinds are made to look painted, and must be reconstructed as the photograph. If pairs are
given, a share of the batch are their pictures, whose true photograph must be reconstructed.
Deltas become active one after the other. A discriminator on w keeps each layer near the
distribution of the mapping. The first part of a run uses only losses on latents; it renders no
images, so its steps are about three times as fast.

Source: Tov et al. 2021, "Designing an Encoder for StyleGAN Image Manipulation".
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders.e4e.network import E4e, E4eConfig
from sfhq.errors import UsageError
from sfhq.training.augment import draw_augmentation
from sfhq.training.features import FeaturePyramid, perceptual_distance
from sfhq.training.painterly import paint_randomly
from sfhq.training.pairs import Pairs
from sfhq.training.photos import Photos
from sfhq.training.precision import fast_convolutions
from sfhq.training.recorded import Recorded
from stylegan2_ops.generator import Generator

JUDGE_EVERY = 16  # steps between two penalties on the latent discriminator's slope


@dataclass(frozen=True)
class E4eRecipe:
    """Settings of a training run.

    Attributes:
        config: sizes of the encoder.
        images: number of encoded images of the run.
        batch: images per step. Without pairs, half are photos and half are generated; with pairs,
            a third of the others are photos.
        paired: share of the images that are pictures of pairs, if there are any.
        seed: seed of all random numbers.
        rendered_from: share of the run after which the losses on rendered images start.
        lr: Adam's learning rate.
        pixel_weight: weight of the squared error of pixels.
        feature_weight: weight of the perceptual distance.
        latent_weight: weight of the squared error of known latents, divided by their variance.
        identity_weight: weight of the squared distance of vectors of a recognition network, if
            there is one.
        delta_weight: weight of the length of the deltas.
        adversarial_weight: weight of the loss from the latent discriminator.
        progressive_from: share of the run after which the first delta becomes active.
        progressive_to: share of the run after which all deltas are active.
        painted: share of images that are made to look painted.
        ema_images: half-life of the averaged encoder, in images.
        precision: "fp32", or "bf16" to run the convolutions in bfloat16; weights stay float32.
    """

    config: E4eConfig
    images: int = 60_000
    batch: int = 16
    paired: float = 0.25
    seed: int = 0
    rendered_from: float = 0.35
    lr: float = 1e-3
    pixel_weight: float = 1.0
    feature_weight: float = 1.0
    latent_weight: float = 0.5
    identity_weight: float = 2.0
    delta_weight: float = 2e-3
    adversarial_weight: float = 0.02
    progressive_from: float = 0.45
    progressive_to: float = 0.8
    painted: float = 0.4
    ema_images: int = 2_000
    precision: str = "fp32"


@torch.no_grad()
def copy_encoder(start: E4e, encoder: E4e) -> None:
    """Copy the weights of an encoder into one of the same sizes, which may have more heads.

    Heads beyond those of `start` are copies of its last one. `latent_avg` is not copied: it is the
    generator's.

    Raises:
        UsageError: the sizes differ in more than the number of heads.
    """
    ours, theirs = encoder.config, start.config
    for name in ("input_size", "w_dim", "head_width", "backbone"):
        if getattr(ours, name) != getattr(theirs, name):
            raise UsageError(
                f"the encoder to start from has {name} {getattr(theirs, name)}; this run wanted "
                f"{getattr(ours, name)}: give the same sizes"
            )
    state, have = encoder.state_dict(), start.state_dict()
    for name, value in state.items():
        if name == "latent_avg":
            continue
        parts = name.split(".")
        if parts[0] == "styles":
            parts[1] = str(min(int(parts[1]), theirs.num_ws - 1))
        value.copy_(have[".".join(parts)])


class LatentDiscriminator(nn.Module):
    """w (N, w_dim) to logits (N, 1), positive for a w that comes from the mapping."""

    def __init__(self, w_dim: int, width: int = 256) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(3):
            layers += [nn.Linear(w_dim if index == 0 else width, width), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, w: Tensor) -> Tensor:
        """Logits (N, 1)."""
        logits: Tensor = self.body(w)
        return logits


class _Batch(NamedTuple):
    """What one step learns from.

    Attributes:
        shown: (N, 3, R, R) input images.
        wanted: (N, 3, R, R) images that they must be inverted to.
        known: (N, w_dim) their latents.
        has: (N,) bool, whether a latent is known.
        active: (L,) 1 for the layers whose delta is active, else 0.
        real: (N * L, w_dim) latents from the mapping, for the latent discriminator.
    """

    shown: Tensor
    wanted: Tensor
    known: Tensor
    has: Tensor
    active: Tensor
    real: Tensor


class E4eTraining:
    """State of a training run: networks, optimisers, counters, random numbers.

    Args:
        recipe: settings.
        generator: the frozen generator.
        photos: training photos at the generator's resolution.
        features: frozen feature pyramid.
        codes: (2N, w_dim) latents of the N photos and of their mirror images, (N, w_dim) of the
            photos alone, or None.
        device: where the networks run. Random numbers are drawn on the CPU, so they do not depend
            on it.
        start: an encoder to start from; None starts from random weights.
        pairs: rendered people, or None.
        identity: a frozen network from images (N, 3, R, R) in [-1, 1] to vectors (N, D) that are
            near for pictures of one person, or None.

    Raises:
        UsageError: `start` has other sizes.
    """

    def __init__(
        self,
        recipe: E4eRecipe,
        generator: Generator,
        photos: Photos,
        features: FeaturePyramid,
        codes: Tensor | None = None,
        device: str = "cpu",
        start: E4e | None = None,
        pairs: Pairs | None = None,
        identity: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.identity = identity
        self.recipe, self.device = recipe, torch.device(device)
        last = torch.channels_last
        self.generator = generator.to(memory_format=last).to(self.device)
        self.features = features.to(memory_format=last).to(self.device)
        self.photos = photos.to(self.device)
        self.codes = None if codes is None else codes.to(self.device)
        self.pairs = None if pairs is None else pairs.to(self.device)
        torch.manual_seed(recipe.seed)
        self.rng = torch.Generator().manual_seed(recipe.seed)
        self.encoder = E4e(recipe.config)
        self.encoder.latent_avg.copy_(generator.latent_avg.expand_as(self.encoder.latent_avg))
        with torch.no_grad():
            z = self._draw_z(4096)
            drawn = torch.cat([generator.mapping(c) for c in z.split(512)])
            self.spread = drawn.var(dim=0).mean()
            for name, weight in self.encoder.styles.named_parameters():
                if name.endswith("linear.weight"):
                    weight.mul_(0.1)
        if start is not None:
            copy_encoder(start, self.encoder)
        self.encoder.to(memory_format=last).to(self.device)
        self.averaged = copy.deepcopy(self.encoder).requires_grad_(False).eval()
        self.judge = LatentDiscriminator(recipe.config.w_dim).to(self.device)
        self.optimiser = torch.optim.Adam(
            self.encoder.parameters(), lr=recipe.lr, betas=(0.9, 0.99), fused=True
        )
        self.judge_optimiser = torch.optim.Adam(
            self.judge.parameters(),
            lr=2e-4,
            betas=(0.0, 0.99),
            fused=True,
            capturable=self.device.type == "cuda",
        )
        self.update = Recorded(self._update, self.device)
        self.images = 0
        self.steps = 0

    def _draw_z(self, count: int) -> Tensor:
        z = torch.randn(count, self.generator.config.z_dim, generator=self.rng)
        return z.to(self.device)

    @property
    def total(self) -> int:
        """Number of images after which the training ends."""
        return self.recipe.images

    @property
    def stage(self) -> int:
        """Number of active deltas."""
        recipe = self.recipe
        span = max(recipe.progressive_to - recipe.progressive_from, 1e-9)
        share = (self.images / recipe.images - recipe.progressive_from) / span
        return round(min(max(share, 0.0), 1.0) * (recipe.config.num_ws - 1))

    def _batch(self) -> _Batch:
        """Draw what a step learns from."""
        recipe = self.recipe
        half, drawn = recipe.batch // 2, 0  # rows of photos and pairs; of pairs
        if self.pairs is not None:
            drawn = round(recipe.batch * recipe.paired)
            half = drawn + (recipe.batch - drawn) // 3
        indices = torch.randint(len(self.photos), (half - drawn,), generator=self.rng)
        flipped = torch.rand(half, generator=self.rng) < 0.5
        wanted = [self.photos.batch(indices, flipped[drawn:])]
        with torch.no_grad():
            w = self.generator.mapping(self._draw_z(recipe.batch - half))
            with self._fast():
                made = self.generator.synthesis(self.generator.broadcast(w))
            wanted.append(made.float().clamp(-1, 1))
        shown = [paint_randomly(torch.cat(wanted), self.rng, recipe.painted)]
        known = torch.zeros(recipe.batch, w.shape[1], device=self.device)
        has = torch.ones(recipe.batch, dtype=torch.bool)
        has[: half if self.codes is None else drawn] = False
        known[half:] = w
        if self.codes is not None:
            rows = indices + flipped[drawn:] * len(self.photos)
            has[drawn:half] = rows < len(self.codes)
            known[drawn:half] = self.codes[(rows % len(self.codes)).to(self.device)]
        has = has.to(self.device, non_blocking=True)
        if self.pairs is not None:
            people = torch.randint(len(self.pairs), (drawn,), generator=self.rng)
            art, truth = self.pairs.batch(people, flipped[:drawn])
            shown, wanted = [art, *shown], [truth, *wanted]
        pictures = self._recoloured(torch.cat(shown))
        with torch.no_grad():
            real = self.generator.mapping(self._draw_z(len(known) * recipe.config.num_ws))
        active = (torch.arange(recipe.config.num_ws) <= self.stage).float()
        return _Batch(pictures, torch.cat(wanted), known, has, active, real)

    def _recoloured(self, shown: Tensor) -> Tensor:
        """Half of the images with other colours and a small shift."""
        moved = draw_augmentation(len(shown), self.rng, 0.5)(shown)
        keep = torch.rand(len(shown), generator=self.rng) < 0.5
        return torch.where(keep.to(self.device)[:, None, None, None], shown, moved)

    def step(self) -> dict[str, Tensor]:
        """Update encoder and latent discriminator once; returns the losses by name."""
        recipe = self.recipe
        progress = self.images / recipe.images
        rendered = progress >= recipe.rendered_from
        batch, stage = self._batch(), self.stage
        report = dict(self.update(batch, rendered))
        if self.steps % JUDGE_EVERY == 0:
            self._smooth_judge(batch.real)
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.lr * min(1.0, (1.0 - progress) / 0.4 + 0.02)
        self.optimiser.step()
        self.images += len(batch.shown)
        self.steps += 1
        self._average(len(batch.shown))
        return report | {"stage": torch.tensor(float(stage), device=self.device)}

    def _update(self, batch: _Batch) -> dict[str, Tensor]:
        """Update the latent discriminator; leave the encoder's gradients."""
        recipe = self.recipe
        # On a GPU all deltas are computed in each stage, so that a step is recorded only once.
        stage = None if self.device.type == "cuda" else self.stage
        with self._fast():
            w_plus = self.encoder(batch.shown, stage)
        first = w_plus[:, :1].float()
        w_plus = first + (w_plus.float() - first) * batch.active[:, None]
        error = (w_plus - batch.known[:, None]).square().mean(dim=(1, 2)) / self.spread
        latent = (error * batch.has).sum() / batch.has.sum().clamp(min=1)
        deltas = (w_plus - w_plus[:, :1]).square().sum(dim=2).clamp(min=1e-12).sqrt()
        delta = deltas.sum(dim=1).mean() / self.spread.sqrt()
        flat = w_plus.flatten(0, 1)
        report = self._train_judge(flat.detach(), batch.real)
        fooled = F.softplus(-self.judge(flat)).mean()
        loss = (
            recipe.latent_weight * latent
            + recipe.delta_weight * delta
            + recipe.adversarial_weight * fooled
        )
        if self.images / recipe.images >= recipe.rendered_from:
            found = self._rendered_losses(w_plus, batch.wanted)
            weights = {
                "pixel": recipe.pixel_weight,
                "feature": recipe.feature_weight,
                "identity": recipe.identity_weight,
            }
            for name, value in found.items():
                loss = loss + weights[name] * value
                report[name] = value.detach()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        return report | {"latent": latent.detach(), "delta": delta.detach()}

    def _rendered_losses(self, w_plus: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        with self._fast():
            rendered = self.generator.synthesis(w_plus)
            with torch.no_grad():
                target = self.features(wanted)
            found = self.features(rendered)
        rendered = rendered.float()
        losses = {
            "pixel": (rendered - wanted).square().mean(),
            "feature": perceptual_distance(found, target).mean(),
        }
        if self.identity is not None:
            with self._fast():
                with torch.no_grad():
                    person = self.identity(wanted)
                seen = self.identity(rendered)
            losses["identity"] = (seen.float() - person.float()).square().sum(dim=1).mean()
        return losses

    def _fast(self) -> torch.autocast:
        return fast_convolutions(self.device, self.recipe.precision)

    def _train_judge(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        loss = F.softplus(-self.judge(real)).mean() + F.softplus(self.judge(fake)).mean()
        self.judge_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.judge_optimiser.step()
        return {"judge": loss.detach()}

    def _smooth_judge(self, real: Tensor) -> None:
        """Penalise the slope of the latent discriminator, R1, for the steps since the last time."""
        real = real.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.judge(real).sum(), real, create_graph=True)
        loss = 10.0 / 2 * JUDGE_EVERY * slope.square().sum(dim=1).mean() * self.spread
        weights = list(self.judge.parameters())
        slopes = torch.autograd.grad(loss, weights, allow_unused=True)  # none of the last bias
        kept = [weight.grad for weight in weights]  # those of a recorded step stay where they are
        for weight, found in zip(weights, slopes, strict=True):
            weight.grad = found
        self.judge_optimiser.step()
        for weight, before in zip(weights, kept, strict=True):
            weight.grad = before

    @torch.no_grad()
    def _average(self, count: int) -> None:
        half_life = min(self.recipe.ema_images, max(self.images * 0.1, 1.0))
        share = 1.0 - 0.5 ** (count / half_life)
        ours: list[Tensor] = list(self.averaged.parameters())
        theirs: list[Tensor] = list(self.encoder.parameters())
        torch._foreach_lerp_(ours, theirs, share)
        kept = zip(self.averaged.buffers(), self.encoder.buffers(), strict=True)
        for buffer, fresh in kept:
            if buffer.is_floating_point():
                buffer.lerp_(fresh, share)
            else:
                buffer.copy_(fresh)

    def grid(self) -> Tensor:
        """Sample images (4, 12, 3, R, R): photos, their inversions, painted photos, inversions."""
        rng = torch.Generator().manual_seed(1)
        photos = self.photos.batch(torch.arange(12) * 41 % len(self.photos))
        painted = paint_randomly(photos, rng, 1.0)
        rows = []
        for shown in (photos, painted):
            rows += [shown.cpu(), self.generator.synthesis(self.averaged(shown)).cpu()]
        return torch.stack(rows)

    def state_dict(self) -> dict[str, Any]:
        """All state that a resumed run needs to continue exactly."""
        return {
            "images": self.images,
            "steps": self.steps,
            "encoder": self.encoder.state_dict(),
            "averaged": self.averaged.state_dict(),
            "judge": self.judge.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "judge_optimiser": self.judge_optimiser.state_dict(),
            "rng": self.rng.get_state(),
            "torch_rng": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        for name in ("encoder", "averaged", "judge", "optimiser", "judge_optimiser"):
            getattr(self, name).load_state_dict(state[name])
        for group in self.judge_optimiser.param_groups:
            group["capturable"] = self.device.type == "cuda"  # not that of the machine before
        self.images, self.steps = state["images"], state["steps"]
        self.rng.set_state(state["rng"])
        torch.set_rng_state(state["torch_rng"])
