"""Train a StyleGAN2 generator on hundreds of photos, on a GPU or a CPU.

Each step decodes the codes of some photos, which must look like these photos, and some random
codes, which must look like photos. Discriminators on frozen features and on small images judge
both. The generator grows by doubling its resolution: the image branch of a new block starts at
zero, so the image does not change at once. At the end the mapping is a mixture of the
codes, in closed form.

No step waits for the device: random numbers are drawn on the CPU and sent there, and losses stay
there until they are logged.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sfhq.training.augment import Augmentation, Views, draw_augmentation, draw_views
from sfhq.training.features import FeaturePyramid, perceptual_distance
from sfhq.training.generator.codes import PhotoCodes
from sfhq.training.generator.estimate import check_start, estimate_codes, take_codes
from sfhq.training.generator.growth import at_resolution, grow_into, take_blocks
from sfhq.training.generator.mixture import with_mixture
from sfhq.training.generator.projected import (
    PixelDiscriminator,
    ProjectedDiscriminator,
    hinge_discriminator,
    hinge_generator,
)
from sfhq.training.generator.recipe import GeneratorRecipe
from sfhq.training.photos import Photos
from sfhq.training.precision import fast_convolutions
from sfhq.training.recorded import Recorded
from stylegan2_ops.generator import Generator

# Resolution -> input size of the feature network; it is 112 for other resolutions.
FEATURE_SIZES = {32: 64, 64: 96}


class _Batch(NamedTuple):
    """What is drawn for one step.

    Attributes:
        photos: (n,) indices.
        flipped: (n,) bool, which photos are mirrored.
        w: (n, w_dim) of the photos' codes.
        drawn: (m, L, w_dim) of random codes; no rows before the adversarial loss starts.
        weight: () weight of the adversarial loss.
        augmentation: of the n photos and their reconstructions.
        more: of the m images of random codes.
        look: views of n + m images.
    """

    photos: Tensor
    flipped: Tensor
    w: Tensor
    drawn: Tensor
    weight: Tensor
    augmentation: Augmentation
    more: Augmentation
    look: Views


class GeneratorTraining:
    """State of a training run: networks, optimisers, counters, random numbers.

    Args:
        recipe: settings.
        photos: training photos at the final resolution or above.
        features: frozen feature pyramid.
        device: where the networks run. Random numbers are drawn on the CPU, so they do not depend
            on it.
        start: a generator to go on from, of the resolution of the first phase or a larger one: its
            blocks above that of a phase stay as they are until a phase has them. None starts from
            random weights.
        known: (2N, w_dim) latents of the photos and of their mirror images for `start`, (N, w_dim)
            if mirror images have none; None estimates them from images that it draws.

    Raises:
        ValueError: the generator's mapping network does not have 1 layer.
        UsageError: `start` has other sizes.
    """

    def __init__(
        self,
        recipe: GeneratorRecipe,
        photos: Photos,
        features: FeaturePyramid,
        device: str = "cpu",
        start: Generator | None = None,
        known: Tensor | None = None,
    ) -> None:
        self.recipe, self.device = recipe, torch.device(device)
        self.features = features.to(self.device).to(memory_format=torch.channels_last)
        self.all_photos = photos
        if recipe.config.mapping_layers != 1:
            raise ValueError(
                f"mapping_layers is {recipe.config.mapping_layers}; wanted 1, as codes need it"
            )
        torch.manual_seed(recipe.seed)
        self.rng = torch.Generator().manual_seed(recipe.seed)
        self.codes = PhotoCodes(
            photos, recipe.code_dim, recipe.config.w_dim, self.rng, recipe.mirrored
        )
        if start is not None:
            check_start(start, recipe.config, recipe.phases[0][0])
            if known is None:
                estimate_codes(self.codes, start.to(self.device), photos, self.rng)
            else:
                take_codes(self.codes, start, known, self.rng)
        self.images = 0
        self.steps = 0
        self.phase = -1
        self.discriminators = (
            nn.ModuleList(
                [ProjectedDiscriminator(), *(PixelDiscriminator(s) for s in recipe.pixel_sizes)]
            )
            .to(self.device)
            .to(memory_format=torch.channels_last)
        )
        self.d_optimiser = torch.optim.Adam(
            self.discriminators.parameters(),
            lr=recipe.discriminator_lr,
            betas=(0.0, 0.99),
            fused=True,
            capturable=self.device.type == "cuda",
        )
        self.code_optimiser = torch.optim.SparseAdam(
            list(self.codes.table.parameters()), lr=recipe.code_lr, betas=(0.5, 0.99)
        )
        self.order = torch.empty(0, dtype=torch.long)
        self.update = Recorded(self._update, self.device)
        self.generator: Generator
        self.averaged: Generator
        self.begun = {} if start is None else _on_cpu(start.synthesis)
        self._enter(0)

    def _enter(self, phase: int) -> None:
        """Start a phase: build the generator of its resolution from that of the phase before.

        A run whose phases were changed may go back to a resolution: the last block is dropped then.
        """
        resolution = self.recipe.phases[phase][0]
        if self.phase < 0 or resolution != self.recipe.phases[self.phase][0]:
            grown = Generator(at_resolution(self.recipe.config, resolution)).to(self.device)
            averaged = copy.deepcopy(grown)
            if self.phase >= 0:
                grow_into(self.generator, grown)
                averaged.load_state_dict(grown.state_dict())
                grow_into(self.averaged, averaged)
            else:
                averaged.load_state_dict(grown.state_dict())
            for network in (grown, averaged):
                take_blocks(network.synthesis, self.begun)
            self.begun = {
                k: v for k, v in self.begun.items() if k not in grown.synthesis.state_dict()
            }
            averaged = averaged.requires_grad_(False).eval()
            self.generator = grown.to(memory_format=torch.channels_last)
            self.averaged = averaged.to(memory_format=torch.channels_last)
            self.g_optimiser = torch.optim.Adam(
                self.generator.synthesis.parameters(),
                lr=self.recipe.lr,
                betas=(self.recipe.momentum, 0.99),
                fused=True,
            )
            self.photos = self.all_photos.at(resolution).to(self.device)
            self.features.size = FEATURE_SIZES.get(resolution, 112)
        self.phase = phase

    @property
    def total(self) -> int:
        """Number of images of all phases together."""
        return sum(images for _, images in self.recipe.phases)

    def _next_indices(self) -> Tensor:
        if len(self.order) < self.recipe.batch:
            self.order = torch.randperm(len(self.codes.table.weight), generator=self.rng)
        chosen, self.order = (
            self.order[: self.recipe.batch],
            self.order[self.recipe.batch :],
        )
        return chosen

    def _drawn_w_plus(self, count: int) -> Tensor:
        """w_plus (count, L, D) of random codes; some have the fine layers of another code."""
        layers = self.generator.config.num_ws
        first = self.codes.to_w(self.codes.draw(count, self.rng))
        second = self.codes.to_w(self.codes.draw(count, self.rng).flip(0))
        cut = torch.randint(2, layers, (count, 1), generator=self.rng)
        never = torch.rand(count, 1, generator=self.rng) >= self.recipe.mixing
        cut = torch.where(never, layers, cut)
        coarse = torch.arange(layers)[None] < cut  # (count, L)
        return torch.where(coarse[..., None], first[:, None], second[:, None])

    def step(self) -> dict[str, Tensor]:
        """Update generator, codes and discriminators once; returns the losses by name."""
        recipe = self.recipe
        ends = [sum(n for _, n in recipe.phases[: i + 1]) for i in range(len(recipe.phases))]
        wanted = next((i for i, end in enumerate(ends) if self.images < end), len(ends) - 1)
        if wanted != self.phase:
            self._enter(wanted)
        adversarial = self.images >= recipe.adversarial_from
        indices = self._next_indices()
        batch, codes_w = self._draw(indices, adversarial)
        report, slope = self.update(batch, (self.phase, adversarial, len(indices)))
        progress = self.images / self.total
        decay = 1.0 if progress < 0.7 else max(0.15, 1.0 - (progress - 0.7) / 0.3)
        for group in self.g_optimiser.param_groups:
            group["lr"] = recipe.lr * decay
        for group in self.code_optimiser.param_groups:
            group["lr"] = recipe.code_lr * decay
        self.g_optimiser.step()
        self.images += len(indices)
        self.steps += 1
        self._average(len(indices))
        self.code_optimiser.zero_grad(set_to_none=True)
        codes_w.backward(slope.to(codes_w.device))  # waits for the device, which has work by now
        self.code_optimiser.step()
        if self.steps % 20 == 0:
            self.codes.refresh()
        return dict(report)

    def _draw(self, indices: Tensor, adversarial: bool) -> tuple[_Batch, Tensor]:
        """What a step needs, and w (n, w_dim) of the photos with the way back to their codes."""
        recipe, n = self.recipe, len(indices)
        w = self.codes.to_w(self.codes.of(indices, recipe.jitter, self.rng))
        count = recipe.drawn if adversarial else 0
        layers, width = self.generator.config.num_ws, w.shape[1]
        drawn = self._drawn_w_plus(count) if count else torch.empty(0, layers, width)
        augmentation = draw_augmentation(n, self.rng, recipe.augmentation)
        more = draw_augmentation(count, self.rng, recipe.augmentation)
        look = draw_views(n + count, self.features.size, recipe.close_views, self.rng)
        batch = _Batch(
            photos=indices % self.codes.count,
            flipped=indices >= self.codes.count,
            w=w.detach(),
            drawn=drawn,
            weight=torch.tensor(self._adversarial_weight()),
            augmentation=augmentation,
            more=more,
            look=look,
        )
        return batch, w

    def _update(self, batch: _Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Update the discriminators; leave the generator's gradients, and return those of w."""
        n, adversarial = len(batch.photos), len(batch.drawn) > 0
        w = batch.w.detach().requires_grad_()
        real = self.photos.batch(batch.photos, batch.flipped)
        w_plus = torch.cat([self.generator.broadcast(w), batch.drawn])
        with self._fast():
            fake = self.generator.synthesis(w_plus, noise_mode="random")
        fake = fake.float()
        pixel = (fake[:n] - real).abs().mean()
        real = batch.augmentation(real)
        view = batch.augmentation(fake[:n])
        if adversarial:
            view = torch.cat([view, batch.more(fake[n:])])
        with self._fast():
            fake_features = self.features(batch.look(view))
            with torch.no_grad():
                real_features = self.features(batch.look(real))
        feature = perceptual_distance([f[:n] for f in fake_features], real_features).mean()
        loss = self.recipe.pixel_weight * pixel + self.recipe.feature_weight * feature
        report = {"pixel": pixel.detach(), "feature": feature.detach()}
        if adversarial:
            d_loss = hinge_discriminator(
                self._judge(real_features, real),
                self._judge([f.detach() for f in fake_features], view.detach()),
            )
            self.d_optimiser.zero_grad(set_to_none=True)
            d_loss.backward()
            self.d_optimiser.step()
            self.discriminators.requires_grad_(False)
            g_loss = hinge_generator(self._judge(fake_features, view))
            self.discriminators.requires_grad_(True)
            loss = loss + batch.weight * g_loss
            report |= {"d": d_loss.detach(), "g": g_loss.detach()}
        self.g_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        assert w.grad is not None
        return report, w.grad

    def _adversarial_weight(self) -> float:
        """Weight of the adversarial loss; it starts low, because it spoils reconstructions."""
        recipe = self.recipe
        full = max(recipe.adversarial_full * self.total, recipe.adversarial_from + 1.0)
        grown = (self.images - recipe.adversarial_from) / (full - recipe.adversarial_from)
        share = recipe.adversarial_start + (1.0 - recipe.adversarial_start) * min(grown, 1.0)
        return recipe.adversarial_weight * share

    def _fast(self) -> torch.autocast:
        return fast_convolutions(self.device, self.recipe.precision)

    def _judge(self, features: list[Tensor], images: Tensor) -> list[Tensor]:
        logits: list[Tensor] = []
        with self._fast():
            for discriminator in self.discriminators:
                if isinstance(discriminator, ProjectedDiscriminator):
                    logits += discriminator(features)
                else:
                    logits.append(discriminator(images))
        return [logit.float() for logit in logits]

    @torch.no_grad()
    def _average(self, count: int) -> None:
        half_life = min(self.recipe.ema_images, max(self.images * 0.1, 1.0))
        keep = 0.5 ** (count / half_life)
        ours: list[Tensor] = list(self.averaged.parameters())
        theirs: list[Tensor] = list(self.generator.parameters())
        torch._foreach_lerp_(ours, theirs, 1.0 - keep)

    def grid(self) -> Tensor:
        """Sample images (5, 12, 3, R, R): photos, their reconstructions, three rows of samples.

        Photos and samples are the same at each call.
        """
        columns = 12
        rng = torch.Generator().manual_seed(7)
        index = torch.arange(columns) * 37 % self.codes.count
        drawn = torch.randn(3 * columns, len(self.codes.mean), generator=rng)
        codes = torch.cat([self.codes.table.weight[index], self.codes.gaussian(drawn)])
        w = self.codes.to_w(codes).to(self.device)
        made = self.averaged.synthesis(self.averaged.broadcast(w)).cpu()
        rows = torch.cat([self.photos.batch(index).cpu(), made])
        return rows.reshape(5, columns, *rows.shape[1:])

    def finish(self) -> Generator:
        """The averaged generator with a mapping that draws between the codes.

        It is a copy on the CPU: the training can go on.
        """
        generator = copy.deepcopy(self.averaged).cpu().eval()
        table = self.codes.table.weight.detach()
        return with_mixture(generator, table, self.codes.basis).requires_grad_(False)

    @torch.no_grad()
    def latents(self) -> Tensor:
        """w (2N, w_dim) of the N photos, then of their mirror images, if these have codes."""
        return self.codes.to_w(self.codes.table.weight)

    def state_dict(self) -> dict[str, Any]:
        """All state that a resumed run needs to continue exactly."""
        return {
            "images": self.images,
            "steps": self.steps,
            "phase": self.phase,
            "begun": dict(self.begun),
            "generator": self.generator.state_dict(),
            "averaged": self.averaged.state_dict(),
            "codes": self.codes.state_dict(),
            "discriminators": self.discriminators.state_dict(),
            "g_optimiser": self.g_optimiser.state_dict(),
            "d_optimiser": self.d_optimiser.state_dict(),
            "code_optimiser": self.code_optimiser.state_dict(),
            "order": self.order,
            "rng": self.rng.get_state(),
            "torch_rng": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        if state["phase"] != self.phase:
            self.phase = -1
            for phase in range(state["phase"] + 1):
                self._enter(phase)
        self.begun = dict(state.get("begun", {}))
        for name in (
            "generator",
            "averaged",
            "codes",
            "discriminators",
            "g_optimiser",
            "d_optimiser",
            "code_optimiser",
        ):
            getattr(self, name).load_state_dict(state[name])
        for group in self.d_optimiser.param_groups:
            group["capturable"] = self.device.type == "cuda"  # not that of the machine before
        self.images, self.steps, self.order = state["images"], state["steps"], state["order"]
        self.rng.set_state(state["rng"])
        torch.set_rng_state(state["torch_rng"])


def _on_cpu(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
