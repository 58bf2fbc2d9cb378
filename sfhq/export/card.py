"""The front page of an export for Hugging Face: YAML for machines, counts for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from sfhq.export.choose import Face
from sfhq.export.face_files import photo_mark
from sfhq.export.files import Written, writing
from sfhq.export.item import items
from sfhq.export.job import Job
from sfhq.images import TRAINED, encode_image, read_image
from sfhq.parts.records import Json

KEYWORDS = ("synthetic", "faces", "face-parsing", "facial-landmarks")
TASKS = ("image-segmentation", "keypoint-detection", "unconditional-image-generation")
PICTURE = "faces.jpg"
SHOWN, CELL = 24, 128  # photos in the picture, and the side of each in pixels
SHOW = "attributes"  # counted apart from the rest
MOST_KINDS = 12  # rows of a table of counts
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
KNOWN = (  # licences that the Hub knows
    *("apache-2.0", "mit", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0"),
    *("cc-by-sa-4.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    *("cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cdla-permissive-1.0", "cdla-permissive-2.0"),
    *("cdla-sharing-1.0", "odbl", "pddl", "odc-by", "gpl-3.0", "bsd-3-clause", "unlicense"),
)


def title_of(job: Job) -> str:
    """The title that was given, else the name."""
    return job.about.title or job.choice.name


def summary_of(job: Job) -> str:
    """What the export is, in a few sentences."""
    counts = ", ".join(f"{n} in {name}" for name, n in job.choice.counts().items())
    return (
        f"{len(job.choice)} photos of people who do not exist, with their labels: {counts}. "
        "Photos of one source or of one face are in one split. Labels are what networks and the "
        "renderer say of synthetic pictures; they are not meant for real people. Made with sfhq."
    )


def write_card(
    job: Job, form: str, files: Mapping[str, str], features: Mapping[str, Json] | None = None
) -> dict[str, Written]:
    """README.md and its picture.

    Args:
        job: whose pieces are finished.
        form: name of the format.
        files: split -> pattern of its files.
        features: columns as `datasets` describes them; None where files do not carry them.
    """
    counts, sheet, marks = _survey(job)
    mark = marks.pop() if len(marks) == 1 else TRAINED
    with writing(job.folder / PICTURE) as picture:
        picture.write(encode_image(np.asarray(sheet), "JPEG", mark, quality=88))
    with writing(job.folder / "README.md") as file:
        head = _front_matter(job, form, files, features)
        file.text("---\n" + _yaml(head) + "---\n\n" + _text(job, counts))
    return {"README.md": file.written(), PICTURE: picture.written()}


def _survey(job: Job) -> tuple[dict[str, Counter[str]], Image.Image, set[str | None]]:
    """What the photos state, counted; some of them in rows, spread evenly; and their marks."""
    marks: set[str | None] = set()
    count = min(SHOWN, len(job.choice))
    wanted = {i * len(job.choice) // count for i in range(count)}
    columns = min(8, count)
    sheet = Image.new("RGB", (columns * CELL, -(-count // columns) * CELL), "white")
    place = 0
    counters: dict[str, Counter[str]] = {}
    for split in job.choice.names():
        for item in items(job.choice, split, job.look):
            _count(counters, item.face)
            if int(item.face.key[-8:]) in wanted:
                marks.add(photo_mark(item.face.record))
                image = read_image(item.photo[0])
                image.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
                sheet.paste(image, (place % columns * CELL, place // columns * CELL))
                place += 1
    return counters, sheet, marks


def _count(counters: dict[str, Counter[str]], face: Face) -> None:
    record = face.record
    said: dict[str, Any] = {
        "part": face.part_name,
        "licence": record.licence or "none stated",
        "provenance": record.provenance or "none stated",
        "candidate": record.candidate or "none",
    }
    labels = record.params.get("attributes")
    for name, value in labels.items() if isinstance(labels, dict) else ():
        counters.setdefault(SHOW, Counter())[name] += value is True
    present = record.about.get("attributes_present")
    for name in present.split(", ") if isinstance(present, str) and present else ():
        counters.setdefault(SHOW, Counter())[name] += 1
    for name, value in said.items():
        counters.setdefault(name, Counter())[str(value)] += 1


def _front_matter(
    job: Job, form: str, files: Mapping[str, str], features: Mapping[str, Json] | None
) -> dict[str, Json]:
    count = len(job.choice)
    # JSON is YAML: values of several levels are written as JSON.
    head: dict[str, Json] = {
        "pretty_name": title_of(job),
        **_licence(job.licences()),
        "annotations_creators": ["machine-generated"],
        "language": ["en"],
        "size_categories": [next((word for most, word in SIZES if count < most), "n>1M")],
        "task_categories": list(TASKS),
        "tags": [*KEYWORDS, "sfhq", form],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": name, "path": path} for name, path in files.items()],
            }
        ],
    }
    if features is not None:
        splits: list[Json] = [
            {"name": name, "num_examples": n, "num_bytes": _bytes(job, name)}
            for name, n in job.choice.counts().items()
        ]
        size = sum(_bytes(job, name) for name in job.choice.names())
        head["dataset_info"] = {
            "config_name": "default",
            "features": [{"name": name, **_in_yaml(f)} for name, f in features.items()],
            "splits": splits,
            "download_size": size,
            "dataset_size": size,
        }
    return head


def _bytes(job: Job, split: str) -> int:
    return sum(w.size for p in job.pieces() if p.split == split for w in p.files.values())


def _in_yaml(feature: Mapping[str, Json]) -> dict[str, Json]:
    """A feature in the short form of the front matter."""
    if feature["_type"] == "Image":
        return {"dtype": "image"}
    if feature["_type"] == "Value":
        return {"dtype": feature["dtype"]}
    inner = _in_yaml(feature["feature"])
    return {"sequence": inner["dtype"] if set(inner) == {"dtype"} else inner}


def _licence(licences: list[str]) -> dict[str, Json]:
    """The licence as the Hub wants it."""
    if len(licences) == 1 and licences[0].lower() in KNOWN:
        return {"license": licences[0].lower()}
    named = ", ".join(name or "none stated" for name in licences)
    return {"license": "other", "license_name": "see-column-licence", "license_details": named}


def _yaml(head: Mapping[str, Json]) -> str:
    return "".join(f"{key}: {json.dumps(v, ensure_ascii=False)}\n" for key, v in head.items())


def _text(job: Job, counters: dict[str, Counter[str]]) -> str:
    choice = job.choice
    lines = [f"# {title_of(job)}", "", f"![some of the photos]({PICTURE})", "", summary_of(job), ""]
    lines += _table("split", choice.counts())
    lines += ["## How the splits were made", "", *_proofs(job), ""]
    lines += ["## Where the photos come from", ""]
    for name, counter in counters.items():
        if name != SHOW:
            lines += _table(name, dict(_most(counter)))
    attributes = counters.get(SHOW)
    if attributes:
        lines += ["## What they show", ""]
        lines += _table("attribute", dict(sorted(attributes.items(), key=lambda i: (-i[1], i[0]))))
    return "\n".join(lines).rstrip() + "\n"


def _most(counter: Counter[str]) -> list[tuple[str, int]]:
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(n for _, n in ordered[MOST_KINDS:])
    return [*ordered[:MOST_KINDS], *([("others", rest)] if rest else [])]


def _table(name: str, counts: Mapping[str, int]) -> list[str]:
    rows = [f"| {_cell(key)} | {n} |" for key, n in counts.items()]
    return [f"| {name} | photos |", "|---|---:|", *rows, ""]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _proofs(job: Job) -> list[str]:
    """How photos were grouped, for each part."""
    lines = ["Photos that were made from one source, or from one another, are in one split."]
    for part, cosine in job.choice.same.items():
        if cosine is None:
            lines.append(f"Part {part} has no vectors, so faces that look alike were not compared.")
        else:
            lines.append(
                f"In part {part} photos whose vectors have a cosine above {cosine} are, too."
            )
    lines.append(f"The largest such group holds {job.choice.largest:.1%} of the photos.")
    return lines
