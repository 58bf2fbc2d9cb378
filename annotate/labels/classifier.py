"""The label network as a reader of classes alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from annotate.labels.reading import Reader
from sfhq.parts.records import Pixels


@dataclass(frozen=True, eq=False)
class Classes:
    """Classes and soft hair of a label network.

    Attributes:
        reader: the network.
        digest: sha256 of its file.
    """

    reader: Reader
    digest: str
    name: str = "labels"
    sided: bool = True

    @classmethod
    def load(cls, path: Path | None = None) -> Classes:
        """The network in a file; None for the embedded pack's.

        Raises:
            UsageError, IntegrityError: there is none, or it is damaged.
        """
        from annotate.network.reader import load_labels

        return cls(*load_labels(path))

    @property
    def size(self) -> int:
        """Side of the crops in pixels."""
        return self.reader.size

    def soft(self, crops: Pixels) -> tuple[Tensor, Tensor]:
        """(N, 19, S, S) probabilities and (N, S, S) share of hair."""
        found = self.reader.read(crops)
        return found.parsing, found.alpha
