"""Kaggle: photos as files, manifest.csv with their labels, and dataset-metadata.json."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import ClassVar

from sfhq.errors import UsageError
from sfhq.export.card import KEYWORDS, summary_of, title_of
from sfhq.export.files import Written
from sfhq.export.formats.folder import Folder, put
from sfhq.export.job import Job, require
from sfhq.export.manifest import manifest_schema
from sfhq.parts.records import Json

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[a-z0-9][a-z0-9-]{2,49}")
TITLE, SUBTITLE = (6, 50), (20, 80)  # characters
LICENCES = (
    *("CC0-1.0", "CC-BY-SA-4.0", "GPL-2.0", "ODbL-1.0", "CC-BY-NC-SA-4.0", "unknown", "DbCL-1.0"),
    *("CC-BY-SA-3.0", "copyright-authors", "other", "reddit-api", "world-bank", "CC-BY-4.0"),
    *("CC-BY-NC-4.0", "PDDL", "CC-BY-3.0", "CC-BY-3.0-IGO", "US-Government-Works"),
    *("CC-BY-NC-SA-3.0-IGO", "CDLA-Permissive-1.0", "CDLA-Sharing-1.0", "CC-BY-ND-4.0"),
    *("CC-BY-NC-ND-4.0", "ODC-BY-1.0", "LGPL-3.0", "AGPL-3.0", "FDL-1.3"),
    *("EU-ODP-Legal-Notice", "apache-2.0", "GPL-3.0"),
)


class Kaggle(Folder):
    """See the module."""

    name: ClassVar[str] = "kaggle"
    summary: ClassVar[str] = "Kaggle dataset"
    points_in_manifest: ClassVar[bool] = True

    def check(self, job: Job) -> None:
        """Refuse an id or a title that Kaggle refuses."""
        given = require(job.about.id, "--id", "Kaggle wants owner/slug, such as me/my-faces")
        if not ID.fullmatch(given):
            raise UsageError(
                f"--id {given!r}: wanted owner/slug with a slug of 3 to 50 small letters, digits "
                "and dashes, such as me/my-faces"
            )
        title = title_of(job)
        if not TITLE[0] <= len(title) <= TITLE[1]:
            raise UsageError(
                f"title {title!r}: {len(title)} characters; Kaggle wants {TITLE[0]} to "
                f"{TITLE[1]}; give another --title"
            )

    def finish(self, job: Job, sums: Mapping[str, Written]) -> dict[str, Written]:
        """dataset-metadata.json."""
        text = json.dumps(_metadata(job), indent=1, ensure_ascii=False) + "\n"
        return {"dataset-metadata.json": put(job, "dataset-metadata.json", text.encode())}


def _metadata(job: Job) -> dict[str, Json]:
    fields = [
        {"name": name, "type": _type(str(kind))}
        for name, kind in manifest_schema(job, points=True).items()
    ]
    return {
        "title": title_of(job),
        "id": job.about.id,
        "subtitle": f"{len(job.choice)} synthetic face photos with labels"[: SUBTITLE[1]],
        "description": summary_of(job),
        "isPrivate": True,
        "licenses": [{"name": kaggle_licence(job.licences())}],
        "keywords": list(KEYWORDS),
        "collaborators": [],
        "expectedUpdateFrequency": "never",
        "userSpecifiedSources": "made with sfhq; manifest.csv names the source of every photo",
        "resources": [
            {
                "path": "manifest.csv",
                "description": "one row a photo: its files, its lineage and its labels",
                "schema": {"fields": fields},
            }
        ],
    }


def kaggle_licence(licences: list[str]) -> str:
    """The one name that Kaggle knows for some licences."""
    if len(licences) != 1:
        return "other"
    known = {name.lower(): name for name in LICENCES}
    return known.get(licences[0].lower(), "other" if licences[0] else "unknown")


def _type(kind: str) -> str:
    words = {"int64": "integer", "int32": "integer", "double": "number", "bool": "boolean"}
    return words.get(kind, "string")
