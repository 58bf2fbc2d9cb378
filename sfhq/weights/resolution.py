"""What a generator's file says of itself, read without torch."""

from __future__ import annotations

import json
from pathlib import Path

from sfhq.weights.header import MAX_HEADER, PACK


def generator_resolution(path: Path | None = None) -> int:
    """Side of the images that a generator makes, in pixels; reads the header only.

    Args:
        path: a safetensors file; None for the embedded pack.

    Raises:
        UsageError: there is no such file.
        IntegrityError: it is no generator.
    """
    where = path or PACK / "generator.safetensors"
    try:
        with open(where, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > MAX_HEADER:
                raise ValueError
            notes = json.loads(file.read(length))["__metadata__"]
        if notes["kind"] != "generator":
            raise ValueError
        resolution = int(json.loads(notes["architecture"])["resolution"])
        if not 32 <= resolution <= 1024:
            raise ValueError
        return resolution
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        from sfhq.weights.checkpoints import load_generator

        return load_generator(path)[0].config.resolution  # says what is wrong with the file
