"""Measure the speed of rendering, compared with that of the convolutions alone.

    python benchmarks/synthesis.py --resolution 1024
    python benchmarks/synthesis.py --resolution 1024 --peer ../stylegan2-ada-pytorch
    python benchmarks/synthesis.py --kernels
    python benchmarks/synthesis.py --device cuda --peer ../stylegan3

With SFHQ_CPU=avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 in the environment, a CPU with
AVX-512 plays one without.

It measures the convolutions alone, the plain network of this project, the prepared ones, and
another implementation from a checkout on this machine (--peer). All jobs run in turn, so that a
change of the machine's load affects all of them. Weights are random and have the official shapes.
Prints the median seconds per image over --runs rounds, and the ratios; --json prints JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import synthesis_cuda
import torch
import torch.nn.functional as F
from timing import Job, measure
from torch import Tensor

from stylegan2_ops.bias_act import bias_act
from stylegan2_ops.generator import Generator, GeneratorConfig, channels_at
from stylegan2_ops.inference import PreparedSynthesis, has_fast_bf16
from stylegan2_ops.memory import keep_freed_memory
from stylegan2_ops.upfirdn2d import make_filter, upfirdn2d


def lively_generator(resolution: int) -> Generator:
    """A generator of config-f with random weights, noise and biases."""
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(resolution=resolution)).eval().requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.1)
        elif name.endswith("bias") and "affine" not in name:
            parameter.normal_(0, 0.1)
    return generator


def convolutions(config: GeneratorConfig, batch: int, dtype: torch.dtype, last: bool) -> Job:
    """A job that runs each 3x3 convolution of the synthesis network once, through torch."""
    layout = torch.channels_last if last else torch.contiguous_format
    jobs: list[Job] = []

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape).to(dtype).contiguous(memory_format=layout)

    resolution, width = 4, channels_at(4, config.channel_base, config.channel_max)
    while resolution <= config.resolution:
        out = channels_at(resolution, config.channel_base, config.channel_max)
        if resolution > 4:
            half = resolution // 2
            x, weight = draw(batch, width, half, half), draw(width, out, 3, 3)
            jobs.append(partial(F.conv_transpose2d, x, weight, stride=2))
        x, weight = draw(batch, out, resolution, resolution), draw(out, out, 3, 3)
        jobs.append(partial(F.conv2d, x, weight, padding=1))
        resolution, width = resolution * 2, out

    def run() -> None:
        for job in jobs:
            job()

    return run


WAYS: dict[str, bool | None] = {"": None, " with Winograd": True, " without Winograd": False}


def kernels(config: GeneratorConfig) -> dict[str, tuple[Job, Job]]:
    """The operators outside of convolutions: by compiled kernel, and by torch's operators."""
    size, width = config.resolution, channels_at(config.resolution, config.channel_base, 512)
    jobs: dict[str, tuple[Job, Job]] = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(1, width, size, size).contiguous(memory_format=layout)
        wide = torch.randn(1, width, size + 1, size + 1).contiguous(memory_format=layout)
        bias, name = torch.randn(width), str(layout).removeprefix("torch.")
        fir = make_filter()
        jobs[f"bias_act, {name}"] = (
            partial(bias_act, x, bias, impl="native"),
            partial(bias_act, x, bias, impl="ref"),
        )
        blur = partial(upfirdn2d, wide, fir, padding=(1, 1, 1, 1), gain=4.0)
        jobs[f"upfirdn2d, {name}"] = (partial(blur, impl="native"), partial(blur, impl="ref"))
        small = torch.randn(1, 3, size // 2, size // 2).contiguous(memory_format=layout)
        up = partial(upfirdn2d, small, fir, up=2, padding=(2, 1, 2, 1), gain=4.0)
        jobs[f"upsample2d of colours, {name}"] = (
            partial(up, impl="native"),
            partial(up, impl="ref"),
        )
    return jobs


PEER = """
import importlib, sys, torch
sys.path.insert(0, sys.argv[1])
resolution, batch, threads = (int(word) for word in sys.argv[2:])
torch.set_num_threads(threads)
try:
    module = importlib.import_module("training.networks_stylegan2")
except ModuleNotFoundError:
    module = importlib.import_module("training.networks")
network = module.Generator(512, 0, 512, resolution, 3).eval().requires_grad_(False)
w_plus = torch.randn(batch, network.synthesis.num_ws, 512)
with torch.inference_mode():
    for line in sys.stdin:
        network.synthesis(w_plus, noise_mode="const")
        print("done", flush=True)
"""


def peer_synthesis(folder: Path, resolution: int, batch: int) -> Job:
    """A job that renders with a checkout that has training/networks.py or networks_stylegan2.py.

    It runs in its own process, as its users run it, because this project's setting to keep freed
    memory would make it faster.
    """
    words = [str(folder), str(resolution), str(batch), str(torch.get_num_threads())]
    process = subprocess.Popen(
        [sys.executable, "-c", PEER, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    ask, answer = process.stdin, process.stdout

    def run() -> None:
        ask.write("go\n")
        ask.flush()
        if answer.readline() != "done\n":
            raise SystemExit(
                f"{folder}: rendering failed; to see why, run there: "
                "python -c 'import training.networks'"
            )

    return run


def accuracy(generator: Generator, w_plus: Tensor) -> dict[str, float]:
    """Errors of the prepared networks, on images scaled like photographs.

    Images are scaled so that 2.5 standard deviations are 1.
    """
    wanted = generator.synthesis(w_plus)
    scale = 0.4 / float(wanted.std())
    errors = {}
    for name, precision, winograd in (
        ("fp32 with Winograd", "fp32", True),
        ("fp32 without Winograd", "fp32", False),
        ("bf16 with Winograd", "bf16", True),
    ):
        render = PreparedSynthesis(
            generator.synthesis,
            "bf16" if precision == "bf16" else "fp32",
            "native",
            winograd,
        )
        error = (render(w_plus) - wanted) * scale
        errors[f"{name}: largest error"] = float(error.abs().max())
        errors[f"{name}: relative error"] = float(error.norm() / (wanted * scale).norm())
        mse = float(error.square().mean())
        errors[f"{name}: PSNR dB"] = float(10 * torch.log10(torch.tensor(4.0 / mse)))
    return errors


def memory_above_weights(resolution: int, batch: int, precision: str) -> float:
    """Memory in MB that rendering needs in addition to the prepared weights, in a new process."""
    code = f"""
import ctypes, gc, torch
from synthesis import lively_generator
from stylegan2_ops.inference import PreparedSynthesis
from stylegan2_ops.memory import keep_freed_memory
def kilobytes(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field + ":"))
render = PreparedSynthesis(lively_generator({resolution}).synthesis, {precision!r}, "native")
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
keep_freed_memory()
w = torch.randn({batch}, render.config.num_ws, 512)
with open("/proc/self/clear_refs", "w") as peaks:
    peaks.write("5")  # reset the peak, which preparing raised
before = kilobytes("VmRSS")
render(w)
print((kilobytes("VmHWM") - before) * 1024 / 1e6)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    return float(done.stdout)


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--batches", default="1,4", help="batch sizes, separated by commas")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--peer", type=Path, help="a checkout of another implementation")
    parser.add_argument(
        "--default-malloc", action="store_true", help="let the C library return freed memory"
    )
    parser.add_argument(
        "--compile", action="store_true", help="also measure the plain network with torch.compile"
    )
    parser.add_argument(
        "--kernels", action="store_true", help="measure the other compiled kernels instead"
    )
    parser.add_argument("--device", default="cpu", help="cuda measures a GPU instead")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.device != "cpu":
        synthesis_cuda.run(
            lively_generator(options.resolution), options.batches, options.runs, options.peer
        )
        return
    torch.set_num_threads(options.threads)
    kept = not options.default_malloc and keep_freed_memory()
    if options.kernels:
        with torch.inference_mode():
            for name, pair in kernels(GeneratorConfig(resolution=options.resolution)).items():
                taken = measure(dict(zip(("kernel", "torch"), pair, strict=True)), options.runs)
                ours, theirs = (1e3 * statistics.median(values) for values in taken.values())
                print(f"{name:<42} kernel {ours:8.1f} ms, torch {theirs:8.1f} ms")
        return
    generator = lively_generator(options.resolution)
    report: dict[str, Any] = {
        "resolution": options.resolution,
        "threads": options.threads,
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "freed memory kept": kept,
        "runs": options.runs,
        "batches": {},
    }
    precisions = ["fp32"] + (["bf16"] if has_fast_bf16() else [])
    with torch.inference_mode():
        for batch in (int(b) for b in options.batches.split(",")):
            w_plus = torch.randn(batch, generator.config.num_ws, 512)
            jobs: dict[str, Job] = {}
            for precision in precisions:
                dtype = torch.bfloat16 if precision == "bf16" else torch.float32
                for last, layout in ((True, "channels-last"), (False, "NCHW")):
                    jobs[f"convolutions {precision} {layout}"] = convolutions(
                        generator.config, batch, dtype, last
                    )
                for name, winograd in WAYS.items():
                    render = PreparedSynthesis(
                        generator.synthesis,
                        "bf16" if precision == "bf16" else "fp32",
                        "native",
                        winograd,
                    )
                    jobs[f"prepared {precision}{name}"] = partial(render, w_plus)
            plain = PreparedSynthesis(generator.synthesis, "fp32", "ref")
            jobs["prepared fp32 without kernels"] = partial(plain, w_plus)
            jobs["plain network fp32"] = partial(generator.synthesis, w_plus)
            if options.compile:
                compiled = torch.compile(generator.synthesis)
                jobs["plain network, torch.compile"] = partial(compiled, w_plus)
            if options.peer:
                jobs["peer fp32"] = peer_synthesis(options.peer, options.resolution, batch)
            taken = measure(jobs, options.runs)
            medians = {name: statistics.median(values) / batch for name, values in taken.items()}
            ratios = {}
            for precision in precisions:
                ours = medians[f"prepared {precision}"]
                floor = min(
                    medians[f"convolutions {precision} {layout}"]
                    for layout in ("channels-last", "NCHW")
                )
                ratios[f"{precision} / convolutions alone"] = ours / floor
                for name in (" with Winograd", " without Winograd"):
                    other = medians[f"prepared {precision}{name}"]
                    ratios[f"{precision}{name} / convolutions alone"] = other / floor
                ratios[f"plain network / {precision}"] = medians["plain network fp32"] / ours
                if options.peer:
                    ratios[f"peer / {precision}"] = medians["peer fp32"] / ours
            report["batches"][batch] = {"seconds per image": medians, "ratios": ratios}
        report["accuracy"] = accuracy(generator, torch.randn(1, generator.config.num_ws, 512))
    report["MB in addition to the weights"] = {
        f"{precision} batch {batch}": memory_above_weights(options.resolution, batch, precision)
        for precision in precisions
        for batch in (1, 4)
    }
    if options.json:
        print(json.dumps(report, indent=1))
        return
    print(
        f"{options.resolution} px, {options.threads} threads, torch {torch.__version__}, "
        f"{report['cpu']}, freed memory kept: {kept}, medians of {options.runs}"
    )
    for batch, found in report["batches"].items():
        print(f"\nbatch {batch}: seconds per image")
        for name, value in found["seconds per image"].items():
            print(f"  {name:<42} {value:8.3f}")
        print(f"batch {batch}: ratios")
        for name, value in found["ratios"].items():
            print(f"  {name:<42} {value:8.2f}")
    for title in ("accuracy", "MB in addition to the weights"):
        print(f"\n{title}")
        for name, value in report[title].items():
            print(f"  {name:<42} {value:12.4g}")


if __name__ == "__main__":
    main()
