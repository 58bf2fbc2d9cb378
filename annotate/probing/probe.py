"""A linear probe: the probability of one attribute from a vector, and its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfhq.errors import IntegrityError, UsageError
from sfhq.faces.alignment import FloatArray
from sfhq.images import write_atomic
from sfhq.parts.records import Array, Json
from sfhq.weights.header import sorted_header

FORMAT = "sfhq-probe-1"


def require_name(name: str) -> None:
    """Refuse a word that cannot name an attribute.

    Raises:
        UsageError: says what was wanted.
    """
    if not name.replace("_", "").replace(" ", "").isalnum() or name != name.strip():
        raise UsageError(
            f"name {name!r}: wanted letters, digits, spaces and underscores, such as headscarf"
        )


@dataclass(frozen=True, eq=False)
class Probe:
    """p = sigmoid(vector @ weights + bias).

    Attributes:
        name: of the attribute.
        array: of a part, whose rows are the vectors.
        digest: sha256 of the network that made them.
        weights: (D,).
        bias: see above.
        cut: share of the faces that had it where it was fitted; who wants both kinds of errors to
            be equally rare says yes from there on.
        notes: how it was made and how good it was, for people.
    """

    name: str
    array: str
    digest: str
    weights: FloatArray
    bias: float
    cut: float
    notes: Mapping[str, Json]

    def __post_init__(self) -> None:
        require_name(self.name)

    @property
    def version(self) -> str:
        """12 hex digits: a digest of its name, its network and its numbers."""
        text = json.dumps([self.name, self.array, self.digest, self.bias, self.cut])
        digest = hashlib.sha256(text.encode() + np.ascontiguousarray(self.weights).tobytes())
        return digest.hexdigest()[:12]

    def __call__(self, vectors: Array) -> FloatArray:
        """(N,) probabilities of (N, D) vectors.

        Raises:
            UsageError: vectors of another length.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.weights):
            raise UsageError(
                f"the probe {self.name} reads vectors of {len(self.weights)} numbers; those of "
                f"{self.array} have shape {vectors.shape}"
            )
        odds = vectors.astype(np.float64) @ self.weights + self.bias
        found: FloatArray = 1 / (1 + np.exp(-np.clip(odds, -60, 60)))
        return found

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        from safetensors.numpy import save

        about: dict[str, Json] = {
            **{"name": self.name, "array": self.array, "digest": self.digest},
            **{"cut": self.cut, "notes": dict(self.notes), "version": self.version},
        }
        numbers = {"weights": np.ascontiguousarray(self.weights), "bias": np.array([self.bias])}
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"format": FORMAT, "probe": json.dumps(about, sort_keys=True)}
        write_atomic(path, sorted_header(save(numbers, metadata)))

    @classmethod
    def load(cls, path: Path) -> Probe:
        """Read what `save` wrote.

        Raises:
            UsageError: there is no such file.
            IntegrityError: it is damaged, or no probe.
        """
        from safetensors import safe_open

        if not path.is_file():
            raise UsageError(f"{path}: no such probe; make one with: sfhq annotations probe")
        try:
            with safe_open(path, "numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError(f"format {metadata.get('format')}, not {FORMAT}")
                about = json.loads(metadata["probe"])
                weights, bias = file.get_tensor("weights"), file.get_tensor("bias")
            if weights.ndim != 1 or not np.isfinite(weights).all() or not np.isfinite(bias).all():
                raise ValueError("its numbers are not finite, or of another shape")
            named = {k: str(about[k]) for k in ("name", "array", "digest")}
            cut, notes = float(about["cut"]), dict(about["notes"])
            found = cls(**named, weights=weights, bias=float(bias[0]), cut=cut, notes=notes)
            if found.version != about["version"]:
                raise ValueError("its numbers are not those it was saved with")
        except Exception as error:
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise IntegrityError(
                f"{path}: not a probe that can be read ({said}); make it again with: "
                "sfhq annotations probe"
            ) from None
        return found
