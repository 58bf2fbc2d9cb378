"""Find the cosine that separates copies of a photo from different photos, for an encoder."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from curation.labels.agreement import Share
from sfhq.errors import UsageError
from sfhq.parts.folders import SYNTHETIC_FOLDER
from sfhq.parts.part import Part
from sfhq.parts.records import Array, Json, Pixels
from sfhq.web.shell import Mark, mark, points, render

Encoder = Callable[[list[Pixels]], Array]
MOST_PHOTOS = 300
FEWEST_PHOTOS = 20
ALLOWED = 1e-4  # share of pairs of different photos that may be taken for copies
BINS = 120


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def _reduced(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    small = image.resize((round(width * share), round(height * share)), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def _cropped(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    x, y = max(round(width * share), 1), max(round(height * share), 1)
    return image.crop((x, y, width - x, height - y)).resize(image.size, Image.Resampling.BICUBIC)


def _toned(image: Image.Image, brightness: float, colour: float) -> Image.Image:
    return ImageEnhance.Color(ImageEnhance.Brightness(image).enhance(brightness)).enhance(colour)


def _turned(image: Image.Image, degrees: float) -> Image.Image:
    turned = image.rotate(degrees, Image.Resampling.BICUBIC)
    return _cropped(turned, 0.03)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 60": partial(_jpeg, quality=60),
    "reduced to 3/4, JPEG 60, enlarged": lambda i: _jpeg(_reduced(i, 0.75), 60),
    "3 % cut from every side": partial(_cropped, share=0.03),
    "brighter and paler": partial(_toned, brightness=1.15, colour=0.8),
    "turned by 2 degrees": partial(_turned, degrees=2.0),
    "mirrored": lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


@dataclass(frozen=True)
class CopyStatistics:
    """Cosines of photos with one kind of copy of themselves.

    Attributes:
        name: how the copy was made.
        minimum, low, median: of the cosines; `low` is the 5 % quantile.
        found: share of them above the threshold.
    """

    name: str
    minimum: float
    low: float
    median: float
    found: float


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` found.

    Attributes:
        encoder: its name.
        photos: how many were used.
        pairs: number of pairs of different photos.
        threshold: the smallest cosine that at most a share `allowed` of these pairs exceed.
        allowed: that share.
        taken: number of these pairs above the threshold.
        upper: upper end of the 95 % Wilson interval of the share of pairs above it.
        others_median, others_maximum: cosines of these pairs.
        copies: statistics of each kind of copy.
        centres, copy_counts, other_counts: (B,) the two histograms, as shares.
    """

    encoder: str
    photos: int
    pairs: int
    threshold: float
    allowed: float
    taken: int
    upper: float
    others_median: float
    others_maximum: float
    copies: tuple[CopyStatistics, ...]
    centres: tuple[float, ...]
    copy_counts: tuple[float, ...]
    other_counts: tuple[float, ...]

    def to_dict(self) -> dict[str, Json]:
        """For JSON."""
        return asdict(self)


def unit_rows(encoder: Encoder, images: list[Pixels], batch: int = 32) -> Array:
    """(N, D) float32 unit vectors of images."""
    found = [
        np.asarray(encoder(images[i : i + batch]), dtype=np.float32)
        for i in range(0, len(images), batch)
    ]
    vectors: Array = np.concatenate(found)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.maximum(lengths, 1e-12)
    return vectors


