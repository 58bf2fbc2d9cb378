"""Read generators from pickles of the TensorFlow release."""

from __future__ import annotations

import re
from typing import Any

from stylegan2_ops.foreign.fit import (
    NOT_HERE,
    State,
    clamp_of,
    config_of,
    fit_state,
    low_pass,
    refuse_others,
)
from stylegan2_ops.foreign.inert import BadCheckpoint, Record, as_tensor, shown
from stylegan2_ops.generator import GeneratorConfig

MAX_NETWORKS = 16


def from_tensorflow(record: Record) -> tuple[GeneratorConfig, State, dict[str, str]]:
    """Rename the variables of Gs and of its two components to the official names, and fit them.

    Args:
        record: the averaged network of the pickle.

    Returns:
        The config, the tensors of `Generator(config)`, and the format.

    Raises:
        BadCheckpoint: these are not the variables of a StyleGAN2 generator.
    """
    variables, options = _variables(record)
    if options.get("label_size", 0):
        raise BadCheckpoint(NOT_HERE + "it needs a class label (label_size is not 0)")
    supported = {
        "nonlinearity": "lrelu",
        "mapping_nonlinearity": "lrelu",
        "mapping_lrmul": 0.01,
        "normalize_latents": True,
        "resample_kernel": [1, 3, 3, 1],
    }
    refuse_others(options, supported)
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
    config = config_of(state, clamp_of(options.get("conv_clamp")))
    return config, fit_state(config, state), {"format": "TensorFlow pickle"}


def _affine(variables: State, theirs: str, ours: str, state: State) -> None:
    state[f"{ours}.affine.weight"] = variables[f"{theirs}/mod_weight"].t()
    state[f"{ours}.affine.bias"] = variables[f"{theirs}/mod_bias"] + 1  # TensorFlow's starts at 0


def _variables(network: Record) -> tuple[State, dict[str, Any]]:
    """The variables and the arguments of a network and of its components, by name.

    A component's own arguments count before those of the network that holds it.
    """
    found: State = {}
    options: dict[str, Any] = {}
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
        given = state.get("static_kwargs")
        options |= given if isinstance(given, dict) else {}
        components = dict(state.get("components") or {})
        waiting += [part for part in components.values() if isinstance(part, Record)]
    return found, options
