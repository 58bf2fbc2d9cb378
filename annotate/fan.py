"""68 points from FAN's heat maps, decoded between their cells.

The package face-alignment gives FAN's points in whole pixels of the photo: 4 of a 1024-pixel
portrait. Its network is used here, and each peak is found as that of the Gaussian through three
cells, which is exact where the network answers as it was trained to.

Source: Bulat and Tzimiropoulos 2017, "How far are we from solving the 2D & 3D Face Alignment
problem?". The weights were trained on the 300-W family: not for commercial use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from sfhq.errors import IntegrityError, MissingExtra, UsageError
from sfhq.faces.points import MIRROR
from sfhq.parts.records import Pixels

SIDE = 256  # pixels of the network's crops
CELL = 4  # pixels a cell
Floats = npt.NDArray[np.float64]


def decode(heat: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Peaks of heat maps between cells.

    Args:
        heat: (K, H, W); a Gaussian for each point.

    Returns:
        (K, 2) x, y in cells, the centre of the first being 0; and (K,) the highest values.
    """
    count, height, width = heat.shape
    best = heat.reshape(count, -1).argmax(1)
    rows, columns = np.divmod(best, width)
    logs = np.log(np.maximum(heat.astype(np.float64), 1e-6))
    each = np.arange(count)

    def offset(place: npt.NDArray[np.int64], size: int, axis: int) -> Floats:
        inside = (place > 0) & (place < size - 1)
        safe = np.clip(place, 1, size - 2)

        def at(step: int) -> Floats:
            moved = safe + step
            out: Floats = logs[each, rows, moved] if axis else logs[each, moved, columns]
            return out

        before, middle, after = at(-1), at(0), at(1)
        curve = before - 2 * middle + after
        move = np.divide(before - after, 2 * curve, out=np.zeros(count), where=curve < 0)
        return np.where(inside, np.clip(move, -0.5, 0.5), 0.0)

    x = columns + offset(columns, width, 1)
    y = rows + offset(rows, height, 0)
    return np.stack([x, y], 1), heat[each, rows, columns].astype(np.float64)


@dataclass(frozen=True, eq=False)
class FanPoints:
    """FAN as a reader of aligned crops, whose frame is about the one that it was trained on.

    Attributes:
        network: (N, 3, 256, 256) of 0 to 1 to a list of (N, 68, 64, 64), the last the best.
        digest: sha256 of its weights.
    """

    network: Callable[[Tensor], Sequence[Tensor]]
    digest: str

    @torch.no_grad()
    def read(self, crop: Pixels) -> tuple[Floats, Floats]:
        """(68, 2) points in pixels of a crop, and (68,) heights of the peaks, about 0 to 1.

        The mean of the crop's heat maps and of its mirror image's is decoded.

        Args:
            crop: (S, S, 3) uint8 RGB in FFHQ's frame.
        """
        size = crop.shape[0]
        image = Image.fromarray(crop)
        if size != SIDE:
            image = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
        there = self.network(x)[-1]
        back = self.network(x.flip(3))[-1].flip(3)[:, list(MIRROR[:68])]
        cells, heights = decode(((there + back) / 2)[0].float().numpy())
        return (cells + 0.5) * (CELL * size / SIDE) - 0.5, heights


def load_fan(path: Path | None = None) -> FanPoints:
    """FAN-4 with its published weights.

    Args:
        path: 2DFAN4-11f355bf06.pth.tar; None looks where `sfhq models fetch` puts it.

    Raises:
        MissingExtra: face-alignment is not installed.
        UsageError: the weights are not there; names the command that brings them.
        IntegrityError: they are damaged, or of another network.
    """
    from sfhq.weights.checkpoints import file_digest, require_fit
    from sfhq.weights.store import status
    from sfhq.weights.table import model_row
    from stylegan2_ops.foreign.inert import BadCheckpoint
    from stylegan2_ops.foreign.torch_files import read_weights, tensors_in

    if path is None:
        found = status(model_row("fan-4"))
        path = found.path if found.usable else None
    if path is None or not path.is_file():
        raise UsageError(
            "FAN's weights are not installed; run: sfhq models fetch fan-4 "
            "--accept-licence 300W-NC (not for commercial use), or take --points network"
        )
    try:
        from face_alignment.models import FAN
    except ImportError:
        raise MissingExtra("--points fan", "face-alignment", "landmark") from None
    network = FAN(4)
    try:
        state = tensors_in(read_weights(path))
        require_fit(network, state)
    except (BadCheckpoint, IntegrityError) as error:
        said = str(error).removeprefix(f"{path}: ")
        raise IntegrityError(f"{path}: no weights of FAN-4: {said}") from None
    network.load_state_dict(state)
    network.eval().requires_grad_(False)
    return FanPoints(network, file_digest(path))
