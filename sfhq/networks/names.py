"""Names and order of what the label network predicts, and how a mirror image changes it."""

from __future__ import annotations

from sfhq.faces.celeba import ATTRIBUTES as CELEBA
from sfhq.faces.classes import CLASSES
from sfhq.faces.points import COUNT, mirror

EXTRAS = (
    *("Sunglasses", "Beanie", "Cap", "Brimmed_Hat", "Full_Beard", "Long_Hair", "Curly_Hair"),
    *("Red_Hair", "Dyed_Hair", "Eyes_Closed", "Child"),
)
LEARNED = (*CELEBA, *EXTRAS)
ADDED = ("Headscarf",)  # taught to a finished network, see `annotate.training.added`
ATTRIBUTES = (*LEARNED, *ADDED)
UNTAUGHT = ("Attractive",)  # nothing here can judge it: its probability is always 0.5
CLASS_COUNT = len(CLASSES)
POINTS = COUNT
TRACKED = POINTS + 2  # the 110 points, then the irises: the subject's right one, the left one


def mirrored_points(count: int = TRACKED) -> tuple[int, ...]:
    """For each of `count` points, the index of the point that it is in the mirror image.

    Args:
        count: 110 for the points alone, 112 with the irises.
    """
    irises = (POINTS + 1, POINTS)
    return tuple(mirror(i) if i < POINTS else irises[i - POINTS] for i in range(count))
