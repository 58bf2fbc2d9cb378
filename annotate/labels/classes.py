"""The 19 classes that labels are made of; see `sfhq.faces.classes`."""

from __future__ import annotations

from sfhq.faces.classes import CLASSES as CLASSES
from sfhq.faces.classes import FACE as FACE
from sfhq.faces.classes import FLIPPED as FLIPPED
from sfhq.faces.classes import HAIR as HAIR
from sfhq.faces.classes import HEAD as HEAD
from sfhq.faces.classes import ID as ID
from sfhq.faces.classes import LEAST_WORN as LEAST_WORN
from sfhq.faces.classes import SIDED as SIDED
from sfhq.faces.classes import flip_ids as flip_ids
from sfhq.images import CLASS_COLOURS as CLASS_COLOURS
