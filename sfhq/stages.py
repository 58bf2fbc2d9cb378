"""The table of stages, in the order of a run, and what lower packages ask upper ones for by name.

A row names a stage, its class and one line of help. Everything else about a stage is declared by
its class (`sfhq.pipeline.stage.Stage`): what it reads and writes, its settings with their help.
Order, messages, recipe tables, commands, `sfhq doctor` and docs/cli.md are derived from both.

This file is the only one of a lower package that spells out modules of upper ones, so that the
lower package can ask for them by name. It imports nothing heavy.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StageRow:
    """One stage.

    Attributes:
        name: the word for its command, recipe table and folder of records.
        where: "module:Class".
        summary: one line of help.
        in_run: whether `sfhq run` includes it.
    """

    name: str
    where: str
    summary: str
    in_run: bool = False


STAGES: tuple[StageRow, ...] = (
    StageRow(
        "ingest",
        "sfhq.ingest:Ingest",
        "Start PART with the images of SOURCE: a folder, a .zip, or a .txt list of files.",
        in_run=True,
    ),
    StageRow(
        "import",
        "sfhq.imports.stage:Import",
        "Start PART with a set that others made, and keep the labels that came with it.",
    ),
    StageRow(
        "sample",
        "sfhq.synthesis.sample:Sample",
        "Start PART with new faces: drawn at psi above 1, pulled towards what e4e sees.",
    ),
    StageRow(
        "render",
        "sfhq.render.render:Render",
        "Start PART with rendered heads: people who do not exist, with exact labels.",
    ),
    StageRow(
        "align",
        "annotate.align:Align",
        "Find the face in every image of PART and cut the upright FFHQ crop.",
        in_run=True,
    ),
    StageRow(
        "invert",
        "encoders.invert:Invert",
        "Encode every aligned face of PART into the generator's latent space.",
        in_run=True,
    ),
    StageRow(
        "synthesize",
        "sfhq.synthesis.synthesize:Synthesize",
        "Bring the inverted faces of PART to life: several candidate photos each.",
        in_run=True,
    ),
    StageRow(
        "detect",
        "annotate.detect:Detect",
        "Find the face and its 68 points in every photo of PART.",
        in_run=True,
    ),
    StageRow(
        "embed",
        "encoders.embed:Embed",
        "Turn every photo of PART into a vector in which near-duplicates are close.",
        in_run=True,
    ),
    StageRow(
        "resemble",
        "annotate.resemble:Resemble",
        "Say how much of the person in the art every candidate photo of PART keeps.",
    ),
    StageRow(
        "score",
        "curation.score:Score",
        "Score every face of PART by a learned taste: accept, reject or unsure.",
    ),
    StageRow(
        "dedup",
        "curation.dedup:Dedup",
        "Keep the best of every group of near-duplicates in PART.",
        in_run=True,
    ),
    StageRow(
        "parse",
        "annotate.parse:Parse",
        "Read the class of every pixel off every photo of PART: skin, hair, eyes, 19 in all.",
        in_run=True,
    ),
    StageRow(
        "landmark",
        "annotate.landmark:Landmark",
        "Read 110 points off every photo of PART: the 68, hairline and outline of the head.",
        in_run=True,
    ),
    StageRow(
        "attribute",
        "annotate.attribute:Attribute",
        "Read looks and quality off every photo of PART: 40 attributes, pose, colours, quality.",
        in_run=True,
    ),
    StageRow(
        "probe",
        "annotate.probe:ProbeStage",
        "Say of every face of PART what linear probes read off its vectors.",
    ),
    StageRow(
        "caption",
        "annotate.caption:Caption",
        "Describe every photo of PART in words: all that its attributes say, and nothing else.",
        in_run=True,
    ),
    StageRow(
        "rewrite",
        "annotate.rewrite:Rewrite",
        "Let a language model rewrite the captions of PART; what changes a fact is refused.",
    ),
)

NETWORKS = {
    "generator and encoder": "encoders.e4e.pair:load_pair",
    "image encoder": "encoders.embed:image_encoder",
    "text encoder": "encoders.search:text_encoder",
    "words of CLIP": "encoders.features.clip:clip_words",
    "label reader": "annotate.network.reader:load_labels",
}

READERS = {
    "labels": "curation.labels.verdict:part_labels",
    "near-duplicates": "curation.pairs.search:all_pairs",
    "captions": "annotate.judge.captions:caption_problems",
    "coco annotations": "annotate.exchange.coco:photo_annotations",
    "coco categories": "annotate.exchange.coco:categories",
    "overlay": "annotate.judge.overlay:overlay",
}


def resolve(where: str) -> Any:
    """What "module:name" names."""
    module, name = where.split(":")
    return getattr(importlib.import_module(module), name)


def row(name: str) -> StageRow:
    """The row of a stage.

    Raises:
        KeyError: no stage has that name.
    """
    return {r.name: r for r in STAGES}[name]


def load_stage(name: str) -> Any:
    """The class of a stage, a `sfhq.pipeline.stage.Stage`; imports its module.

    Raises:
        KeyError: no stage has that name.
    """
    return resolve(row(name).where)


def network(name: str) -> Any:
    """The function that loads a network of `NETWORKS`."""
    return resolve(NETWORKS[name])


def reader(name: str) -> Any:
    """The function of `READERS` that reads or works out something that an upper package knows."""
    return resolve(READERS[name])


def names() -> tuple[str, ...]:
    """Names of all stages in the order of a run."""
    return tuple(r.name for r in STAGES)


def position(name: str) -> int:
    """Place of a stage in the order of a run; after all others where the table lacks it."""
    known = names()
    return known.index(name) if name in known else len(known)
