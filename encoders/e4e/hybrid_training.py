"""Train a hybrid encoder for a generator, on numbers that the label network reads once.

It learns from three kinds of pictures at once: images that the generator draws, whose latents are
known; photos whose codes the generator's training found, plain and made to look painted; and, where
there are any, rendered people, of whom the picture in an art style must get the latent of the
photograph. No image is rendered in a step, so steps are thousands of times as fast as those of e4e,
and most of a run is spent on reading.
"""

from __future__ import annotations

import copy
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encoders.e4e.hybrid import HybridEncoder, coordinates_of, used_axes
from sfhq.errors import IntegrityError
from sfhq.images import write_atomic
from sfhq.training.painterly import paint_randomly
from sfhq.training.pairs import Pairs
from sfhq.training.photos import Photos
from stylegan2_ops.generator import Generator

Say = Callable[[str], None]
CHUNK = 64  # pictures between two lines of progress


@dataclass(frozen=True)
class HybridRecipe:
    """Settings of a training run.

    Attributes:
        images: rows that the run learns from in all, repeats included.
        batch: rows per step: two in five drawn, two photos, and one rendered people.
        drawn: images that the generator draws.
        seed: seed of all random numbers.
        lr: AdamW's learning rate; it falls to 0 in the last two thirds.
        decay: AdamW's weight decay.
        people: weight of the distance between a picture and its photograph.
        towards: share of that distance that moves the picture; the rest moves the photograph.
        ema_images: half-life of the averaged encoder, in rows.
    """

    images: int = 600_000
    batch: int = 320
    drawn: int = 8_000
    seed: int = 0
    lr: float = 1e-3
    decay: float = 0.05
    people: float = 1.0
    towards: float = 0.8
    ema_images: int = 20_000


@dataclass(frozen=True, eq=False)
class Read:
    """Numbers of pictures, and what is to be said of them.

    Attributes:
        drawn, drawn_w: (D, R) and (D, w_dim).
        photos, photos_w: (P, R) and (P, w_dim); P may be 0.
        art, truth: (A, R) each; A may be 0.
    """

    drawn: Tensor
    drawn_w: Tensor
    photos: Tensor
    photos_w: Tensor
    art: Tensor
    truth: Tensor


