"""Read generators of every published layout, as tensors under the official names.

Official names are those of the PyTorch release by the paper's authors. Nothing in a file is run.
Channels, depth and clamp are read from the file and checked against its tensors.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from stylegan2_ops.foreign.fit import State, config_of, fit_state, low_pass
from stylegan2_ops.foreign.inert import BadCheckpoint, Record, as_tensor, first_line, shown
from stylegan2_ops.foreign.rosinality import from_rosinality
from stylegan2_ops.foreign.torch_files import file_sha256, read_weights
from stylegan2_ops.generator import GeneratorConfig

MAX_DEPTH = 32
MAX_MODULES = 20_000
MAX_NETWORKS = 16
MAX_NAME = 100
NETWORK = "dnnlib.tflib.network.Network"
NVIDIA = "NVIDIA Source Code License, non-commercial"
NOT_HERE = "this kind of generator is not supported: "


@dataclass(frozen=True)
class GeneratorSource:
    """A generator read from a file.

    Attributes:
        config: sizes of the network.
        state: the tensors of `Generator(config)`, float32.
        notes: format, source, source_sha256, fingerprint and licence; also "noise" and "w_avg" if
            the file had none and they were drawn here.
    """

    config: GeneratorConfig
    state: State
    notes: dict[str, str]


def fingerprint(const: Tensor, w_avg: Tensor) -> str:
    """A digest that identifies a generator, the same in every layout.

    Args:
        const: the learned constant, C x 4 x 4 values in any shape.
        w_avg: (w_dim,), the mean of w.

    Returns:
        sha256 of both as little-endian float32, `const` first.
    """
    digest = hashlib.sha256()
    for value in (const, w_avg):
        digest.update(value.detach().float().contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def holds_encoder(value: Any) -> bool:
    """True if a result of `read_weights` looks like an inversion encoder with its generator."""
    return isinstance(value, dict) and isinstance(value.get("state_dict"), dict)


def read_generator(path: Path, value: Any = None) -> GeneratorSource:
    """Read a generator from NVlabs' pickle, the TensorFlow pickle or rosinality's checkpoint.

    Args:
        path: the file.
        value: the result of `read_weights(path)`, or None to read the file here.

    Raises:
        BadCheckpoint: the file is damaged, hostile or not a StyleGAN2 generator; one line that
            names `path`.
    """
    value = read_weights(path) if value is None else value
    try:
        config, state, notes = _find(value)
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{path}: {error}") from None
    except Exception as error:  # a hostile file can cause any error
        raise BadCheckpoint(f"{path}: not a generator's weights: {first_line(error)}") from None
    notes = {"licence": NVIDIA, **notes, "source": path.name, "source_sha256": file_sha256(path)}
    notes["fingerprint"] = fingerprint(state["synthesis.b4.const"], state["mapping.w_avg"])
    return GeneratorSource(config, state, notes)


def _find(value: Any) -> tuple[GeneratorConfig, State, dict[str, str]]:
    if isinstance(value, tuple) and any(_is_network(part) for part in value):
        networks = [part for part in value if _is_network(part)]
        return _from_tensorflow(networks[-1])  # (G, D, Gs); Gs is the averaged one
    if _is_network(value):
        return _from_tensorflow(value)
    if isinstance(value, Record):
        return _from_persistent(value)
    if not isinstance(value, dict):
        raise BadCheckpoint(f"holds a {type(value).__name__}; wanted a generator")
    for name in ("G_ema", "G"):
        if isinstance(value.get(name), Record):
            return _from_persistent(value[name])
    if isinstance(value.get("g_ema"), dict):
        return from_rosinality(value["g_ema"], value.get("latent_avg"))
    for nested in ("g", "state_dict"):
        if isinstance(value.get(nested), dict):
            raise BadCheckpoint(
                f"holds {nested!r} but no averaged generator 'g_ema'"
                + ("; is it an e4e checkpoint?" if nested == "state_dict" else "")
            )
    if "synthesis.b4.const" in value:
        return _from_state({k: v for k, v in value.items() if isinstance(v, Tensor)}, {}, {})
    if "input.input" in value:
        return from_rosinality(value, None)
    names = ", ".join(str(name)[:30] for name in list(value)[:4])
    raise BadCheckpoint(f"holds no generator (it has: {names})")


def _is_network(value: Any) -> bool:
    return isinstance(value, Record) and value.name == NETWORK


def _from_persistent(record: Record) -> tuple[GeneratorConfig, State, dict[str, str]]:
    """Read the pickle of PyTorch modules."""
    if record.name != "Generator":
        raise BadCheckpoint(f"holds a {record.name}; wanted a Generator")
    if not isinstance(record.state, dict):
        raise BadCheckpoint("damaged: the generator has no state")
    given = record.state.get("_init_kwargs")
    options = dict(given) if isinstance(given, dict) else {}
    state = _walk(record)
    if any(name.startswith("synthesis.input.") for name in state):
        raise BadCheckpoint(NOT_HERE + "it is StyleGAN3's; wanted StyleGAN2")
    return _from_state(state, options, {"format": "NVlabs pickle"})


def _walk(network: Record) -> State:
    """Parameters and buffers of a module and of all modules in it.

    A module is counted each time it is reached: modules that hold each other would otherwise make
    an endless tree.
    """
    found: State = {}
    waiting, walked = [("", network)], 0
    while waiting:
        prefix, record = waiting.pop()
        walked += 1
        if prefix.count(".") > MAX_DEPTH or walked + len(waiting) + len(found) > MAX_MODULES:
            raise BadCheckpoint(
                f"damaged: more than {MAX_MODULES:,} modules, or nested without end"
            )
        if not isinstance(record.state, dict):
            raise BadCheckpoint(f"damaged: {record.name} has no state")
        for group in ("_parameters", "_buffers"):
            for name, value in _named(record.state, group):
                if value is not None:
                    found[f"{prefix}{name}"] = as_tensor(value)
        for name, module in _named(record.state, "_modules"):
            if isinstance(module, Record):
                waiting.append((f"{prefix}{name}.", module))
    return found


def _named(state: dict[Any, Any], group: str) -> list[tuple[str, Any]]:
    """A module's parameters, buffers or modules, with their names."""
    held = state.get(group)
    if held is None:
        return []
    if not isinstance(held, dict):
        raise BadCheckpoint(f"damaged: {group} is {shown(held)}; wanted a dictionary")
    if not all(isinstance(name, str) and len(name) <= MAX_NAME for name in held):
        raise BadCheckpoint(
            f"damaged: {group} has a bad name; wanted text of at most {MAX_NAME} characters"
        )
    return list(held.items())


