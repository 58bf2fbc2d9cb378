"""Read generators under the names of rosinality's implementation; e4e's decoder has the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stylegan2_ops.foreign.fit import State, config_of, fit_state, low_pass
from stylegan2_ops.foreign.inert import BadCheckpoint, as_tensor
from stylegan2_ops.generator import Generator, GeneratorConfig

MAX_RESOLUTION = 1024
W_SAMPLES = 10_000


def from_rosinality(
    weights: Mapping[str, Any], latent_avg: Any = None
) -> tuple[GeneratorConfig, State, dict[str, str]]:
    """Rename tensors from rosinality's names to the official ones, and fit them.

    Args:
        weights: tensors under rosinality's names.
        latent_avg: mean of w, which the file stores separately: (w_dim,) or (N, w_dim). If None,
            the mean of 10,000 w is computed here.

    Returns:
        The config, the tensors of `Generator(config)`, and notes on what was drawn here.

    Raises:
        BadCheckpoint: these are not the tensors of a generator.
    """
    theirs = {str(name): value for name, value in weights.items() if isinstance(value, Tensor)}
    notes = {"format": "rosinality checkpoint"}
    state: State = {}
    for name, value in theirs.items():
        if found := re.fullmatch(r"style\.(\d+)\.(weight|bias)", name):
            state[f"mapping.fc{int(found[1]) - 1}.{found[2]}"] = value
    if "input.input" not in theirs or "conv1.conv.weight" not in theirs:
        raise BadCheckpoint("holds no StyleGAN2 generator (no input.input, no conv1.conv.weight)")
    state["synthesis.b4.const"] = theirs["input.input"][0]
    generator = torch.Generator().manual_seed(0)
    drawn = 0
    resolution, block = 4, 0
    while resolution == 4 or f"convs.{2 * block - 2}.conv.weight" in theirs:
        if resolution > MAX_RESOLUTION:
            raise BadCheckpoint(
                f"has more than {MAX_RESOLUTION} pixels; wanted at most {MAX_RESOLUTION}"
            )
        first = resolution == 4
        ours = f"synthesis.b{resolution}"
        layers = [("conv1", "conv1", 0)]
        if not first:
            layers = [
                ("conv0", f"convs.{2 * block - 2}", 2 * block - 1),
                ("conv1", f"convs.{2 * block - 1}", 2 * block),
            ]
        for name, source, index in layers:
            layer = f"{ours}.{name}"
            state[f"{layer}.weight"] = theirs[f"{source}.conv.weight"][0]
            state[f"{layer}.bias"] = theirs[f"{source}.activate.bias"]
            state[f"{layer}.noise_strength"] = theirs[f"{source}.noise.weight"].reshape(())
            noise = theirs.get(f"noises.noise_{index}")
            if noise is None:
                drawn += 1
                noise = torch.randn(1, 1, resolution, resolution, generator=generator)
            state[f"{layer}.noise_const"] = noise[0, 0]
            kernel = theirs.get(f"{source}.conv.blur.kernel")
            state[f"{layer}.resample_filter"] = low_pass() if kernel is None else kernel / 4
            for part in ("weight", "bias"):
                state[f"{layer}.affine.{part}"] = theirs[f"{source}.conv.modulation.{part}"]
        rgb = "to_rgb1" if first else f"to_rgbs.{block - 1}"
        state[f"{ours}.torgb.weight"] = theirs[f"{rgb}.conv.weight"][0]
        state[f"{ours}.torgb.bias"] = theirs[f"{rgb}.bias"].reshape(-1)
        for part in ("weight", "bias"):
            state[f"{ours}.torgb.affine.{part}"] = theirs[f"{rgb}.conv.modulation.{part}"]
        kernel = theirs.get(f"{rgb}.upsample.kernel")
        state[f"{ours}.resample_filter"] = low_pass() if kernel is None else kernel / 4
        resolution, block = resolution * 2, block + 1
    if drawn:
        notes["noise"] = f"{drawn} noise maps were not in the file; drawn here, seed 0"
    config = config_of(state, None)
    if latent_avg is None:
        state["mapping.w_avg"] = torch.zeros(config.w_dim)
        state["mapping.w_avg"] = _mean_w(config, fit_state(config, state))
        notes["w_avg"] = f"not in the file; mean of {W_SAMPLES:,} w drawn here, seed 0"
    else:
        mean = as_tensor(latent_avg)
        # e4e stores one copy per layer.
        state["mapping.w_avg"] = mean if mean.ndim == 1 else mean.reshape(-1, mean.shape[-1])[0]
    return config, fit_state(config, state), notes


@torch.inference_mode()
def _mean_w(config: GeneratorConfig, state: State) -> Tensor:
    generator = Generator(config).eval()
    generator.load_state_dict(state)
    z = torch.randn(W_SAMPLES, config.z_dim, generator=torch.Generator().manual_seed(0))
    return torch.cat([generator.mapping(part) for part in z.split(1000)]).mean(dim=0).clone()
