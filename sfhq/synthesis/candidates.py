"""How an inverted inspiration is brought to life: named ways from a latent to a photograph.

Each way is a word on the command line and in the record:

    strict        pulled to the mean face but for its colour, and bounded: the most realistic
    low           refined until the picture is nearest to the art in colour, and no blurrier
    close         refined until the picture shows the person of the art; close-60: in 60 steps
    psi-0.6       the plain truncation ladder
    donor-7       fine layers from a realistic donor, crossing over at layer 7 (of 18)
    sefa-0+1.5    a step along one of the strongest directions of the weights: direction, units
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sfhq.errors import UsageError
from sfhq.parts.records import Json, Pixels
from sfhq.synthesis.close import STEPS, refine
from sfhq.synthesis.latents import LatentPrior, layer_ladder, mix_fine_layers, sefa_directions
from sfhq.synthesis.likeness import SAME, Likeness, Seen
from sfhq.synthesis.names import DONORS, PATTERN
from sfhq.synthesis.tint import Tint
from sfhq.tensors import to_pixels
from stylegan2_ops.generator import Generator, truncate
from stylegan2_ops.inference import Precision, prepared

Encoder = Callable[[Tensor], Tensor]

STRICT_LADDER = (1.0, 1.0, 0.8)
STRICT_RADIUS = 0.8
LOW_ROUNDS = 2
LOW_RADIUS = 0.9
LOW_AXES = (0, 2, 3)  # strongest axes of the prior to try in coarse, middle and fine layers
LOW_STEP = 0.5  # of an axis, in standard deviations
LOW_PULL = 0.3  # of the way to the mean face
LOW_SHARES = (1.0, 0.5, 0.2)  # of the best combination; a whole step may overshoot
LOW_RIDGE = 0.05
LOW_MOST = 3.0  # times that a move is repeated
LOW_DETAIL = 1.01  # of the detail of `strict`, the least
LOW_MARGIN = 1.05  # of the same, to aim at
LOW_WEIGHT = 60.0  # distance in CIELAB that is as bad as having no detail
LOW_PERSON = 40.0  # distance in CIELAB that is as bad as showing another person
LOW_BATCH = 8  # pictures at a time; bounds the memory
LOW_PREVIEW = 256  # pixels; moves are looked at no larger, of networks above 128 at half the size
DONOR_PSI = 0.4  # of donors; at 0.6 fine layers of some bring glassy eyes


@dataclass(frozen=True)
class Candidate:
    """One way's result for a batch.

    Attributes:
        name: the way.
        w_plus: (N, L, w_dim).
        psi: strength, where one number says it.
        params: what else made it, one mapping a face.
    """

    name: str
    w_plus: Tensor
    psi: float | None
    params: list[dict[str, Json]]


@dataclass(frozen=True)
class CandidateMaker:
    """Makes candidates of inverted faces with one generator.

    Attributes:
        generator: renders the pictures that refinement looks at.
        encoder: images (N, 3, H, W) to w_plus (N, L, w_dim).
        prior: of the generator.
        seed: of the donors.
        precision: of the generator's convolutions.
        tint: of the generator: `strict` and donors keep the colour of the face; None lets it be
            pulled to the mean too.
    """

    generator: Generator
    encoder: Encoder
    prior: LatentPrior
    seed: int
    precision: Precision = "fp32"
    tint: Tint | None = None

    def _render(self, w_plus: Tensor, stop_at: int | None = None) -> Tensor:
        network = self.generator.synthesis
        return prepared(network, self.precision)(w_plus, stop_at=stop_at)

    def make(self, name: str, inverted: Tensor, images: Tensor, face_ids: list[str]) -> Candidate:
        """One way on a batch.

        Args:
            name: see `sfhq.synthesis.names`.
            inverted: (N, L, w_dim) latents of the inspirations.
            images: (N, 3, H, W) the inspirations themselves.
            face_ids: their names, which seed what is random.
        """
        match = PATTERN.fullmatch(name)
        assert match is not None
        if name == "strict":
            return self._strict(inverted)
        if name == "low":
            return self._low(inverted, images)
        if name.startswith("close"):
            return self._close(name, inverted, images, int(match["steps"] or STEPS))
        if match["psi"]:
            psi = float(match["psi"])
            moved = truncate(inverted, self.generator.latent_avg, psi)
            return Candidate(name, moved, psi, [{} for _ in face_ids])
        if match["donor"]:
            return self._donor(name, inverted, float(match["donor"]), face_ids)
        return self._sefa(name, inverted, int(match["axis"]), float(match["step"]))

    def _strict(self, inverted: Tensor) -> Candidate:
        ladder = layer_ladder(inverted.shape[1], *STRICT_LADDER)
        moved = truncate(inverted, self.generator.latent_avg, ladder)
        moved = self._tinted(inverted, self.prior.within(moved, STRICT_RADIUS))
        params: dict[str, Json] = {"ladder": list(STRICT_LADDER), "radius": STRICT_RADIUS}
        return Candidate("strict", moved, None, [params] * len(moved))

    def _tinted(self, before: Tensor, after: Tensor) -> Tensor:
        return after if self.tint is None else self.tint.keep(self.prior, before, after)

    def _low(self, inverted: Tensor, images: Tensor) -> Candidate:
        """The nearest picture to the inspiration that is no blurrier than that of `strict`.

        Near is a picture in its colours, and in what dlib's network sees of the person.

        In each round the latent is moved a little along a few directions: the difference between
        what the encoder sees in the inspiration and in the picture, in three bands of layers; the
        way to the mean face; and the strongest axes of the prior. What the moves do to a small
        picture gives, by least squares, the combination of them that brings it nearest. The largest
        share of it that brings the whole picture nearer is taken.
        """
        likeness = self._likeness(images)
        rows = torch.arange(len(inverted))
        strict = self._strict(inverted).w_plus
        limit = self._see(strict, likeness, rows)
        best, seen = strict.clone(), limit
        rounds = torch.zeros(len(best), dtype=torch.long)

        def offer(w_plus: Tensor, turn: int, who: Tensor) -> Tensor:
            """Take what is better, of the faces `who` (M,); returns those who took nothing."""
            nonlocal seen
            now, before, least = self._see(w_plus[who], likeness, who), seen.of(who), limit.of(who)
            better = _badness(now) < _badness(before)
            better &= (now.apart < least.apart) & (now.l1 < least.l1)
            better &= now.detail >= LOW_DETAIL * least.detail
            taken = who[better]
            best[taken], rounds[taken] = w_plus[taken], turn
            seen = seen.replaced(taken, now.of(better))
            return who[~better]

        offer(self.prior.within(inverted, LOW_RADIUS), 0, rows)
        size = _preview(self.generator.config.resolution)
        for turn in range(1, LOW_ROUNDS + 1):
            x = self.prior.whiten(best)
            before = [self._render(w, size) for w in best.split(LOW_BATCH)]
            moves = self._moves(x, self.prior.whiten(inverted), torch.cat(before))  # (N, K, L, D)
            moved = self.prior.unwhiten((x[:, None] + moves).flatten(0, 1))
            small = likeness.see(torch.cat(before), rows)
            after = self._see(moved, likeness, rows.repeat_interleave(moves.shape[1]), size)
            shares = _combination(likeness, limit, seen, small, after)
            step = torch.einsum("nk,nkld->nld", shares, moves)
            left = rows
            for share in LOW_SHARES:
                if len(left):
                    shorter = self.prior.unwhiten(x + share * step)
                    left = offer(self.prior.within(shorter, LOW_RADIUS), turn, left)
        params: list[dict[str, Json]] = [
            {"rounds": int(r), "l1": round(float(e), 4), "lab": round(float(a), 2)}
            for r, e, a in zip(rounds, seen.l1, seen.apart, strict=True)
        ]
        return Candidate("low", best, None, params)

    def _likeness(self, images: Tensor) -> Likeness:
        """To inspirations, whose people are seen as their photographs would show them."""
        likeness = Likeness.to(images)
        as_photo = getattr(self.encoder, "as_photo", None)  # of encoders that keep the person
        if as_photo is None:
            return likeness
        seen = [as_photo(vector) for vector in likeness.vector.split(1)]
        return replace(likeness, vector=torch.cat(seen))

    def _see(
        self, w_plus: Tensor, likeness: Likeness, rows: Tensor, stop_at: int | None = None
    ) -> Seen:
        """Render latents, a few at a time, and look at them beside the inspirations of `rows`."""
        parts = [
            likeness.see(self._render(w, stop_at), r)
            for w, r in zip(w_plus.split(LOW_BATCH), rows.split(LOW_BATCH), strict=True)
        ]
        return Seen(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def _moves(self, x: Tensor, wanted: Tensor, pictures: Tensor) -> Tensor:
        """Directions to try from whitened latents x (N, L, w_dim) that give `pictures`.

        Returns:
            (N, K, L, w_dim).
        """
        layers, width = x.shape[1:]
        bands = [layer_ladder(layers, *(float(i == band) for i in range(3))) for band in range(3)]
        masks = torch.stack(bands)[:, None, :, None]  # (3, 1, L, 1): coarse, middle, fine
        feedback = wanted - self.prior.whiten(self.encoder(pictures))
        moves = [mask * feedback for mask in masks]
        moves += [-LOW_PULL * mask * x for mask in masks[1:]]
        strongest = self.prior.scale.argsort(descending=True)
        for mask, axes in zip(masks, LOW_AXES, strict=True):
            for axis in strongest[:axes].tolist():
                unit = torch.zeros(width)
                unit[axis] = LOW_STEP
                moves.append((mask * unit).expand_as(x))
        return torch.stack(moves, dim=1)

    def _close(self, name: str, inverted: Tensor, images: Tensor, steps: int) -> Candidate:
        # One by one, so that a face ends at the same place whatever its batch.
        wanted = self._likeness(images).vector
        lots = zip(inverted.split(1), images.split(1), wanted.split(1), strict=True)
        found = [refine(self.generator, self.prior, *lot, steps, self.precision) for lot in lots]
        params: list[dict[str, Json]] = [
            {"steps": steps, "person": round(float(p), 4), "lab": round(float(a), 2)}
            for part in found
            for p, a in zip(part.person, part.apart, strict=True)
        ]
        return Candidate(name, torch.cat([part.w_plus for part in found]), None, params)

    def _donor(
        self, name: str, inverted: Tensor, crossover: float, face_ids: list[str]
    ) -> Candidate:
        """Fine layers of the seeded face, out of a few, that is nearest in the middle layers."""
        layers = inverted.shape[1]
        donors, seeds = self._donor_pool()
        middle = slice(round(layers * 4 / 18), round(layers * 8 / 18) + 1)
        ours = self.prior.whiten(inverted[:, middle].mean(dim=1))
        nearest = torch.cdist(ours, self.prior.whiten(donors)).argmin(dim=1)
        donor = donors[nearest][:, None].expand(-1, layers, -1)
        base = truncate(inverted, self.generator.latent_avg, layer_ladder(layers, 0.9, 0.9, 1.0))
        moved = self._tinted(inverted, mix_fine_layers(base, donor, crossover * layers / 18))
        return Candidate(
            name, moved, None, [{"donor_seed": int(seeds[i])} for i in nearest.tolist()]
        )

    def _donor_pool(self) -> tuple[Tensor, list[int]]:
        import numpy as np

        seeds = [self.seed + i for i in range(DONORS)]
        width = self.generator.config.z_dim
        z = np.concatenate([np.random.RandomState(s).randn(1, width) for s in seeds])
        w = self.generator.mapping(torch.from_numpy(z).float())
        return truncate(w[:, None], self.generator.latent_avg, DONOR_PSI)[:, 0], seeds

    def _sefa(self, name: str, inverted: Tensor, axis: int, step: float) -> Candidate:
        directions = sefa_directions(self.generator)
        if axis >= len(directions):
            raise UsageError(f"{name}: direction {axis}; wanted 0 to {len(directions) - 1}")
        strict = self._strict(inverted).w_plus
        spread = self.prior.scale.norm() / self.prior.scale.numel() ** 0.5
        moved = strict + step * spread * directions[axis]
        return Candidate(name, moved, None, [{"step": step} for _ in range(len(moved))])


def _preview(resolution: int) -> int:
    """Side of the pictures that moves are looked at: half of the generator's, 128 to 256 pixels."""
    return min(resolution, max(128, min(resolution // 2, LOW_PREVIEW)))


def _badness(seen: Seen) -> Tensor:
    """(N,) how far pictures are from their inspirations, in CIELAB and in the person."""
    return seen.apart + LOW_PERSON * seen.person / SAME


def _combination(likeness: Likeness, limit: Seen, seen: Seen, before: Seen, after: Seen) -> Tensor:
    """How far to go along each move so that pictures come nearest to the inspirations.

    Least squares on what the moves did to the reduced pictures, with a small ridge. Where the
    result would be blurrier than `limit`, detail is one more, heavy equation.

    Args:
        likeness: to the inspirations.
        limit: what is seen of the pictures whose detail is the least allowed.
        seen: of the pictures now, N of them.
        before: of the pictures now in the size of `after`.
        after: of the pictures after each move alone, N x K of them.

    Returns:
        (N, K), shares of the moves.
    """
    n = len(seen.apart)
    lab = before.lab.flatten(1)
    unit = LOW_PERSON / SAME * (lab.shape[1] / 3) ** 0.5
    now = torch.cat([lab, unit * before.vector], 1)
    moved = torch.cat([after.lab.flatten(1), unit * after.vector], 1)
    effect = moved.unflatten(0, (n, -1)) - now[:, None]  # (N, K, values)
    missing = torch.cat(
        [(likeness.lab - seen.lab).flatten(1), unit * (likeness.vector - seen.vector)], 1
    )[:, :, None]
    square, wanted = effect @ effect.transpose(1, 2), effect @ missing
    ridge = LOW_RIDGE * square.diagonal(dim1=1, dim2=2).mean(dim=1) + 1e-6
    square = square + ridge[:, None, None] * torch.eye(square.shape[-1])
    shares = torch.linalg.solve(square, wanted)
    # The same with detail, in shares of its limit, as an equation of its own.
    whole = limit.detail.clamp(min=1e-6)[:, None]
    gain = (after.detail.unflatten(0, (n, -1)) - before.detail[:, None]) / whole
    lacking = LOW_MARGIN - seen.detail[:, None] / whole
    weight = LOW_WEIGHT**2 * lab.shape[1] / 3
    square = square + weight * gain[:, :, None] * gain[:, None]
    sharp = torch.linalg.solve(square, wanted + weight * (gain * lacking)[:, :, None])
    blurs = (gain * shares[..., 0]).sum(dim=1) < lacking[:, 0]
    return torch.where(blurs[:, None], sharp[..., 0], shares[..., 0]).clamp(-LOW_MOST, LOW_MOST)


def render(generator: Generator, w_plus: Tensor, precision: Precision = "fp32") -> Pixels:
    """(N, H, W, 3) uint8 images of (N, L, w_dim) latents with the stored noise."""
    return to_pixels(prepared(generator.synthesis, precision)(w_plus))
