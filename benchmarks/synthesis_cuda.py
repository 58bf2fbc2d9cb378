"""The part of `benchmarks/synthesis.py` that measures a GPU.

Times are of device events around whole renderings, all jobs in turn, the median over --runs rounds.
The peer's kernels are compiled when it renders for the first time.
"""

from __future__ import annotations

import importlib
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import Job
from torch import Tensor
from torch.utils import cpp_extension

from stylegan2_ops.generator import Generator, SynthesisNetwork, channels_at
from stylegan2_ops.inference import PreparedSynthesis

Render = Callable[[Tensor], Tensor]
PRODUCT = 8192  # rows and columns of the matrix product that stands for the card's throughput
REPEATS = 3  # renderings between two events


def multiplications(network: SynthesisNetwork) -> float:
    """Multiplications of an image's 3x3 convolutions, transposed ones counted as they are."""
    config = network.config
    total, width, last = 0, channels_at(4, config.channel_base, config.channel_max), 4
    for resolution in network.resolutions:
        out = channels_at(resolution, config.channel_base, config.channel_max)
        total += 9 * out * out * resolution**2
        total += 9 * width * out * last**2 if resolution > 4 else 0
        width, last = out, resolution
    return float(total)


def seconds(jobs: dict[str, Job], runs: int) -> dict[str, float]:
    """Median seconds of each job on the device."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(runs + 3):
        for name, job in jobs.items():
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            for _ in range(REPEATS):
                job()
            last.record()
            torch.cuda.synchronize()
            if turn >= 3:
                taken[name].append(first.elapsed_time(last) / 1e3 / REPEATS)
    return {name: statistics.median(values) for name, values in taken.items()}


def peer(folder: Path, resolution: int, halves: int) -> Render:
    """A job of a checkout of another implementation; `halves` resolutions are in float16."""
    plain = cpp_extension.load

    def load(name: str, *args: Any, **words: Any) -> Any:
        module = plain(name, *args, **words)
        sys.modules[name] = module  # where the peer looks for it; torch no longer puts it there
        return module

    cpp_extension.load = load
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module("training.networks_stylegan2")
    finally:
        sys.path.pop(0)
    clamp = 256 if halves else None
    network = module.Generator(512, 0, 512, resolution, 3, num_fp16_res=halves, conv_clamp=clamp)
    network = network.eval().requires_grad_(False)
    render: Render = partial(network.cuda().synthesis, noise_mode="const")
    return render


def run(generator: Generator, batches: str, runs: int, folder: Path | None) -> None:
    """Print seconds per image, images per second and ratios."""
    cuda, config = torch.device("cuda"), generator.config
    probe = torch.randn(1, config.num_ws, config.w_dim)
    wanted = generator.synthesis(probe)
    network = generator.to(cuda).synthesis
    typed: dict[str, Render] = {
        "plain network fp32": network,
        "prepared fp32": PreparedSynthesis(network, "fp32"),
        "prepared bf16": PreparedSynthesis(network, "bf16"),
        "prepared bf16, torch's operators": PreparedSynthesis(network, "bf16", "ref"),
    }
    last = torch.channels_last
    plain = Generator(config).to(cuda).to(memory_format=last).requires_grad_(False).eval()
    with torch.no_grad():
        plain.load_state_dict(generator.state_dict())

    def autocast(w_plus: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            images: Tensor = plain.synthesis(w_plus)
        return images

    typed["plain network bf16"] = autocast
    if folder is not None:
        try:
            typed["peer, its default: fp16 in 4 resolutions"] = peer(folder, config.resolution, 4)
            typed["peer fp32"] = peer(folder, config.resolution, 0)
        except Exception as error:
            print(f"{folder}: {type(error).__name__}: {error}")
    work = 2 * multiplications(network)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {config.resolution} px")
    with torch.inference_mode():
        a, b = (torch.randn(PRODUCT, PRODUCT, device=cuda).bfloat16() for _ in range(2))
        rate = 2 * PRODUCT**3 / seconds({"product": lambda: a @ b}, 10)["product"]
        print(f"matrix product in bf16, {PRODUCT} x {PRODUCT}: {rate / 1e12:.0f} TFLOP/s")
        for name in ("prepared fp32", "prepared bf16"):
            off = typed[name](probe.to(cuda)).float().cpu() - wanted
            print(f"{name}: relative error {float(off.norm() / wanted.norm()):.2g}")
        for batch in (int(b) for b in batches.split(",")):
            w_plus = torch.randn(batch, config.num_ws, config.w_dim, device=cuda)
            jobs: dict[str, Job] = {name: partial(job, w_plus) for name, job in typed.items()}
            try:
                found = seconds(jobs, runs)
            except Exception as error:  # a peer that cannot be compiled here
                print(f"{type(error).__name__}: {error}")
                jobs = {k: v for k, v in jobs.items() if not k.startswith("peer")}
                found = seconds(jobs, runs)
            ours = found["prepared bf16"]
            print(
                f"batch {batch}: ms an image, images/s, times prepared bf16, share of the product"
            )
            for name, value in found.items():
                share = work * batch / value / rate
                print(
                    f"  {name:<42} {value / batch * 1e3:8.3f} {batch / value:9.1f} "
                    f"{value / ours:6.2f} {share:6.1%}",
                    flush=True,
                )
