"""The candidate `low`: the nearest picture to an inspiration that is no blurrier than `strict`.

Near is a picture in its colours, and in what dlib's recognition network sees of the person. Nothing
is differentiated: the latent is moved a little along a few directions, and least squares on what
the moves did to small pictures says how to combine them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sfhq.synthesis.latents import LatentPrior, layer_ladder
from sfhq.synthesis.likeness import SAME, Likeness, Seen
from stylegan2_ops.generator import Generator
from stylegan2_ops.inference import Precision, prepared

RADIUS = 0.9  # largest distance from the prior
AXES = (0, 2, 3)  # strongest axes of the prior to try in coarse, middle and fine layers
FEWER_AXES = (0, 1, 1)  # the same where the encoder says what would bring the person nearer
PERSON_STEP = 2.0  # length of what the encoder says, in standard deviations
STEP = 0.5  # of an axis, in standard deviations
PULL = 0.3  # of the way to the mean face
SHARES = (1.0, 0.7, 0.4, 0.2)  # of the best combination; a whole step may overshoot
RIDGE = 0.05
MOST = 3.0  # times that a move is repeated
DETAIL = 1.0  # of the detail of `strict`, the least
MARGIN = 1.08  # of the same, to aim at
DETAIL_WEIGHT = 60.0  # distance in CIELAB that is as bad as having no detail
PERSON_WEIGHT = 60.0  # distance in CIELAB that is as bad as showing another person
BATCH = 8  # pictures at a time; bounds the memory
PREVIEW = 256  # pixels; moves are looked at no larger, of networks above 128 at half the size


class Low(NamedTuple):
    """What refinement found for N faces.

    Attributes:
        w_plus: (N, L, w_dim).
        share: (N,) of the combination of moves that was taken; 0 for none.
        seen: of the pictures.
    """

    w_plus: Tensor
    share: Tensor
    seen: Seen


class Moves(NamedTuple):
    """Moves of N latents, K each, and what they do to small pictures.

    Attributes:
        steps: (N, K, L, w_dim), whitened.
        seen: (N, K, values), changes of what is to come near.
        detail: (N, K), changes of the detail.
    """

    steps: Tensor
    seen: Tensor
    detail: Tensor


@dataclass(frozen=True)
class LowRefinement:
    """Refines latents of one generator.

    Attributes:
        generator: renders the pictures that are looked at.
        encoder: images (N, 3, H, W) to w_plus (N, L, w_dim). It may have `toward`, as a
            `PersonEncoder` has.
        prior: of the generator.
        likeness: to the N inspirations.
        precision: of the generator's convolutions.
    """

    generator: Generator
    encoder: Callable[[Tensor], Tensor]
    prior: LatentPrior
    likeness: Likeness
    precision: Precision = "fp32"

    def refine(self, inverted: Tensor, strict: Tensor) -> Low:
        """Bring the pictures of `strict` nearer to the inspirations.

        Each move is tried alone: the difference between what the encoder sees in the inspiration
        and in the picture, in three bands of layers; what it would do about what dlib's network
        sees otherwise, if it keeps the person; the way to the mean face; and the strongest axes of
        the prior. The largest share of their combination that brings the whole picture
        nearer is taken; nothing is taken whose picture is blurrier, or farther in its colours, than
        that of `strict`.

        Args:
            inverted: (N, L, w_dim) latents of the inspirations.
            strict: (N, L, w_dim) where to begin.
        """
        prior, rows = self.prior, torch.arange(len(inverted))
        limit = self._see(strict, rows)
        best, seen = strict.clone(), limit
        taken = torch.zeros(len(best))

        def offer(w_plus: Tensor, share: float, who: Tensor) -> Tensor:
            """Take what is better for the faces `who` (M,); returns those who took nothing."""
            nonlocal seen
            now, before, least = self._see(w_plus, who), seen.of(who), limit.of(who)
            better = _badness(now) < _badness(before)
            better &= (now.apart < least.apart) & (now.l1 < least.l1)
            better &= now.detail >= DETAIL * least.detail
            theirs = who[better]
            best[theirs], taken[theirs] = w_plus[better], share
            seen = seen.replaced(theirs, now.of(better))
            return who[~better]

        offer(prior.within(inverted, RADIUS), 0.0, rows)
        x = prior.whiten(best)
        moves = self._try_out(x, prior.whiten(inverted), best, rows)
        step = torch.einsum("nk,nkld->nld", self._combination(limit, seen, moves), moves.steps)
        left = rows
        for share in SHARES:
            if len(left):
                shorter = prior.unwhiten((x + share * step)[left])
                left = offer(prior.within(shorter, RADIUS), share, left)
        return Low(best, taken, seen)

    def _try_out(self, x: Tensor, wanted: Tensor, w_plus: Tensor, rows: Tensor) -> Moves:
        """Look at what moves from whitened latents x, those of `w_plus`, do to small pictures."""
        size = _preview(self.generator.config.resolution)
        pictures = torch.cat([self._render(w, size) for w in w_plus.split(BATCH)])
        before = self.likeness.see(pictures, rows)
        feedback = wanted - self.prior.whiten(self.encoder(pictures))
        toward = getattr(self.encoder, "toward", None)
        axes = AXES if toward is None else FEWER_AXES
        each = [_in_bands(feedback), self._everywhere(x, axes)]
        if toward is not None:
            each.append(self._toward(toward(self.likeness.vector[rows] - before.vector)))
        steps = torch.cat(each, dim=1)
        count = steps.shape[1]
        moved = self.prior.unwhiten((x[:, None] + steps).flatten(0, 1))
        after = self._see(moved, rows.repeat_interleave(count), size)
        seen = _values(after.lab, after.vector).unflatten(0, (len(x), count))
        detail = after.detail.unflatten(0, (len(x), count)) - before.detail[:, None]
        return Moves(steps, seen - _values(before.lab, before.vector)[:, None], detail)

    def _toward(self, moved: Tensor) -> Tensor:
        """(N, 3, L, w_dim) whitened, of moves (N, 3, w_dim) of coarse, middle and fine layers."""
        white: Tensor = moved @ self.prior.axes.t() / self.prior.scale
        length = white.norm(dim=2, keepdim=True).clamp(min=1e-6)
        white = PERSON_STEP / length * white
        return _bands(self.generator.config.num_ws) * white[:, :, None]

    def _everywhere(self, x: Tensor, axes: tuple[int, int, int]) -> Tensor:
        """(N, K, L, w_dim) steps that any face may take, from whitened latents x (N, L, w_dim).

        Args:
            x: where to begin.
            axes: how many of the strongest axes of the prior in coarse, middle and fine layers.
        """
        layers, width = x.shape[1:]
        masks = _bands(layers)
        steps = [-PULL * mask * x for mask in masks[1:]]
        strongest = self.prior.scale.argsort(descending=True)
        for mask, count in zip(masks, axes, strict=True):
            for axis in strongest[:count].tolist():
                unit = torch.zeros(width)
                unit[axis] = STEP
                steps.append((mask * unit).expand_as(x))
        return torch.stack(steps, dim=1)

    def _combination(self, limit: Seen, seen: Seen, moves: Moves) -> Tensor:
        """How far to go along each move so that pictures come nearest to the inspirations.

        Least squares on what the moves did to the small pictures, with a small ridge. Where the
        result would be blurrier than `limit`, detail is one more, heavy equation.

        Args:
            limit: what is seen of the pictures whose detail is the least allowed.
            seen: of the pictures now.
            moves: K a face.

        Returns:
            (N, K), shares of the moves.
        """
        wanted = self.likeness
        missing = _values(wanted.lab - seen.lab, wanted.vector - seen.vector)
        effect = moves.seen
        square, toward = effect @ effect.transpose(1, 2), effect @ missing[:, :, None]
        ridge = RIDGE * square.diagonal(dim1=1, dim2=2).mean(dim=1) + 1e-6
        square = square + ridge[:, None, None] * torch.eye(square.shape[-1])
        shares = torch.linalg.solve(square, toward)
        # The same with detail, in shares of its limit, as an equation of its own.
        whole = limit.detail.clamp(min=1e-6)[:, None]
        gain = moves.detail / whole
        lacking = MARGIN - seen.detail[:, None] / whole
        weight = DETAIL_WEIGHT**2 * seen.lab[0, 0].numel()
        square = square + weight * gain[:, :, None] * gain[:, None]
        sharp = torch.linalg.solve(square, toward + weight * (gain * lacking)[:, :, None])
        blurs = (gain * shares[..., 0]).sum(dim=1) < lacking[:, 0]
        return torch.where(blurs[:, None], sharp[..., 0], shares[..., 0]).clamp(-MOST, MOST)

    def _render(self, w_plus: Tensor, stop_at: int | None = None) -> Tensor:
        return prepared(self.generator.synthesis, self.precision)(w_plus, stop_at=stop_at)

    def _see(self, w_plus: Tensor, rows: Tensor, stop_at: int | None = None) -> Seen:
        """Render latents, a few at a time, and look at them beside the inspirations of `rows`."""
        parts = [
            self.likeness.see(self._render(w, stop_at), r)
            for w, r in zip(w_plus.split(BATCH), rows.split(BATCH), strict=True)
        ]
        return Seen(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _bands(layers: int) -> Tensor:
    """(3, L, 1) which layers are coarse, middle and fine."""
    bands = [layer_ladder(layers, *(float(i == band) for i in range(3))) for band in range(3)]
    return torch.stack(bands)[:, :, None]


def _in_bands(steps: Tensor) -> Tensor:
    """(N, 3, L, w_dim) steps (N, L, w_dim), a band of layers each."""
    return steps[:, None] * _bands(steps.shape[1])


def _values(lab: Tensor, vector: Tensor) -> Tensor:
    """(N, values) colours (N, 3, S, S) and dlib's vectors (N, 128), so that squares may be added.

    A distance of vectors counts as `PERSON_WEIGHT` says.
    """
    pixels = lab.shape[2] * lab.shape[3]
    return torch.cat([lab.flatten(1), PERSON_WEIGHT / SAME * pixels**0.5 * vector], 1)


def _preview(resolution: int) -> int:
    """Side of the pictures that moves are looked at: half of the generator's, 128 to 256 pixels."""
    return min(resolution, max(128, min(resolution // 2, PREVIEW)))


def _badness(seen: Seen) -> Tensor:
    """(N,) how far pictures are from their inspirations, in CIELAB and in the person."""
    return seen.apart + PERSON_WEIGHT * seen.person / SAME
