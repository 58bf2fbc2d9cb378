"""Looks that few people have, as the label network reads them off images of a generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sfhq.faces.classes import HEAD, ID, LEAST_WORN
from sfhq.networks.names import ATTRIBUTES
from sfhq.parts.records import Pixels
from sfhq.tensors import to_pixels
from stylegan2_ops.generator import Generator
from stylegan2_ops.inference import prepared

# A look is there where one of its attributes is likelier than not. Of glasses the map has to show
# some, too: on photos the attribute alone sees them four times as often. `old` is an age.
RARE_LOOKS: dict[str, tuple[str, ...]] = {
    "glasses": ("Eyeglasses", "Sunglasses"),
    "hat": ("Wearing_Hat", "Headscarf"),
    "beard": ("Full_Beard", "Goatee", "Mustache"),
    "grey hair": ("Gray_Hair",),
    "old": (),
}
# How far keys of a look are moved in the mapping. A hat is seen no more where one who wears it is
# mixed with one who does not; glasses and beards are.
TOGETHER = {"glasses": 0.45, "hat": 1.2, "beard": 0.45, "grey hair": 0.45, "old": 0.45}
OLD = 65.0  # years
BATCH = 16
LARGEST = 256  # pixels; images are rendered no larger


class Reads(Protocol):
    """A label reader, as `stages.network("label reader")` gives one."""

    @property
    def size(self) -> int:
        """Side of its crops in pixels."""

    def read(self, crops: Pixels) -> Any:
        """What it sees in crops (N, S, S, 3) uint8: `attributes`, `years` and `parsing`."""


@torch.inference_mode()
def rare_looks(
    generator: Generator,
    w: Tensor,
    reader: Reads,
    told: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Which of the faces of some latents have which of `RARE_LOOKS`.

    Args:
        generator: on the CPU.
        w: (N, w_dim).
        reader: of the label network.
        told: is called with the number of faces that have been read.

    Returns:
        (N, 5) of 0 and 1.
    """
    synthesis = prepared(generator.synthesis, "fp32")
    side, found = min(generator.config.resolution, LARGEST), []
    for lot in w.split(BATCH):
        images = synthesis(generator.broadcast(lot), stop_at=side).clamp(-1, 1)
        if side != reader.size:
            images = F.interpolate(images, (reader.size,) * 2, mode="bicubic", antialias=True)
        read = reader.read(np.ascontiguousarray(to_pixels(images)))
        found.append(_looks(read).float())
        told(sum(map(len, found)))
    return torch.cat(found)


def _looks(read: Any) -> Tensor:
    columns = {
        name: (read.attributes[:, [ATTRIBUTES.index(n) for n in names]] > 0.5).any(dim=1)
        for name, names in RARE_LOOKS.items()
    }
    classes = read.parsing.argmax(dim=1)
    head = torch.isin(classes, torch.tensor(HEAD)).sum(dim=(1, 2))
    worn = (classes == ID["eye_g"]).sum(dim=(1, 2))
    columns["glasses"] &= worn >= LEAST_WORN["glasses"] * head
    columns["old"] = read.years >= OLD
    return torch.stack(list(columns.values()), dim=1)
