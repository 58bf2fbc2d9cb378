"""Measure the time of the pipeline in addition to its networks, and its memory.

    python benchmarks/spine.py --faces 1000
    python benchmarks/spine.py --memory 1000,20000

The first command runs sample, embed and dedup with the embedded pack. It prints the time in
networks, in PNG files and in everything else (records, shards, hashing, scheduling), and the ratio
of everything else to the networks. The second command runs the same stages with tiny networks, in
one process per size, and prints the peak memory of each.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sfhq.parts.part
import sfhq.parts.photos
from annotate.detect import Detect
from curation.dedup import Dedup
from encoders.e4e.inference import PreparedE4e
from encoders.e4e.irse import BackboneConfig
from encoders.e4e.loading import load_encoder
from encoders.e4e.network import E4e, E4eConfig
from encoders.embed import DlibFaceEncoder, Embed
from sfhq.faces.detector import FaceDetector
from sfhq.parts.part import Part
from sfhq.pipeline.engine import run_stage
from sfhq.synthesis.latents import LatentPrior
from sfhq.synthesis.sample import Sample
from sfhq.weights.checkpoints import load_generator
from stylegan2_ops.generator import Generator, GeneratorConfig
from stylegan2_ops.inference import PreparedSynthesis


class Clock:
    """Sums the time in wrapped functions; only the outermost of nested calls counts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.inside = False

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with its time added under a name."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self.inside:
                return function(*args, **kwargs)
            self.inside = True
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.inside = False
                spent = time.perf_counter() - started
                self.seconds[name] = self.seconds.get(name, 0.0) + spent

        return timed


def measure_cost(faces: int) -> dict[str, float]:
    """Seconds in networks, in PNG files and in the rest of one run, and the ratio of the rest."""
    clock = Clock()
    generator, generator_digest = load_generator()
    encoder, encoder_digest = load_encoder(None, generator.config.num_ws)
    prior = LatentPrior.of(generator)
    places: list[tuple[str, Any, str]] = [
        ("networks", generator.mapping, "forward"),
        ("networks", encoder, "forward"),
        ("networks", PreparedSynthesis, "__call__"),
        ("networks", PreparedE4e, "__call__"),
        ("networks", DlibFaceEncoder, "__call__"),
        ("png", sfhq.parts.part, "write_image"),
        ("png", sfhq.parts.photos, "image_bytes"),
        ("networks", FaceDetector, "detect"),
    ]
    for kind, owner, name in places:
        setattr(owner, name, clock.wrap(kind, getattr(owner, name)))
    object.__setattr__(prior, "distance", clock.wrap("networks", prior.distance))
    with tempfile.TemporaryDirectory() as folder:
        part = Part.create(Path(folder) / "part")
        started = time.perf_counter()
        run_stage(Sample(generator, generator_digest, encoder, encoder_digest, prior, faces), part)
        run_stage(Detect(FaceDetector()), part)
        run_stage(Embed(DlibFaceEncoder()), part)
        run_stage(Dedup(), part)
        total = time.perf_counter() - started
    rest = total - clock.seconds["networks"] - clock.seconds["png"]
    return {
        "faces": faces,
        "networks_s": round(clock.seconds["networks"], 2),
        "png_s": round(clock.seconds["png"], 2),
        "rest_s": round(rest, 2),
        "rest_to_networks": round(rest / clock.seconds["networks"], 4),
    }


class RandomVectors:
    """An encoder whose random vectors are far apart, so that dedup keeps all faces."""

    name = "random"
    digest = "none"
    reads_faces = False

    def __call__(self, images: list[Any], faces: Any = None) -> Any:
        """(N, 128) float32 vectors, seeded by the pixels."""
        rng = np.random.default_rng(int(sum(int(i.sum()) for i in images)))
        return rng.standard_normal((len(images), 128)).astype(np.float32)


def measure_memory(faces: int) -> dict[str, float]:
    """Peak memory of this process in MB after a run with tiny networks."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    generator = Generator(GeneratorConfig(32, 512, 512, 256, 8, 1)).eval().requires_grad_(False)
    backbone = BackboneConfig((8, 8, 8, 8), (1, 1, 1, 1))
    encoder = E4e(E4eConfig(8, 64, 512, 8, backbone)).eval().requires_grad_(False)
    prior = LatentPrior.of(generator, 1024)
    with tempfile.TemporaryDirectory() as folder:
        part = Part.create(Path(folder) / "part")
        run_stage(Sample(generator, "tiny", encoder, "tiny", prior, faces, batch=32), part)
        run_stage(Embed(RandomVectors()), part)
        run_stage(Dedup(0.99), part)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"faces": faces, "peak_mb": round(peak, 1)}


def main() -> None:
    """Print the figures as JSON lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--faces", type=int, help="measure the time with this many faces")
    parser.add_argument("--memory", help="measure memory; numbers of faces, separated by commas")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measure_memory(options.one)))
        return
    if options.faces is not None:
        print(json.dumps(measure_cost(options.faces)), flush=True)
    for size in options.memory.split(",") if options.memory else ():
        subprocess.run([sys.executable, __file__, "--one", size], check=True)


if __name__ == "__main__":
    main()