@torch.inference_mode()
def read_all(
    encoder: HybridEncoder,
    generator: Generator,
    recipe: HybridRecipe,
    photos: Photos,
    codes: Tensor | None,
    pairs: Pairs | None,
    folder: Path,
    digests: str,
    say: Say,
    device: str = "cpu",
) -> Read:
    """Read all pictures that a run learns from; what a folder holds is not read again.

    Args:
        encoder: whose stem reads.
        generator: draws images.
        recipe: says how many.
        photos: N photos, of the stem's size.
        codes: (2N, w_dim) latents of them and of their mirror images; None leaves photos out.
        pairs: rendered people, of the stem's size.
        folder: where numbers are kept.
        digests: of generator and label network; numbers of others are read anew.
        say: takes lines of progress.
        device: where pictures are read; the networks are on the CPU afterwards.
    """
    place = torch.device(device)
    encoder.to(place)
    generator.to(place)

    def kept(name: str, key: str, count: int, make: Callable[[int], Tensor]) -> Tensor:
        path = folder / f"{name}.npz"
        key = hashlib.sha256(f"{digests} {key} {count}".encode()).hexdigest()
        if path.is_file():
            try:
                with np.load(path, allow_pickle=False) as stored:
                    if str(stored["key"]) == key:
                        return torch.from_numpy(stored["numbers"])
            except Exception as error:
                raise IntegrityError(
                    f"{path}: cannot be read ({type(error).__name__}); delete it to read again"
                ) from None
        rows = []
        for start in range(0, count, 8):
            rows.append(encoder.numbers(make(start).to(place)).cpu())
            if start % CHUNK == 0:
                say(f"{name}: {start} of {count} read")
        found = torch.cat(rows) if rows else torch.zeros(0, len(encoder.centre))
        buffer = io.BytesIO()
        np.savez(buffer, key=np.array(key), numbers=found.numpy())
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())
        return found

    rng = torch.Generator().manual_seed(recipe.seed)
    z = torch.randn(recipe.drawn, generator.config.z_dim, generator=rng)
    w = torch.cat([generator.mapping(c.to(place)).cpu() for c in z.split(512)])

    def drawn(start: int) -> Tensor:
        latents = generator.broadcast(w[start : start + 8].to(place))
        images: Tensor = generator.synthesis(latents)
        return images.float().clamp(-1, 1)

    n = len(photos) if codes is not None else 0

    def seen(start: int) -> Tensor:
        at = torch.arange(start, min(start + 8, 4 * n))
        images = photos.batch(at % max(n, 1), (at // max(n, 1)) % 2 == 1)
        painted = paint_randomly(images, torch.Generator().manual_seed(start), 1.0)
        return torch.where((at >= 2 * n)[:, None, None, None], painted, images)

    def people(truth: bool) -> Callable[[int], Tensor]:
        def make(start: int) -> Tensor:
            assert pairs is not None
            at = torch.arange(start, min(start + 8, 2 * len(pairs)))
            return pairs.batch(at % len(pairs), at >= len(pairs))[int(truth)]

        return make

    count = 2 * len(pairs) if pairs is not None else 0
    names = " ".join(pairs.art.names) if pairs is not None else ""
    seed = str(recipe.seed)
    read = Read(
        drawn=kept("drawn", seed, recipe.drawn, drawn),
        drawn_w=w.clone(),
        photos=kept("photos", " ".join(photos.names), 4 * n, seen),
        photos_w=torch.cat([codes, codes]) if codes is not None else w[:0].clone(),
        art=kept("art", names, count, people(truth=False)),
        truth=kept("truth", names, count, people(truth=True)),
    )
    encoder.cpu()
    generator.cpu()
    return read


class HybridTraining:
    """State of a training run: networks, optimiser, counters, random numbers.

    Args:
        recipe: settings.
        encoder: with the stem's weights; the rest of it is trained from where it is.
        generator: for which it is trained.
        read: of `read_all`.
        photos: for the grid of samples.
    """

    def __init__(
        self,
        recipe: HybridRecipe,
        encoder: HybridEncoder,
        generator: Generator,
        read: Read,
        photos: Photos,
    ) -> None:
        self.recipe, self.generator, self.photos = recipe, generator, photos
        torch.manual_seed(recipe.seed)
        self.encoder = encoder.train()
        mean, axes = used_axes(generator)
        encoder.mean.copy_(mean)
        encoder.axes.copy_(axes)
        encoder.latent_avg.copy_(generator.latent_avg.reshape(-1, encoder.config.w_dim)[0])
        every = torch.cat([read.drawn, read.photos, read.art, read.truth])
        encoder.centre.copy_(every.mean(0))
        encoder.spread.copy_(every.std(0) + 1e-3)
        self.read = read
        self.scale = axes.square().sum(1).sqrt()  # of each axis
        self.drawn = coordinates_of(read.drawn_w, mean, axes)
        self.known = coordinates_of(read.photos_w, mean, axes)
        self.averaged = copy.deepcopy(encoder).requires_grad_(False).eval()
        self.weights = [p for p in encoder.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            self.weights, lr=recipe.lr, weight_decay=recipe.decay, fused=True
        )
        self.rng = torch.Generator().manual_seed(recipe.seed)
        self.images = 0
        self.steps = 0

    @property
    def total(self) -> int:
        """Number of rows after which the training ends."""
        return self.recipe.images

    def _apart(self, found: Tensor, wanted: Tensor) -> Tensor:
        """Mean squared distance in w before the activation, in shares of its variance."""
        square = ((found - wanted) * self.scale).square().sum(1).mean()
        return square / self.scale.square().sum()

    def step(self) -> dict[str, Tensor]:
        """Update the encoder once; returns the losses by name."""
        recipe, read = self.recipe, self.read
        progress = self.images / recipe.images
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.lr * min(1.0, (1.0 - progress) * 1.5)
        fifth = recipe.batch // 5

        def pick(count: int, of: Tensor) -> Tensor:
            return torch.randint(len(of), (count,), generator=self.rng)

        losses: dict[str, Tensor] = {}
        i = pick(2 * fifth, read.drawn)
        losses["drawn"] = self._apart(self.encoder.coordinates(read.drawn[i]), self.drawn[i])
        loss = losses["drawn"]
        if len(read.photos):
            j = pick(2 * fifth, read.photos)
            losses["photos"] = self._apart(self.encoder.coordinates(read.photos[j]), self.known[j])
            loss = loss + losses["photos"]
        if len(read.art):
            k = pick(fifth, read.art)
            art = self.encoder.coordinates(read.art[k])
            truth = self.encoder.coordinates(read.truth[k])
            losses["people"] = self._apart(art, truth.detach())
            back = self._apart(art.detach(), truth)
            people = recipe.towards * losses["people"] + (1 - recipe.towards) * back
            loss = loss + recipe.people * people
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.images += recipe.batch
        self.steps += 1
        half_life = min(recipe.ema_images, max(self.images * 0.1, 1.0))
        with torch.no_grad():
            ours: list[Tensor] = [
                p for n, p in self.averaged.named_parameters() if not n.startswith("stem.")
            ]
            theirs: list[Tensor] = [*self.weights]
            torch._foreach_lerp_(ours, theirs, 1.0 - 0.5 ** (recipe.batch / half_life))
        return {name: value.detach() for name, value in losses.items()}

    def grid(self) -> Tensor:
        """Sample images (4, 12, 3, R, R): photos, their inversions, painted photos, inversions."""
        rng = torch.Generator().manual_seed(1)
        photos = self.photos.batch(torch.arange(12) * 41 % len(self.photos))
        size = self.generator.config.resolution
        rows = []
        for shown in (photos, paint_randomly(photos, rng, 1.0)):
            small = torch.nn.functional.interpolate(shown, (size, size), mode="area")
            rows += [small, self.generator.synthesis(self.averaged(shown)).float()]
        return torch.stack(rows)

    def state_dict(self) -> dict[str, Any]:
        """All state that a resumed run needs to continue exactly."""
        return {
            "images": self.images,
            "steps": self.steps,
            "encoder": self.encoder.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.get_state(),
            "torch_rng": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        for name in ("encoder", "averaged", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.images, self.steps = state["images"], state["steps"]
        self.rng.set_state(state["rng"])
        torch.set_rng_state(state["torch_rng"])
