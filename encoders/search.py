"""Find the faces of a part that words describe, by the vectors of `sfhq embed --encoder flip`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from encoders.flip.network import LoadedFlip, load_flip
from encoders.flip.tokens import Tokens, vocabulary_of
from sfhq.errors import UsageError
from sfhq.images import COMPOSITE, write_image
from sfhq.parts.part import Part
from sfhq.parts.photos import read_photo
from sfhq.parts.records import Array, FaceRecord

GAP, HEADER = 6, 22
BACKGROUND, TEXT = (24, 24, 26), (225, 225, 225)


@dataclass(frozen=True)
class Found:
    """A face and how well the words fit it.

    Attributes:
        record: the face.
        similarity: cosine of its vector and that of the words, -1 to 1.
    """

    record: FaceRecord
    similarity: float


@dataclass(frozen=True)
class Faces:
    """The faces of a part that stayed, with their vectors.

    Attributes:
        part: the part.
        records: N faces.
        vectors: (N, D) float32 unit vectors.
    """

    part: Part
    records: tuple[FaceRecord, ...]
    vectors: Array


def load_faces(part: Part, digest: str) -> Faces:
    """The faces of a part that was embedded by FLIP.

    Args:
        part: the part.
        digest: sha256 of the FLIP that reads the words.

    Raises:
        UsageError: it was not embedded, by another encoder, or by another FLIP; or no face is left.
    """
    advice = f"run: sfhq embed {part.root} --encoder flip --redo"
    if "embed" not in part.stages():
        raise UsageError(f"{part.root}: has no vectors; {advice.removesuffix(' --redo')}")
    settings = part.stage_info("embed")["settings"]
    if settings.get("encoder") != "flip":
        raise UsageError(
            f"{part.root}: embedded by {settings.get('encoder')}, which knows no words; {advice}"
        )
    if settings.get("digest") != digest:
        raise UsageError(
            f"{part.root}: embedded by other weights of FLIP; give those with --flip, or {advice}"
        )
    records = tuple(r for r in part.faces() if "embedding" in r.rows)
    if not records:
        raise UsageError(f"{part.root}: no face is left to search; see: sfhq show {part.root}")
    by_shard: dict[int, list[int]] = {}
    for place, record in enumerate(records):
        by_shard.setdefault(record.shard, []).append(place)
    rows = {
        shard: np.asarray(
            part.rows("embedding", shard, [records[p].rows["embedding"] for p in places])
        )
        for shard, places in by_shard.items()
    }
    width = next(iter(rows.values())).shape[1]
    vectors = np.empty((len(records), width), np.float32)
    for shard, places in by_shard.items():
        vectors[places] = rows[shard]
    return Faces(part, records, vectors)


@dataclass(frozen=True)
class Searcher:
    """Words to vectors.

    Attributes:
        weights: a FLIP's file; None for the embedded pack.
        vocabulary: tokens, if the file has none.
    """

    weights: Path | None = None
    vocabulary: Path | None = None

    def vectors(self, texts: Sequence[str]) -> tuple[Array, str]:
        """(N, D) float32 unit vectors of texts, and the sha256 of the weights.

        Raises:
            UsageError: the weights are missing, or a text is empty.
        """
        require_words(texts)
        encoder = text_encoder(self.weights, self.vocabulary)
        return encoder(texts), encoder.digest


@dataclass(frozen=True)
class TextEncoder:
    """Words to vectors by a network that stays in memory; see `text_encoder`.

    Attributes:
        loaded: the network.
        tokens: its tokens.
    """

    loaded: LoadedFlip
    tokens: Tokens

    @property
    def digest(self) -> str:
        """sha256 of the weights."""
        return self.loaded.digest

    @property
    def sharpness(self) -> float:
        """What a difference of cosines is multiplied by before it is a logit; trained."""
        return 1 / float(self.loaded.network.temp)

    def __call__(self, texts: Sequence[str]) -> Array:
        """(N, D) float32 unit vectors of texts.

        Raises:
            UsageError: a text is empty.
        """
        import torch

        require_words(texts)
        ids, mask = self.tokens(texts, self.loaded.network.config.length)
        with torch.inference_mode():
            found: Array = self.loaded.network.text_vectors(ids, mask).numpy()
        return found


def require_words(texts: Sequence[str]) -> None:
    """Refuse a text without a word.

    Raises:
        UsageError: a text is empty.
    """
    if not all(text.strip() for text in texts):
        raise UsageError("no words to search for")


def text_encoder(weights: Path | None = None, vocabulary: Path | None = None) -> TextEncoder:
    """FLIP as an encoder of words.

    Args:
        weights: a FLIP's file; None for the embedded pack.
        vocabulary: tokens, if the file has none.

    Raises:
        UsageError: the weights are missing.
        IntegrityError: they are damaged.
    """
    loaded = load_flip(weights)
    return TextEncoder(loaded, vocabulary_of(loaded.notes, vocabulary))


def best(faces: Faces, vector: Array, count: int) -> list[Found]:
    """The faces nearest to a vector, the nearest first; equal ones in the part's order.

    Args:
        faces: what is searched.
        vector: (D,) unit vector.
        count: how many at most.
    """
    similarity = faces.vectors @ vector
    count = min(count, len(similarity))
    least = np.partition(similarity, -count)[-count]
    near = np.flatnonzero(similarity >= least)
    order = near[np.argsort(-similarity[near], kind="stable")][:count]
    return [Found(faces.records[i], float(similarity[i])) for i in order]


def write_results(part: Part, rows: Sequence[tuple[str, list[Found]]], target: Path) -> None:
    """Draw a contact sheet: for each text its words and the faces that were found.

    Args:
        part: where the photos lie.
        rows: texts with what was found.
        target: a .png or .jpg.

    Raises:
        UsageError: the name ends otherwise.
    """
    if target.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"{target}: wanted a name that ends in .png or .jpg")
    cell = 160
    across = max(len(found) for _, found in rows)
    size = (across * (cell + GAP) + GAP, len(rows) * (cell + HEADER + GAP) + GAP)
    sheet = Image.new("RGB", size, BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for line, (text, found) in enumerate(rows):
        top = GAP + line * (cell + HEADER + GAP)
        draw.text((GAP, top), text, TEXT, font)
        for column, face in enumerate(found):
            image = Image.fromarray(read_photo(part, face.record))
            image.thumbnail((cell, cell), Image.Resampling.LANCZOS)
            sheet.paste(image, (GAP + column * (cell + GAP), top + HEADER))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_image(target, np.asarray(sheet), source_type=COMPOSITE, quality=92)
