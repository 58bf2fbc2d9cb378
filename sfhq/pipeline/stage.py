"""What a stage is: a frozen dataclass that turns records into records and declares itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar

from sfhq.errors import UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import ColumnType, FaceRecord, Json

if TYPE_CHECKING:
    from sfhq.pipeline.recipe import Recipe

Scope = Literal["face", "part"]
Kind = Literal["source", "faces", "about"]
S = TypeVar("S")


@dataclass(frozen=True)
class NoSettings:
    """Settings of a stage that has none."""


class Stage(ABC, Generic[S]):
    """One word of the pipeline: the file, the class, the command and the folder of records.

    A subclass is a frozen dataclass; its fields hold networks and values, so that a test passes a
    tiny network. `build` makes the real one from a recipe. The class variables declare the stage:

    Attributes:
        name: the word.
        kind: "source" starts a part; "faces" decides which faces later stages see, and yields
            whole records; "about" says something about each face: it writes only its own columns,
            arrays and images, or rejects the face.
        scope: "face" where a shard can be done without the others: the unit of work, of resume and
            of a worker. "part" where the stage must see all records at once.
        reads: names of the arrays, columns and image folders that it cannot work without.
        wants: names that it uses where they are there.
        columns: of an "about" stage, the columns that it writes, with their types.
        arrays, images: names of the arrays and image folders that it writes. No two stages write
            the same name.
        Settings: a frozen dataclass with `sfhq.pipeline.settings.option` on each field: the
            recipe's table and the command's options.
        shares: names of the recipe's shared settings that the stage uses: "seed", "models",
            "marks".
        asks: name of a network that the stage asks about each face. Stages in a row that ask the
            same one run together, so that it is asked once; none of them may read what another one
            writes, or reject a face.
        examples: lines of the command's help.
        packages: distributions that it needs beyond the basic ones, for `sfhq doctor`.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind] = "about"
    scope: ClassVar[Scope] = "face"
    reads: ClassVar[tuple[str, ...]] = ()
    wants: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[Mapping[str, ColumnType]] = {}
    arrays: ClassVar[tuple[str, ...]] = ()
    images: ClassVar[tuple[str, ...]] = ()
    Settings: ClassVar[type[Any]] = NoSettings
    shares: ClassVar[tuple[str, ...]] = ()
    asks: ClassVar[str] = ""
    about: ClassVar[str] = ""
    examples: ClassVar[tuple[str, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def build(cls, settings: S, recipe: Recipe, part: Path) -> Self:
        """The stage that a recipe describes, with its networks.

        Args:
            settings: the stage's own table of the recipe, an instance of `Settings`.
            recipe: the whole, for what stages share.
            part: folder of the part, for files that lie in it; it may not exist yet.

        Raises:
            UsageError: a value is not valid.
        """
        return cls()

    @classmethod
    def forecast(cls, settings: S, faces: int | None) -> int | None:
        """The most faces that the stage can leave, said before networks are read.

        Args:
            settings: the stage's own table of the recipe.
            faces: the most that come in; None where that is unknown.

        Raises:
            UsageError: a value is not valid.
        """
        return faces

    @abstractmethod
    def settings(self) -> dict[str, Json]:
        """What makes the result what it is: parameters, and digests of the networks."""

    @abstractmethod
    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Do the living records of one shard (or of the whole part), in order.

        A face that cannot be done is yielded as `record.reject(self.name, reason)`; exceptions are
        for a broken set-up. Arrays, images and columns travel on the record (`with_array`,
        `with_image`, `with_columns`); the engine writes them.
        """

    def check(self, part: Part) -> None:
        """Refuse a part that this stage cannot work on, before anything is deleted or written.

        Raises:
            UsageError: what is wrong and what to do.
        """

    def needed(self) -> tuple[str, ...]:
        """`reads` of this instance, where settings decide."""
        return self.reads

    def written(self) -> tuple[str, ...]:
        """All names that this instance writes."""
        return (*self.columns, *self.arrays, *self.images)


class SourceStage(Stage[S]):
    """A stage that starts a part: it makes its own records to begin with.

    Attributes:
        grows: its seeds are those that no finished shard holds; they go to shards whose numbers are
            free, so that a part can be extended. Else they are always the same ones.
    """

    kind: ClassVar[Kind] = "source"
    grows: ClassVar[bool] = False

    @abstractmethod
    def seeds(self, part: Part) -> Iterator[FaceRecord]:
        """Cheap records to be filled in by `__call__`, always the same ones in one order."""

    def more(self, part: Part) -> bool:
        """Whether a part that this stage has ended in can be extended now.

        Raises:
            UsageError: what the part was made from is not there any more.
        """
        return False

    def passed_over(self, part: Part) -> dict[str, int]:
        """Kind -> number of the files that it found and did not take."""
        return {}


def positive(name: str, value: int, what: str) -> None:
    """Refuse a number below 1.

    Raises:
        UsageError: names the setting, the number and what it counts.
    """
    if value < 1:
        raise UsageError(f"{name} is {value}; wanted 1 or more {what}")
