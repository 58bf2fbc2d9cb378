"""Names of image folders that several stages know."""

from __future__ import annotations

SYNTHETIC_FOLDER = "images"  # what the generator made; other folders hold crops of sources
RENDER_FOLDER, ART_FOLDER = "renders", "art"  # a rendered head, and the same in an art style
