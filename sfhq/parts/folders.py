"""Names of image folders, and of what `import` notes, that several stages know."""

from __future__ import annotations

SYNTHETIC_FOLDER = "images"  # what the generator made; other folders hold crops of sources
RENDER_FOLDER, ART_FOLDER = "renders", "art"  # a rendered head, and the same in an art style

# What `sfhq import` writes. In `params`: the layout that a photo came in, and the mark that its
# kind deserves. An array: points whose order is not ours.
IMPORTED, SOURCE_TYPE = "imported", "digital_source_type"
FOREIGN_POINTS = "foreign_landmarks"
