"""Export in the layout of the published SFHQ parts, with the manifest they lack.

images/<name>.jpg|png              marked as synthetic
landmarks/<name>.npz               key `landmarks`, (68, 2) pixels of the image, of the stage detect
pretrained_features/<name>.npz     one array an encoder, (1, D)
manifest.parquet, manifest.csv     one row a photo: where it came from and how it was made
SHA256SUMS                         digests of all of the above
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfhq.errors import IntegrityError, UsageError
from sfhq.faces.found import POINTS
from sfhq.images import encode_image, mark_of, write_atomic
from sfhq.lock import folder_lock
from sfhq.parts.folders import RENDER_FOLDER, SYNTHETIC_FOLDER
from sfhq.parts.lineage import faces_stage, require
from sfhq.parts.part import Part
from sfhq.parts.photos import read_pixels
from sfhq.parts.records import Array, FaceRecord, Json, canonical_json
from sfhq.parts.table import about_types

FOLDERS = (SYNTHETIC_FOLDER, RENDER_FOLDER)  # the first that a face has is exported
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        root: the folder.
        images: photos in it.
        written: photos that this run had to write; the rest was there already.
    """

    root: Path
    images: int
    written: int


def export_sfhq(
    part: Part,
    target: Path,
    *,
    name: str,
    image_format: str = "jpg",
    quality: int = 95,
    on_image: Callable[[], None] = lambda: None,
) -> Exported:
    """Write the photos that stayed, or go on where an earlier export stopped.

    Args:
        part: a part whose stages have ended, `detect` among them.
        target: folder to write; created.
        name: prefix of the file names, which are `<name>_<8 digits>`.
        image_format: "jpg" or "png".
        quality: of JPEG.
        on_image: called after each photo.

    Raises:
        UsageError: the target holds another export, a name is not usable, or `detect` has not run.
        IntegrityError: photos or records are damaged or missing.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"name {name!r}: wanted letters, digits, dot, dash and underscore")
    if image_format not in ("jpg", "png"):
        raise UsageError(f"image format {image_format!r}: wanted jpg or png")
    if not 1 <= quality <= 100:
        raise UsageError(f"quality is {quality}; wanted 1 to 100")
    require_photos(part)
    require(part, "export", (POINTS,), faces_stage(part))
    stages = [s for s in part.stages() if part.stage_info(s)["complete"]]
    types = about_types(part)
    with folder_lock(part.root):
        identity = {
            "format": "sfhq",
            "name": name,
            "image_format": image_format,
            "quality": quality if image_format == "jpg" else None,
            "stages": {s: part.stage_info(s)["settings"] for s in stages},
        }
        _claim(target, _public(identity))
        rows: list[dict[str, Json]] = []
        written = 0
        before = _sums(target)
        for index, record in enumerate(_photos(part)):
            stem = f"{name}_{index:08d}"
            files, fresh = _write_face(part, target, stem, record, image_format, quality, before)
            rows.append(_row(record, stem, files, list(types)))
            written += fresh
            on_image()
        _write_manifest(target, rows, types)
    return Exported(target, len(rows), written)


def require_photos(part: Part) -> None:
    """Refuse a part without a photo to export.

    Raises:
        UsageError: nothing has run to its end, or no photo stayed.
    """
    if next(_photos(part), None) is None:
        raise UsageError(
            f"{part.root}: no photo stayed, so there is nothing to export; "
            f"see: sfhq show {part.root}"
        )


def _photos(part: Part) -> Iterator[FaceRecord]:
    return (r for r in part.faces() if _folder(r))


def _folder(record: FaceRecord) -> str:
    """Where the photo of a face lies; empty where it has none."""
    return next((f for f in FOLDERS if f in record.hashes), "")


def _public(identity: dict[str, Json]) -> dict[str, Json]:
    """The identity without paths of the machine it was made on."""
    stages = {
        stage: {k: v for k, v in settings.items() if k not in ("source", "shard_size")}
        for stage, settings in identity["stages"].items()
    }
    return {**identity, "stages": stages}


def _claim(target: Path, identity: dict[str, Json]) -> None:
    path = target / "export.json"
    if path.is_file():
        try:
            before = json.loads(path.read_text())
        except ValueError:
            raise IntegrityError(f"{path}: damaged; export to another folder") from None
        if before != identity:
            raise UsageError(
                f"{target}: holds an export of other settings; give another folder, or delete it"
            )
        return
    if target.exists() and any(target.iterdir()):
        raise UsageError(f"{target}: not empty and not an export; give a new folder")
    target.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(identity, sort_keys=True, indent=1) + "\n").encode())


def _write_face(
    part: Part,
    target: Path,
    stem: str,
    record: FaceRecord,
    image_format: str,
    quality: int,
    before: dict[str, str],
) -> tuple[dict[str, str], bool]:
    """Relative path -> sha256 of a face's files, and whether any had to be written."""
    folders = [
        ("images", f"{stem}.{image_format}"),
        ("landmarks", f"{stem}.npz"),
        ("pretrained_features", f"{stem}.npz"),
    ]
    paths = [target / folder / filename for folder, filename in folders]
    named = [f"{folder}/{filename}" for folder, filename in folders]
    # Landmarks are written first; a photo that is there without them has none to be found.
    fresh = not all(p.is_file() for p in paths[::2]) or any(
        before.get(n) not in (None, _digest(p)) for n, p in zip(named, paths, strict=True)
    )
    if fresh:
        folder = _folder(record)
        pixels = read_pixels(part, record, folder)
        for path in paths:
            path.parent.mkdir(exist_ok=True)
        points = part.row(POINTS, record)
        if np.isfinite(points).all():
            write_atomic(paths[1], _npz(landmarks=points.astype(np.float32)))
        else:
            paths[1].unlink(missing_ok=True)
        kind = "JPEG" if image_format == "jpg" else "PNG"
        write_atomic(paths[0], encode_image(pixels, kind, mark_of(folder), quality))
        if "embedding" in record.rows:
            encoder = str(part.stage_info("embed")["settings"]["encoder"])
            vector = part.row("embedding", record)[None]
            write_atomic(paths[2], _npz(**{encoder: vector}))
        else:
            write_atomic(paths[2], _npz())
    digests = {n: _digest(p) for n, p in zip(named, paths, strict=True) if p.is_file()}
    return digests, fresh


