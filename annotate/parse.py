"""Stage: the class of every pixel of every photo, at the photo's own size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from os.path import commonpath
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np

from sfhq.errors import UsageError
from sfhq.faces.classes import CLASSES
from sfhq.faces.found import POINTS
from sfhq.parts.lineage import faces_stage, provider
from sfhq.parts.part import Part
from sfhq.parts.photos import read_photo, require_photos
from sfhq.parts.records import ColumnType, FaceRecord, Json, Pixels
from sfhq.parts.source import source_of
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import Stage

if TYPE_CHECKING:
    from annotate.labels.reading import Parser
    from annotate.labels.views import View
    from sfhq.pipeline.recipe import Recipe

MASKS, HAIR, PROBABILITIES = "segmentations", "hair", "class_probabilities"
REVISION = 2  # raised when the same probabilities give another map


@dataclass(frozen=True)
class ParseSettings:
    """See `Parse`."""

    network: Annotated[
        Literal["labels", "bisenet"],
        option("The embedded label network, or BiSeNet, whose weights nobody may sell."),
    ] = "labels"
    weights: Annotated[
        Path | None, option("Weights of the network.", default="the embedded pack's or the cache's")
    ] = None
    size: Annotated[
        int | None, option("Side of BiSeNet's crops.", least=64, most=2048, default="512")
    ] = None
    alpha: Annotated[bool, option("Also write hair/: how much of each pixel is hair.")] = False
    probabilities: Annotated[
        bool, option("Also keep the probabilities of the classes in the frame, 0 to 255.")
    ] = False


def _photos(part: Part) -> Path:
    """The folder that holds the photos of a part which came with maps."""
    with source_of(part) as source:
        root = source.root
    folders = {"renders"} if root == part.root else set()
    for record in () if folders else part.faces():
        folders.add(str(Path(record.source).parent))
    return root / commonpath(folders) if folders else root


@dataclass(frozen=True)
class Parse(Stage[ParseSettings]):
    """Writes the image folder `segmentations`: maps of the 19 classes, PNG with a palette.

    An aligned photo is read whole. In another one the faces that `detect` found are read in FFHQ's
    frame and put back; pixels outside of all frames are background. No photo is rejected:
    `parse_flags` says what cannot be trusted, and a photo without a face has no map.

    Attributes:
        parser: the network.
        alpha: also write `hair`, (H, W, 3) greys, 255 where a pixel is all hair.
        probabilities: also write the array `class_probabilities`, (19, S, S) uint8 of the frame.
    """

    name: ClassVar[str] = "parse"
    wants: ClassVar[tuple[str, ...]] = (POINTS,)
    asks: ClassVar[str] = "label reader"
    columns: ClassVar[Mapping[str, ColumnType]] = {
        "class_shares": "numbers",  # share of the photo, of each of the 19 classes
        "head_margins": "numbers",  # left, top, right, bottom, in shares of the photo's side
        "parse_certainty": "number",  # mean lead of the likeliest class over the head, 0 to 1
        "parse_flags": "text",  # words, separated by ", "
    }
    arrays: ClassVar[tuple[str, ...]] = (PROBABILITIES,)
    images: ClassVar[tuple[str, ...]] = (MASKS, HAIR)
    Settings: ClassVar[type[Any]] = ParseSettings
    about: ClassVar[str] = (
        "Left and right are the subject's. Flags: no face, several faces, rough frame, hat, "
        "glasses, one side hidden, truncated, low margin, small photo."
    )
    examples: ClassVar[tuple[str, ...]] = (
        "sfhq parse part-05",
        "sfhq parse part-05 --alpha",
        "sfhq parse part-05 --network bisenet --weights 79999_iter.pth --redo",
    )

    parser: Parser
    alpha: bool = False
    probabilities: bool = False

    @classmethod
    def build(cls, settings: ParseSettings, recipe: Recipe, part: Path) -> Parse:
        """The stage that a recipe describes, with its network."""
        if settings.network == "bisenet":
            from annotate.bisenet.reader import BisenetReader, installed

            weights = settings.weights or installed()
            parser: Parser = BisenetReader.load(weights, settings.size or 512)
        else:
            from annotate.labels.classifier import Classes

            if settings.size is not None:
                raise UsageError("--size is BiSeNet's; leave it out, or add --network bisenet")
            parser = Classes.load(settings.weights)
        return cls(parser, settings.alpha, settings.probabilities)

    def check(self, part: Part) -> None:
        """Refuse photos that are not there, of unknown faces, or whose exact maps are known."""
        from annotate.labels.views import require_faces

        require_photos(part)
        maker = provider(part, MASKS, faces_stage(part))
        if maker not in (None, self.name):
            brought = "brought the" if maker == "import" else "wrote exact"
            raise UsageError(
                f"{part.root}: {maker} {brought} maps of its photos, which parse would replace; "
                f"to read them as photos: sfhq ingest {_photos(part)} OTHER"
            )
        require_faces(part, self.name)

    def settings(self) -> dict[str, Json]:
        """The network, and what is written."""
        return {
            "network": self.parser.name,
            "digest": self.parser.digest,
            "size": self.parser.size,
            "alpha": self.alpha,
            "probabilities": self.probabilities,
            "revision": REVISION,
        }

    def written(self) -> tuple[str, ...]:
        """The maps, and what was asked for beside them."""
        more = (HAIR,) * self.alpha + (PROBABILITIES,) * self.probabilities
        return (*self.columns, MASKS, *more)

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Read the photo of every face."""
        from annotate.labels.views import views

        for record in records:
            photo = read_photo(part, record)
            yield self._one(record, photo, views(part, record, photo, self.parser.size))

    def _one(self, record: FaceRecord, photo: Pixels, found: list[View]) -> FaceRecord:
        from annotate.labels.masks import facts, first_map, over, read_map, shares

        if not found:
            if self.probabilities:
                side = self.parser.size
                nothing = np.zeros((len(CLASSES), side, side), np.uint8)
                record = record.with_array(PROBABILITIES, nothing)
            return record.with_columns(
                class_shares=[], head_margins=[], parse_certainty=0.0, parse_flags="no face"
            )
        planes, soft = self.parser.soft(np.stack([view.crop for view in found]))
        if len(found) == 1 and self.parser.sided and not self.alpha:
            maps = [first_map(planes, found[0].frame)]
        else:
            maps = [
                read_map(
                    planes[i],
                    view.frame,
                    sided=self.parser.sided,
                    alpha=soft[i] if self.alpha else None,
                )
                for i, view in enumerate(found)
            ]
        said = facts(maps[0])
        flags = {*said.flags, *found[0].flags, *(["several faces"] if len(found) > 1 else [])}
        whole = reduce(over, maps)
        if self.probabilities:
            levels = (planes[0] * 255).round().clamp(0, 255).byte().numpy()
            record = record.with_array(PROBABILITIES, levels)
        if whole.alpha is not None:
            record = record.with_image(HAIR, np.repeat(whole.alpha[..., None], 3, 2))
        return record.with_image(MASKS, whole.classes).with_columns(
            class_shares=shares(whole.classes),
            head_margins=list(said.margins),
            parse_certainty=said.certainty,
            parse_flags=", ".join(sorted(flags)),
        )