def _from_state(
    state: State, options: dict[str, Any], notes: dict[str, str]
) -> tuple[GeneratorConfig, State, dict[str, str]]:
    """Fit tensors under official names; `options` are the arguments the network was made with."""
    synthesis = dict(options.get("synthesis_kwargs") or {})
    # stylegan3's release stores these in `options` itself.
    for name in ("channel_base", "channel_max", "conv_clamp", "num_fp16_res", "architecture"):
        if name in options:
            synthesis.setdefault(name, options[name])
    mapping = dict(options.get("mapping_kwargs") or {})
    if options.get("c_dim", 0) or "mapping.embed.weight" in state:
        raise BadCheckpoint(NOT_HERE + "it needs a class label (c_dim is not 0)")
    plain = {"architecture": "skip", "activation": "lrelu", "kernel_size": 3, "use_noise": True}
    _refuse_others(synthesis, plain)
    _refuse_others(options, {"img_channels": 3})
    _refuse_others(mapping, {"activation": "lrelu", "lr_multiplier": 0.01})
    clamp = synthesis.get("conv_clamp")
    if clamp is not None and not (isinstance(clamp, int | float) and 0 < clamp < math.inf):
        raise BadCheckpoint(f"conv_clamp is {shown(clamp)}; wanted a positive number or None")
    config = config_of(state, None if clamp is None else float(clamp))
    for name, found in (
        ("img_resolution", config.resolution),
        ("z_dim", config.z_dim),
        ("w_dim", config.w_dim),
    ):
        if options.get(name, found) != found:
            raise BadCheckpoint(
                f"damaged: {name} is {shown(options[name])}, but its tensors have {found}"
            )
    half = synthesis.get("num_fp16_res", 0)
    if isinstance(half, int) and half:
        notes["num_fp16_res"] = str(half)
    return config, fit_state(config, state), {"format": "state dict", **notes}


def _refuse_others(options: dict[str, Any], supported: dict[str, Any]) -> None:
    """Check that each option has the supported value, if it is there."""
    for name, wanted in supported.items():
        if options.get(name, wanted) != wanted:
            raise BadCheckpoint(f"{NOT_HERE}{name} is {shown(options[name])}; wanted {wanted}")


