"""Train a generator and its encoder in a given time on the machine at hand, and judge them.

    python benchmarks/train_pack.py --device cuda --minutes 10 --batch 64 --out runs/pack \
        photos/aligned portraits/aligned --pairs heads
    python benchmarks/train_pack.py --device cpu --minutes 1 --out runs/try photos/aligned

It measures how many images a second this machine trains, plans phases that fit, and calls the
commands `sfhq train generator`, `e4e`, `pack` and `evaluate`, which it prints. Two thirds of the
time go to the generator; all of it with `--encoder hybrid`, which reads its pictures afterwards.
With `--person N` the e4e is then taught to keep the person, on N images; that is not in the time.
What stops can be started again with the same words: each command resumes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

GENERATOR_SHARE = 0.66
SHARES = {64: 0.0, 128: 0.35, 256: 0.65}  # of a generator's time, by resolution
FRESH = {64: 0.25, 128: 0.35, 256: 0.4}  # where there are no weights to start from
SETTLE = 60.0  # seconds in which a GPU's libraries load and kernels are compiled and chosen
RENDERED_FROM = 0.35  # of the encoder's images; before that its steps are faster


def call(*words: object) -> str:
    """Run an sfhq command and give back what it printed."""
    line = [str(w) for w in words]
    print("sfhq " + " ".join(line), flush=True)
    done = subprocess.run(
        [sys.executable, "-c", "from cli import main; main()", *line],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def speeds(options: argparse.Namespace) -> dict[str, float]:
    """Images per second by phase, as `benchmarks/training.py` prints them."""
    words = ["--device", options.device, "--precision", options.precision]
    words += ["--batch", str(options.batch), "--seconds", str(options.measure)]
    script = Path(__file__).with_name("training.py")
    done = subprocess.run(
        [sys.executable, str(script), *words], stdout=subprocess.PIPE, text=True, check=True
    )
    print(done.stdout, flush=True)
    lines = (line.rsplit(None, 1) for line in done.stdout.splitlines()[1:])
    return {name.strip(): float(rate) for name, rate in lines}


def plan(found: dict[str, float], seconds: float, fresh: bool) -> dict[int, int]:
    """Images of each resolution that fit into some seconds."""
    shares = FRESH if fresh else SHARES
    return {
        size: max(int(found[f"generator {size} px, adversarial"] * seconds * share), 64)
        for size, share in shares.items()
        if share
    }


def main() -> None:
    """Train, judge and pack."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", nargs="+", help="folders of aligned faces")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--minutes", type=float, default=10.0, help="of all training together")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--measure", type=float, default=3.0, help="seconds of each measurement")
    parser.add_argument("--from", dest="start", help="generator to go on from, of 128 pixels")
    parser.add_argument("--codes", help="codes.pt of the run of --from, if of the same photos")
    parser.add_argument("--encoder", choices=["e4e", "hybrid"], default="e4e")
    parser.add_argument("--encoder-from", help="e4e to go on from")
    parser.add_argument("--identity", action="store_true", help="as of sfhq train e4e")
    parser.add_argument("--person", type=int, help="images of sfhq train person on the e4e")
    parser.add_argument("--input-size", default="256", help="pixels of the encoder's input")
    parser.add_argument("--pairs", action="append", default=[], help="a rendered part with styles")
    parser.add_argument("--code-dim", type=int, default=192)
    parser.add_argument("--count", type=int, default=240, help="samples to judge")
    options = parser.parse_args()
    if options.person is not None and options.encoder == "hybrid":
        parser.error("--person stands on an e4e; leave it out, or --encoder hybrid")
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "plan.json"
    if not path.is_file():
        found = speeds(options)
        settle = 0.0 if options.device == "cpu" else SETTLE
        seconds = max(options.minutes * 60 - settle, options.minutes * 30)
        share = GENERATOR_SHARE if options.encoder == "e4e" else 1.0
        phases = plan(found, seconds * share, options.start is None)
        left = seconds * (1 - share)
        cost = RENDERED_FROM / found["e4e 256 px, latents"]
        cost += (1 - RENDERED_FROM) / found["e4e 256 px, rendered"]
        path.write_text(json.dumps({"phases": phases, "images": max(int(left / cost), 64)}))
    planned = json.loads(path.read_text())
    steps = ",".join(f"{size}:{images}" for size, images in planned["phases"].items())
    shared = (
        "--device",
        options.device,
        "--precision",
        options.precision,
        "--batch",
        options.batch,
    )
    generator, encoder = options.out / "generator", options.out / options.encoder
    began = time.monotonic()
    total = sum(planned["phases"].values())
    call(
        *("train", "generator", *options.folders, "--out", generator, *shared),
        *("--resolution", 256, "--phases", steps, "--code-dim", options.code_dim),
        *("--adversarial-from", total // 20 if options.start else total // 4),
        *(("--from", options.start) if options.start else ()),
        *(("--codes", options.codes) if options.codes else ()),
    )
    weights, codes = generator / "generator.safetensors", generator / "codes.pt"
    stands_on = ("--generator", weights, "--codes", codes)
    people = [word for pairs in options.pairs for word in ("--pairs", pairs)]
    if options.encoder == "hybrid":
        words = ("--out", encoder, "--device", options.device, *stands_on, *people)
        call("train", "hybrid", *options.folders, *words)
    else:
        call(
            *("train", "e4e", *options.folders, "--out", encoder, *shared, *stands_on, *people),
            *("--images", planned["images"], "--input-size", options.input_size),
            *(("--from", options.encoder_from) if options.encoder_from else ()),
            *(("--identity",) if options.identity else ()),
        )
    if options.person is not None:
        base, encoder = encoder, options.out / "person"
        words = ("--generator", weights, "--e4e", base / "e4e.safetensors")
        words += ("--images", options.person, *people)
        call("train", "person", *options.folders, "--out", encoder, *shared, *words)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes of training", flush=True)
    files = (
        "--generator",
        generator / "generator.safetensors",
        "--e4e",
        encoder / "e4e.safetensors",
    )
    print(call("train", "pack", *files, "--out", options.out / "pack"))
    for psi in (1.0, 0.7):
        judged = ("--psi", psi, "--count", options.count)
        print(call("train", "evaluate", *options.folders, *files, *judged), flush=True)


if __name__ == "__main__":
    main()
