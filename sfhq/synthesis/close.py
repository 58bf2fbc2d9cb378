"""The candidate that keeps the person: a latent moved, step by step, towards what the art shows.

A painting and a photo of the same person agree in few pixels, so pictures are not compared by
pixels alone. The label network, which was taught on art and photos alike, reads both: where the
points are, which class each pixel has, and what the whole face is like (age, pose, expression,
glasses, beard). Its readings are pulled together, together with the colours of reduced pictures.
The latent stays within the prior, and the picture no blurrier than that of `strict`.
"""

from __future__ import annotations
import os

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sfhq.networks.labels import LabelNetwork
from sfhq.synthesis.latents import LatentPrior
from sfhq.synthesis.likeness import REDUCED, detail, reduce, to_lab
from stylegan2_ops.generator import SynthesisNetwork

RATE = float(os.environ.get('RATE','.06'))  # of Adam, in standard deviations of the prior
RADIUS=float(os.environ.get('RAD','.8'))  # largest distance from the prior
PHASE = 0  # a quarter of the pixels is enough to compare classes
SHARP = 1.01  # of the detail of the first picture, the least of a picture that counts
COLOURS = float(os.environ.get('COL','.02'))  # a distance in CIELAB
TOGETHER = float(os.environ.get('TOG','1'))
APART = float(os.environ.get('APART','.35'))
SHAPES = 10.0  # a distance of points, in halves of the side
CLASSES = 2.0  # a share of pixels of another class
FACE = float(os.environ.get('FACE','1'))  # 1 less the cosine of what is seen of the whole face
import os
REALISTIC = float(os.environ.get('REAL','0.3'))  # the mean square of a whitened latent
BLURRED = 2.0  # lacking detail, as a share


@dataclass(frozen=True)
class Read:
    """What is seen of N pictures.

    Attributes:
        lab: (N, 3, S, S) reduced pictures in CIELAB.
        classes: (N, 19, H, W) probabilities.
        places: (N, P, 2) of points, in halves of the side from the middle.
        whole: (N, F) of the whole face, unit vectors.
        detail: (N,).
    """

    lab: Tensor
    classes: Tensor
    places: Tensor
    whole: Tensor
    detail: Tensor


@dataclass(frozen=True)
class Refined:
    """Where a latent came to.

    Attributes:
        w_plus: (1, L, w_dim).
        before, after: the distance from the art at the start and at the end.
    """

    w_plus: Tensor
    before: float
    after: float


@dataclass(frozen=True)
class Closer:
    """Refines latents.

    Attributes:
        synthesis: renders them.
        labels: the folded label network.
        prior: of the generator.
    """

    synthesis: SynthesisNetwork
    labels: LabelNetwork
    prior: LatentPrior

    def refine(self, starts: Tensor, floor: Tensor, art: Tensor, steps: int) -> Refined:
        """The nearest latent of `steps` steps of Adam; of equal networks and inputs, the same.

        Args:
            starts: (K, L, w_dim) latents of one face; the nearest of them is the start.
            floor: (1, L, w_dim) the latent whose picture has the least detail allowed.
            art: (1, 3, H, W) in [-1, 1].
            steps: how many.
        """
        # Stages run without gradients; what was made there cannot take part in a backward pass.
        with torch.inference_mode(False), torch.no_grad():
            starts, floor, art = starts.clone(), floor.clone(), art.clone()
            wanted = self._read(art)
            least = SHARP * detail(self.synthesis(floor))
            first = torch.cat([self.prior.within(floor, RADIUS), self.prior.within(starts, RADIUS)])
            known = [self._apart(self._seen(w[None]), wanted) for w in first]
            sharp = [bool(detail(self.synthesis(w[None])) >= least) for w in first]
            ranked = sorted(range(len(first)), key=lambda i: (not sharp[i], float(known[i])))
            best, distance = first[ranked[0]][None], float(known[ranked[0]])
            before = distance
            x = self.prior.whiten(best)
            mean = x.mean(1, keepdim=True)
            x = mean + (x - mean) * (APART / (x - mean).square().mean().sqrt()).clamp(max=1)
            best = self.prior.unwhiten(x)
            distance = before = float(self._apart(self._seen(best), wanted))
        with torch.inference_mode(False), torch.enable_grad():
            common = x.mean(1, keepdim=True).clone().requires_grad_(True)
            apiece = (x - common.detach()).requires_grad_(True)
            adam = torch.optim.Adam([common, apiece], lr=RATE, betas=(0.8, 0.95))
            for step in range(steps):
                for group in adam.param_groups:
                    group["lr"] = RATE * (1 - step / steps)
                x = common + apiece
                seen = self._seen(self.prior.unwhiten(x))
                apart = self._apart(seen, wanted)
                lacking = F.relu(1.02 * least - seen.detail) / least
                loss = apart + REALISTIC * common.square().mean()
                loss = loss + TOGETHER * apiece.square().mean() + BLURRED * lacking.sum()
                # What was drawn with these numbers is judged before they change.
                if float(apart.detach()) < distance and bool(seen.detail >= least):
                    best = self.prior.unwhiten(x).detach().clone()
                    distance = float(apart.detach())
                adam.zero_grad()
                loss.backward()
                adam.step()
                with torch.no_grad():
                    x.copy_(self.prior.whiten(self.prior.within(self.prior.unwhiten(x), RADIUS)))
        return Refined(best, before, distance)

    def _radius(self, common: Tensor) -> Tensor:
        return (common.square().sum() / self.prior.rank).sqrt()

    def _seen(self, w_plus: Tensor) -> Read:
        return self._read(self.synthesis(w_plus))

    def _read(self, pictures: Tensor) -> Read:
        size = self.labels.config.size
        shown = pictures.clamp(-1, 1)
        if shown.shape[-1] != size:
            small = shown.shape[-1] < size
            shown = F.interpolate(
                shown,
                (size, size),
                mode="bilinear" if small else "area",
                align_corners=False if small else None,
            )
        said, (_, _, whole) = self.labels.read(shown, PHASE)
        return Read(
            to_lab(reduce(pictures, REDUCED)),
            said.classes.softmax(1),
            said.places,
            F.normalize(whole, dim=1),
            detail(pictures),
        )

    def _apart(self, seen: Read, wanted: Read) -> Tensor:
        """(): how far a picture is from the art."""
        colours = (seen.lab - wanted.lab).square().sum(1).add(1e-4).sqrt().mean()
        shapes = (seen.places - wanted.places).square().sum(2).add(1e-8).sqrt().mean()
        classes = 0.5 * (seen.classes - wanted.classes).abs().sum(1).mean()
        face = 1 - (seen.whole * wanted.whole).sum(1).mean()
        return COLOURS * colours + SHAPES * shapes + CLASSES * classes + FACE * face
