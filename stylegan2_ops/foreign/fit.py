"""Find a generator's sizes from the shapes of its tensors, and check every tensor."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stylegan2_ops.foreign.inert import BadCheckpoint, shown
from stylegan2_ops.generator import Generator, GeneratorConfig

MAX_LAYERS = 64
MAX_WIDTH = 8192  # longest z and w
MAX_NUMBERS = 1 << 28  # most parameters and buffers; the 1024-pixel network has 33 million
FILTER = (1.0, 3.0, 3.0, 1.0)
NOT_HERE = "this kind of generator is not supported: "

State = dict[str, Tensor]


def config_of(state: Mapping[str, Tensor], clamp: float | None) -> GeneratorConfig:
    """The config of a generator from its tensors, which have the official names.

    Raises:
        BadCheckpoint: tensors are missing, or a size is too large.
    """
    blocks = {
        int(found.group(1)): name
        for name in state
        if (found := re.fullmatch(r"synthesis\.b(\d{1,4})\.conv1\.weight", name))
    }
    if not blocks or "synthesis.b4.const" not in state or "mapping.fc0.weight" not in state:
        raise BadCheckpoint("holds no StyleGAN2 generator (no b4.const, conv1 or fc0)")
    widths = {resolution: int(state[name].shape[0]) for resolution, name in blocks.items()}
    resolution, widest = max(widths), max(widths.values())
    layers = sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", name)) for name in state)
    first = state["mapping.fc0.weight"]
    if layers > MAX_LAYERS or max(first.shape) > MAX_WIDTH:
        raise BadCheckpoint(
            f"has {layers} mapping layers of {max(first.shape)}; wanted at most {MAX_LAYERS} "
            f"layers of {MAX_WIDTH}"
        )
    return GeneratorConfig(
        resolution=resolution,
        z_dim=int(first.shape[1]),
        w_dim=int(first.shape[0]),
        # A block has base // resolution channels or channel_max, so base is at least their product.
        channel_base=max(r * width for r, width in widths.items()),
        channel_max=widest,
        mapping_layers=layers,
        conv_clamp=clamp,
    )


def fit_state(config: GeneratorConfig, state: State) -> State:
    """Exactly the tensors of `Generator(config)`, in float32; see `fit_tensors`.

    Raises:
        BadCheckpoint: a tensor is missing, not finite or of another shape, or a filter is not
            [1, 3, 3, 1].
    """
    with torch.device("meta"):
        wanted = Generator(config).state_dict()
    fitted = fit_tensors(wanted, state, MAX_NUMBERS)
    for name, value in fitted.items():
        if name.endswith("resample_filter") and not torch.allclose(value, low_pass(), atol=1e-6):
            raise BadCheckpoint(f"{name} is another filter; wanted [1, 3, 3, 1]")
    return fitted


def fit_tensors(
    wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], most_numbers: int
) -> State:
    """The tensors that a network needs, in the network's dtypes and contiguous.

    Tensors that are so already are not copied, because a file may be as large as half the memory.

    Args:
        wanted: the network's state dict; only names, shapes and dtypes are read.
        state: tensors of a file under the same names; other tensors are left out.
        most_numbers: largest number of parameters and buffers.

    Raises:
        BadCheckpoint: a tensor is missing, not finite or of another shape, or the network is too
            large.
    """
    numbers = sum(like.numel() for like in wanted.values())
    if numbers > most_numbers:  # the file itself may be small: many tensors can share one storage
        raise BadCheckpoint(f"has {numbers:,} numbers; wanted at most {most_numbers:,}")
    fitted: State = {}
    for name, like in wanted.items():
        found = state.get(name)
        if found is None:
            raise BadCheckpoint(f"has no {name}")
        if found.numel() != like.numel() or (found.ndim and found.shape != like.shape):
            raise BadCheckpoint(
                f"{name} has shape {tuple(found.shape)}; wanted {tuple(like.shape)}"
            )
        value = found.detach().to(like.dtype).reshape(like.shape).contiguous()
        if not bool(torch.isfinite(value).all()):
            raise BadCheckpoint(f"{name} is not finite")
        fitted[name] = value
    return fitted


def low_pass() -> Tensor:
    """The low-pass filter of every published generator, (4, 4), with sum 1."""
    taps = torch.tensor(FILTER)
    return torch.outer(taps, taps) / taps.sum() ** 2


def clamp_of(value: Any) -> float | None:
    """A network's argument `conv_clamp` as a number, or None for no clamp.

    Raises:
        BadCheckpoint: it is neither a positive number nor None.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise BadCheckpoint(f"conv_clamp is {shown(value)}; wanted a positive number or None")
    return float(value)


def refuse_others(options: dict[str, Any], supported: dict[str, Any]) -> None:
    """Check that each option has the supported value, if it is there.

    Raises:
        BadCheckpoint: an option has another value.
    """
    for name, wanted in supported.items():
        if options.get(name, wanted) != wanted:
            raise BadCheckpoint(f"{NOT_HERE}{name} is {shown(options[name])}; wanted {wanted}")
