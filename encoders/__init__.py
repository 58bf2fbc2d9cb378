"""Image to vector: e4e into w_plus, recognition and CLIP networks into embeddings."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from encoders.e4e.pair import Pair as Pair
    from encoders.embed import image_encoder as image_encoder

_WHERE = {"Pair": "encoders.e4e.pair", "image_encoder": "encoders.embed"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
