"""The saved state of a training run, in pieces that are small enough to be carried anywhere.

`state.json` names the pieces and their digests. It is written last and replaced atomically, so a
killed run leaves the old state or the new one, never a mixture.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch

from sfhq.errors import IntegrityError
from sfhq.images import write_atomic
from sfhq.parts.records import canonical_json

PIECE = 16 * 2**20  # bytes
INDEX = "state.json"


def save_state(state: dict[str, Any], images: int, out: Path) -> None:
    """Write a state as `state-<images>-<number>.bin`, each of at most 16 MiB, and `state.json`.

    Args:
        state: what `torch.load` with `weights_only` can read again.
        images: images that the run has seen; part of the names.
        out: the folder of the run.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()
    pieces = {}
    for number, start in enumerate(range(0, len(data), PIECE)):
        piece = bytes(data[start : start + PIECE])
        name = f"state-{images:09d}-{number:03d}.bin"
        write_atomic(out / name, piece)
        pieces[name] = hashlib.sha256(piece).hexdigest()
    write_atomic(out / INDEX, canonical_json({"images": images, "pieces": pieces}).encode())
    for path in out.glob("state-*.bin"):
        if path.name not in pieces:
            path.unlink()


def load_state(out: Path) -> dict[str, Any] | None:
    """The state that `save_state` wrote last, or None where there is none.

    Tensors come to the CPU, so a run may go on on another device.

    Raises:
        IntegrityError: a piece is missing or was changed, or the state cannot be read.
    """
    index = out / INDEX
    if not index.is_file():
        return None
    try:
        pieces: dict[str, str] = json.loads(index.read_text())["pieces"]
        data = io.BytesIO()
        for name, digest in pieces.items():
            if Path(name).name != name:
                raise ValueError(f"{name!r} is no file name")
            piece = (out / name).read_bytes()
            if hashlib.sha256(piece).hexdigest() != digest:
                raise ValueError(f"{name} was changed")
            data.write(piece)
        data.seek(0)
        state: dict[str, Any] = torch.load(data, map_location="cpu", weights_only=True)
    except Exception as error:
        raise IntegrityError(
            f"{index}: cannot be resumed ({type(error).__name__}); bring back the state-*.bin "
            "that it names, or delete it to start again"
        ) from None
    return state
