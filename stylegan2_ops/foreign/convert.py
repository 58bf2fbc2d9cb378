"""Read generators of every published layout, as tensors under the official names.

Official names are those of the PyTorch release by the paper's authors. Nothing in a file is run.
Channels, depth and clamp are read from the file and checked against its tensors.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from stylegan2_ops.foreign.fit import (
    NOT_HERE,
    State,
    clamp_of,
    config_of,
    fit_state,
    refuse_others,
)
from stylegan2_ops.foreign.inert import BadCheckpoint, Record, as_tensor, first_line, shown
from stylegan2_ops.foreign.rosinality import from_rosinality
from stylegan2_ops.foreign.tensorflow import from_tensorflow
from stylegan2_ops.foreign.torch_files import file_sha256, read_weights
from stylegan2_ops.generator import GeneratorConfig

MAX_DEPTH = 32
MAX_MODULES = 20_000
MAX_NAME = 100
NETWORK = "dnnlib.tflib.network.Network"
NVIDIA = "NVIDIA Source Code License, non-commercial"
NO_CLAMP = (
    "conv_clamp is not in the file; taken as none. If it was trained with one (256 is usual), "
    "images are wrong: convert the .pkl that it was made from"
)
CLAMPED = frozenset({"SynthesisLayer", "ToRGBLayer"})  # classes that keep their conv_clamp
PLAIN: dict[
    str, dict[str, Any]
] = {  # what layers and blocks keep, whether or not it was among the arguments
    "SynthesisLayer": {"activation": "lrelu", "use_noise": True},
    "SynthesisBlock": {"architecture": "skip"},
}
UNKNOWN = object()


@dataclass(frozen=True)
class GeneratorSource:
    """A generator read from a file.

    Attributes:
        config: sizes of the network.
        state: the tensors of `Generator(config)`, float32.
        notes: format, source, source_sha256, fingerprint and licence; also "noise" and "w_avg" if
            the file had none and they were drawn here, and "conv_clamp" if the file cannot say it.
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
    state = value.get("state_dict") if isinstance(value, dict) else None
    return isinstance(state, dict) and not _is_generator_state(state)


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
        return from_tensorflow(networks[-1])  # (G, D, Gs); Gs is the averaged one
    if _is_network(value):
        return from_tensorflow(value)
    if isinstance(value, Record):
        return _from_persistent(value)
    if not isinstance(value, dict):
        raise BadCheckpoint(f"holds a {type(value).__name__}; wanted a generator")
    for name in ("G_ema", "G"):
        if isinstance(value.get(name), Record):
            return _from_persistent(value[name])
    for name in ("G_ema", "g_ema", "G", "state_dict"):
        held = value.get(name)
        if isinstance(held, dict) and _is_generator_state(held):
            return _from_tensors(held, value.get("latent_avg"))
    if isinstance(value.get("g_ema"), dict):
        return from_rosinality(value["g_ema"], value.get("latent_avg"))
    for nested in ("g", "state_dict"):
        if isinstance(value.get(nested), dict):
            raise BadCheckpoint(
                f"holds {nested!r} but no averaged generator 'g_ema'"
                + ("; is it an e4e checkpoint?" if nested == "state_dict" else "")
            )
    if _is_generator_state(value):
        return _from_tensors(value, None)
    names = ", ".join(str(name)[:30] for name in list(value)[:4])
    raise BadCheckpoint(f"holds no generator (it has: {names})")


def _is_generator_state(state: dict[Any, Any]) -> bool:
    """True if a dictionary has a generator's tensors, under official or rosinality's names."""
    return "synthesis.b4.const" in state or "input.input" in state


def _from_tensors(
    state: dict[Any, Any], latent_avg: Any
) -> tuple[GeneratorConfig, State, dict[str, str]]:
    """Read a bare state dict, which has tensors and no arguments."""
    if "synthesis.b4.const" not in state:
        return from_rosinality(state, latent_avg)
    notes = {"conv_clamp": NO_CLAMP}
    return _from_state({k: v for k, v in state.items() if isinstance(v, Tensor)}, {}, notes)


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
    state, modules = _walk(record)
    if any(name.startswith("synthesis.input.") for name in state):
        raise BadCheckpoint(NOT_HERE + "it is StyleGAN3's; wanted StyleGAN2")
    notes = {"format": "NVlabs pickle"}
    # An argument left at its default is not among the arguments; the layers keep what they use.
    clamp = _shared([m for m in modules if m.name in CLAMPED], "conv_clamp")
    if clamp is not UNKNOWN:
        options["conv_clamp"] = clamp
        options["synthesis_kwargs"] = {
            k: v
            for k, v in dict(options.get("synthesis_kwargs") or {}).items()
            if k != "conv_clamp"
        }
    elif not any("conv_clamp" in kept for kept in (options, options.get("synthesis_kwargs") or {})):
        notes["conv_clamp"] = NO_CLAMP
    for kind, plain in PLAIN.items():
        members = [m for m in modules if m.name == kind]
        found = {name: _shared(members, name) for name in plain}
        refuse_others({k: v for k, v in found.items() if v is not UNKNOWN}, plain)
    return _from_state(state, options, notes)


def _shared(modules: list[Record], name: str) -> Any:
    """The value of an attribute that all modules have in common; UNKNOWN if none has it.

    Raises:
        BadCheckpoint: two modules have different values.
    """
    found = [module.state[name] for module in modules if name in module.state]
    if not found:
        return UNKNOWN
    for other in found[1:]:
        if other != found[0]:
            raise BadCheckpoint(
                f"{NOT_HERE}{name} is {shown(found[0])} in one layer and {shown(other)} in another"
            )
    return found[0]


def _walk(network: Record) -> tuple[State, list[Record]]:
    """Parameters and buffers of a module and of all modules in it, and those modules.

    A module is counted each time it is reached: modules that hold each other would otherwise make
    an endless tree.
    """
    found: State = {}
    modules: list[Record] = []
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
        modules.append(record)
        for group in ("_parameters", "_buffers"):
            for name, value in _named(record.state, group):
                if value is not None:
                    found[f"{prefix}{name}"] = as_tensor(value)
        for name, module in _named(record.state, "_modules"):
            if isinstance(module, Record):
                waiting.append((f"{prefix}{name}.", module))
    return found, modules


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
    refuse_others(synthesis, plain)
    refuse_others(options, {"img_channels": 3})
    refuse_others(mapping, {"activation": "lrelu", "lr_multiplier": 0.01})
    config = config_of(state, clamp_of(synthesis.get("conv_clamp")))
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
