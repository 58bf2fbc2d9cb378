"""What a part may be used for, and why: the terms of its sources and of all networks behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from sfhq.parts.join import joined
from sfhq.parts.lineage import about_stages, faces_stage
from sfhq.parts.part import Part
from sfhq.publish.networks import Network, identify, noted
from sfhq.weights.table import Commercial

PHOTOS = "photos"
# Stage -> the layer of a part that it decides.
LAYERS = {
    **dict.fromkeys(("ingest", "align", "invert", "synthesize", "sample", "render"), PHOTOS),
    "detect": "68 points",
    "embed": "embeddings, and which near-duplicates stayed",
    "score": "scores",
    "parse": "masks",
    "landmark": "110 points",
    "attribute": "attributes and quality",
    "probe": "attributes of probes",
    "caption": "captions",
    "rewrite": "captions",
}
# Layers that others were read from: what binds the first binds the second at most as "unclear".
READ_FROM = {
    "captions": ("attributes and quality",),
    "attributes of probes": ("embeddings, and which near-duplicates stayed",),
}
WORST: tuple[Commercial, ...] = ("yes", "unclear", "no")
# SPDX identifiers -> what they come to.
SPDX: dict[str, tuple[str, Commercial]] = {
    "CC0-1.0": ("public domain", "yes"),
    "PDDL-1.0": ("public domain", "yes"),
    "MIT": ("keep the notice", "yes"),
    "Apache-2.0": ("keep the notice", "yes"),
    "BSD-3-Clause": ("keep the notice", "yes"),
    "CDLA-Permissive-2.0": ("keep the licence text; results are free", "yes"),
    "CC-BY-3.0": ("name the authors", "yes"),
    "CC-BY-4.0": ("name the authors", "yes"),
    "CC-BY-SA-3.0": ("name the authors, share under the same licence", "yes"),
    "CC-BY-SA-4.0": ("name the authors, share under the same licence", "yes"),
}


@dataclass(frozen=True)
class Term:
    """One thing that binds a layer of a part.

    Attributes:
        layer: what it binds, such as "photos" or "masks".
        what: the source or the network.
        licence: identifier; empty where none is stated.
        terms: what it says, in a sentence.
        commercial: whether it allows commercial use of this layer.
        faces: how many photos it touches; None for all.
    """

    layer: str
    what: str
    licence: str
    terms: str
    commercial: Commercial
    faces: int | None = None


@dataclass(frozen=True)
class RollUp:
    """The terms of a part.

    Attributes:
        terms: everything that binds it, the strictest of each layer first.
        faces: how many photos stayed.
    """

    terms: tuple[Term, ...]
    faces: int

    def commercial(self, layer: str | None = None) -> Commercial:
        """Whether commercial use of a layer is allowed; of all layers together for None."""
        found = [t.commercial for t in self.terms if layer in (None, t.layer)]
        return max(found, key=WORST.index, default="unclear")

    def layers(self) -> list[str]:
        """The layers that the part has."""
        return list(dict.fromkeys(t.layer for t in self.terms))

    def to_dict(self) -> dict[str, object]:
        """As JSON can hold it."""
        return {
            "faces": self.faces,
            "commercial": self.commercial(),
            "layers": {layer: self.commercial(layer) for layer in self.layers()},
            "terms": [asdict(t) for t in self.terms],
        }


def licence_terms(licence: str) -> tuple[str, Commercial]:
    """What a licence of a source comes to, and whether it allows commercial use.

    Args:
        licence: as the user stated it; SPDX identifiers are understood.
    """
    if not licence:
        return "no licence is stated, so nobody has allowed anything", "unclear"
    if licence in SPDX:
        return SPDX[licence]
    words = licence.upper().replace("_", "-").replace(" ", "-").split("-")
    if "NC" in words or "NONCOMMERCIAL" in words:
        return "no commercial use", "no"
    if "ND" in words:
        return "nothing that derives from it may be shared", "no"
    return "not a licence that sfhq knows; read it", "unclear"


def roll_up(part: Part, also: Mapping[str, Network] | None = None) -> RollUp:
    """The terms of a part: of the sources of photos that stayed, and of the networks of its stages.

    This is our reading and no legal advice.

    Args:
        part: the part.
        also: networks by their digests, beside those that are known.

    Raises:
        UsageError: nothing has run to its end.
        IntegrityError: damaged records.
    """
    alive = [r for r in joined(part) if r.alive]
    terms = [
        Term(PHOTOS, f"sources: {text}", licence, *licence_terms(licence), faces=count)
        for (licence, text), count in sorted(
            Counter((r.licence, _from(r.provenance, r.source)) for r in alive).items()
        )
    ]
    faces = faces_stage(part)
    chain = [s for s in part.stages() if part.stage_info(s)["kind"] != "about"]
    for stage in (*chain, *about_stages(part, faces)):
        terms += _of_stage(part, stage, also)
    for layer, lower in READ_FROM.items():
        if layer in _made(part):
            worst = RollUp(tuple(t for t in terms if t.layer in lower), 0)
            if worst.terms and worst.commercial() != "yes":
                terms.append(
                    Term(layer, f"read from {', '.join(lower)}", "", "as above", "unclear")
                )
    unique = dict.fromkeys(terms)
    order = {layer: place for place, layer in enumerate(dict.fromkeys(t.layer for t in unique))}
    rows = sorted(unique, key=lambda t: (order[t.layer], -WORST.index(t.commercial), t.what))
    return RollUp(tuple(rows), len(alive))


def _made(part: Part) -> set[str]:
    return {LAYERS[s] for s in part.stages() if s in LAYERS}


def _from(provenance: str, source: str) -> str:
    return provenance or ("drawn, no source" if not source else "provenance not stated")


def _of_stage(part: Part, stage: str, also: Mapping[str, Network] | None) -> Iterable[Term]:
    layer = LAYERS.get(stage, stage)
    settings = part.stage_info(stage)["settings"]
    found = list(noted(settings))
    if stage == "landmark" and settings.get("points") == "dlib" and "detect" in part.stages():
        found += noted(part.stage_info("detect")["settings"])
    for key, digest in found:
        network = identify(digest, key, also)
        commercial, terms = network.commercial, network.terms
        if stage == "align" and commercial == "no":
            # The crop's place is all that the photos have of it.
            commercial, terms = "unclear", f"{terms}; photos have only the crop's place from it"
        yield Term(layer, f"{stage}: {network.name}", network.licence, terms, commercial)


def as_text(found: RollUp, name: str) -> list[str]:
    """A roll-up as lines to read."""
    words = {"yes": "allowed", "unclear": "unclear", "no": "NOT allowed"}
    lines = [f"{name}: {found.faces} photos; commercial use of everything together: "]
    lines[0] += words[found.commercial()]
    for layer in found.layers():
        lines.append(f"{layer}: commercial use {words[found.commercial(layer)]}")
        for term in found.terms:
            if term.layer == layer:
                count = "" if term.faces is None else f" ({term.faces} photos)"
                said = term.licence or "no licence"
                lines.append(f"  {term.commercial:<8} {said:<14} {term.what}{count}: {term.terms}")
    lines.append("This is a reading of the terms and no legal advice.")
    return lines
