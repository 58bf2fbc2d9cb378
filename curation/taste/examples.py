"""What a taste is learned from: the labelled photos of a part, with their features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.faces import Faces
from curation.labels.store import FILE, LabelStore
from curation.taste.judge import near_groups
from curation.taste.learners import Labels
from curation.taste.reduction import Blocks, unit_vectors
from sfhq.errors import UsageError
from sfhq.parts.part import Part


@dataclass(frozen=True)
class Examples:
    """Faces of a part that somebody kept or rejected.

    Attributes:
        faces: all of the part, those that scores or near-duplicates removed as well.
        rows: (N,) places in `faces` of those with a label.
        blocks: name of a feature set -> (N, D) float32.
        groups: (N,) near-duplicates and candidates of one inspiration have one number.
        liked: (N,) True for what was kept.
    """

    faces: Faces
    rows: npt.NDArray[np.int64]
    blocks: Blocks
    groups: npt.NDArray[np.int64]
    liked: Labels

    @classmethod
    def of(cls, part: Part, annotator: str | None = None) -> Examples:
        """The labelled faces of a part.

        Args:
            part: the part.
            annotator: whose labels; None for everybody's majority.

        Raises:
            UsageError: no labels, or no features, yet.
        """
        faces = Faces.of(part, everything=True)
        with LabelStore(part.root / FILE, readonly=True) as store:
            known = store.labels(annotator)
        labelled = [i for i, r in enumerate(faces.records) if r.face_id in known]
        rows = np.array(labelled, dtype=np.int64)
        liked = np.array([known[faces.records[i].face_id] for i in labelled], dtype=bool)
        blocks = {name: block[rows] for name, block in faces.feature_sets().items()}
        if not blocks:
            raise UsageError(f"{part.root}: no features yet; run: sfhq embed --features geometry")
        groups = near_groups(unit_vectors(blocks))
        parents: dict[str, int] = {}
        for place, i in enumerate(labelled):  # candidates of one inspiration stay together
            parent = faces.records[i].parent_id
            if parent:
                groups[place] = groups[parents.setdefault(parent, place)]
        return cls(faces, rows, blocks, groups, liked)
