"""Stage: people from numbers, as pictures with exact labels.

Writes for each face `renders/` (the photograph), `art/` (the same in an art style, if one was
asked for), `segmentations/` (19 classes), `bare/` (the classes without hair, hats, glasses, clothes
and jewellery), `covers/` (which of those would cover a pixel, a bit each), and the array
`render_landmarks`. Attributes and the numbers behind them are in the record's `params`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from threadpoolctl import ThreadpoolController

from sfhq.errors import UsageError
from sfhq.images import encode_image, mark_of
from sfhq.parts.folders import ART_FOLDER, RENDER_FOLDER
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Json
from sfhq.pipeline.settings import option
from sfhq.pipeline.stage import SourceStage, positive
from sfhq.render.head.assets import need
from sfhq.render.people.recipe import RenderRecipe

REVISION = 3  # of the people: raised when a seed gives another picture
LICENCE = "CC0-1.0"
SIZES = (64, 1024)
SAMPLES = 3


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  its BLAS is another than numpy's

    return ThreadpoolController()


def one_thread() -> AbstractContextManager[Any]:
    """Linear algebra on one thread: faster on small matrices, and alike on every machine."""
    limits: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limits


if TYPE_CHECKING:
    from sfhq.pipeline.recipe import Recipe


@dataclass(frozen=True)
class RenderSettings:
    """See `Render`."""

    count: Annotated[int, option("How many faces.", least=1)]
    seed: Annotated[int, option("First seed.", least=0, most=2**31 - 1)] = 0
    size: Annotated[int, option("Side of the pictures in pixels.", least=64, most=1024)] = 256
    style: Annotated[
        tuple[str, ...],
        option(
            "Comma-separated, used in turn: photo, oil, watercolour, pencil, cel, low-poly, clay, "
            "pixelated.",
            metavar="NAMES",
        ),
    ] = ("photo",)
    recipe: Annotated[Path | None, option("TOML file of shares: whom to draw.")] = None
    samples: Annotated[int, option("Light paths per pixel.", least=1, most=4096)] = SAMPLES


@dataclass(frozen=True)
class Render(SourceStage[RenderSettings]):
    """Draws and renders `count` people.

    Attributes:
        count: how many faces.
        seed: of the first; face i has `seed + i`.
        size: side of the pictures in pixels, 64 to 1024.
        styles: of `sfhq.render.styles.STYLES`, used in turn by seed.
        recipe: whom to draw.
        samples: paths a pixel.
    """

    name: ClassVar[str] = "render"
    arrays: ClassVar[tuple[str, ...]] = ("render_landmarks",)
    images: ClassVar[tuple[str, ...]] = (
        *(RENDER_FOLDER, ART_FOLDER),
        *("segmentations", "bare", "covers"),
    )
    Settings: ClassVar[type[Any]] = RenderSettings
    about: ClassVar[str] = (
        "Each face is a photograph in renders/, in an art style also in art/, with 19 classes in "
        "segmentations/, what is behind hair, glasses and clothes in bare/, 110 landmarks, 40 "
        "attributes, pose and gaze. Needs: pip install 'sfhq[render]'"
    )
    examples: ClassVar[tuple[str, ...]] = (
        "sfhq render heads --count 10000 --seed 1 --style photo,oil --workers 2",
        "sfhq run heads part-05                 # its pictures as inspirations",
        "sfhq sheet heads --labels",
    )
    packages: ClassVar[tuple[str, ...]] = ("anny", "mitsuba")

    count: int
    seed: int = 0
    size: int = 256
    styles: tuple[str, ...] = ("photo",)
    recipe: RenderRecipe = field(default_factory=RenderRecipe)
    samples: int = SAMPLES

    def __post_init__(self) -> None:
        from sfhq.render.styles import check_style

        positive("count", self.count, "faces")
        if self.seed < 0 or self.seed + self.count > 2**31:
            raise UsageError(f"seed is {self.seed}; wanted 0 to {2**31 - self.count}")
        if not SIZES[0] <= self.size <= SIZES[1]:
            raise UsageError(f"size is {self.size}; wanted {SIZES[0]} to {SIZES[1]} pixels")
        if not 1 <= self.samples <= 4096:
            raise UsageError(f"samples is {self.samples}; wanted 1 to 4096 paths a pixel")
        if not self.styles:
            raise UsageError("no style; wanted at least one, such as photo")
        for style in self.styles:
            check_style(style)

    @classmethod
    def build(cls, settings: RenderSettings, recipe: Recipe, part: Path) -> Render:
        """The stage that a recipe describes."""
        from sfhq.render.people.recipe import load_render_recipe

        return cls(
            count=settings.count,
            seed=settings.seed,
            size=settings.size,
            styles=settings.style,
            recipe=load_render_recipe(settings.recipe),
            samples=settings.samples,
        )

    @classmethod
    def forecast(cls, settings: RenderSettings, faces: int | None) -> int | None:
        """As many as are asked for."""
        return settings.count

    def settings(self) -> dict[str, Json]:
        """All that decides which bytes come out.

        Raises:
            UsageError: what rendering needs is not installed.
        """
        for module in ("anny", "mitsuba"):
            need(module)
        return {
            "count": self.count,
            "seed": self.seed,
            "size": self.size,
            "styles": list(self.styles),
            "recipe": self.recipe.settings(),
            "samples": self.samples,
            "revision": REVISION,
            "anny": importlib.metadata.version("anny"),
            "mitsuba": importlib.metadata.version("mitsuba"),
        }

    def seeds(self, part: Part) -> Iterator[FaceRecord]:
        """One record a seed."""
        for seed in range(self.seed, self.seed + self.count):
            yield FaceRecord(
                f"head{seed:010d}",
                seed=seed,
                licence=LICENCE,
                provenance="rendered by sfhq",
                params={"style": self.styles[seed % len(self.styles)]},
            )

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Render the people of one shard."""
        from sfhq.render.people.sampling import NoSuchPerson

        for record in records:
            try:
                with one_thread():
                    done = self._one(record)
                yield done
            except NoSuchPerson as error:
                yield record.reject(self.name, "no such person", str(error))

    def _one(self, record: FaceRecord) -> FaceRecord:
        from sfhq.render.develop import develop
        from sfhq.render.labels.classes import read
        from sfhq.render.labels.landmarks import landmarks
        from sfhq.render.people.attributes import attributes, details, measures
        from sfhq.render.people.sampling import person
        from sfhq.render.scene.model import make
        from sfhq.render.scene.picture import render
        from sfhq.render.styles import Guides, stylize

        seed, style = record.seed or 0, str(record.params["style"])
        one = person(seed, self.recipe)
        model = make(one)
        labels = read(model, self.size)
        light, steady = render(model, self.size, self.samples)
        photo = develop(one, light, labels, steady)
        found = measures(one, model.bust)
        params = {
            "style": style,
            "attributes": attributes(one, found),
            "details": details(one, found),
        }
        shown, folder = photo, RENDER_FOLDER
        done = record.with_image(RENDER_FOLDER, photo)
        if style != "photo":
            guides = Guides(labels.classes, labels.normals, labels.near_depth())
            shown, folder = stylize(photo, style, seed, guides), ART_FOLDER
            done = done.with_image(ART_FOLDER, shown)
        done = done.with_image("segmentations", labels.classes).with_image("bare", labels.bare)
        done = done.with_image("covers", labels.covers)
        done = done.with_array("render_landmarks", landmarks(model, labels))
        encoded = encode_image(shown, source_type=mark_of(folder))
        return replace(
            done,
            source=f"{folder}/{record.face_id}.png",
            source_sha256=hashlib.sha256(encoded).hexdigest(),
            width=self.size,
            height=self.size,
            params=params,
        )