def _from_tensorflow(record: Record) -> tuple[GeneratorConfig, State, dict[str, str]]:
    """Read the pickle of the TensorFlow release: the variables of Gs and its two components."""
    variables = _variables(record)
    options = record.state.get("static_kwargs")
    options = dict(options) if isinstance(options, dict) else {}
    if options.get("label_size", 0):
        raise BadCheckpoint(NOT_HERE + "it needs a class label (label_size is not 0)")
    supported = {
        "nonlinearity": "lrelu",
        "mapping_nonlinearity": "lrelu",
        "mapping_lrmul": 0.01,
        "normalize_latents": True,
        "resample_kernel": [1, 3, 3, 1],
    }
    _refuse_others(options, supported)
    architecture = options.get("architecture", "skip")
    if architecture != "skip" or "4x4/Conv/weight" not in variables:
        raise BadCheckpoint(NOT_HERE + "it is not StyleGAN2; wanted its config E or F")
    state: State = {}
    for name, value in variables.items():
        if found := re.fullmatch(r"Dense(\d+)/(weight|bias)", name):
            state[f"mapping.fc{found[1]}.{found[2]}"] = value.t() if value.ndim == 2 else value
    state["mapping.w_avg"] = variables["dlatent_avg"]
    state["synthesis.b4.const"] = variables["4x4/Const/const"][0]
    resolution = 4
    while f"{resolution}x{resolution}/ToRGB/weight" in variables:
        block, side = f"synthesis.b{resolution}", f"{resolution}x{resolution}"
        index = 2 * (resolution.bit_length() - 1) - 5  # number of conv0's noise; 1 at 8 pixels
        state[f"{block}.resample_filter"] = low_pass()
        layers = [("conv1", "Conv", 0)] if resolution == 4 else []
        if resolution > 4:
            layers = [("conv0", "Conv0_up", index), ("conv1", "Conv1", index + 1)]
        for ours, theirs, noise in layers:
            weight = variables[f"{side}/{theirs}/weight"].permute(3, 2, 0, 1)
            if theirs == "Conv0_up":  # stored flipped
                weight = weight.flip(2, 3)
            layer = f"{block}.{ours}"
            state[f"{layer}.weight"] = weight
            state[f"{layer}.bias"] = variables[f"{side}/{theirs}/bias"]
            state[f"{layer}.noise_strength"] = variables[f"{side}/{theirs}/noise_strength"]
            state[f"{layer}.noise_const"] = variables[f"noise{noise}"][0, 0]
            state[f"{layer}.resample_filter"] = low_pass()
            _affine(variables, f"{side}/{theirs}", layer, state)
        state[f"{block}.torgb.weight"] = variables[f"{side}/ToRGB/weight"].permute(3, 2, 0, 1)
        state[f"{block}.torgb.bias"] = variables[f"{side}/ToRGB/bias"]
        _affine(variables, f"{side}/ToRGB", f"{block}.torgb", state)
        resolution *= 2
    config = config_of(state, None)
    return config, fit_state(config, state), {"format": "TensorFlow pickle"}


def _affine(variables: State, theirs: str, ours: str, state: State) -> None:
    state[f"{ours}.affine.weight"] = variables[f"{theirs}/mod_weight"].t()
    state[f"{ours}.affine.bias"] = variables[f"{theirs}/mod_bias"] + 1  # TensorFlow's starts at 0


def _variables(network: Record) -> State:
    """The variables of a network and of its components, by name."""
    found: State = {}
    waiting, walked = [network], 0
    while waiting:
        state = waiting.pop().state
        walked += 1
        if walked + len(waiting) > MAX_NETWORKS or not isinstance(state, dict):
            raise BadCheckpoint(
                f"damaged: a network without state, more than {MAX_NETWORKS} networks, "
                "or nested without end"
            )
        version = state.get("version")
        if not isinstance(version, int) or version < 4:
            raise BadCheckpoint(
                f"is a TensorFlow pickle of version {shown(version)}; wanted 4 or later"
            )
        for name, value in state.get("variables") or []:
            if isinstance(name, str):
                found[name] = as_tensor(value)
        components = dict(state.get("components") or {})
        waiting += [part for part in components.values() if isinstance(part, Record)]
    return found
