"""A small part with all labels, marks and an export, as a run would leave it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from reading import face_points
from tiny import finish, finish_about, unit

from annotate.attribute import Attribute
from annotate.caption import Caption
from annotate.detect import Detect
from annotate.grammar.compose import Grammar
from annotate.parse import Parse
from sfhq.faces.classes import ID
from sfhq.images import Marks
from sfhq.marks.watermark import payload_of
from sfhq.networks.names import ATTRIBUTES
from sfhq.parts.part import Part
from sfhq.parts.records import Array, FaceRecord, Pixels
from sfhq.pipeline.engine import run_stage
from sfhq.synthesis.marking import SYSTEM
from sfhq.weights.header import PACK

SAMPLES = sorted((Path(__file__).parents[1] / "sfhq" / "samples").glob("*.jpg"))
SIDE = 160
NAME = "SFHQ_test"
CANDIDATES = ("strict", "low")
PREDICTOR = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"


def pack_digest(kind: str) -> str:
    return hashlib.sha256((PACK / f"{kind}.safetensors").read_bytes()).hexdigest()


def art(index: int) -> Pixels:
    with Image.open(SAMPLES[index % len(SAMPLES)]) as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def mask() -> Pixels:
    """A head on a background: skin in an ellipse around the face's points, hair above."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    ids = np.zeros((SIDE, SIDE), np.uint8)
    ids[((x - 0.5) / 0.36) ** 2 + ((y - 0.5) / 0.42) ** 2 < 1] = ID["hair"]
    ids[((x - 0.5) / 0.28) ** 2 + ((y - 0.6) / 0.28) ** 2 < 1] = ID["skin"]
    return ids


def points() -> Array:
    rows = np.zeros((110, 5), np.float32)
    rows[:, :2] = face_points() * SIDE - 0.5
    rows[:, 2] = 2
    return rows


def looks(index: int) -> dict[str, object]:
    old, male = index % 4 == 0, index % 2 == 0
    return {
        "attributes_present": "Smiling",
        "attributes_absent": "",
        "attributes_valid": True,
        "male": 0.97 if male else 0.03,
        "years": 74.0 if old else 31.0,
        "skin_tone": "dark" if index % 3 == 0 else "light",
        "hair_length": "short",
        "hair_colour": "black",
        "glasses": "none",
        "yaw": 4.0,
        "pitch": 1.0,
        "gaze_yaw": -3.0,
        "gaze_pitch": 0.0,
    }


def mirrored(index: int, number: int) -> Pixels:
    """The photo of an inspiration: the same, or its mirror image."""
    return art(index)[:, :: 1 - 2 * number]


def published_part(
    root: Path,
    count: int = 12,
    licence: str = "CC0-1.0",
    draw: Callable[[int], Pixels] = art,
    photograph: Callable[[int, int], Pixels] = mirrored,
) -> Part:
    """`count` inspirations and two photos of each, labelled, captioned and exported."""
    part = Part.create(root, NAME)
    sources = [
        FaceRecord(
            f"art{i:03d}",
            source=f"art/{i:03d}.jpg",
            source_sha256=hashlib.sha256(bytes([i])).hexdigest(),
            licence=licence,
            provenance="sample art",
            width=SIDE,
            height=SIDE,
        )
        for i in range(count)
    ]
    finish(part, "ingest", [sources], licence=licence, source="/elsewhere/art")
    crops = [s.with_image("aligned", draw(i)) for i, s in enumerate(sources)]
    detection = {"predictor_sha256": PREDICTOR, "mode": "auto"}
    finish(part, "align", [crops], detection=detection, size=SIDE)
    aligned = part.read_shard("align", 0)
    digest = {kind: pack_digest(kind) for kind in ("generator", "e4e")}
    payload = payload_of(NAME)
    marks = Marks(SYSTEM, "generator 0123", watermark=payload)
    photos = []
    for index, source in enumerate(aligned):
        for number, name in enumerate(CANDIDATES):
            record = replace(
                source,
                face_id=f"{source.face_id}-{name}",
                parent_id=source.face_id,
                candidate=name,
                seed=index,
                psi=0.7,
                prior_distance=0.5,
            )
            pixels = photograph(index, number)
            photos.append(record.with_image("images", np.ascontiguousarray(pixels), marks))
    half = len(photos) // 2
    finish(
        part,
        "synthesize",
        [photos[:half], photos[half:]],
        generator=digest["generator"],
        encoder=digest["e4e"],
        candidates=list(CANDIDATES),
        marks={"system": SYSTEM, "watermark": f"{payload:08x}"},
    )
    say(part, half)
    export(part, root / "export")
    return part


