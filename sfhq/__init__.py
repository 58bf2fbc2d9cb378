"""Records, parts, the engine, stages from latent to export, and what users of Python begin with."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfhq.faces.alignment import align_crop as align_crop
    from sfhq.faces.detector import FaceDetector as FaceDetector
    from sfhq.parts.part import Part as Part
    from sfhq.pipeline.recipe import load_recipe as load_recipe
    from sfhq.pipeline.run import Pipeline as Pipeline

_WHERE = {
    "FaceDetector": "sfhq.faces.detector",
    "Part": "sfhq.parts.part",
    "Pipeline": "sfhq.pipeline.run",
    "align_crop": "sfhq.faces.alignment",
    "load_recipe": "sfhq.pipeline.recipe",
}


def open_part(folder: Path | str) -> Part:
    """The part in a folder.

    Raises:
        UsageError: there is none.
        IntegrityError: it is damaged, or a newer version made it.
    """
    from sfhq.parts.part import Part

    return Part.open(Path(folder))


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: importing sfhq costs nothing."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
