"""Captioned shades of grey and rendered heads that tests of experiments with FLIP share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tiny import finish_about

pytest.importorskip("tokenizers")


import csv
from collections.abc import Sequence

from encoders.flip.data import Captioned
from encoders.flip.studies.facts import Face, FaceFacts
from encoders.flip.studies.ratings import COLUMNS
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Json
from sfhq.pipeline.engine import run_stage
from sfhq.pipeline.stage import SourceStage


def many(count: int = 40) -> Captioned:
    """Images of which the red channel is bright in every second one, with captions."""
    rng = torch.Generator().manual_seed(5)
    pixels = torch.randint(100, (count, 3, 16, 16), generator=rng, dtype=torch.uint8)
    pixels[::2, 0] += 150
    names = tuple(f"f{i}" for i in range(count))
    texts = tuple(("a man .", "old man") if i % 2 == 0 else ("a woman",) for i in range(count))
    return Captioned(pixels, names, names, texts)


def known(count: int = 40) -> FaceFacts:
    return FaceFacts(
        {
            f"f{i}": Face({"Male": i % 2 == 0, "Bald": i % 3 == 0}, groups={"side": "ab"[i % 2]})
            for i in range(count)
        }
    )


@dataclass(frozen=True)
class Heads(SourceStage[Any]):
    """Heads whose truth is known, with an image each; some are lost on the way."""

    name: ClassVar[str] = "render"
    images: ClassVar[tuple[str, ...]] = ("aligned",)
    count: int = 60
    lost: int = 0
    first: int = 0

    def seeds(self, part: Part) -> Iterator[FaceRecord]:
        for seed in range(self.first, self.first + self.count):
            yield FaceRecord(f"h{seed:03d}", seed=seed)

    def settings(self) -> dict[str, Json]:
        return {"count": self.count}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        for record in records:
            i = record.seed or 0
            pixels = np.random.default_rng(i).integers(60, size=(16, 16, 3), dtype=np.uint8)
            pixels[..., 0] += 150 * (i % 2 == 0)
            details = {"male": float(i % 2 == 0), "years": 15.0 + i}
            params = {
                "attributes": {"Male": i % 2 == 0, "Bald": i % 3 == 0},
                "details": {**details, "ancestry_asian": float(i % 4 == 0)},
            }
            if i >= self.first + self.count - self.lost:
                record = record.reject("render", "hidden", "no face")
            yield replace(record, params=params).with_image("aligned", pixels)


def part_of_heads(root: Path, count: int = 60, lost: int = 0, first: int = 0) -> Part:
    """A part of `Heads` with captions."""
    part = Part.create(root)
    run_stage(Heads(count, lost, first), part, shard_size=1000)
    said = [
        FaceRecord(f"h{i:03d}").with_columns(
            caption="a man ." if i % 2 == 0 else "a woman", captions=[]
        )
        for i in range(first, first + count - lost)
    ]
    finish_about(part, "caption", [said], {"caption": "text", "captions": "texts"})
    return part


def rated(items: Sequence[Any], rater: str, noise: int) -> list[dict[str, Any]]:
    rows = []
    for n, item in enumerate(items):
        fits = 1 if item.foreign else 5 - (n + noise) % 2
        rows.append({"rater": rater, "item": item.item, "natural": 4, "grammar": 5, "fits": fits})
        rows[-1]["mistakes"] = "hair;face" if item.foreign or n % 5 == 0 else ""
        rows[-1]["natural"] = 3 + len(item.text.split()) % 3
    return rows


def save(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path
