"""Stage: how much of the person in the art each candidate photo keeps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sfhq.parts.folders import SYNTHETIC_FOLDER
from sfhq.parts.part import Part
from sfhq.parts.photos import read_pixels
from sfhq.parts.records import ColumnType, FaceRecord, Json, Pixels
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import Stage

if TYPE_CHECKING:
    from annotate.labels.reading import Reader
    from sfhq.pipeline.recipe import Recipe

REVISION = 1  # raised when the same pictures give other numbers
# Median differences between the art of one rendered person and the photograph of another of the
# same sex (180 people, seven styles): 1 - cosine of what the network sees of the whole face, and
# distances in CIELAB.
STRANGERS = {"face": 0.395, "skin": 22.7, "hair": 18.2}


@dataclass(frozen=True)
class ResembleSettings:
    """See `Resemble`."""

    keep: Annotated[
        int | None,
        option("Keep only this many candidates per face, those that keep the person.", least=1),
    ] = None
    weights: Annotated[
        Path | None, option("Weights of the label network.", default="the embedded pack's")
    ] = None


@dataclass(frozen=True)
class Seen:
    """What is compared of a picture.

    Attributes:
        face: (F,) what the network sees of the whole face: age, sex, shape, glasses, beard.
        skin, hair: mean colour in CIELAB, (3,); None where too little of it is seen.
    """

    face: npt.NDArray[np.float64]
    skin: npt.NDArray[np.float64] | None
    hair: npt.NDArray[np.float64] | None


def resemblance(art: Seen, photo: Seen) -> float:
    """1 for the same looks; about 0.37 for two strangers; 0 for nothing in common.

    The mean of exp(-d / D) for the face, the colour of the skin and that of the hair; D is the
    median of strangers. Hair that only one of the two has counts as nothing in common; what neither
    shows does not count.
    """
    lengths = np.linalg.norm(art.face) * np.linalg.norm(photo.face)
    apart = 1 - float(art.face @ photo.face) / max(float(lengths), 1e-9)
    found = [math.exp(-max(apart, 0.0) / STRANGERS["face"])]
    for name, a, b in (("skin", art.skin, photo.skin), ("hair", art.hair, photo.hair)):
        if a is not None and b is not None:
            found.append(math.exp(-float(np.linalg.norm(a - b)) / STRANGERS[name]))
        elif a is not None or b is not None:
            found.append(0.0)
    return sum(found) / len(found)


@dataclass(frozen=True)
class Resemble(Stage[ResembleSettings]):
    """Writes `resemblance`, 0 to 1, of every candidate to the art that it was made from.

    `dedup` keeps the candidate with the highest one where there is no score.

    Attributes:
        reader: the label network.
        digest: sha256 of its file.
        keep: number of candidates to keep per face; None for all.
    """

    name: ClassVar[str] = "resemble"
    reads: ClassVar[tuple[str, ...]] = ("aligned", SYNTHETIC_FOLDER)
    columns: ClassVar[Mapping[str, ColumnType]] = {"resemblance": "number"}
    Settings: ClassVar[type[Any]] = ResembleSettings
    about: ClassVar[str] = (
        "The label network reads art and photo; compared are what it sees of the whole face, and "
        "the colours of skin and hair. 1 is the same looks, two strangers have about 0.37. It says "
        "how alike two pictures look, not who somebody is."
    )
    examples: ClassVar[tuple[str, ...]] = (
        "sfhq resemble part-05 --keep 2",
        "sfhq table part-05 --columns candidate,resemblance --where 'resemblance > 0.6'",
    )

    reader: Reader
    digest: str
    keep: int | None = None

    @classmethod
    def build(cls, settings: ResembleSettings, recipe: Recipe, part: Path) -> Resemble:
        """The stage that a recipe describes, with its network."""
        from sfhq import stages

        reader, digest = stages.network("label reader")(settings.weights)
        return cls(reader, digest, settings.keep)

    def settings(self) -> dict[str, Json]:
        """The network and how many candidates stay."""
        return {"digest": self.digest, "keep": self.keep, "revision": REVISION}

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Compare every candidate with the crop of its parent."""
        for parent, group in groupby(records, key=lambda r: r.parent_id):
            family = list(group)
            art = self.see(read_pixels(part, replace(family[0], face_id=parent), "aligned"))
            found = [
                round(resemblance(art, self.see(read_pixels(part, r, SYNTHETIC_FOLDER))), 4)
                for r in family
            ]
            order = sorted(range(len(family)), key=lambda i: (-found[i], i))
            kept = set(order if self.keep is None else order[: self.keep])
            for i, (record, value) in enumerate(zip(family, found, strict=True)):
                told = record.with_columns(resemblance=value)
                if i in kept:
                    yield told
                    continue
                yield told.reject(
                    self.name,
                    "keeps less of the person",
                    f"resemblance {value:.3f} is not among the highest {self.keep} of its face",
                )

    def see(self, picture: Pixels) -> Seen:
        """What is compared of an aligned picture (H, W, 3) uint8."""
        from annotate.labels.colour import class_colour
        from annotate.labels.masks import read_map
        from annotate.labels.views import whole_view

        view = whole_view(picture, self.reader.size)
        reading = self.reader.read(view.crop[None])
        classes = read_map(reading.parsing[0], view.frame).classes
        colours = {}
        for name in ("skin", "hair"):
            colour = class_colour(picture, classes, name)
            known = None if colour is None else (colour.lightness, colour.a, colour.b)
            colours[name] = None if known is None else np.array(known)
        return Seen(reading.whole[0].double().numpy(), **colours)
