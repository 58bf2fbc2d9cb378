"""What the label network is trained to lessen; what is unknown of a sample does not count."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from annotate.training.augment import Batch
from sfhq.faces.classes import ID
from sfhq.networks.labels import YEARS, Outputs
from sfhq.networks.names import CLASS_COUNT

# Small classes count more, so that a large cloth does not outweigh an earring. More than this
# makes them too large; `balance_classes` takes out what is left of it at the end.
HEAVIER = {
    **dict.fromkeys(("l_eye", "r_eye", "mouth"), 3.0),
    **dict.fromkeys(("l_brow", "r_brow", "u_lip", "l_lip", "l_ear", "r_ear"), 2.0),
    **dict.fromkeys(("eye_g", "neck"), 1.5),
    **{"ear_r": 6.0, "neck_l": 4.0},
}
TAUGHT = 0.5  # weight of a photo's pixels, whose labels are teachers'
WEIGHTS = {
    **{"classes": 2.0, "hair": 1.5, "heat": 0.25, "points": 0.6, "spread": 0.1, "seen": 0.2},
    **{"pose": 0.3, "gaze": 0.3, "attributes": 1.0, "years": 0.3},
}


def losses(out: Outputs, batch: Batch, phase: int | None = None) -> dict[str, Tensor]:
    """Each loss by name, weighted by `WEIGHTS`; their sum is what training lessens.

    Args:
        out: of the network.
        batch: what is known.
        phase: 0 to 3 where `out` holds the classes of that quarter of the pixels only.
    """
    size = batch.images.shape[-1]
    owner = torch.where(batch.exact, 1.0, TAUGHT)
    near, far = _points(out, batch, size)
    bits, hair = (x if phase is None else quarter(x, phase) for x in (batch.bits, batch.hair))
    found = {
        "classes": class_loss(out.classes, bits, owner),
        "hair": hair_loss(out.hair, hair, owner),
        "heat": heat_loss(out.heat, batch.points, batch.weights, size),
        "points": near,
        "spread": far,
        "seen": _known(
            F.binary_cross_entropy_with_logits, out.seen, batch.seen, torch.ones_like(out.seen)
        ),
        "pose": _known(_distance, out.pose, batch.pose / 10, torch.ones_like(out.pose)),
        "gaze": _known(_distance, out.gaze, batch.gaze / 10, torch.ones_like(out.gaze)),
        "attributes": _known(
            F.binary_cross_entropy_with_logits,
            out.attributes,
            batch.attributes,
            torch.ones_like(out.attributes),
        ),
        "years": _known(
            _distance, out.years, (batch.years - YEARS) / 10, torch.ones_like(out.years)
        ),
    }
    return {name: WEIGHTS[name] * value for name, value in found.items()}


def class_loss(logits: Tensor, bits: Tensor, owner: Tensor) -> Tensor:
    """Minus the logarithm of the probability of all classes that a pixel may have, on average.

    Args:
        logits: (n, 19, S, S).
        bits: (n, S, S) int64, bit c is set where class c is possible; a pixel with all bits set
            has no loss.
        owner: (n,) weight of each sample.
    """
    shifts = torch.arange(CLASS_COUNT).view(1, -1, 1, 1)
    allowed = ((bits[:, None] >> shifts) & 1).bool()
    inside = logits.masked_fill(~allowed, -torch.inf).logsumexp(1)
    each = logits.logsumexp(1) - inside
    weight = torch.ones_like(each)
    lenses = 1 << ID["eye_g"]  # what glasses may hide counts as what it is
    for name, factor in HEAVIER.items():
        own = 1 << ID[name]
        weight = torch.where((bits == own) | (bits == own | lenses), factor, weight)
    weight = weight * owner[:, None, None] * (bits != (1 << CLASS_COUNT) - 1)
    return (each * weight).sum() / weight.sum().clamp(min=1.0)


def heat_loss(heat: Tensor, points: Tensor, weights: Tensor, size: int) -> Tensor:
    """Cross-entropy of each heat map with a bump of one cell around its point.

    Args:
        heat: (n, P, h, h) logits.
        points: (n, P, 2) pixels of the crop.
        weights: (n, P).
        size: side of the crop.
    """
    side = heat.shape[-1]
    cells = (points + 0.5) * (side / size) - 0.5
    steps = torch.arange(side)
    bump = torch.exp(-0.5 * (steps - cells[..., None]) ** 2)  # (n, P, 2, h)
    bump = bump / bump.sum(-1, keepdim=True).clamp(min=1e-6)
    shares = heat.flatten(2).log_softmax(2).view_as(heat)
    each = -torch.einsum("npyx,npx,npy->np", shares, bump[:, :, 0], bump[:, :, 1])
    return (each * weights).sum() / weights.sum().clamp(min=1.0)


def _points(out: Outputs, batch: Batch, size: int) -> tuple[Tensor, Tensor]:
    """The distance of points in cells of the heat map, and how well it was foreseen."""
    wanted = (batch.points + 0.5) * (2 / size) - 1
    apart = (out.places - wanted).norm(dim=-1) * (size / 2)  # pixels
    total = batch.weights.sum().clamp(min=1.0)
    near = (apart / 4 * batch.weights).sum() / total
    # Laplace: the likelihood of a distance is largest where the foreseen one is its mean.
    foreseen = out.spread.clamp(-4, 5)
    far = ((apart.detach() * torch.exp(-foreseen) + foreseen) * batch.weights).sum() / total
    return near, far


def quarter(pixels: Tensor, phase: int) -> Tensor:
    """Every second pixel of every second row of (..., S, S), from one of four starts."""
    return pixels[..., phase // 2 :: 2, phase % 2 :: 2]


def hair_loss(logits: Tensor, hair: Tensor, owner: Tensor) -> Tensor:
    """Cross-entropy and distance of the share of hair, where it is known.

    Args:
        logits: (n, S, S).
        hair: (n, S, S) 0 to 1; NaN where unknown.
        owner: (n,) weight of each sample.
    """
    known = ~hair.isnan()
    wanted = torch.where(known, hair, torch.zeros(1))
    each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    each = each + (logits.sigmoid() - wanted).abs()
    weight = known * owner[:, None, None]
    return (each * weight).sum() / weight.sum().clamp(min=1.0)


def _distance(a: Tensor, b: Tensor, reduction: str) -> Tensor:
    return F.smooth_l1_loss(a, b, beta=0.2, reduction=reduction)


def _known(loss: object, given: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """The mean loss over what is known."""
    assert callable(loss)
    known = ~wanted.isnan()
    each = loss(given, torch.where(known, wanted, torch.zeros(1)), reduction="none")
    weight = known * weight
    mean: Tensor = (each * weight).sum() / weight.sum().clamp(min=1.0)
    return mean
