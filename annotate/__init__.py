"""Labels read off a photo."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from annotate.labeller import FaceLabels as FaceLabels
    from annotate.labeller import Labeller as Labeller

_WHERE = {"FaceLabels": "annotate.labeller", "Labeller": "annotate.labeller"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: importing annotate costs nothing."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
