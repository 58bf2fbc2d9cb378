"""Export in the layout of the published SFHQ parts, with the manifest they lack.

images/<name>.jpg|png              marked as synthetic
landmarks/<name>.npz               key `landmarks`: (110, 2) pixels of the image, with `visibility`,
                                   where landmark has run or heads were rendered; else (68, 2)
segmentations/<name>.png           ids of the classes as greys, where the part has them
pretrained_features/<name>.pickle  one (1, D) array an encoder, by the published names
pretrained_features/<name>.npz     the same, for readers that open no pickles
small sample (550 images)/         copies of some photos, where they are asked for
manifest.parquet, manifest.csv     one row a photo: where it came from, how it was made, its label
SHA256SUMS                         digests of all of the above
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfhq import stages
from sfhq.errors import UsageError
from sfhq.export.face_files import (
    LAYOUT,
    MASK_FOLDER,
    RENDER_POINTS,
    face_files,
    photo_folder,
    photo_mark,
)
from sfhq.export.target import Place, claimed, digest_of
from sfhq.faces.found import POINTS
from sfhq.faces.points import ARRAY as ALL_POINTS
from sfhq.images import write_atomic
from sfhq.lock import folder_lock
from sfhq.parts.folders import FOREIGN_POINTS
from sfhq.parts.lineage import faces_stage, provider, require
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Json, canonical_json
from sfhq.parts.table import about_types

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LAYOUT_REVISION = 2  # raised when the same settings give other files
TINY = 200  # photos; larger samples are called small


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        root: the folder.
        images: photos in it.
        written: photos of which this run had to write some file; the rest was there already.
        left_out: photos that people rejected, and that stayed behind for it.
    """

    root: Path
    images: int
    written: int
    left_out: int = 0


def export_sfhq(
    part: Part,
    target: Path,
    *,
    name: str,
    image_format: str = "jpg",
    quality: int = 95,
    rejected: bool = False,
    samples: Sequence[int] = (),
    replace: bool = False,
    by: str = "export",
    labels: Mapping[str, str] | None = None,
    on_image: Callable[[], None] = lambda: None,
) -> Exported:
    """Write the photos that stayed, or go on where an earlier export stopped.

    A file that is there is kept if its digest is the one that was noted when it was written; else
    it is compared with the part.

    Args:
        part: a part whose stages have ended, `detect` or `landmark` among them unless heads were
            rendered.
        target: folder to write; created.
        name: prefix of the file names, which are `<name>_<8 digits>`.
        image_format: "jpg" or "png".
        quality: of JPEG.
        rejected: also photos that people rejected.
        samples: numbers of photos; each gives a folder with copies of so many.
        replace: write an export of other settings anew, and put it in the place of the one there.
            Files that no export wrote stay.
        by: the command that exports; "run" replaces what a run exported.
        labels: face_id -> "keep", "reject" or "flag"; None reads the part's own.
        on_image: called after each photo.

    Raises:
        UsageError: the target holds another export, a name is not usable, or `detect` has not run.
        IntegrityError: photos, labels or records are damaged or missing.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"name {name!r}: wanted letters, digits, dot, dash and underscore")
    if image_format not in ("jpg", "png"):
        raise UsageError(f"image format {image_format!r}: wanted jpg or png")
    if not 1 <= quality <= 100:
        raise UsageError(f"quality is {quality}; wanted 1 to 100")
    if any(count < 1 for count in samples):
        raise UsageError(f"a sample of {min(samples)} photos; wanted 1 or more")
    require_photos(part)
    require_points(part)
    if labels is None:
        labels = stages.reader("labels")(part)
    unwanted = set() if rejected else {face for face, word in labels.items() if word == "reject"}
    stayed = [r.face_id for r in _photos(part)]
    chosen = [face for face in stayed if face not in unwanted]
    if not chosen:
        raise UsageError(
            f"{part.root}: people rejected all {len(stayed)} photos; to export them: "
            "sfhq export --rejected"
        )
    ended = [s for s in part.stages() if part.stage_info(s)["complete"]]
    identity = {
        "format": "sfhq",
        "layout": LAYOUT_REVISION,
        "name": name,
        "image_format": image_format,
        "quality": quality if image_format == "jpg" else None,
        "samples": sorted({*samples}),
        "faces": hashlib.sha256("\n".join(chosen).encode()).hexdigest(),
        "stages": {s: _public(part.stage_info(s)["settings"]) for s in ended},
    }
    # A part on a medium that cannot be written needs no lock: nobody changes it.
    held = folder_lock(part.root) if os.access(part.root, os.W_OK) else nullcontext()
    with held, claimed(target, identity, by, replace) as place:
        written = _write(part, place, name, identity, {*chosen}, labels, on_image)
    return Exported(target, len(chosen), written, len(stayed) - len(chosen))


def _write(
    part: Part,
    place: Place,
    name: str,
    identity: dict[str, Json],
    chosen: set[str],
    labels: Mapping[str, str],
    on_image: Callable[[], None],
) -> int:
    """Write all files; the number of photos that were not there yet."""
    image_format, quality = identity["image_format"], identity["quality"] or 0
    samples = sample_folders(identity["samples"], len(chosen))
    types = {k: v for k, v in about_types(part).items() if k != "label"}
    rows: list[dict[str, Json]] = []
    written = 0
    for index, record in enumerate(r for r in _photos(part) if r.face_id in chosen):
        stem = f"{name}_{index:08d}"
        copies = [folder for folder, members in samples.items() if index in members]
        files, fresh = _write_face(part, place, stem, record, image_format, quality, copies)
        rows.append(_row(record, stem, files, list(types), labels.get(record.face_id, "")))
        written += fresh
        on_image()
    place.finish(_write_manifest(place.folder, rows, types))
    return written


def sample_folders(wanted: Sequence[int], total: int) -> dict[str, set[int]]:
    """Folder of copies -> numbers of its photos, spread evenly."""
    found = {}
    for count in wanted:
        some = min(count, total)
        word = "tiny" if count < TINY else "small"
        plural = "image" if some == 1 else "images"
        members = {i * total // some for i in range(some)}
        found[f"{word} sample ({some} {plural})"] = members
    return found


def require_photos(part: Part) -> None:
    """Refuse a part without a photo to export.

    Raises:
        UsageError: nothing has run to its end, no photo stayed, or none was made.
    """
    if next(_photos(part), None) is not None:
        return
    left = next(iter(part.faces()), None)
    if left is None:
        raise UsageError(
            f"{part.root}: no photo stayed, so there is nothing to export; "
            f"see: sfhq show {part.root}"
        )
    raise UsageError(
        f"{part.root}: its faces have no photos yet, so there is nothing to export; run: "
        f"sfhq run SOURCE {part.root}, or sfhq synthesize {part.root}; finished pictures of others "
        "are exported from a part that sfhq import started"
    )


def require_points(part: Part) -> None:
    """Refuse a part without landmarks.

    Raises:
        UsageError: `detect` has not run, and the heads were not rendered.
    """
    if not has_points(part):
        require(part, "export", (POINTS,), faces_stage(part))


def has_points(part: Part) -> bool:
    """Whether the photos of a part have landmarks: found, or exact ones of rendered heads."""
    faces = faces_stage(part)
    rendered = faces == "render" and provider(part, RENDER_POINTS, faces) is not None
    names = (ALL_POINTS, POINTS, FOREIGN_POINTS)
    return rendered or any(provider(part, n, faces) is not None for n in names)


def _photos(part: Part) -> Iterator[FaceRecord]:
    return (r for r in part.faces() if photo_folder(r))


def _public(settings: Mapping[str, Json]) -> dict[str, Json]:
    """Settings of a stage without paths of the machine it ran on."""
    return {k: v for k, v in settings.items() if k not in ("source", "shard_size")}


def _write_face(
    part: Part,
    place: Place,
    stem: str,
    record: FaceRecord,
    image_format: str,
    quality: int,
    copies: Sequence[str],
) -> tuple[dict[str, str], bool]:
    """Relative path -> sha256 of a face's files, and whether any had to be written."""
    files = face_files(part, record, stem, image_format, quality)
    photo = place.folder / "images" / f"{stem}.{image_format}"
    for folder in copies:  # the photo itself lies there by then
        files[f"{folder}/{stem}.{image_format}"] = photo.read_bytes
    digests: dict[str, str] = {}
    fresh = False
    for relative, make in files.items():
        path = place.folder / relative
        digests[relative] = digest_of(path)
        if digests[relative] and digests[relative] == place.known.get(relative):
            continue
        data = make()
        found = hashlib.sha256(data).hexdigest()
        if found != digests[relative]:
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, data)
            digests[relative], fresh = found, True
    for folder in LAYOUT:  # what an earlier try left of a face that has no such file
        for suffix in ("npz", "png", "pickle"):
            if f"{folder}/{stem}.{suffix}" not in files and folder != "images":
                (place.folder / folder / f"{stem}.{suffix}").unlink(missing_ok=True)
    if any(place.known.get(path) != digest for path, digest in digests.items()):
        place.add(digests)
    return digests, fresh


