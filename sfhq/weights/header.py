"""Headers of safetensors files whose bytes depend on their content only."""

from __future__ import annotations

import json
from pathlib import Path

PACK = Path(__file__).parents[1] / "models"
MAX_HEADER = 10_000_000


def sorted_header(data: bytes) -> bytes:
    """A safetensors file with its header sorted; the library's order varies from call to call."""
    end = 8 + int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]
