"""Which of two versions of a package is older."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version


def older(version: str, least: str) -> bool:
    """Whether a version is older than another, by the rules of PEP 440.

    Args:
        version: what is installed; a local part such as "+cu132" does not count. A text that is
            no version is not taken for older.
        least: the oldest version that will do.
    """
    try:
        found = Version(version)
    except InvalidVersion:
        return False
    return Version(found.public) < Version(least)
