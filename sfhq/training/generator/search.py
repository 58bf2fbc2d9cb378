"""Find the codes of photos in a trained generator, so that its mapping can draw between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfhq.synthesis.latents import activate
from sfhq.training.features import FeaturePyramid, perceptual_distance
from sfhq.training.generator.mixture import with_mixture
from sfhq.training.generator.training import FEATURE_SIZES
from sfhq.training.photos import Photos
from stylegan2_ops.bias_act import LRELU_GAIN
from stylegan2_ops.generator import Generator

COLUMNS = 12  # photos of a grid


@dataclass(frozen=True)
class SearchRecipe:
    """Settings of a search.

    Attributes:
        phases: pairs of (resolution, steps) in turn; resolutions above the generator's are cut.
        batch: photos at a time.
        pixel_weight, feature_weight: of the distances of pixels and of features.
        prior_weight: of the mean square of the code, in deviations of the mapping's draws.
        lr: Adam's learning rate, in the same deviations; it falls to a fifteenth.
        seed: of the mapping's keys.
    """

    phases: tuple[tuple[int, int], ...] = ((64, 12), (128, 10))
    batch: int = 32
    pixel_weight: float = 4.0
    feature_weight: float = 3.0
    prior_weight: float = 0.05
    lr: float = 0.15
    seed: int = 0


class CodeSearch:
    """A search as a run that can be stopped and resumed; a step brings one batch to its end.

    A code is a point along the axes of w before the mapping's last activation. Adam moves it until
    the image that the generator makes of it is near the photo; the generator stays as it is.

    Args:
        recipe: settings.
        generator: whose codes are wanted.
        photos: at the generator's resolution or above.
        features: frozen feature pyramid.
        mean, axes: (w_dim,) and (K, w_dim) of w before its last activation, axes in deviations.
        start: (N, K) first codes, such as those that an encoder finds; None for the mean.
        device: where the networks run.

    Raises:
        ValueError: `start` has another shape.
    """

    def __init__(
        self,
        recipe: SearchRecipe,
        generator: Generator,
        photos: Photos,
        features: FeaturePyramid,
        mean: Tensor,
        axes: Tensor,
        start: Tensor | None = None,
        device: str = "cpu",
    ) -> None:
        wanted = (len(photos), len(axes))
        if start is not None and tuple(start.shape) != wanted:
            raise ValueError(f"start has shape {tuple(start.shape)}; wanted {wanted}")
        self.recipe, self.device = recipe, torch.device(device)
        last = torch.channels_last
        self.generator = generator.to(self.device).to(memory_format=last)
        self.features = features.to(self.device).to(memory_format=last)
        self.mean, self.axes = mean.to(self.device), axes.to(self.device)
        size = generator.config.resolution
        self.phases = [(min(r, size), steps) for r, steps in recipe.phases]
        self.photos = {r: photos.at(r).to(self.device) for r in {r for r, _ in self.phases}}
        self.found = torch.zeros(wanted) if start is None else start.clone()
        self.images = 0

    @property
    def total(self) -> int:
        """Number of photos."""
        return len(self.found)

    def to_w(self, codes: Tensor) -> Tensor:
        """w (N, w_dim) of codes (N, K)."""
        return activate(self.mean + codes @ self.axes)

    def step(self) -> dict[str, Tensor]:
        """Find the codes of the next photos; mean distances of pixels and features at the end."""
        recipe, count = self.recipe, sum(steps for _, steps in self.phases)
        rows = torch.arange(self.images, min(self.images + recipe.batch, self.total))
        codes = self.found[rows].to(self.device).requires_grad_()
        optimiser = torch.optim.Adam([codes], lr=recipe.lr, betas=(0.8, 0.99))
        done = 0
        for resolution, steps in self.phases:
            self.features.size = FEATURE_SIZES.get(resolution, 112)
            real = self.photos[resolution].batch(rows)
            with torch.no_grad():
                wanted = self.features(real)
            for _ in range(steps):
                pixel, feature = self._apart(codes, resolution, real, wanted)
                loss = recipe.pixel_weight * pixel + recipe.feature_weight * feature
                loss = loss + recipe.prior_weight * codes.square().mean(dim=1)
                for group in optimiser.param_groups:
                    group["lr"] = recipe.lr * (1 - done / count + 1 / 15)
                optimiser.zero_grad()
                loss.sum().backward()
                optimiser.step()
                done += 1
        with torch.no_grad():
            pixel, feature = self._apart(codes, resolution, real, wanted)
        self.found[rows] = codes.detach().cpu()
        self.images += len(rows)
        return {"pixel": pixel.mean(), "feature": feature.mean()}

    def _apart(
        self, codes: Tensor, resolution: int, real: Tensor, wanted: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """(N,) each: how far images of codes are from photos, in pixels and in features."""
        w_plus = self.generator.broadcast(self.to_w(codes))
        made = self.generator.synthesis(w_plus, "const", resolution)
        pixel = (made - real).abs().mean(dim=(1, 2, 3))
        return pixel, perceptual_distance(self.features(made), wanted)

    def grid(self) -> Tensor | None:
        """Photos (2, n, 3, R, R) over the images of their codes; None before the first step."""
        if self.images == 0:
            return None
        rows = torch.arange(min(COLUMNS, self.images))
        resolution = self.phases[-1][0]
        real = self.photos[resolution].batch(rows).cpu()
        w_plus = self.generator.broadcast(self.to_w(self.found[rows].to(self.device)))
        made = self.generator.synthesis(w_plus, "const", resolution)
        return torch.stack([real, made.cpu()])

    def finish(
        self,
        looks: Callable[[Generator, Tensor], Tensor] | None = None,
        together: Sequence[float] | None = None,
    ) -> Generator:
        """The generator, on the CPU, with a mapping that draws between the codes found so far.

        Args:
            looks: gives (N, K) which faces have which look, of a generator and w (N, w_dim); those
                that few have are kept together.
            together: how firmly, a number a look; see `with_mixture`.

        Raises:
            ValueError: none has been found.
        """
        if self.images == 0:
            raise ValueError("no code has been found; wanted one step at least")
        codes = self.found[: self.images]
        w = self.to_w(codes.to(self.device)).cpu()
        generator = self.generator.cpu()
        generator = generator.to(memory_format=torch.contiguous_format)
        axes, mean = self.axes.cpu() / LRELU_GAIN, self.mean.cpu() / LRELU_GAIN
        seen = None if looks is None else looks(generator, w)
        return with_mixture(generator, codes, axes, mean, self.recipe.seed, seen, together)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed search needs."""
        return {"images": self.images, "found": self.found}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            ValueError: it is of other photos or another generator.
        """
        if state["found"].shape != self.found.shape:
            raise ValueError("codes of another shape")
        self.images, self.found = state["images"], state["found"].clone()
