"""Croissant 1.1: photos as files, and croissant.json, which describes them for machines.

The document has the fields of responsible AI (RAI 1.0) that venues ask for. Its records join
manifest.csv with the photos.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from sfhq.errors import UsageError
from sfhq.export.card import KEYWORDS, summary_of, title_of
from sfhq.export.files import Written
from sfhq.export.formats.folder import Folder, put
from sfhq.export.job import Job, require
from sfhq.export.manifest import manifest_schema
from sfhq.parts.records import Json

CONFORMS = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
MIME = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
LICENCE_PAGE = "https://spdx.org/licenses/{}.html"
CR = (  # terms of Croissant 1.1
    *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field"),
    *("fileProperty", "fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset"),
    *("jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
# The context of Croissant 1.1 in full: readers warn about any other.
CONTEXT: dict[str, Json] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "prov": "http://www.w3.org/ns/prov#",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "name": {"@container": "@language"},
    **{term: f"cr:{term}" for term in CR},
}


class Croissant(Folder):
    """See the module."""

    name: ClassVar[str] = "croissant"
    summary: ClassVar[str] = "Croissant 1.1 with RAI fields"
    points_in_manifest: ClassVar[bool] = True

    def check(self, job: Job) -> None:
        """Refuse an export whose licence nobody stated: Croissant wants one."""
        licences = job.licences()
        if licences == [""]:
            require("", "--licence", "the photos state none, and Croissant wants one")
        if len(licences) > 1:
            named = ", ".join(name or "none stated" for name in licences)
            raise UsageError(
                f"the photos have {len(licences)} licences ({named}); say what the whole may be "
                "used under: --licence"
            )

    def finish(self, job: Job, sums: Mapping[str, Written]) -> dict[str, Written]:
        """croissant.json."""
        value = document(job, sums["manifest.csv"])
        text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        return {"croissant.json": put(job, "croissant.json", text.encode())}


def document(job: Job, manifest: Written) -> dict[str, Json]:
    """The description of an export.

    Args:
        job: whose pieces are finished.
        manifest: size and digest of manifest.csv.
    """
    licence, files = job.licences()[0], _distribution(job, manifest)
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS),
        "name": job.choice.name,
        "alternateName": title_of(job),
        "description": summary_of(job),
        "license": licence if "/" in licence else LICENCE_PAGE.format(licence),
        "keywords": list(KEYWORDS),
        "isLiveDataset": False,
        **_url(job),
        "version": "1.0.0",
        "citeAs": f"{title_of(job)}, made with sfhq",
        **({"datePublished": job.about.date} if job.about.date else {}),
        "distribution": files,
        "recordSet": [_splits(job), _faces(job), *([_masks()] if len(files) > 2 else [])],
        **_responsible(job),
    }


def _url(job: Job) -> dict[str, str]:
    given = job.about.id
    if not given:
        return {}
    return {"url": given if "://" in given else f"https://huggingface.co/datasets/{given}"}


def _distribution(job: Job, manifest: Written) -> list[Json]:
    suffixes = sorted({e.path.rsplit(".", 1)[1] for p in job.pieces() for e in p.entries})
    found: list[Json] = [
        {
            "@type": "cr:FileObject",
            "@id": "manifest.csv",
            "name": "manifest.csv",
            "contentUrl": "manifest.csv",
            "contentSize": f"{manifest.size} B",
            "encodingFormat": "text/csv",
            "sha256": manifest.sha256,
        },
        {
            "@type": "cr:FileSet",
            "@id": "photos",
            "name": "photos",
            "description": "the photos",
            "encodingFormat": [MIME[s] for s in suffixes] if suffixes[1:] else MIME[suffixes[0]],
            "includes": [f"*/images/*/*.{s}" for s in suffixes],
        },
    ]
    if any(e.mask for p in job.pieces() for e in p.entries):
        found.append(
            {
                "@type": "cr:FileSet",
                "@id": "maps",
                "name": "maps",
                "description": "ids of the classes of every pixel, as greys",
                "encodingFormat": "image/png",
                "includes": "*/masks/*/*.png",
            }
        )
    return found


def _splits(job: Job) -> dict[str, Json]:
    words = {"train": "Training", "validation": "Validation", "test": "Test"}
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/url", "name": "url", "dataType": "sc:URL"},
        ],
        "data": [
            {
                "splits/name": name,
                "splits/url": f"http://mlcommons.org/croissant/{words[name]}",
            }
            for name in job.choice.names()
        ],
    }


def _faces(job: Job) -> dict[str, Json]:
    """A row a photo. The photos stand left of the join: readers take the bytes from there."""
    table = {"@id": "manifest.csv"}
    fields: list[Json] = [_file_field("faces", "photos"), _content("faces", "photos")]
    fields[0]["source"]["transform"] = {"regex": "^(.+)$"}  # makes a text of a path, for the join
    fields[0]["references"] = {"fileObject": table, "extract": {"column": "file_name"}}
    for name, kind in manifest_schema(job, points=True).items():
        if name != "file_name":
            source = {"fileObject": table, "extract": {"column": name}}
            fields.append(
                {
                    "@type": "cr:Field",
                    "@id": f"faces/{name}",
                    "name": name,
                    "dataType": _type(str(kind)),
                    "source": source,
                }
            )
    return {
        "@type": "cr:RecordSet",
        "@id": "faces",
        "name": "faces",
        "description": "a row a photo: the photo, its lineage, its labels",
        "key": {"@id": "faces/key"},
        "field": fields,
    }


def _masks() -> dict[str, Json]:
    return {
        "@type": "cr:RecordSet",
        "@id": "masks",
        "name": "masks",
        "description": "the map of classes of a photo; faces/mask_file_name leads here",
        "key": {"@id": "masks/file_name"},
        "field": [_file_field("masks", "maps"), _content("masks", "maps")],
    }


def _file_field(rows: str, files: str) -> dict[str, Json]:
    return {
        "@type": "cr:Field",
        "@id": f"{rows}/file_name",
        "name": "file_name",
        "dataType": "sc:Text",
        "source": {"fileSet": {"@id": files}, "extract": {"fileProperty": "fullpath"}},
    }


def _content(rows: str, files: str) -> dict[str, Json]:
    return {
        "@type": "cr:Field",
        "@id": f"{rows}/image",
        "name": "image",
        "dataType": "sc:ImageObject",
        "source": {"fileSet": {"@id": files}, "extract": {"fileProperty": "content"}},
    }


def _type(kind: str) -> str:
    words = {"int64": "sc:Integer", "int32": "sc:Integer", "double": "sc:Float"}
    return words.get(kind, "sc:Boolean" if kind == "bool" else "sc:Text")


def _responsible(job: Job) -> dict[str, Any]:
    """The RAI fields, and where the data come from."""
    parts = [
        {"@type": "prov:Activity", "prov:label": f"{part.name}: {stage}"}
        for part in job.choice.parts
        for stage in part.stages()
    ]
    sources = [
        f"{source or 'source not stated'} ({licence or 'licence not stated'})"
        for source, licence in sorted(job.choice.stated)
    ]
    return {
        "rai:hasSyntheticData": True,
        "rai:dataCollection": "The photos were made or collected by the steps that "
        "prov:wasGeneratedBy lists; manifest.csv has the numbers behind every one.",
        "rai:dataCollectionType": ["Synthetic"],
        "rai:dataLimitations": "Labels are what networks or the renderer say of a picture. Photos "
        "inherit the limits of what made them; poses, hats and covered faces are rare.",
        "rai:dataBiases": "Generators repeat the biases of the photos that they were trained on: "
        "ages, skin tones and looks are not evenly spread. manifest.csv allows to count them.",
        "rai:personalSensitiveInformation": "The photos are meant to show nobody who lives. Looks, "
        "age and skin are described as they appear in synthetic pictures.",
        "rai:dataUseCases": "Training and testing of face parsing, landmarks and generators. Not "
        "for telling who somebody is, and not for sorting real people.",
        "rai:dataSocialImpact": "Synthetic faces spare real people's photos; they can also be "
        "taken for photos of people. Each one says in its metadata that it is synthetic.",
        "prov:wasDerivedFrom": sources,
        "prov:wasGeneratedBy": parts,
    }
