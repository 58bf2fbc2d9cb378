"""The folder in the user's cache that this project keeps its files in."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from sfhq.errors import UsageError


def cache_folder(remedy: str) -> Path:
    """`sfhq` in the user's cache: in $XDG_CACHE_HOME, or else in ~/.cache. It may not exist.

    Args:
        remedy: what a user without a home folder can do, for the error.

    Raises:
        UsageError: the user has no home folder, and nothing else says where the cache is.
    """
    try:
        folder = platformdirs.user_cache_path("sfhq", appauthor=False)
    except RuntimeError:  # older versions give a relative path instead
        folder = Path()
    if not folder.is_absolute():
        raise UsageError(f"this user has no home folder to keep a cache in; {remedy}")
    return folder
