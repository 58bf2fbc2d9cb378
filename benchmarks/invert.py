"""Measure the speed of e4e at full size: the prepared encoder compared with the plain network.

    python benchmarks/invert.py

Weights are random and have the official shapes (267 M parameters, 72.5 G multiply-adds). All jobs
run in one process, in turn. Prints the median seconds per image, the ratios, and the errors.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import torch
from timing import Job, measure
from torch import nn

from encoders.e4e.inference import PreparedE4e
from encoders.e4e.network import E4e, E4eConfig, StyleHead
from stylegan2_ops.inference import has_fast_bf16
from stylegan2_ops.memory import keep_freed_memory


def lively_encoder() -> E4e:
    """An encoder with random weights and with batch norms that change their input."""
    torch.manual_seed(0)
    encoder = E4e(E4eConfig()).eval().requires_grad_(False)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.2)
    # Scale the heads to standard deviation 1, so that rounding errors are visible in the latents.
    rng = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        w_plus = encoder(torch.rand(2, 3, 256, 256, generator=rng) * 2 - 1)
    scale = torch.cat([w_plus[:, :1], (w_plus - w_plus[:, :1])[:, 1:]], dim=1).std(dim=(0, 2))
    for head, deviation in zip(encoder.styles, scale.clone(), strict=True):
        assert isinstance(head, StyleHead)
        head.linear.weight.mul_(1.0 / deviation)
    encoder.latent_avg.normal_(generator=rng)
    return encoder


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", default="1,4", help="batch sizes, separated by commas")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kept = keep_freed_memory()
    encoder = lively_encoder()
    last = lively_encoder().to(memory_format=torch.channels_last)
    ready = {
        "prepared fp32": PreparedE4e(encoder),
        "prepared fp32 with Winograd": PreparedE4e(encoder, impl="native"),
        "prepared fp32 without Winograd": PreparedE4e(encoder, impl="ref"),
    }
    if has_fast_bf16():
        ready["prepared bf16"] = PreparedE4e(encoder, "bf16")
    print(f"{options.threads} threads, torch {torch.__version__}, freed memory kept: {kept}")
    with torch.inference_mode():
        for batch in (int(b) for b in options.batches.split(",")):
            images = torch.rand(batch, 3, 256, 256) * 2 - 1
            turned = images.contiguous(memory_format=torch.channels_last)
            jobs: dict[str, Job] = {
                "plain fp32": partial(encoder, images),
                "plain fp32 channels-last": partial(last, turned),
                **{name: partial(each, images) for name, each in ready.items()},
                "prepared fp32, w only": partial(ready["prepared fp32"], images, 0),
            }
            taken = measure(jobs, options.runs)
            medians = {name: statistics.median(values) / batch for name, values in taken.items()}
            print(f"\nbatch {batch}: seconds per image, and plain fp32 / this")
            for name, value in medians.items():
                ratio = medians["plain fp32"] / value
                print(f"  {name:<34} {value:8.3f} {ratio:8.2f}")
        images = torch.rand(1, 3, 256, 256) * 2 - 1
        wanted = encoder(images)
        for name, prepared in ready.items():
            error = prepared(images) - wanted
            relative = float(error.norm() / wanted.norm())
            print(f"{name}: largest error {float(error.abs().max()):.2g}, relative {relative:.2g}")


if __name__ == "__main__":
    main()
