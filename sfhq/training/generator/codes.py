"""Learnable latent codes, one per photo, so that a small generator covers all of its data.

With an adversarial loss alone, a generator covers only a few of a thousand faces. Here each photo
and its mirror image have a code that must decode to them, as in Bojanowski et al. 2018, "Optimizing
the Latent Space of Generative Networks". The adversarial loss trains the space between the codes.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from sfhq.errors import IntegrityError, UsageError
from sfhq.training.generator.mixture import LEAD, LONGER, SHARPNESS
from sfhq.training.photos import Photos
from stylegan2_ops.bias_act import bias_act
from stylegan2_ops.mapping import mixed, with_lead


class PhotoCodes(nn.Module):
    """Codes of N photos, and of their mirror images, in a `dim`-dimensional subspace of w.

    Index i below N is photo i; index N + i is its mirror image, if these have codes.

    Args:
        photos: the photos; PCA of their pixels at 32 px initialises the codes.
        dim: dimensions of the subspace, at most the number of photos.
        w_dim: length of w.
        generator: random number generator for the basis.
        mirrored: whether mirror images have codes of their own.
    """

    mean: Tensor
    root: Tensor
    basis: Tensor

    def __init__(
        self,
        photos: Photos,
        dim: int,
        w_dim: int,
        generator: torch.Generator,
        mirrored: bool = True,
    ) -> None:
        super().__init__()
        self.count = len(photos)
        dim = min(dim, self.count)
        everyone = torch.arange(self.count)
        small = photos.at(32)
        both = torch.cat([small.batch(everyone), small.batch(everyone).flip(3)]).flatten(1)
        centred = both - both.mean(dim=0)
        _, values, axes = torch.linalg.svd(centred, full_matrices=False)
        spread = values[:dim] / values[0]
        scores = centred @ axes[:dim].t() / values[:dim] * math.sqrt(len(both))  # unit variance
        weight = spread.pow(0.3)
        weight = weight / weight.square().mean().sqrt()
        table = (scores * weight)[: len(both) if mirrored else self.count].clone()
        self.table = nn.Embedding.from_pretrained(table, freeze=False, sparse=True)
        half = w_dim // 2
        axes = torch.linalg.qr(torch.randn(half, dim, generator=generator)).Q.t()
        axes = axes * math.sqrt(half / dim)  # (dim, w_dim / 2)
        self.register_buffer("basis", torch.cat([axes, -axes], dim=1))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("root", torch.eye(dim))
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Fit a Gaussian to all codes again: `mean`, and `root` of their covariance."""
        codes = self.table.weight
        self.mean.copy_(codes.mean(dim=0))
        centred = codes - self.mean
        covariance = centred.t() @ centred / len(codes)
        values, axes = torch.linalg.eigh(covariance)
        self.root.copy_(axes @ torch.diag(values.clamp(min=0).sqrt()) @ axes.t())

    def to_w(self, codes: Tensor) -> Tensor:
        """(N, dim) codes to w (N, w_dim), through the last layer of the mapping network.

        The second half of w is computed from the negative of the input of the first half. So their
        difference is linear in the code, and the leaky ReLU loses no information.
        """
        return bias_act(codes @ self.basis)

    def of(self, indices: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
        """Codes of photos, (n, dim), with Gaussian noise of `jitter` standard deviations."""
        codes: Tensor = self.table(indices)
        if jitter <= 0:
            return codes
        noise = torch.randn(codes.shape, generator=generator) @ self.root
        return codes + jitter * noise

    @torch.no_grad()
    def gaussian(self, eps: Tensor) -> Tensor:
        """Turn standard normal numbers (n, dim) into draws from the Gaussian of all codes."""
        return self.mean + eps @ self.root

    @torch.no_grad()
    def mixtures(self, count: int, generator: torch.Generator) -> Tensor:
        """Random points on great circles between the codes of two photos, (count, dim).

        A point is cos(t) a + sin(t) b for centred codes a and b. Such points have the covariance of
        the codes; points on a straight line would have a smaller one.
        """
        pick = torch.randint(len(self.table.weight), (count, 2), generator=generator)
        angle = torch.rand(count, 1, generator=generator) * (math.pi / 2)
        weight: Tensor = self.table.weight
        a, b = (weight[pick[:, i]] - self.mean for i in (0, 1))
        return self.mean + angle.cos() * a + angle.sin() * b

    @torch.no_grad()
    def mapped(self, count: int, generator: torch.Generator) -> Tensor:
        """Random codes (count, dim) as a `MixtureMapping` of all codes with random keys draws."""
        codes = LONGER * (self.table.weight - self.mean)
        products = SHARPNESS * torch.randn(count, len(codes), generator=generator)
        return self.mean + mixed(with_lead(products, LEAD).softmax(dim=1), codes)

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Random codes (count, dim): half as the mapping will draw them, half on great circles."""
        half = count // 2
        return torch.cat([self.mapped(half, generator), self.mixtures(count - half, generator)])


def load_codes(
    path: Path, names: tuple[str, ...], w_dim: int, mirrored: bool | None = True
) -> Tensor:
    """The latents of N photos and their mirror images from a generator's training, (2N, w_dim).

    Args:
        path: `codes.pt` of the generator's run.
        names: file names of the photos, in order; endings may differ.
        w_dim: length of the generator's w.
        mirrored: whether mirror images are wanted; without them the first N rows are enough, and
            are what comes back. None wants what there is, (2N, w_dim) or (N, w_dim).

    Raises:
        UsageError: the file is missing, or has codes of other photos or of another length.
        IntegrityError: the file is damaged.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; wanted codes.pt of a generator's run")
    try:
        saved = torch.load(path, weights_only=True)
        known, codes = tuple(saved["names"]), saved["codes"]
        if not isinstance(codes, Tensor) or codes.dtype != torch.float32 or codes.ndim != 2:
            raise ValueError("codes are no matrix")
        if not codes.isfinite().all():
            raise ValueError("codes that are not finite")
    except Exception as error:
        raise IntegrityError(
            f"{path}: not codes that can be read ({type(error).__name__}); "
            "give codes.pt of a generator's run"
        ) from None
    if tuple(map(_stem, known)) != tuple(map(_stem, names)):
        raise UsageError(
            f"{path}: has codes of other photos; give the folders of the generator's training"
        )
    if len(codes) not in (len(names), 2 * len(names)):
        raise IntegrityError(
            f"{path}: {len(codes)} codes of {len(names)} photos and their mirror images; wanted "
            f"{2 * len(names)}, or {len(names)} without mirror images"
        )
    if mirrored and len(codes) == len(names):
        raise UsageError(
            f"{path}: has no codes of mirror images, because it was made by train mapping or with "
            "--no-mirrored; wanted codes of train generator --mirrored (train generator itself can "
            "go on with --no-mirrored)"
        )
    if codes.shape[1] != w_dim:
        raise UsageError(
            f"{path}: codes of length {codes.shape[1]}, but the generator's w has {w_dim}; give "
            "codes.pt of this generator's run"
        )
    return codes[: len(names)].clone() if mirrored is False else codes


def _stem(name: str) -> str:
    return str(Path(name).with_suffix(""))
