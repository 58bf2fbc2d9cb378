"""How many identities there are, and whether a photo is near a real person's."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
from PIL import Image

from sfhq import stages
from sfhq.errors import UsageError
from sfhq.images import BadImage, read_image
from sfhq.parts.files import read_file
from sfhq.parts.photos import MOST_IMAGE
from sfhq.publish.checks.context import Context
from sfhq.publish.checks.result import Result
from sfhq.publish.verify import image_files

# Encoder -> false-match rate -> cosine above which that share of pairs of different people lies.
# Measured by benchmarks/validate.py --identities; docs/publish.md says on whom.
FALSE_MATCHES: dict[str, dict[float, float]] = {
    "dlib-face": {1e-1: 0.896, 1e-2: 0.9417, 1e-3: 0.9644, 1e-4: 0.9775},
}
LISTED = 20
BATCH = 16
SIDE = 512  # pixels to which real photographs are reduced before faces are looked for


def cosine_at(encoder: str, rate: float) -> float | None:
    """The cosine at a false-match rate, between the measured ones by the rate's logarithm.

    Args:
        encoder: whose vectors are compared.
        rate: share of pairs of different people that are taken for one.
    """
    known = FALSE_MATCHES.get(encoder)
    if known is None:
        return None
    rates = sorted(known)
    found = np.interp(np.log10(rate), np.log10(rates), [known[r] for r in rates])
    return float(found)


def groups(context: Context) -> dict[str, str]:
    """Face -> the first face of its identity; empty where the encoder's rates are not known.

    A face joins the most similar earlier face that began an identity, if their cosine is above
    the threshold; else it begins one. So no chain joins faces that are unlike each other.
    """
    threshold = cosine_at(str(context.settings("embed").get("encoder")), context.options.rate)
    ids, vectors = context.vectors
    if threshold is None or not len(ids):
        return {}
    leaders: list[int] = []
    found: dict[str, str] = {}
    for place, face in enumerate(ids):
        cosines = vectors[leaders] @ vectors[place] if leaders else np.zeros(0)
        best = int(np.argmax(cosines)) if len(cosines) else -1
        if best >= 0 and cosines[best] > threshold:
            found[face] = ids[leaders[best]]
        else:
            leaders.append(place)
            found[face] = face
    return found


def identities(context: Context, result: Result) -> None:
    """How many different people the photos show, at a false-match rate that is stated."""
    encoder = str(context.settings("embed").get("encoder"))
    rate = context.options.rate
    threshold = cosine_at(encoder, rate)
    if threshold is None:
        return result.skip(
            f"false-match rates of {encoder} are not measured; run: sfhq embed --encoder dlib-face"
        )
    group = groups(context)
    sizes = Counter(group.values())
    count = len(group)
    pairs = count * (count - 1) / 2
    result.tell(
        {
            "identities": len(sizes),
            "photos": count,
            "false_match_rate": rate,
            "cosine": round(threshold, 4),
            "expected_false_pairs": round(pairs * rate, 1),
            "sources": len({r.parent_id or r.face_id for r in context.alive}),
            "largest": [[face, n] for face, n in sizes.most_common(5) if n > 1],
        },
        f"{len(sizes)} identities in {count} photos, at a false-match rate of {rate:g} "
        f"(cosine {threshold:.3f})",
    )
    return None


def nearest_real(context: Context, result: Result) -> None:
    """No photo is as near to one of the named real photographs as one person is to herself."""
    folder = context.options.real
    if folder is None:
        return result.skip("no real photographs to compare with; give --real FOLDER")
    encoder = str(context.settings("embed").get("encoder"))
    threshold = cosine_at(encoder, context.options.rate)
    if threshold is None:
        return result.skip(f"false-match rates of {encoder} are not measured")
    names, real, unread = _real_vectors(context, encoder)
    if not len(real):
        raise UsageError(f"{folder}: no photograph in it that can be read")
    ids, vectors = context.vectors
    if real.shape[1] != vectors.shape[1]:
        raise UsageError(f"{folder}: vectors of {real.shape[1]} numbers, the part's have others")
    best: list[tuple[float, str, str]] = []
    for start in range(0, len(ids), 1024):
        cosines = vectors[start : start + 1024] @ real.T
        for row, place in enumerate(cosines.argmax(1).tolist()):
            best.append((float(cosines[row, place]), ids[start + row], names[place]))
    best.sort(reverse=True)
    for cosine, face, name in best:
        if cosine > threshold:
            result.add(face, f"cosine {cosine:.3f} with {name}; one person from {threshold:.3f} on")
    result.tell(
        {
            "real": len(names),
            "unread": unread,
            "false_match_rate": context.options.rate,
            "cosine": round(threshold, 4),
            "largest_cosine": round(best[0][0], 4) if best else None,
            "nearest": [[face, name, round(c, 4)] for c, face, name in best[:LISTED]],
        },
        f"nearest real photograph at {best[0][0]:.3f}" if best else "",
    )
    return None


def _real_vectors(context: Context, encoder: str) -> tuple[list[str], npt.NDArray[np.float32], int]:
    """Names and unit vectors of the real photographs, and how many files could not be read."""
    assert context.options.real is not None
    look = stages.network("image encoder")(encoder)
    names: list[str] = []
    vectors: list[npt.NDArray[np.float32]] = []
    unread = 0
    waiting: list[tuple[str, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]] = []

    def flush() -> None:
        if waiting:
            rows = np.asarray(look([pixels for _, pixels in waiting]), np.float32)
            lengths = np.linalg.norm(rows, axis=1, keepdims=True)
            vectors.append(rows / np.maximum(lengths, 1e-12))
            names.extend(name for name, _ in waiting)
            waiting.clear()

    for path in image_files([context.options.real]):
        try:
            image = read_image(read_file(path, MOST_IMAGE))
        except (BadImage, OSError):
            unread += 1
            continue
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        waiting.append((str(path), np.asarray(image)))
        if len(waiting) == BATCH:
            flush()
    flush()
    width = vectors[0].shape[1] if vectors else 0
    return names, np.concatenate(vectors) if vectors else np.zeros((0, width), np.float32), unread
