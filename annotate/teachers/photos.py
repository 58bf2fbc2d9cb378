"""Photos in FFHQ's frame with what the teachers see in them, kept in a file so it is done once."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from annotate.teachers.mediapipe import Mesh, Teachers
from sfhq.errors import IntegrityError, UsageError
from sfhq.faces.alignment import FloatArray, align_crop, apply_transform, inverse_transform
from sfhq.faces.alignment import quad_transform as crop_transform
from sfhq.formats import suffixes
from sfhq.images import BadImage, read_image, write_atomic

# The mesh's points around each eye, and the corners of the mouth; subject's right first.
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
MOUTH_CORNERS = (61, 291)
SQUARE = 1.05  # longer over shorter side of a photo that may be a crop in FFHQ's frame
AT_HOME = 0.12  # shares of the side that the frame of such a crop may lie off
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Taught:
    """N photos in which the detector saw a face.

    Attributes:
        names: (N,) file names.
        crops: (N, S, S, 3) uint8 RGB in FFHQ's frame.
        mesh: (N, 478, 3) float32 points in pixels of the crop, and depth.
        presence: (N,) float32, how sure the network is of a face.
        hair, person: (N, S, S) uint8, probability times 255.
    """

    names: npt.NDArray[np.str_]
    crops: Bytes
    mesh: npt.NDArray[np.float32]
    presence: npt.NDArray[np.float32]
    hair: Bytes
    person: Bytes

    def __len__(self) -> int:
        return len(self.names)


def frame_points(mesh: FloatArray) -> FloatArray:
    """(68, 2) points that have the same FFHQ frame as a mesh: only eyes and mouth corners count.

    Args:
        mesh: (478, 2 or 3).
    """
    points = np.zeros((68, 2))
    points[36:42] = mesh[list(RIGHT_EYE), :2].mean(0)
    points[42:48] = mesh[list(LEFT_EYE), :2].mean(0)
    points[[48, 54]] = mesh[list(MOUTH_CORNERS), :2]
    return points


def teach(
    folder: Path,
    size: int,
    teachers: Callable[[], Teachers],
    kept: Path,
    say: Callable[[str], None],
) -> Taught:
    """All photos of a folder with a face, as the teachers see them.

    Args:
        folder: photos, aligned or not; files that are no image are refused.
        size: side of the crops.
        teachers: makes the networks, if they are needed.
        kept: file of an earlier call, which is read if it is there, and written otherwise.
        say: takes a line about what was found.

    Raises:
        UsageError: no such folder, or no image in it, or a damaged one.
        IntegrityError: `kept` is damaged or of another size.
    """
    if kept.is_file():
        return _read(kept, size)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; wanted a folder of photos of faces")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes())
    if not paths:
        raise UsageError(f"{folder}: holds no image; wanted photos of faces")
    networks = teachers()
    rows = []
    for path in paths:
        try:
            image = np.array(read_image(path.read_bytes()).convert("RGB"))
        except BadImage as error:
            raise UsageError(f"{path}: {error.reason}: {error}; remove the file") from None
        row = _row(image, size, networks)
        if row is not None:
            rows.append((path.name, *row))
    say(f"{folder.name}: the teachers see a face in {len(rows)} of {len(paths)} photos")
    if not rows:
        raise UsageError(f"{folder}: the detector sees no face in any photo")
    names, crops, mesh, presence, hair, person = zip(*rows, strict=True)
    done = Taught(
        np.array(names),
        np.stack(crops),
        np.stack(mesh).astype(np.float32),
        np.array(presence, np.float32),
        np.stack(hair),
        np.stack(person),
    )
    buffer = io.BytesIO()
    np.savez(buffer, **{f.name: getattr(done, f.name) for f in fields(Taught)})
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(kept, buffer.getvalue())
    return done


def _read(kept: Path, size: int) -> Taught:
    try:
        with np.load(kept, allow_pickle=False) as stored:
            done = Taught(**{f.name: stored[f.name] for f in fields(Taught)})
    except Exception as error:
        raise IntegrityError(
            f"{kept}: cannot be read ({type(error).__name__}); delete it to ask the teachers again"
        ) from None
    if done.crops.shape[1] != size:
        raise IntegrityError(
            f"{kept}: crops of {done.crops.shape[1]} px; wanted {size}; delete it to ask again"
        )
    return done


def _row(
    image: Bytes, size: int, teachers: Teachers
) -> tuple[Bytes, FloatArray, float, Bytes, Bytes] | None:
    mesh = teachers.mesh(image)
    if mesh is None:
        return None
    crop, points = _crop(image, mesh, size)
    hair = np.rint(teachers.hair(crop) * 255).astype(np.uint8)
    person = np.rint(teachers.person(crop) * 255).astype(np.uint8)
    return crop, points, mesh.presence, hair, person


def _crop(image: Bytes, mesh: Mesh, size: int) -> tuple[Bytes, FloatArray]:
    found = align_crop(Image.fromarray(image), frame_points(mesh.points), size)
    height, width = image.shape[:2]
    corners = np.array([(0, 0), (0, height), (width, height), (width, 0)]) - 0.5
    off = np.abs(found.quad - corners).max() / max(height, width)
    quad, pixels = found.quad, found.image
    if max(height, width) <= SQUARE * min(height, width) and off < AT_HOME:  # a crop already
        quad = corners.astype(np.float64)
        pixels = Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS)
    matrix = crop_transform(quad, size)
    flat = apply_transform(inverse_transform(matrix), mesh.points[:, :2])
    scale = size / max(float(np.hypot(*(quad[3] - quad[0]))), 1e-6)
    return np.array(pixels), np.concatenate([flat, mesh.points[:, 2:] * scale], 1)
