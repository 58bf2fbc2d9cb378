"""Whether a generator makes the people that its photos show: shares of rare looks, faces found.

    python benchmarks/shares.py photos/aligned t2i/aligned --count 500
    python benchmarks/shares.py photos/aligned --generator runs/g1/generator.safetensors --psi 0.7

The label network reads samples and held-out photos alike. Prints, a look a row, its share of the
samples, of the photos, and one over the other; then in how many samples a face is found.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import annotate
from sfhq.faces.detector import FaceDetector, best_face
from sfhq.parts.records import Pixels
from sfhq.synthesis.candidates import render
from sfhq.training.photos import load_photos
from sfhq.weights.checkpoints import load_generator
from stylegan2_ops.generator import truncate

BATCH = 16
LOOKS: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "glasses": lambda v: v["glasses"] != "none",
    "hat": lambda v: v["hat"] != "none",
    "beard": lambda v: v["facial_hair"] in ("full beard", "goatee", "moustache"),
    "grey hair": lambda v: v["hair_colour"] == "grey",
    "child": lambda v: v["years"] < 13,
    "65 or older": lambda v: v["years"] >= 65,
    "dark skin": lambda v: v["skin_tone"] in ("brown", "dark"),
    "male": lambda v: v["male"] > 0.5,
}


def shares(photos: Iterable[Pixels]) -> tuple[dict[str, float], int]:
    """Share of each look, and of how many pictures."""
    labeller = annotate.Labeller.load()
    rows = [labeller(photo, aligned=True)[0].looks for photo in photos]
    return {name: float(np.mean([has(r) for r in rows])) for name, has in LOOKS.items()}, len(rows)


def main() -> None:
    """Draw, read and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="folders of aligned photos")
    parser.add_argument("--generator", type=Path, help="default: embedded pack")
    parser.add_argument("--psi", type=float, default=1.0)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--photos", type=int, default=500, help="most photos to read")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    generator, digest = load_generator(given.generator)
    photos = load_photos(tuple(given.folders), 256)
    chosen = np.linspace(0, len(photos) - 1, min(given.photos, len(photos))).astype(int)
    wanted, number = shares(photos.pixels[int(i)].permute(1, 2, 0).numpy() for i in chosen)
    rng = torch.Generator().manual_seed(given.seed)
    z = torch.randn(given.count, generator.config.z_dim, generator=rng)
    made: list[Pixels] = []
    with torch.inference_mode():
        for lot in z.split(BATCH):
            w = generator.broadcast(generator.mapping(lot))
            made += list(render(generator, truncate(w, generator.latent_avg, given.psi)))
    found, _ = shares(made)
    print(f"generator {digest[:12]}, {len(made)} samples at psi {given.psi}; {number} photos\n")
    print("| look | samples | photos | ratio |\n|---|---|---|---|")
    for name, share in wanted.items():
        ratio = f"{found[name] / share:.2f}" if share else ""
        print(f"| {name} | {found[name]:.3f} | {share:.3f} | {ratio} |")
    detector = FaceDetector()
    seen = sum(best_face(detector.detect(Image.fromarray(p))) is not None for p in made)
    print(f"\na face is found in {seen} of {len(made)} samples")


if __name__ == "__main__":
    main()
