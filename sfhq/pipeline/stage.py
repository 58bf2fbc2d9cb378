"""What a stage is: a frozen dataclass that turns records into records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal, Protocol, runtime_checkable

from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Json

Scope = Literal["face", "part"]


class Stage(Protocol):
    """One word of the pipeline: the file, the class, the command and the records' folder.

    `name` is that word. With `scope` "face" a shard can be done without the others: it is
    the unit of work, of resume and of a worker. With "part" the stage sees all records at
    once and must yield them in the order it got them.

    A face that cannot be done is yielded as `record.reject(stage.name, reason)`; exceptions
    are for a broken set-up. Arrays and images travel on the record (`with_array`,
    `with_image`); the engine writes them.
    """

    name: ClassVar[str]
    scope: ClassVar[Scope]

    def __call__(self, records: Iterable[FaceRecord], part: Part) -> Iterator[FaceRecord]:
        """Do the living records of one shard (or of the whole part), in order."""

    def settings(self) -> dict[str, Json]:
        """What makes the result what it is: parameters, and digests of the networks."""


@runtime_checkable
class SourceStage(Stage, Protocol):
    """A stage that starts a part: it makes its own records to begin with."""

    def seeds(self, part: Part) -> Iterator[FaceRecord]:
        """Cheap records to be filled in by `__call__`, always the same ones in one order."""
