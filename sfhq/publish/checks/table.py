"""The table of checks: what each is called, what it needs and how serious its findings are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sfhq.faces.found import POINTS
from sfhq.publish.checks import audits, balance, faces, people, whole
from sfhq.publish.checks.context import Context, Face
from sfhq.publish.checks.result import Result, Severity

OfFace = Callable[[Face, Context], Iterator[str]]
OfPart = Callable[[Context, Result], None]


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: its word.
        title: what holds where it passes.
        severity: of its findings.
        of_face: what it says of one face; or
        of_part: what it says of a part.
        needs: columns, arrays or image folders, of which one at least must be there.
    """

    name: str
    title: str
    severity: Severity
    of_face: OfFace | None = None
    of_part: OfPart | None = None
    needs: tuple[str, ...] = ()


CHECKS: tuple[Check, ...] = (
    Check(
        "records",
        "descriptions and records of all stages can be read, and none is outdated",
        "integrity",
        of_part=whole.records,
    ),
    Check(
        "arrays",
        "every array is what was written",
        "integrity",
        of_part=whole.arrays,
    ),
    Check(
        "files",
        "every image is there and is what was written",
        "integrity",
        of_face=faces.files,
    ),
    Check(
        "strays", "no image lies in the part that no record names", "quality", None, whole.strays
    ),
    Check("sizes", "all photos have one size and are square", "integrity", None, whole.sizes),
    Check(
        "marks",
        "every photo carries the marks it was written with, and they hold",
        "integrity",
        of_face=faces.marks,
    ),
    Check(
        "masks",
        "masks have their photo's size and known classes",
        "integrity",
        of_face=faces.masks,
        needs=("segmentations",),
    ),
    Check(
        "landmarks",
        "points have their shape, visible ones lie in the photo, those of the face on the mask's "
        "head",
        "quality",
        of_face=faces.landmarks,
        needs=("landmarks_110", POINTS, "render_landmarks"),
    ),
    Check(
        "captions",
        "captions say their facts, and these agree with the attributes",
        "integrity",
        of_face=faces.captions,
        needs=("caption",),
    ),
    Check(
        "aligned",
        "every photo shows one face in FFHQ's frame",
        "quality",
        of_face=faces.aligned,
        needs=(POINTS,),
    ),
    Check(
        "duplicates",
        "no two photos are the same or near-duplicates, here or in earlier parts",
        "integrity",
        of_part=whole.duplicates,
    ),
    Check(
        "export",
        "every file of the export is what its SHA256SUMS says",
        "integrity",
        of_part=whole.exports,
    ),
    Check(
        "splits",
        "no source is in two splits of the export",
        "integrity",
        of_part=whole.splits,
    ),
    Check(
        "split-people",
        "no face looks like one person in two splits of the export",
        "quality",
        of_part=whole.split_people,
        needs=("embedding",),
    ),
    Check(
        "identities",
        "how many people the photos show",
        "figures",
        of_part=people.identities,
        needs=("embedding",),
    ),
    Check(
        "nearest-real",
        "no photo is as near to a real photograph as one person is to herself",
        "quality",
        of_part=people.nearest_real,
        needs=("embedding",),
    ),
    Check(
        "shortcuts",
        "colour and file size alone do not tell keep from reject, or source from source",
        "quality",
        of_part=audits.shortcuts,
    ),
    Check(
        "skin",
        "making photos of art neither lightens nor darkens skin",
        "quality",
        of_part=audits.skin,
        needs=("images",),
    ),
    Check(
        "balance",
        "how many photos look how",
        "figures",
        of_part=balance.balance,
        needs=("years", "skin_tone"),
    ),
    Check(
        "targets",
        "shares that were aimed at are reached",
        "quality",
        of_part=balance.targets,
    ),
)
