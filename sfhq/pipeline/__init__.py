"""Stages and how they run: declarations, recipes, lineage, shards, resume, workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfhq.pipeline.recipe import Recipe as Recipe
    from sfhq.pipeline.recipe import load_recipe as load_recipe
    from sfhq.pipeline.run import Pipeline as Pipeline

_WHERE = {
    "Pipeline": "sfhq.pipeline.run",
    "Recipe": "sfhq.pipeline.recipe",
    "load_recipe": "sfhq.pipeline.recipe",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for."""
    import importlib

    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
