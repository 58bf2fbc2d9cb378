"""Tiny networks and parts that several test files build on; all seeded, all in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from encoders.e4e.irse import BackboneConfig
from encoders.e4e.network import E4e, E4eConfig, save_e4e
from sfhq.faces.detector import Detection
from sfhq.parts.lineage import faces_stage, fingerprint
from sfhq.parts.part import Part
from sfhq.parts.records import Array, ColumnType, FaceRecord, Pixels
from sfhq.weights.checkpoints import save_generator
from stylegan2_ops.generator import Generator, GeneratorConfig

GENERATOR = GeneratorConfig(resolution=32, z_dim=16, w_dim=16, channel_base=256, channel_max=8)
E4E = E4eConfig(
    num_ws=GENERATOR.num_ws,
    input_size=64,
    w_dim=GENERATOR.w_dim,
    head_width=8,
    backbone=BackboneConfig((4, 4, 8, 8), (1, 1, 2, 1)),
)


def tiny_generator(seed: int = 0) -> Generator:
    """32 pixels, 8 layers, w of 16; every parameter and buffer away from its neutral start."""
    torch.manual_seed(seed)
    generator = Generator(GENERATOR)
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith(("noise_strength", "bias")):
                parameter.add_(0.1 * torch.randn_like(parameter))
        generator.mapping.w_avg.copy_(generator.mapping(torch.randn(512, 16)).mean(dim=0))
    return generator.eval().requires_grad_(False)


def tiny_e4e(seed: int = 1, config: E4eConfig = E4E) -> E4e:
    """64 pixels in, 8 layers out, with a mean latent that differs from layer to layer."""
    torch.manual_seed(seed)
    network = E4e(config)
    network.latent_avg.copy_(0.1 * torch.randn_like(network.latent_avg))
    return network.eval().requires_grad_(False)


def write_networks(folder: Path) -> tuple[Path, Path]:
    """Weights files of both, as `--generator` and `--e4e` take them."""
    generator, encoder = folder / "generator.safetensors", folder / "e4e.safetensors"
    save_generator(generator, tiny_generator())
    save_e4e(encoder, tiny_e4e())
    return generator, encoder


def tiny_images(count: int, size: int = 32, seed: int = 2) -> Tensor:
    """(count, 3, size, size) smooth random images in [-1, 1]."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=rng) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")


def tiny_pixels(count: int, size: int = 32, seed: int = 2) -> list[Pixels]:
    """The same as (size, size, 3) uint8."""
    images = ((tiny_images(count, size, seed) + 1) * 127.5).round().to(torch.uint8)
    return [np.ascontiguousarray(i.permute(1, 2, 0).numpy()) for i in images]


def write_squares(folder: Path, count: int, size: int = 64) -> Path:
    """A folder of coloured squares, which `--aligned` takes for crops."""
    folder.mkdir(parents=True)
    for index, pixels in enumerate(tiny_pixels(count, size, seed=3)):
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return folder


def finish(
    part: Part, stage: str, shards: Sequence[Sequence[FaceRecord]], **settings: object
) -> None:
    """Write the shards of a stage that makes faces and mark it as ended, without running it."""
    for number, records in enumerate(shards):
        part.write_shard(stage, number, records)
    arrays = {n for records in shards for r in records for n in (*r.arrays, *r.images)}
    alive = sum(r.alive for records in shards for r in records)
    source = stage in ("ingest", "sample", "render")
    made = [s for s in part.stages() if s != stage and part.stage_info(s)["kind"] != "about"]
    before = [] if source else made[-1:]
    _ended(
        part,
        stage,
        "source" if source or not before else "faces",
        {s: fingerprint(part, s) for s in before},
        sorted(arrays),
        len(shards),
        alive,
        settings,
    )


def finish_about(
    part: Part,
    stage: str,
    shards: Sequence[Sequence[FaceRecord]],
    columns: Mapping[str, ColumnType] | None = None,
    **settings: object,
) -> None:
    """The same of a stage that says something about the faces that are there."""
    columns = columns or {}
    faces = faces_stage(part)
    for number, records in enumerate(shards):
        part.write_about(stage, number, records, columns)
    names = {n for records in shards for r in records for n in (*r.arrays, *r.images)}
    alive = sum(r.alive for records in shards for r in records)
    inputs = {faces: fingerprint(part, faces)}
    names |= {*columns}
    _ended(part, stage, "about", inputs, sorted(names), len(shards), alive, settings)