def _row(
    record: FaceRecord, stem: str, files: dict[str, str], about: list[str], label: str
) -> dict[str, Json]:
    image = next(path for path in files if path.startswith("images/"))
    return {
        "file_name": image,
        "name": stem,
        "face_id": record.face_id,
        "parent_id": record.parent_id,
        "source": record.source,
        "source_sha256": record.source_sha256,
        "licence": record.licence,
        "provenance": record.provenance,
        "quad": canonical_json(list(record.quad)),
        "candidate": record.candidate,
        "seed": record.seed,
        "psi": record.psi,
        "params": canonical_json(dict(record.params)),
        "prior_distance": record.prior_distance,
        "score": record.about.get("score"),
        **{name: record.about.get(name) for name in about},
        "label": label,
        "sha256": files[image],
        "has_landmarks": f"landmarks/{stem}.npz" in files,
        "has_segmentation": f"{MASK_FOLDER}/{stem}.png" in files,
        "digital_source_type": photo_mark(record),
        "_files": files,
    }


def _write_manifest(
    target: Path, rows: list[dict[str, Json]], about: dict[str, Any]
) -> dict[str, str]:
    """Write both manifests; path -> sha256 of every file of the export."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sums = {path: digest for row in rows for path, digest in row.pop("_files").items()}
    columns: dict[str, list[Any]] = {key: [row[key] for row in rows] for key in rows[0]}
    number = pa.float64()
    kinds = {"seed": pa.int64(), "has_landmarks": pa.bool_(), "has_segmentation": pa.bool_()}
    kinds |= {"score": number, "psi": number, "prior_distance": number, **about}
    kinds |= {"label": pa.string()}
    schema = pa.schema([(key, kinds.get(key, pa.string())) for key in columns])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pydict(columns, schema=schema), buffer, compression="zstd")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: canonical_json(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows
    )
    for filename, data in (
        ("manifest.parquet", buffer.getvalue()),
        ("manifest.csv", text.getvalue().encode()),
    ):
        write_atomic(target / filename, data)
        sums[filename] = hashlib.sha256(data).hexdigest()
    return sums