def say(part: Part, half: int) -> None:
    """All that stages say about the faces."""
    ids = [r.face_id for r in part.faces()]
    rng = np.random.default_rng(7)
    vectors = unit(rng.standard_normal((len(ids), 64))).astype(np.float32)

    def shards(records: list[FaceRecord]) -> list[list[FaceRecord]]:
        return [records[:half], records[half:]]

    found = [
        FaceRecord(i)
        .with_columns(
            face_count=1,
            face_boxes=[40.0, 40.0, 120.0, 130.0],
            face_scores=[1.5],
            face_detector="hog",
            face_flaw="",
        )
        .with_array("landmarks_68", points()[:68, :2])
        for i in ids
    ]
    finish_about(part, "detect", shards(found), Detect.columns, detection={"mode": "auto"})
    embedded = [FaceRecord(i).with_array("embedding", v) for i, v in zip(ids, vectors, strict=True)]
    finish_about(part, "embed", shards(embedded), encoder="dlib-face", digest="6" * 64)
    finish_about(part, "dedup", shards([FaceRecord(i) for i in ids]), threshold=0.985)
    parsed = [
        FaceRecord(i)
        .with_image("segmentations", mask())
        .with_columns(
            class_shares=[0.0] * 19, head_margins=[0.1] * 4, parse_certainty=0.9, parse_flags=""
        )
        for i in ids
    ]
    columns = {k: Parse.columns[k] for k in Parse.columns}
    finish_about(
        part, "parse", shards(parsed), columns, network="labels", digest=pack_digest("labels")
    )
    marked = [FaceRecord(i).with_array("landmarks_110", points()) for i in ids]
    finish_about(part, "landmark", shards(marked), points="network", digest=pack_digest("labels"))
    row = np.full(len(ATTRIBUTES), 0.5, np.float32)
    row[ATTRIBUTES.index("Smiling")] = 0.99
    said = [
        FaceRecord(i).with_columns(**looks(n // 2)).with_array("attribute_probabilities", row)
        for n, i in enumerate(ids)
    ]
    finish_about(part, "attribute", shards(said), Attribute.columns, digest=pack_digest("labels"))
    run_stage(Caption(Grammar(), ATTRIBUTES, 1, 0, False), part)


def export(part: Part, folder: Path) -> None:
    """A few files of an export: photos, a manifest with splits, and digests of all."""
    (folder / "images").mkdir(parents=True)
    rows, sums = [], {}
    for index, record in enumerate(part.faces()):
        name = f"{NAME}_{index:08d}"
        data = part.image_path("images", record.face_id).read_bytes()
        (folder / "images" / f"{name}.png").write_bytes(data)
        sums[f"images/{name}.png"] = hashlib.sha256(data).hexdigest()
        rows.append(
            {
                "name": name,
                "face_id": record.face_id,
                "parent_id": record.parent_id,
                "source": record.source,
                "split": "test" if int(record.parent_id[3:]) % 4 == 3 else "train",
            }
        )
    write_manifest(folder, rows, sums)


def write_manifest(folder: Path, rows: list[dict[str, str]], sums: dict[str, str]) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    (folder / "manifest.parquet").write_bytes(buffer.getvalue())
    sums["manifest.parquet"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items()))
    (folder / "SHA256SUMS").write_text(lines)
