"""How the photos of a generator are marked: what they say of the AI, and their watermark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sfhq.errors import SfhqError, UsageError
from sfhq.images import Marks
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Json

if TYPE_CHECKING:
    from sfhq.pipeline.recipe import MarkSettings

SYSTEM = "StyleGAN2 and e4e, by sfhq"
SURVIVES = 256  # pixels a side from which a watermark survives what is usual
KEY = "marks"  # in a stage's settings
PROMPTS = ("prompt", "text")  # parameters that hold what a text-to-image model was told


def photo_marks(
    settings: MarkSettings, stage: str, part: Path, size: int, generator: str, encoder: str
) -> Marks | None:
    """The marks of a stage's photos; None where the part was begun without any.

    Args:
        settings: the recipe's table.
        stage: its name.
        part: folder of the part; may not exist yet.
        size: side of the photos in pixels.
        generator, encoder: sha256 of the weights.

    Raises:
        UsageError: a watermark is asked for that photos of this size cannot carry.
    """
    from sfhq.marks import watermark

    if settings.watermark == "auto" and _begun_without(part, stage):
        return None
    wanted = settings.watermark == "on" or (settings.watermark == "auto" and size >= SURVIVES)
    if wanted and size < watermark.LEAST_SIDE:
        raise UsageError(
            f"watermark is on, but photos have {size} pixels a side; wanted at least "
            f"{watermark.LEAST_SIDE}; set it to auto or off"
        )
    version = f"generator {generator[:16]}, encoder {encoder[:16]}"
    payload = watermark.payload_of(settings.watermark_name) if wanted else None
    return Marks(SYSTEM, version, watermark=payload)


def _begun_without(part: Path, stage: str) -> bool:
    """Whether photos of the stage are there that an earlier version, or another choice, wrote."""
    try:
        return KEY not in Part.open(part).stage_info(stage)["settings"]
    except SfhqError:  # nothing there yet, or damaged: whoever reads it says so
        return False


def as_settings(marks: Marks | None) -> dict[str, Json]:
    """What a stage's settings say of its marks; nothing where there are none."""
    if marks is None:
        return {}
    found = None if marks.watermark is None else f"{marks.watermark:08x}"
    return {KEY: {"system": marks.system, "watermark": found}}


def marks_of(record: FaceRecord, marks: Marks | None) -> Marks | None:
    """The marks of one photo: with the prompt of its inspiration, where there is one."""
    if marks is None:
        return None
    said = (record.params.get(name) for name in PROMPTS)
    prompt = next((text for text in said if isinstance(text, str) and text), "")
    return replace(marks, prompt=prompt)
