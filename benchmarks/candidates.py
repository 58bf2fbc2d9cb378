"""Measure how near candidates are to their inspirations, how sharp they are, and what they cost.

    python benchmarks/candidates.py sfhq/samples
    python benchmarks/candidates.py FOLDER --glob '*_art.jpg' --generator FILE --e4e FILE

It ingests, aligns and inverts the images of a folder, makes each candidate alone, and compares
pictures with the aligned inspiration. Prints one row per inspiration and candidate:

    L1      mean absolute difference of pictures reduced to 64 pixels, in levels of 0 to 255
    Lab     mean distance in CIELAB of the same reduced pictures
    detail  mid-scale detail: root mean square of the lightness between Gaussians of 1 and 4 pixels,
            at 128 pixels

and at the end the means, how often each candidate is nearer than the first one, how often it is at
least as detailed, and the seconds per face.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

import sfhq
from encoders.e4e.pair import Pair
from sfhq.colour import to_lab
from sfhq.parts.photos import load_images
from sfhq.parts.records import Pixels
from sfhq.pipeline.recipe import ModelSettings
from sfhq.synthesis.candidates import CandidateMaker, render
from sfhq.synthesis.latents import LatentPrior
from sfhq.synthesis.tint import Tint
from sfhq.tensors import to_pixels

REDUCED = 64
DETAILED = 128


class Row(NamedTuple):
    """What was measured of one candidate of one inspiration."""

    l1: float
    lab: float
    detail: float


def reduced(pixels: Pixels, size: int) -> Pixels:
    """The picture with `size` pixels per side."""
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BOX))


def compare(art: Pixels, photo: Pixels) -> Row:
    """Measure one candidate's picture against the inspiration, both (H, W, 3) uint8."""
    ours, theirs = reduced(photo, REDUCED), reduced(art, REDUCED)
    apart = np.linalg.norm(to_lab(ours) - to_lab(theirs), axis=-1).mean()
    light = to_lab(reduced(photo, DETAILED))[..., 0]
    band = gaussian_filter(light, 1.0) - gaussian_filter(light, 4.0)
    return Row(
        float(np.abs(ours.astype(float) - theirs).mean()),
        float(apart),
        float(np.sqrt(np.square(band).mean())),
    )


def measure(
    source: Path, names: list[str], models: ModelSettings
) -> tuple[list[tuple[str, dict[str, Row]]], dict[str, float]]:
    """Rows of each inspiration by candidate, and the median seconds per face of each candidate."""
    pair = Pair.load(models)
    prior = LatentPrior.of(pair.generator)
    tint = Tint.of(pair.generator, prior)
    maker = CandidateMaker(pair.generator, pair.encoder, prior, 0, pair.precision, tint)
    found = []
    spent: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        wanted: dict[str, object] = {"ingest.source": str(source)}
        for key in ("generator", "e4e"):
            if (path := getattr(models, key)) is not None:
                wanted[f"models.{key}"] = str(path)
        recipe = sfhq.load_recipe(None, wanted)
        root = Path(folder) / "part"
        sfhq.Pipeline.from_recipe(recipe, ["ingest", "align", "invert"]).run(root)
        part = sfhq.open_part(root)
        for record in part.faces():
            images = load_images(part, [record], "aligned", pair.generator.config.resolution)
            inverted = torch.tensor(part.row("inverted", record))[None]
            rows = {}
            for name in names:
                with torch.inference_mode():
                    started = time.perf_counter()
                    made = maker.make(name, inverted, images, [record.face_id])
                    spent[name].append(time.perf_counter() - started)
                    photo = render(pair.generator, made.w_plus, pair.precision)[0]
                rows[name] = compare(to_pixels(images)[0], photo)
            found.append((record.source, rows))
    return found, {name: float(np.median(seconds)) for name, seconds in spent.items()}


def report(found: list[tuple[str, dict[str, Row]]], names: list[str]) -> None:
    """Print the table and its summary; candidates are compared with the first name."""
    print(f"{'inspiration':<28} {'candidate':<10} {'L1':>7} {'Lab':>7} {'detail':>7}")
    for source, rows in found:
        for name in names:
            row = rows[name]
            print(f"{source:<28} {name:<10} {row.l1:7.2f} {row.lab:7.2f} {row.detail:7.2f}")
    first = names[0]
    for name in names:
        mean = Row(*np.mean([rows[name] for _, rows in found], axis=0).tolist())
        line = f"{'mean':<28} {name:<10} {mean.l1:7.2f} {mean.lab:7.2f} {mean.detail:7.2f}"
        if name != first:
            pairs = [(rows[name], rows[first]) for _, rows in found]
            nearer = sum(a.l1 < b.l1 and a.lab < b.lab for a, b in pairs)
            sharp = sum(a.detail >= b.detail for a, b in pairs)
            line += f"  nearer than {first} in {nearer} of {len(pairs)}, as detailed in {sharp}"
        print(line)


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--glob", default="*.jpg", help="which files of the folder")
    parser.add_argument("--candidates", default="strict,low", help="names, separated by commas")
    parser.add_argument("--generator", type=Path)
    parser.add_argument("--e4e", type=Path)
    given = parser.parse_args()
    names = given.candidates.split(",")
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(given.folder.glob(given.glob)):
            shutil.copy(path, folder)
        models = ModelSettings(generator=given.generator, e4e=given.e4e)
        found, seconds = measure(Path(folder), names, models)
    report(found, names)
    for name, taken in seconds.items():
        print(f"{name}: {taken:.3f} s per face (median, without its last rendering)")


if __name__ == "__main__":
    main()
