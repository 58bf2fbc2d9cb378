"""Go on from a trained generator: take the codes that its run found, or estimate those of photos.

A linear map from small images to codes is fitted on images that the generator draws, whose codes
are known. It is a start from which the training improves each code.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor

from sfhq.errors import UsageError
from sfhq.synthesis.latents import unactivate
from sfhq.training.generator.codes import PhotoCodes
from sfhq.training.photos import Photos
from stylegan2_ops.bias_act import LRELU_GAIN
from stylegan2_ops.generator import Generator, GeneratorConfig

DRAWN = 3000
SPANNING = 4096  # draws that show which directions of w a mapping uses
SMALL = 32  # pixels; images are reduced to it before codes are read off them
OF_MAPPING = ("mapping_layers", "modes", "code_dim", "lead")  # it is made anew at the end of a run
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)  # shares of the mean square of the pixels
NEW_SPREAD = 0.05  # standard deviation of the dimensions that the generator does not know yet


def check_start(start: Generator, wanted: GeneratorConfig, first: int) -> None:
    """Check that a generator has the sizes of a run.

    Args:
        start: the generator.
        wanted: sizes at the end of the run.
        first: resolution of the first phase, at most that of `start`.

    Raises:
        UsageError: it has not.
    """
    ours, theirs = asdict(wanted), asdict(start.config)
    for name, value in ours.items():
        if name not in OF_MAPPING and name != "resolution" and theirs[name] != value:
            raise UsageError(
                f"the generator to start from has {name} {theirs[name]}; this run wanted {value}: "
                "give the same sizes"
            )
    if not first <= start.config.resolution <= wanted.resolution:
        raise UsageError(
            f"the generator to start from has {start.config.resolution} px; this run goes from "
            f"{first} to {wanted.resolution}: begin --phases at its resolution or below, and end "
            "them at its resolution or above"
        )


@torch.no_grad()
def estimate_codes(
    codes: PhotoCodes, start: Generator, photos: Photos, generator: torch.Generator
) -> None:
    """Give codes the subspace of a generator's w, and estimate the code of each photo.

    Args:
        codes: changed in place: basis, table, mean and root.
        start: a generator that `GeneratorTraining` made; it draws on its device.
        photos: the photos of `codes`.
        generator: random number generator.
    """
    start = start.eval()
    device, mapping = start.latent_avg.device, copy.deepcopy(start.mapping).cpu()
    use_basis(codes, start, generator)
    images, known = [], []
    for count in (DRAWN // 50,) * 50:
        z = torch.randn(count, start.config.z_dim, generator=generator)
        w = mapping(z)
        images.append(_small(start.synthesis(start.broadcast(w.to(device)), "const")).cpu())
        known.append(codes_of(codes, w))
    pixels, targets = torch.cat(images), torch.cat(known)
    everyone = torch.arange(len(photos))
    small = photos.at(SMALL)
    seen = torch.cat([small.batch(everyone), small.batch(everyone).flip(3)]).flatten(1)
    found = predict(pixels, targets, seen[: len(codes.table.weight)])
    noise = torch.randn(found.shape, generator=generator)
    unknown = targets.std(dim=0) < 1e-4
    codes.table.weight.copy_(torch.where(unknown, NEW_SPREAD * noise, found))
    codes.refresh()


@torch.no_grad()
def take_codes(
    codes: PhotoCodes, start: Generator, known: Tensor, generator: torch.Generator
) -> None:
    """Give codes the subspace of a generator's w, and the photos the latents that its run found.

    Args:
        codes: changed in place: basis, table, mean and root.
        start: a generator that `GeneratorTraining` made.
        known: (2N, w_dim) latents of the N photos and of their mirror images; (N, w_dim) where
            mirror images have no codes.
        generator: random number generator.
    """
    use_basis(codes, start, generator)
    codes.table.weight.copy_(codes_of(codes, known[: len(codes.table.weight)]))
    codes.refresh()


@torch.no_grad()
def use_basis(codes: PhotoCodes, start: Generator, generator: torch.Generator) -> None:
    """Replace the basis by one whose first rows span what a generator's mapping draws.

    If the codes have more dimensions than that, the other rows are orthogonal to it; if they have
    fewer, the directions of the largest variance are kept.
    """
    dim, w_dim = codes.basis.shape
    half = w_dim // 2
    mapping = copy.deepcopy(start.mapping).cpu()
    z = torch.randn(max(SPANNING, 2 * half), start.config.z_dim, generator=generator)
    top = torch.cat([unactivate(mapping(lot))[:, :half] for lot in z.split(1024)])
    _, values, rows = torch.linalg.svd(top - top.mean(dim=0), full_matrices=False)
    axes = rows.t()  # (w_dim / 2, w_dim / 2), the most used first
    known = int((values > 1e-4 * values[0]).sum())
    if dim > known:
        turn = torch.randn(half - known, half - known, generator=generator)
        axes = torch.cat([axes[:, :known], axes[:, known:] @ torch.linalg.qr(turn).Q], dim=1)
    rows = axes[:, :dim].t() * math.sqrt(half / dim)
    codes.basis.copy_(torch.cat([rows, -rows], dim=1))


def codes_of(codes: PhotoCodes, w: Tensor) -> Tensor:
    """The codes (N, dim) of latents w (N, w_dim)."""
    dim, w_dim = codes.basis.shape
    half = w_dim // 2
    linear = unactivate(w)[:, :half] / LRELU_GAIN
    return linear @ codes.basis[:, :half].t() * (dim / half)


def predict(pixels: Tensor, targets: Tensor, seen: Tensor) -> Tensor:
    """Ridge regression of targets on pixels, for other pixels.

    The last tenth of the rows chooses the ridge.

    Args:
        pixels: (N, P).
        targets: (N, D).
        seen: (M, P).

    Returns:
        (M, D).
    """
    mean, centre = pixels.mean(dim=0), targets.mean(dim=0)
    x, y = (pixels - mean).double(), (targets - centre).double()
    fit = len(x) * 9 // 10
    scale = float(x.square().sum(dim=1).mean())

    def solve(rows: int, ridge: float) -> Tensor:
        gram = x[:rows] @ x[:rows].t()
        gram.diagonal().add_(ridge * scale)
        weights: Tensor = x[:rows].t() @ torch.linalg.solve(gram, y[:rows])
        return weights

    errors = [float((x[fit:] @ solve(fit, r) - y[fit:]).square().sum()) for r in RIDGES]
    best = RIDGES[min(range(len(RIDGES)), key=errors.__getitem__)]
    weights = solve(len(x), best)
    return ((seen - mean).double() @ weights + centre).to(targets.dtype)


def _small(images: Tensor) -> Tensor:
    small = F.interpolate(images.clamp(-1, 1), (SMALL, SMALL), mode="bilinear", antialias=True)
    return small.flatten(1)
