"""Where a photo comes from: its source, the steps between, the networks that had a part in it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfhq import stages
from sfhq.errors import UsageError
from sfhq.images import mark_of
from sfhq.parts.join import joined
from sfhq.parts.lineage import about_stages, faces_stage, outdated
from sfhq.parts.part import Part
from sfhq.parts.photos import photo_digest, photo_folder
from sfhq.parts.records import FaceRecord, Json
from sfhq.publish.networks import Network, identify, noted

LATER = 200  # characters of a value that the text form shows


def face_of(part: Part, name: str) -> FaceRecord:
    """The face of a name; also of a path of its image, of the image's sha256 or of its export.

    Raises:
        UsageError: there is none; says which is nearest.
    """
    wanted = Path(name).stem if ("/" in name or name.endswith((".png", ".jpg"))) else name
    exported = _exported(part)
    wanted = exported.get(wanted, wanted)
    near: list[str] = []
    for record in joined(part):
        if wanted == record.face_id or (len(name) == 64 and photo_digest(record) == name):
            return record
        near.append(record.face_id)
    closest = difflib.get_close_matches(wanted, near, n=1, cutoff=0.6)
    advice = f"did you mean {closest[0]}?" if closest else f"see: sfhq table {part.root}"
    raise UsageError(f"{name}: no such face in {part.root}; {advice}")


def _exported(part: Part) -> dict[str, str]:
    """Name in the export of a run -> face id; empty where there is no export."""
    path = part.root / "export" / "manifest.parquet"
    if not path.is_file():
        return {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["name", "face_id"])
    except (pa.ArrowException, OSError, ValueError):
        return {}
    return dict(zip(*(table.column(c).to_pylist() for c in ("name", "face_id")), strict=True))


def lineage(part: Part, name: str, also: Mapping[str, Network] | None = None) -> dict[str, Json]:
    """All that is known of how a photo came to be.

    Args:
        part: the part.
        name: of the face, as in `face_of`.
        also: networks by their digests, beside those that are known.

    Returns:
        "face_id", "photo", "source", "made" (candidate, seed, psi, parameters), "steps" (one a
        stage: settings, networks, whether what it read has changed since), "fate" and "said" (what
        stages say of it), as JSON can hold it.

    Raises:
        UsageError: no such face.
        IntegrityError: damaged records.
    """
    record = face_of(part, name)
    folder = photo_folder(record)
    faces = faces_stage(part)
    chain = [s for s in part.stages() if part.stage_info(s)["kind"] != "about"]
    about = about_stages(part, faces)
    return {
        "part": part.name,
        "face_id": record.face_id,
        "photo": {
            "folder": folder or "",
            "sha256": photo_digest(record),
            "digital_source_type": None if folder is None else mark_of(folder),
        },
        "source": {
            "name": record.source,
            "sha256": record.source_sha256,
            "licence": record.licence,
            "provenance": record.provenance,
            "width": record.width,
            "height": record.height,
            "quad": list(record.quad),
        },
        "made": {
            "parent_id": record.parent_id,
            "candidate": record.candidate,
            "seed": record.seed,
            "psi": record.psi,
            "prior_distance": record.prior_distance,
            "params": dict(record.params),
        },
        "steps": [_step(part, stage, also) for stage in (*chain, *about)],
        "fate": _fate(part, record),
        "said": dict(sorted(record.about.items())),
    }


def _step(part: Part, stage: str, also: Mapping[str, Network] | None) -> dict[str, Json]:
    info = part.stage_info(stage)
    settings = info["settings"]
    networks = [
        {"role": key, **identify(digest, key, also).to_dict()} for key, digest in noted(settings)
    ]
    return {
        "stage": stage,
        "kind": info["kind"],
        "read": sorted(info["inputs"]),
        "settings": {k: v for k, v in settings.items() if k not in ("source", "shard_size")},
        "networks": networks,
        "outdated": outdated(part, stage),
    }


def _fate(part: Part, record: FaceRecord) -> dict[str, Json]:
    label = stages.reader("labels")(part).get(record.face_id, "")
    return {
        "alive": record.alive,
        "rejected_by": record.rejected_by,
        "reason": record.reason,
        "detail": record.detail,
        "label": label,
    }


def as_text(found: Mapping[str, Any]) -> list[str]:
    """A lineage as lines to read, from the source to what is said of the photo."""
    source, made, fate = found["source"], found["made"], found["fate"]
    lines = [
        f"{found['face_id']} of {found['part']}",
        f"  photo      {found['photo']['folder'] or 'the source itself'}  "
        f"sha256 {found['photo']['sha256'] or 'unknown'}",
        f"  source     {source['name'] or 'none: it was drawn'}  sha256 "
        f"{source['sha256'] or 'unknown'}",
        f"  licence    {source['licence'] or 'not stated'}   provenance: "
        f"{source['provenance'] or 'not stated'}",
        f"  made       candidate {made['candidate'] or '-'}, seed {_or(made['seed'])}, psi "
        f"{_or(made['psi'])}, parent {made['parent_id'] or '-'}",
    ]
    for key, value in made["params"].items():
        lines.append(f"             {key}: {str(value)[:LATER]}")
    for step in found["steps"]:
        lines.append(f"  {step['stage']:<10} {_settings(step['settings'])}")
        for one in step["networks"]:
            lines.append(
                f"             {one['role']}: {one['name']}, sha256 {one['sha256'][:16]}..., "
                f"{one['licence'] or 'licence unknown'}"
            )
        for name in step["outdated"]:
            lines.append(f"             {name} has changed since {step['stage']} read it")
    if fate["alive"]:
        lines.append(
            f"  fate       stayed{', people say ' + fate['label'] if fate['label'] else ''}"
        )
    else:
        lines.append(f"  fate       {fate['rejected_by']}: {fate['reason']}: {fate['detail']}")
    if found["said"].get("caption"):
        lines.append(f"  caption    {found['said']['caption']}")
    return lines


def _or(value: object) -> str:
    return "-" if value is None else str(value)


def _settings(settings: Mapping[str, Any]) -> str:
    shown = [
        f"{key} {value}"
        for key, value in settings.items()
        if isinstance(value, str | int | float | bool) and len(str(value)) < 40 and value != ""
    ]
    return ", ".join(shown)[:LATER]
