"""Measure how much of a person candidates keep, on rendered portraits whose truth is known.

    sfhq render heads --count 200 --seed 700000 --style oil,cel,watercolour,pencil,...
    python benchmarks/person.py heads --candidates strict,low,psi-0.6 --faces 100 --sheet keep.png

The art of each head is inverted and brought to life by each candidate. Take heads that no network
was trained on: years and looks are what the label network reads. scikit-image comes with
face-alignment, `pip install 'sfhq[landmark]'`. Prints, a candidate a row:

    auc       area under the curve of the recognition cosine (dlib's network): a candidate and the
              true photograph of its own head against those of other heads of the same sex
    cosine    mean recognition cosine of own pairs, of pairs of others
    found     share of candidates in which dlib finds a face
    skin      median difference of the skin's colour from the truth's, CIEDE2000
    hair      the same of the hair's
    years     mean difference of the age that the label network reads, in years
    looks     share of glasses, hats and beards of the truth that the candidate has, and of what it
              has that the truth has too
    seconds   per face, candidate alone
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage.color import deltaE_ciede2000
from sklearn.metrics import roc_auc_score

import annotate
from encoders.e4e.pair import Pair
from encoders.features.recognition import describe_faces
from sfhq.parts.records import Pixels
from sfhq.pipeline.recipe import ModelSettings
from sfhq.synthesis.candidates import CandidateMaker, render
from sfhq.synthesis.latents import LatentPrior
from sfhq.synthesis.tint import Tint
from sfhq.tensors import to_pixels
from sfhq.training.pairs import load_pairs

difference: Any = deltaE_ciede2000
SHOWN, ACROSS = 24, 12  # heads of the sheet, and of one of its rows
LOOKS = ("Eyeglasses", "Wearing_Hat", "Full_Beard")


def read(labeller: Any, photo: Pixels) -> dict[str, Any]:
    """What the label network says of an aligned picture."""
    found = labeller(photo, aligned=True)[0]
    return {
        "years": found.looks["years"],
        "male": found.looks["male"] > 0.5,
        "skin": found.looks["skin_lab"],
        "hair": found.looks["hair_lab"],
        "looks": np.array([found.attributes[n] > 0.5 for n in LOOKS]),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("heads", type=Path)
    parser.add_argument("--candidates", default="strict,low,psi-0.6")
    parser.add_argument("--faces", type=int, default=100)
    parser.add_argument("--generator", type=Path)
    parser.add_argument("--e4e", type=Path)
    parser.add_argument("--sheet", type=Path, help="art, truth and candidates of 24 heads")
    given = parser.parse_args()
    torch.set_num_threads(1)
    pair = Pair.load(ModelSettings(generator=given.generator, e4e=given.e4e))
    size = pair.generator.config.resolution
    data = load_pairs(given.heads, size)
    rows = torch.linspace(0, len(data) - 1, min(given.faces, len(data))).long().unique()
    art, truth = data.batch(rows, torch.zeros(len(rows), dtype=torch.bool))
    prior = LatentPrior.of(pair.generator)
    tint = Tint.of(pair.generator, prior)
    maker = CandidateMaker(pair.generator, pair.encoder, prior, 0, pair.precision, tint)
    labeller = annotate.Labeller.load()
    true = to_pixels(truth)
    wanted = [read(labeller, photo) for photo in true]
    own, _ = describe_faces(list(true))
    own = own / np.linalg.norm(own, axis=1, keepdims=True)
    alike = np.array([[a["male"] == b["male"] for b in wanted] for a in wanted])
    with torch.inference_mode():
        inverted = torch.cat([pair.encoder(x) for x in art.split(8)])
    shown = [to_pixels(art[:SHOWN]), true[:SHOWN]]
    print(
        f"{'':14} auc   cosine own, others  found   skin   hair  years  looks kept, true  seconds"
    )
    for name in ("truth", *given.candidates.split(",")):
        begun = time.perf_counter()
        if name == "truth":
            photos = true
        else:
            with torch.inference_mode():
                made = [
                    maker.make(name, w, x, [str(i) for i in range(len(w))]).w_plus
                    for w, x in zip(inverted.split(8), art.split(8), strict=True)
                ]
                photos = np.concatenate([render(pair.generator, w, pair.precision) for w in made])
        seconds = (time.perf_counter() - begun) / len(rows)
        shown.append(photos[:SHOWN])
        vectors, found = describe_faces(list(photos))
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines = vectors @ own.T
        same = np.eye(len(rows), dtype=bool)
        told = [read(labeller, photo) for photo in photos]
        others = alike & ~same
        auc = roc_auc_score(
            np.r_[np.ones(len(rows)), np.zeros(others.sum())], np.r_[cosines[same], cosines[others]]
        )
        apart = {
            kind: [
                float(difference(np.array(a[kind]), np.array(b[kind])))
                for a, b in zip(told, wanted, strict=True)
                if np.size(a[kind]) == 3 and np.size(b[kind]) == 3
            ]
            for kind in ("skin", "hair")
        }
        years = np.mean([abs(a["years"] - b["years"]) for a, b in zip(told, wanted, strict=True)])
        mine, theirs = (np.array([r["looks"] for r in lot]) for lot in (told, wanted))
        kept = (mine & theirs).sum() / max(theirs.sum(), 1)
        right = (mine & theirs).sum() / max(mine.sum(), 1)
        print(
            f"{name:14}{auc:.3f}  {cosines[same].mean():.3f}, {cosines[others].mean():.3f}"
            f"        {found.mean():.3f}  {np.median(apart['skin']):5.1f}  "
            f"{np.median(apart['hair']):5.1f}  {years:5.1f}   {kept:.2f}, {right:.2f}"
            f"       {seconds:6.2f}",
            flush=True,
        )
    if given.sheet:
        strips = [
            np.concatenate(list(lot[first : first + ACROSS]), axis=1)
            for first in range(0, len(shown[0]), ACROSS)
            for lot in shown
        ]
        Image.fromarray(np.concatenate(strips)).save(given.sheet)


if __name__ == "__main__":
    main()
