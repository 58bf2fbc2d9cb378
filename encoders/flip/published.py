"""Read checkpoints of the published FLIP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from encoders.flip.foreign import below, read_state, text_of, vision_of
from encoders.flip.network import Flip, FlipConfig, Momentum
from stylegan2_ops.foreign.fit import fit_tensors
from stylegan2_ops.foreign.inert import BadCheckpoint


@dataclass(frozen=True)
class FlipSource:
    """A published FLIP read from a file.

    Attributes:
        config: its sizes.
        state: the tensors of `Flip(config)`.
        momentum: the tensors of its `Momentum`, or None where the file has none.
        notes: what was found, and what was left out.
    """

    config: FlipConfig
    state: dict[str, Tensor]
    momentum: dict[str, Tensor] | None
    notes: tuple[str, ...]


def read_flip(path: Path, heads: int | None = None) -> FlipSource:
    """Read a checkpoint of the published FLIP, {"model": tensors}.

    Args:
        path: the file.
        heads: attention heads of both networks; None for width / 64.

    Raises:
        BadCheckpoint: it holds no FLIP; one line that begins with `path`.
    """
    state = read_state(path)
    try:
        vision, text = vision_of(state, heads), text_of(state, heads)
        if not any(n.startswith("text_encoder.") for n in state) or not text.has_cross_attention:
            raise BadCheckpoint("holds no FLIP (no text_encoder with cross-attention)")
        projection = state.get("vision_proj.weight")
        if projection is None or projection.ndim != 2:
            raise BadCheckpoint("has no vision_proj.weight")
        try:
            length = min(65, text.config.length)
            config = FlipConfig(vision.config, text.config, len(projection), length)
        except ValueError as error:
            raise BadCheckpoint(str(error)) from None
        with torch.device("meta"):
            outline = Flip(config)
            slow = Momentum(outline).state_dict()
        limit = 1 << 30
        towers = {f"visual_encoder.{n}": v for n, v in vision.state.items()}
        towers |= {f"text_encoder.{n}": v for n, v in text.state.items()}
        fitted = fit_tensors(outline.state_dict(), {**state, **towers}, limit)
        twins = {
            f"{name}.{rest}": value
            for name in ("visual_encoder", "text_encoder", "vision_proj", "text_proj")
            for rest, value in below(state, f"{name}_m.").items()
        }
        momentum = fit_tensors(slow, twins, limit) if twins else None
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{path}: {error}") from None
    left = sorted(n for n in state if "queue" in n)
    notes = ["published FLIP" + (" with momentum networks" if momentum else "")]
    if left:
        notes.append(f"left out: {', '.join(left)}")
    return FlipSource(config, fitted, momentum, tuple(notes))