def _ended(
    part: Part,
    stage: str,
    kind: str,
    inputs: Mapping[str, str],
    writes: Sequence[str],
    shards: int,
    alive: int,
    settings: Mapping[str, object],
) -> None:
    part.write_stage_info(
        stage,
        {
            "kind": kind,
            "settings": dict(settings),
            "inputs": dict(inputs),
            "selected_by": {},
            "writes": list(writes),
            "complete": True,
            "shards": shards,
            "counts": {"entered": alive, "alive": alive, "rejected": {}},
        },
    )


def inverted_part(root: Path, count: int = 5) -> Part:
    """A part that has got as far as `invert`: crops of 32 pixels, latents of the tiny sizes."""
    part = Part.create(root)
    rng = np.random.default_rng(4)
    faces = [FaceRecord(f"face{i:02d}", source=f"{i}.png") for i in range(count)]
    pixels = tiny_pixels(count)
    finish(
        part, "align", [[f.with_image("aligned", p) for f, p in zip(faces, pixels, strict=True)]]
    )
    latents = 0.5 * rng.standard_normal((count, 8, 16)).astype(np.float32)
    aligned = part.read_shard("align", 0)
    finish(
        part,
        "invert",
        [[f.with_array("inverted", w) for f, w in zip(aligned, latents, strict=True)]],
    )
    return part


def embedded_part(
    root: Path,
    vectors: Array,
    *,
    prior_distance: Sequence[float] | None = None,
    score: Sequence[float] | None = None,
    resemblance: Sequence[float] | None = None,
    person: Sequence[float | None] | None = None,
    ids: Sequence[str] | None = None,
    encoder: str = "toy",
    shard_size: int = 4,
    images: bool = False,
) -> Part:
    """A part of given unit vectors, as `embed` and `score` would leave it."""
    part = Part.create(root)
    records = []
    pixels = tiny_pixels(len(vectors)) if images else []
    for i in range(len(vectors)):
        record = FaceRecord(
            ids[i] if ids else f"f{i:04d}",
            parent_id=f"p{i:04d}",
            source=f"art/{i}.png",
            candidate="strict",
            params={
                "ladder": [0.85, 0.75, 0.5],
                **({} if person is None or person[i] is None else {"person": person[i]}),
            },
            prior_distance=None if prior_distance is None else prior_distance[i],
        )
        records.append(record.with_image("images", pixels[i]) if images else record)
    finish(part, "synthesize", _shards(records, shard_size))
    embedded = [
        r.with_array("embedding", np.asarray(v, np.float32))
        for r, v in zip(records, vectors, strict=True)
    ]
    bare = [replace(r, images={}) for r in embedded]
    finish_about(part, "embed", _shards(bare, shard_size), encoder=encoder, digest="0" * 64)
    if score is not None:
        scored = [
            FaceRecord(r.face_id).with_columns(score=s) for r, s in zip(records, score, strict=True)
        ]
        finish_about(part, "score", _shards(scored, shard_size), {"score": "number"})
    if resemblance is not None:
        compared = [
            FaceRecord(r.face_id).with_columns(resemblance=v)
            for r, v in zip(records, resemblance, strict=True)
        ]
        finish_about(part, "resemble", _shards(compared, shard_size), {"resemblance": "number"})
    return part


def _shards(records: Sequence[FaceRecord], size: int) -> list[Sequence[FaceRecord]]:
    return [records[i : i + size] for i in range(0, len(records), size)]


def unit(rows: Array) -> Array:
    """Rows scaled to length 1, float32."""
    values = np.asarray(rows, np.float64)
    scaled: Array = values / np.linalg.norm(values, axis=1, keepdims=True)
    return scaled.astype(np.float32)


@dataclass(frozen=True)
class ToyEncoder:
    """An `ImageEncoder` that reduces images to 4x4 pixels."""

    name: str = "toy"
    digest: str = "0" * 64
    reads_faces: bool = False

    def __call__(
        self, images: list[Pixels], faces: Sequence[Sequence[Detection]] | None = None
    ) -> Array:
        small = [np.asarray(Image.fromarray(i).resize((4, 4))).reshape(-1) for i in images]
        return np.stack(small).astype(np.float32) - 127.5


def tree(root: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file below a folder."""
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }
