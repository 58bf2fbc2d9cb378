"""Measure the training of generators and encoders: images per second by phase.

    python benchmarks/training.py
    python benchmarks/training.py --precision bf16 --seconds 60
    python benchmarks/training.py --device cuda --precision bf16 --batch 64

It trains on random smooth pictures, whose content does not change the speed, with the sizes of the
embedded pack. Each phase takes some steps to warm up, then as many as fit in --seconds. "latents"
is the part of e4e's training without rendering, "rendered" the part with it, with all deltas.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from encoders.e4e.irse import BackboneConfig
from encoders.e4e.network import E4eConfig
from encoders.e4e.training import E4eRecipe, E4eTraining
from sfhq.training.features import load_feature_pyramid
from sfhq.training.generator.recipe import GeneratorRecipe
from sfhq.training.generator.training import GeneratorTraining
from sfhq.training.photos import Photos
from sfhq.training.precision import check_precision
from stylegan2_ops.generator import Generator, GeneratorConfig
from stylegan2_ops.memory import keep_freed_memory

WARM_UP = 6  # steps; on a GPU the fourth is recorded
PHOTOS = 300


def pictures(size: int) -> Photos:
    """Random smooth pictures."""
    coarse = torch.rand(PHOTOS, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    names = tuple(f"{i}.png" for i in range(PHOTOS))
    return Photos((pixels.clamp(0, 1) * 255).to(torch.uint8), names)


def speed(step: Callable[[], dict[str, Tensor]], batch: int, seconds: float, device: str) -> float:
    """Images per second of a step, after some steps to warm up."""

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    for _ in range(WARM_UP):
        step()
    wait()
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        step()
        steps += 1
        if steps % 8 == 0:
            wait()  # no more than eight steps ahead of the device
    wait()
    return steps * batch / (time.perf_counter() - started)


def sizes_of(options: argparse.Namespace, resolution: int) -> GeneratorConfig:
    """The generator to measure, at a resolution."""
    return GeneratorConfig(
        resolution,
        channel_base=options.channel_base,
        channel_max=options.channel_max,
        mapping_layers=1,
    )


def generators(options: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """Name and speed of each phase of a generator's training."""
    sizes = [r for r in sizes_of(options, options.resolution).resolutions if r >= 32]
    photos = pictures(options.resolution)
    for name, start in (("photos alone", 10**9), ("adversarial", 0)):
        for size in sizes:
            config = sizes_of(options, size)
            recipe = GeneratorRecipe(
                config,
                ((size, 10**9),),
                batch=options.batch,
                drawn=options.batch // 2,
                adversarial_from=start,
                precision=options.precision,
            )
            training = GeneratorTraining(recipe, photos, load_feature_pyramid(), options.device)
            rate = speed(training.step, options.batch, options.seconds, options.device)
            yield f"generator {size} px, {name}", rate


def encoders(options: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """Name and speed of each part of an encoder's training."""
    config = sizes_of(options, options.resolution)
    generator = Generator(config).eval().requires_grad_(False)
    sizes = E4eConfig(
        config.num_ws,
        options.resolution,
        config.w_dim,
        96,
        BackboneConfig((24, 48, 96, 192), (1, 2, 2, 1)),
    )
    for name, start in (("latents", 1.0), ("rendered", 0.0)):
        recipe = E4eRecipe(
            sizes, 10**9, options.batch, rendered_from=start, precision=options.precision
        )
        training = E4eTraining(
            recipe,
            generator,
            pictures(options.resolution),
            load_feature_pyramid(),
            device=options.device,
        )
        training.images = 900_000_000  # all deltas are active
        rate = speed(training.step, options.batch, options.seconds, options.device)
        yield f"e4e {options.resolution} px, {name}", rate


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--channel-base", type=int, default=4096)
    parser.add_argument("--channel-max", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each phase")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    check_precision(options.precision, options.device)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    place = torch.cuda.get_device_name() if options.device != "cpu" else "CPU"
    threads = torch.get_num_threads()
    print(f"{place}, {threads} threads, {options.precision}, batch {options.batch}: images/s")
    for rates in (generators(options), encoders(options)):
        for name, rate in rates:
            print(f"  {name:<36} {rate:8.1f}", flush=True)


if __name__ == "__main__":
    main()