def calibrate(
    name: str,
    encoder: Encoder,
    images: Sequence[Pixels],
    people: Sequence[str],
    allowed: float = ALLOWED,
) -> Calibration:
    """Measure the cosines of copies and of different photos.

    Args:
        name: name of the encoder.
        encoder: (H, W, 3) uint8 RGB images to (N, D).
        images: the photos.
        people: for each photo, whom or what it shows; pairs of the same one are left out.
        allowed: share of pairs of different photos that may lie above the threshold.

    Raises:
        UsageError: too few photos, or all of one person.
    """
    if len(images) < FEWEST_PHOTOS:
        raise UsageError(f"{len(images)} photos to calibrate with; wanted {FEWEST_PHOTOS} or more")
    originals = unit_rows(encoder, list(images))
    names = np.asarray(people)
    rows, columns = np.triu_indices(len(images), 1)
    different = names[rows] != names[columns]
    if not different.any():
        raise UsageError("all photos come from one source; wanted photos of different people")
    others = (originals[rows[different]] * originals[columns[different]]).sum(axis=1)
    copies: dict[str, Array] = {}
    for kind, change in COPIES.items():
        changed = [np.asarray(change(Image.fromarray(image))) for image in images]
        copies[kind] = (originals * unit_rows(encoder, changed)).sum(axis=1)
    ordered = np.sort(others)[::-1]
    threshold = float(ordered[min(int(allowed * len(ordered)), len(ordered) - 1)])
    threshold = math.ceil(threshold * 1e4) / 1e4  # rounded up to four digits
    taken = int((others > threshold).sum())
    everything = np.concatenate(list(copies.values()))
    low = min(float(others.min()), float(everything.min()))
    edges = np.linspace(math.floor(low * 20) / 20, 1.0, BINS + 1)
    return Calibration(
        encoder=name,
        photos=len(images),
        pairs=len(others),
        threshold=threshold,
        allowed=allowed,
        taken=taken,
        upper=Share.of(taken, len(others)).high,
        others_median=float(np.median(others)),
        others_maximum=float(others.max()),
        copies=tuple(
            CopyStatistics(
                name=kind,
                minimum=float(values.min()),
                low=float(np.quantile(values, 0.05)),
                median=float(np.median(values)),
                found=float((values > threshold).mean()),
            )
            for kind, values in copies.items()
        ),
        centres=tuple(((edges[:-1] + edges[1:]) / 2).tolist()),
        copy_counts=_share(everything, edges),
        other_counts=_share(others, edges),
    )


def _share(values: Array, edges: Array) -> tuple[float, ...]:
    counts: npt.NDArray[np.int64] = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    return tuple((counts / max(len(values), 1)).tolist())


def part_photos(part: Part, limit: int = MOST_PHOTOS) -> tuple[list[Pixels], list[str]]:
    """Photos of a part and what each was made from, spread over the part.

    Raises:
        UsageError: the part has no photos.
    """
    from sfhq.parts.photos import read_pixels

    alive = [r for r in part.faces() if SYNTHETIC_FOLDER in r.hashes] if part.stages() else []
    chosen = alive[:: max(len(alive) // limit, 1)][:limit]
    if not chosen:
        raise UsageError(f"{part.root}: no photos to calibrate with; run: sfhq run")
    images = [read_pixels(part, r, SYNTHETIC_FOLDER) for r in chosen]
    return images, [r.parent_id or r.face_id for r in chosen]


@dataclass(frozen=True)
class _Plot:
    width: int
    height: int
    marks: list[Mark]


def calibration_page(found: Calibration) -> str:
    """The two histograms and the table as HTML; the page loads no other file."""
    return render("curation.pairs", "calibration.html", found=found, plot=_plot(found))


def _plot(found: Calibration) -> _Plot:
    width, height, base, left = 820, 260, 220, 10
    right = width - left
    low, high = found.centres[0], 1.0

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    def area(kind: str, shares: tuple[float, ...]) -> Mark:
        top = max(max(shares), 1e-9)
        heights = [base - (base - 30) * share / top for share in shares]
        inner = zip(map(x, found.centres), heights, strict=True)
        return mark(
            "polygon", class_=kind, points=points([(x(low), base), *inner, (x(high), base)])
        )

    def words(text: str, across: float, down: float, anchor: str) -> Mark:
        return mark("text", text, x=across, y=down, text_anchor=anchor)

    at = x(found.threshold)
    marks = [
        area("reject", found.other_counts),
        area("keep", found.copy_counts),
        mark("line", class_="axis", x1=at, x2=at, y1=14, y2=base),
        words(f"threshold {found.threshold:.4f}", at - 6, 24, "end"),
        mark("line", class_="axis", x1=left, x2=right, y1=base, y2=base),
        words("different photos", x(found.others_median), base - 6, "middle"),
        words("cosine; each histogram has a scale of its own", right, base + 36, "end"),
    ]
    for tenth in range(math.ceil(low * 10), 11):
        marks.append(words(f"{tenth / 10:.1f}", x(tenth / 10), base + 18, "middle"))
    return _Plot(width, height, marks)
