"""Read published e4e checkpoints, as tensors under our names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders.e4e.irse import BackboneConfig
from encoders.e4e.network import COARSE_HEADS, MIDDLE_HEADS, E4e, E4eConfig
from stylegan2_ops.foreign.convert import NVIDIA, GeneratorSource, fingerprint
from stylegan2_ops.foreign.fit import MAX_WIDTH, fit_tensors
from stylegan2_ops.foreign.inert import BadCheckpoint, Record, as_tensor, first_line, shown
from stylegan2_ops.foreign.rosinality import MAX_RESOLUTION, from_rosinality
from stylegan2_ops.foreign.torch_files import file_sha256, read_weights
from stylegan2_ops.generator import count_ws

MAX_HEADS = count_ws(MAX_RESOLUTION)
MAX_HALVINGS = 8  # most convolutions of a head: its map has at most 256 pixels per side
MAX_NUMBERS = 1 << 30  # most parameters and buffers; the published encoder has 267 million
NO_KIND = (
    "the file does not say which encoder it holds; taken as e4e's. pSp's has tensors of the same "
    "names and shapes, but its heads give whole latents: if faces come out wrong, it is pSp's"
)
NO_MEAN = "trained without start_from_latent_avg, so the encoder adds no mean latent (stored as 0)"
SHRINK = (16, 8, 4)  # input size / size of the feature map, for coarse, middle and fine heads


@dataclass(frozen=True)
class E4eSource:
    """An encoder read from a file.

    Attributes:
        config: sizes of the encoder.
        state: the tensors of `E4e(config)`.
        notes: format, source, source_sha256, licence; also fingerprint of the generator for which
            it was made, if the file has it; "encoder" if the file does not say whose it is; and
            "latent_avg" if the encoder adds no mean latent.
        generator: the generator in the file, or None.
    """

    config: E4eConfig
    state: dict[str, Tensor]
    notes: dict[str, str]
    generator: GeneratorSource | None


def read_e4e(path: Path, value: Any = None) -> E4eSource:
    """Read an encoder from a published checkpoint.

    Args:
        path: a file with {"state_dict": {"encoder.*", "decoder.*"}, "latent_avg", "opts"}.
        value: the result of `read_weights(path)`, or None to read the file here.

    Raises:
        BadCheckpoint: the file is damaged, hostile or not an e4e encoder; one line that names
            `path`.
    """
    value = read_weights(path) if value is None else value
    try:
        config, state, generator, said = _read(value)
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{path}: {error}") from None
    except Exception as error:  # a hostile file can cause any error
        raise BadCheckpoint(f"{path}: not an e4e encoder: {first_line(error)}") from None
    notes = {
        "format": "e4e checkpoint",
        "source": path.name,
        "source_sha256": file_sha256(path),
        "licence": f"MIT encoder; its generator: {NVIDIA}",
        **said,
    }
    if generator is None:
        return E4eSource(config, state, notes, None)
    made = generator[2] | {k: notes[k] for k in ("source", "source_sha256")} | {"licence": NVIDIA}
    made["fingerprint"] = fingerprint(
        generator[1]["synthesis.b4.const"], generator[1]["mapping.w_avg"]
    )
    if "w_avg" not in made:  # a mean that was drawn here is not that of the original's file
        notes["fingerprint"] = made["fingerprint"]
    return E4eSource(config, state, notes, GeneratorSource(generator[0], generator[1], made))


def _read(value: Any) -> tuple[E4eConfig, dict[str, Tensor], Any, dict[str, str]]:
    if not isinstance(value, dict) or not isinstance(value.get("state_dict"), dict):
        raise BadCheckpoint("holds no 'state_dict'; wanted an e4e checkpoint")
    options = value.get("opts")
    if isinstance(options, Record):
        options = options.state
    options = options if isinstance(options, dict) else {}
    notes = _kind(options, value)
    both = {str(k): v for k, v in value["state_dict"].items() if isinstance(v, Tensor)}
    state = {}
    for name, tensor in _below(both, "encoder.").items():
        ours = f"encoder.{name}" if name.startswith(("input_layer.", "body.")) else name
        state[ours] = tensor
    config = _config(state)
    mean: Tensor | None = None
    if value.get("latent_avg") is not None:
        held = as_tensor(value["latent_avg"]).float()
        mean = held.reshape(-1, held.shape[-1])
        if len(mean) not in (1, config.num_ws):
            raise BadCheckpoint(f"latent_avg has {len(mean)} rows; wanted 1 or {config.num_ws}")
    if not options.get("start_from_latent_avg", True):
        state["latent_avg"] = torch.zeros(config.num_ws, config.w_dim)
        notes["latent_avg"] = NO_MEAN
    elif mean is None:
        raise BadCheckpoint("has no latent_avg, which must be added to the encoder's output")
    else:
        state["latent_avg"] = mean.expand(config.num_ws, -1)
    decoder = _below(both, "decoder.")
    generator = from_rosinality(decoder, None if mean is None else mean[0]) if decoder else None
    if generator is not None and generator[0].num_ws != config.num_ws:
        raise BadCheckpoint(
            f"has {config.num_ws} heads, but its generator has {generator[0].num_ws} layers; "
            "wanted one head per layer"
        )
    return config, _fit(config, state), generator, notes


def _kind(options: dict[Any, Any], value: dict[Any, Any]) -> dict[str, str]:
    """Notes on whose encoder a checkpoint holds.

    Raises:
        BadCheckpoint: it is pSp's.
    """
    kind = options.get("encoder_type", "")
    if kind and kind != "Encoder4Editing":
        raise BadCheckpoint(
            f"holds pSp's encoder {shown(kind, 40)!r}; wanted e4e's, 'Encoder4Editing'"
        )
    # Only e4e is trained with a discriminator of latents; a training checkpoint keeps it.
    return {} if kind or "discriminator_state_dict" in value else {"encoder": NO_KIND}


def _below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}


def _config(state: dict[str, Tensor]) -> E4eConfig:
    """The sizes of an encoder from the shapes of its tensors."""
    units: dict[int, tuple[int, int]] = {}
    for name, value in state.items():
        if found := re.fullmatch(r"encoder\.body\.(\d{1,3})\.res_layer\.1\.weight", name):
            units[int(found[1])] = (int(value.shape[1]), int(value.shape[0]))
    heads = [n for n in state if re.fullmatch(r"styles\.\d+\.linear\.weight", n)]
    if not units or not heads:
        raise BadCheckpoint("holds no e4e encoder (no encoder.body, no encoder.styles)")
    widths, depths = _stages([units[i] for i in sorted(units)])
    count = len(heads)
    convs = sum(
        bool(re.fullmatch(rf"styles\.{count - 1}\.convs\.\d+\.weight", name)) for name in state
    )
    if count > MAX_HEADS or not 0 < convs <= MAX_HALVINGS:
        raise BadCheckpoint(
            f"has {count} heads of {convs} convolutions; wanted at most {MAX_HEADS} heads of 1 to "
            f"{MAX_HALVINGS}"
        )
    group = 0 if count <= COARSE_HEADS else 1 if count <= MIDDLE_HEADS else 2
    w_dim, head = state["styles.0.linear.weight"].shape
    if max(w_dim, head, *widths) > MAX_WIDTH:
        raise BadCheckpoint(
            f"has up to {max(w_dim, head, *widths)} channels; wanted at most {MAX_WIDTH}"
        )
    return E4eConfig(
        num_ws=count,
        input_size=2**convs * SHRINK[group],
        w_dim=int(w_dim),
        head_width=int(head),
        backbone=BackboneConfig(widths, depths),
    )


def _stages(units: list[tuple[int, int]]) -> tuple[Any, Any]:
    """Widths and depths of the four stages, from the (input, output) channels of all units.

    A stage starts where the number of channels changes. The first stage has the channels of the
    input layer.
    """
    widths, depths = [units[0][1]], [0]
    for before, after in units:
        if before != after:
            widths.append(after)
            depths.append(0)
        depths[-1] += 1
    if len(widths) != 4:
        raise BadCheckpoint(f"has a backbone of {len(widths)} stages; wanted 4, as in IR-SE-50")
    return tuple(widths), tuple(depths)


def _fit(config: E4eConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.device("meta"):
        wanted = E4e(config).state_dict()
    counters = [name for name in wanted if name.endswith("num_batches_tracked")]
    missing = dict.fromkeys(counters, torch.zeros(()))  # files of torch before 0.4.1 lack them
    return fit_tensors(wanted, {**missing, **state}, MAX_NUMBERS)
