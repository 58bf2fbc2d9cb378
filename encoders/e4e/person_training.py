"""Train the shift of a person encoder: its pictures must show the person of the true photograph.

The start is linear and in closed form. Images that the generator draws say how dlib's vector
follows the coordinates of the latent (ridge regression), and the shift is what brings the vector of
the picture to that of the art (Levenberg-Marquardt's step). Then the whole shift is trained: e4e
inverts a painted photo or the picture of a rendered person, the shifted latent is rendered, as the
candidates bound it in half of the cases, and must show what dlib's network sees in the true
photograph, its colours and its features. dlib looks at the inner face only: without the other
losses hair, glasses and hats are lost.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from encoders.e4e.person import PersonEncoder
from sfhq.errors import UsageError
from sfhq.faces.recognition_file import EMBEDDING
from sfhq.synthesis.candidates import STRICT_LADDER, STRICT_RADIUS
from sfhq.synthesis.close import APART, COLOURS
from sfhq.synthesis.latents import LatentPrior, activate, layer_ladder
from sfhq.synthesis.likeness import SAME, reduce, to_lab
from sfhq.synthesis.tint import Tint
from sfhq.training.augment import draw_augmentation
from sfhq.training.features import FeaturePyramid, perceptual_distance
from sfhq.training.painterly import paint_randomly
from sfhq.training.pairs import Pairs
from sfhq.training.photos import Photos
from sfhq.training.precision import fast_convolutions
from sfhq.training.recorded import Recorded
from stylegan2_ops.generator import Generator, truncate
from stylegan2_ops.inference import prepared

Identity = Callable[[Tensor], Tensor]
Say = Callable[[str], None]

RIDGE, DAMPING = 0.01, 1.0  # shares of the mean square
PHOTO_RIDGE = 0.02  # of the mean variance of vectors of art
# Where the linear shift begins: coarse layers turn the head, middle ones have the face.
START = (0.0, 1.0, 0.5)
SHORTEST, LONGEST = 0.55, 0.9  # of a drawn latent's distance from the mean face, as of candidates
PREVIEW = 256  # pixels: drawn images are seen no larger
CHUNK = 8


@dataclass(frozen=True)
class PersonRecipe:
    """Settings of a training run.

    Attributes:
        images: number of pictures of the run.
        batch: pictures per step.
        drawn: images that the generator draws for the linear start.
        paired: share of the pictures that are of rendered people, if there are any.
        painted: share of the photos that are made to look painted.
        seed: seed of all random numbers.
        small_until: share of the run in which pictures are rendered at half their size.
        lr: AdamW's learning rate; it falls to 0 along a cosine.
        decay: AdamW's weight decay.
        person_weight: weight of the squared distance of dlib's vectors, in units of .6.
        colour_weight: weight of the distance of colours, in units of 20 of CIELAB.
        feature_weight: weight of the perceptual distance.
        shift_weight: weight of the mean square of the shift, in deviations.
        bounded: share of the latents that are bounded as the candidate `strict` is.
        ema_images: half-life of the averaged encoder, in pictures.
        precision: "fp32", or "bf16" to run the convolutions in bfloat16.
    """

    images: int = 16_000
    batch: int = 16
    drawn: int = 4_000
    paired: float = 0.5
    painted: float = 0.7
    seed: int = 0
    small_until: float = 0.7
    lr: float = 5e-4
    decay: float = 0.02
    person_weight: float = 0.7
    colour_weight: float = 0.5
    feature_weight: float = 1.0
    shift_weight: float = 0.5
    bounded: float = 0.5
    ema_images: int = 1_000
    precision: str = "fp32"


@torch.inference_mode()
def start_linear(
    encoder: PersonEncoder,
    generator: Generator,
    identity: Identity,
    count: int,
    seed: int,
    say: Say,
) -> None:
    """Set the shift to the best linear one, and the scales of the numbers that it reads.

    Args:
        encoder: changed in place; on the CPU, as are the networks.
        generator: for which it is.
        identity: images (N, 3, R, R) in [-1, 1] to vectors (N, 128).
        count: images to draw.
        seed: of the draws.
        say: takes lines of progress.
    """
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(count, generator.config.z_dim, generator=rng)
    length = SHORTEST + (LONGEST - SHORTEST) * torch.rand(count, 1, generator=rng)
    w = torch.cat([generator.mapping(c) for c in z.split(512)])
    coordinates = encoder.coordinates(w) * length
    latents = activate(encoder.mean + coordinates @ encoder.axes)
    render = prepared(generator.synthesis, "fp32")
    size = min(PREVIEW, generator.config.resolution)
    vectors, small = [], []
    for number, lot in enumerate(latents.split(CHUNK)):
        images = render(generator.broadcast(lot), stop_at=size).clamp(-1, 1)
        vectors.append(identity(images))
        small.append(encoder.numbers(vectors[-1], generator.broadcast(lot), images))
        if number % 64 == 0:
            say(f"drawn: {number * CHUNK} of {count} read")
    numbers = torch.cat(small)
    encoder.centre.copy_(numbers.mean(0))
    encoder.spread.copy_(numbers.std(0) + 1e-3)
    x, y = (_centred(v).double() for v in (coordinates, torch.cat(vectors)))
    follows = torch.linalg.solve(_damped(x.t() @ x, RIDGE), x.t() @ y)  # (K, 128)
    back = torch.linalg.solve(_damped(follows @ follows.t(), DAMPING), follows)
    matrix = torch.cat([back, -back @ follows.t()], 1).float()  # of vectors, of coordinates
    seen = EMBEDDING + len(follows)
    direct = encoder.direct
    direct.weight.zero_()
    rows = torch.cat([strength * matrix for strength in START])
    direct.weight[:, :seen] = rows * encoder.spread[:seen]
    direct.bias.zero_()


@torch.inference_mode()
def fit_photo(encoder: PersonEncoder, identity: Identity, pairs: Pairs) -> None:
    """Find how dlib's vectors of photographs follow from those of art, by ridge regression.

    Args:
        encoder: changed in place; its `config.photo` is true.
        identity: images (N, 3, R, R) in [-1, 1] to vectors (N, 128), on the device of the pairs.
        pairs: art, and photographs of its people.
    """
    plain = torch.zeros(CHUNK, dtype=torch.bool)
    lots = [
        [identity(images).cpu() for images in pairs.batch(rows, plain[: len(rows)])]
        for rows in torch.arange(len(pairs)).split(CHUNK)
    ]
    art, truth = (torch.cat(vectors).double() for vectors in zip(*lots, strict=True))
    x, y = _centred(art), _centred(truth)
    weight = torch.linalg.solve(_damped(x.t() @ x, PHOTO_RIDGE), x.t() @ y)
    encoder.photo_weight.copy_(weight)
    encoder.photo_bias.copy_(truth.mean(0) - art.mean(0) @ weight)


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(0)


def _damped(square: Tensor, share: float) -> Tensor:
    extra = share * square.diagonal().mean()
    return square + extra * torch.eye(len(square), dtype=square.dtype)


class _Batch(NamedTuple):
    """What one step learns from.

    Attributes:
        shown: (N, 3, R, R) pictures.
        true: (N, 3, R, R) photographs of their people.
        bounded: (N, 1, 1) bool, whose latents are bounded as those of `strict`.
    """

    shown: Tensor
    true: Tensor
    bounded: Tensor


class PersonTraining:
    """State of a training run: networks, optimiser, counters, random numbers.

    Args:
        recipe: settings.
        encoder: e4e and the shift; only the shift is trained.
        generator: for which it is; frozen.
        identity: dlib's network, images (N, 3, R, R) in [-1, 1] to vectors (N, 128).
        features: frozen feature pyramid.
        photos: training photos at the generator's resolution.
        pairs: rendered people at the same resolution, or None.
        device: where the networks run. Random numbers are drawn on the CPU.

    Raises:
        UsageError: there are photos of another size.
    """

    def __init__(
        self,
        recipe: PersonRecipe,
        encoder: PersonEncoder,
        generator: Generator,
        identity: Identity,
        features: FeaturePyramid,
        photos: Photos,
        pairs: Pairs | None = None,
        device: str = "cpu",
    ) -> None:
        self.recipe, self.device = recipe, torch.device(device)
        size = generator.config.resolution
        for lot in (photos, *((pairs.art, pairs.truth) if pairs else ())):
            if lot.pixels.shape[-1] != size:
                raise UsageError(
                    f"photos have {lot.pixels.shape[-1]} pixels; the generator's have {size}"
                )
        prior = LatentPrior.of(generator)
        self.tint = Tint.of(generator, prior).to(self.device)
        self.prior = prior.to(self.device)
        last = torch.channels_last
        self.generator = generator.requires_grad_(False).to(self.device).to(memory_format=last)
        self.identity = identity
        self.features = features.to(self.device).to(memory_format=last)
        self.photos = photos.to(self.device)
        self.pairs = None if pairs is None else pairs.to(self.device)
        torch.manual_seed(recipe.seed)
        self.rng = torch.Generator().manual_seed(recipe.seed)
        self.encoder = encoder.to(self.device).train()
        self.encoder.base.eval().to(memory_format=last)
        self.averaged = copy.deepcopy(encoder).requires_grad_(False).eval()
        self.weights = [p for p in encoder.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            self.weights, lr=recipe.lr, weight_decay=recipe.decay, betas=(0.9, 0.99), fused=True
        )
        self.ladder = layer_ladder(generator.config.num_ws, *STRICT_LADDER).to(self.device)
        self.update = Recorded(self._update, self.device)
        self.images = 0
        self.steps = 0

    @property
    def total(self) -> int:
        """Number of pictures after which the training ends."""
        return self.recipe.images

    @property
    def size(self) -> int:
        """Pixels at which the pictures of the next step are rendered."""
        size = self.generator.config.resolution
        small = self.images / self.recipe.images < self.recipe.small_until
        return max(size // 2, min(size, 64)) if small else size

    def _batch(self) -> _Batch:
        """Draw what a step learns from."""
        recipe, rng = self.recipe, self.rng
        drawn = 0 if self.pairs is None else round(recipe.batch * recipe.paired)
        rows = torch.randint(len(self.photos), (recipe.batch - drawn,), generator=rng)
        flipped = torch.rand(recipe.batch, generator=rng) < 0.5
        photos = self.photos.batch(rows, flipped[drawn:])
        shown, true = [paint_randomly(photos, rng, recipe.painted)], [photos]
        if self.pairs is not None:
            people = torch.randint(len(self.pairs), (drawn,), generator=rng)
            art, truth = self.pairs.batch(people, flipped[:drawn])
            shown, true = [art, *shown], [truth, *true]
        pictures = torch.cat(shown)
        moved = draw_augmentation(len(pictures), rng, 0.5)(pictures)
        keep = (torch.rand(len(pictures), generator=rng) < 0.5).to(self.device)
        bounded = torch.rand(len(pictures), 1, 1, generator=rng) < recipe.bounded
        pictures = torch.where(keep[:, None, None, None], pictures, moved)
        return _Batch(pictures, torch.cat(true), bounded)

    def _bound(self, w_plus: Tensor, some: Tensor) -> Tensor:
        """The latents of `some` bounded as those of `strict`."""
        pulled = truncate(w_plus, self.generator.latent_avg, self.ladder)
        pulled = self.prior.within(pulled, STRICT_RADIUS)
        return torch.where(some, self.tint.keep(self.prior, w_plus, pulled), w_plus)

    def step(self) -> dict[str, Tensor]:
        """Update the shift once; returns the losses by name."""
        recipe = self.recipe
        progress = self.images / recipe.images
        warm = min(1.0, (self.steps + 1) / 50)
        falling = 0.5 * (1.0 + torch.cos(torch.tensor(torch.pi * progress)).item())
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.lr * warm * falling
        losses = dict(self.update(self._batch(), self.size))
        self.optimiser.step()
        self.images += recipe.batch
        self.steps += 1
        self._average(recipe.batch)
        return losses

    def _update(self, batch: _Batch) -> dict[str, Tensor]:
        """Leave the gradients of the shift; returns the losses by name."""
        recipe, encoder = self.recipe, self.encoder
        with torch.no_grad(), self._fast():
            w_plus, vectors = encoder.base(batch.shown).float(), self.identity(batch.shown)
            wanted = self.identity(batch.true)
        # In fp32, as at inference: a rounded coordinate is a wrong one.
        shift = encoder.shift(encoder.numbers(vectors, w_plus, batch.shown))
        bound = self._bound(encoder.shifted(w_plus, shift), batch.bounded)
        with self._fast():
            pictures = self.generator.synthesis(bound, stop_at=self.size).float()
            found = self.identity(pictures)
            seen = self.features(pictures)
            with torch.no_grad():
                target = self.features(batch.true)
        feature = perceptual_distance(seen, target).mean()
        person = (found.float() - wanted.float()).square().sum(1).mean() / SAME**2
        apart = to_lab(reduce(pictures, COLOURS)) - to_lab(reduce(batch.true, COLOURS))
        colour = (apart.square().sum(1) + 1e-6).sqrt().mean() / APART
        length = shift.square().mean()
        loss = (
            recipe.person_weight * person
            + recipe.colour_weight * colour
            + recipe.feature_weight * feature
            + recipe.shift_weight * length
        )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        losses = {"person": person, "colour": colour, "feature": feature, "shift": length}
        return {name: value.detach() for name, value in losses.items()}

    def _fast(self) -> torch.autocast:
        return fast_convolutions(self.device, self.recipe.precision)

    @torch.no_grad()
    def _average(self, count: int) -> None:
        half_life = min(self.recipe.ema_images, max(self.images * 0.1, 1.0))
        ours: list[Tensor] = [
            p for n, p in self.averaged.named_parameters() if not n.startswith("base.")
        ]
        torch._foreach_lerp_(ours, [*self.weights], 1.0 - 0.5 ** (count / half_life))

    def grid(self) -> Tensor:
        """Sample images (n, 12, 3, R, R): pictures, e4e's, the encoder's, and true photographs."""
        rng = torch.Generator().manual_seed(1)
        lots = self.photos.batch(torch.arange(12) * 41 % len(self.photos))
        sets = [(paint_randomly(lots, rng, 1.0), lots)]
        if self.pairs is not None:
            rows = torch.arange(12) * 7 % len(self.pairs)
            sets.append(self.pairs.batch(rows, torch.zeros(12, dtype=torch.bool)))
        out = []
        for shown, true in sets:
            latents = [
                torch.cat([network(x) for x in shown.split(4)])
                for network in (self.averaged.base, self.averaged)
            ]
            made = [self.generator.synthesis(w).float() for w in latents]
            out += [shown, *made, true]
        return torch.stack(out).cpu()

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