def _digest(path: Path) -> str:
    """sha256 of a file; empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _sums(target: Path) -> dict[str, str]:
    """Relative path -> sha256 of what an earlier run finished; empty where none did."""
    path = target / "SHA256SUMS"
    if not path.is_file():
        return {}
    lines = (line.split("  ", 1) for line in path.read_text(errors="replace").splitlines())
    return {line[1]: line[0] for line in lines if len(line) == 2}


def _npz(**arrays: Array) -> bytes:
    """An .npz whose bytes depend on its arrays alone."""
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in sorted(arrays.items()):
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), data.getvalue())
    return buffer.getvalue()


def _row(record: FaceRecord, stem: str, files: dict[str, str], about: list[str]) -> dict[str, Json]:
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
        "sha256": files[image],
        "has_landmarks": f"landmarks/{stem}.npz" in files,
        "digital_source_type": mark_of(_folder(record)),
        "_files": files,
    }


def _write_manifest(target: Path, rows: list[dict[str, Json]], about: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sums = {path: digest for row in rows for path, digest in row.pop("_files").items()}
    columns: dict[str, list[Any]] = {key: [row[key] for row in rows] for key in rows[0]}
    number = pa.float64()
    kinds = {"seed": pa.int64(), "has_landmarks": pa.bool_(), "score": number, "psi": number}
    kinds |= {"prior_distance": number, **about}
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
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items()))
    write_atomic(target / "SHA256SUMS", lines.encode())
