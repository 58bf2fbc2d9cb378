"""Images with captions: of parts, of tables of files, or of a folder with texts beside the images.

All images are decoded once and held as bytes, 4.9 GB for 100,000 of 128 pixels: in memory, or in a
file of which the system keeps in memory what fits.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from encoders.flip.losses import key_of
from sfhq.errors import IntegrityError, UsageError
from sfhq.formats import suffixes
from sfhq.images import BadImage, read_image
from sfhq.parts.part import Part
from sfhq.parts.photos import read_photo
from sfhq.parts.records import Pixels
from sfhq.training.photos import is_held_out

TABLES = {".csv": ",", ".tsv": "\t"}
MOST_TEXT = 1 << 20  # characters of a text; more is no caption
_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Captioned:
    """Images and what is said of them.

    Attributes:
        pixels: (N, 3, S, S) uint8.
        names: N names.
        faces: N names of the faces; images of one face are never each other's negatives.
        texts: N tuples of captions, at least one each.
        skipped: reason -> how many entries were left out.
        places: (N,) where the images lie in `pixels`, which may hold more of them and lie on a
            disk; None where they lie there in order.
    """

    pixels: Tensor
    names: tuple[str, ...]
    faces: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    skipped: Mapping[str, int] = field(default_factory=dict)
    places: Tensor | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> int:
        """Height and width of the images."""
        return int(self.pixels.shape[-1])

    def select(self, rows: Iterable[int]) -> Captioned:
        """Some of the images."""
        at = list(rows)
        mapped = self.places is not None
        return Captioned(
            self.pixels if mapped else self.pixels[at],
            tuple(self.names[i] for i in at),
            tuple(self.faces[i] for i in at),
            tuple(self.texts[i] for i in at),
            self.skipped,
            self.places[at] if self.places is not None else None,
        )

    def split(self) -> tuple[Captioned, Captioned]:
        """The images to train on, and a tenth that is held out by the hash of the face's name.

        The folder before a name does not count, so that a source is split alike alone and beside
        others.
        """
        held = [is_held_out(face.rpartition("/")[2]) for face in self.faces]
        return (
            self.select(i for i, h in enumerate(held) if not h),
            self.select(i for i, h in enumerate(held) if h),
        )

    def face_keys(self) -> Tensor:
        """(N,) int64, equal for images of one face."""
        return torch.tensor([key_of(face) for face in self.faces], dtype=torch.int64)

    def picture(self, row: int) -> Pixels:
        """(S, S, 3) uint8 of one image."""
        at = row if self.places is None else int(self.places[row])
        return self.pixels[at].permute(1, 2, 0).contiguous().numpy()

    def images(self, rows: Tensor, flipped: Tensor | None = None) -> Tensor:
        """(n, 3, S, S) float in [-1, 1].

        Args:
            rows: (n,) which images.
            flipped: (n,) bool, True to mirror an image; None mirrors none.
        """
        at = rows if self.places is None else self.places[rows]
        found = self.pixels[at].float() / 127.5 - 1.0
        if flipped is None:
            return found
        return torch.where(flipped[:, None, None, None], found.flip(3), found)


def resized(image: Image.Image, size: int) -> Pixels:
    """(S, S, 3) uint8 of an image of any size, without cropping."""
    return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))


def mirrored(text: str) -> str:
    """What a caption says of the mirror image: "left" and "right" change places."""

    def other(found: re.Match[str]) -> str:
        word = _OTHER[found[0].lower()]
        if found[0].isupper():
            return word.upper()
        return word.capitalize() if found[0][0].isupper() else word

    return _SIDE.sub(other, text)


@dataclass(frozen=True)
class TableForm:
    """How tables of files are read.

    Attributes:
        column: the column of the texts.
        separator: what stands between several texts of one cell; empty for one text.
    """

    column: str = "text"
    separator: str = ""


TEXT_COLUMN = TableForm()


def load_captioned(
    sources: Sequence[Path],
    size: int,
    form: TableForm = TEXT_COLUMN,
    kept: Path | None = None,
) -> Captioned:
    """Read images with captions.

    Args:
        sources: each a part with captions, a .csv or .tsv with the columns `file`, `text` and, if
            given, `face`, or a folder of images with a .txt of the same name each, one caption a
            line. Files of a table lie beside it, or in a folder beside it that has its name.
        size: height and width to which images are resized, without cropping.
        form: how tables are read.
        kept: an .npy file that holds the decoded images instead of memory; written anew.

    Raises:
        UsageError: a source is missing or of another kind, or has nothing to train on.
        IntegrityError: a part is damaged.
    """
    skipped: Counter[str] = Counter()
    pixels: list[Pixels] = []
    entries: list[tuple[str, str, tuple[str, ...]]] = []
    file = None if kept is None else _begin(kept)
    for source, row in ((s, r) for s in sources for r in _rows(s, skipped, form)):
        # Two sources may use one name for different faces.
        apart = f"{source}/" if len(sources) > 1 else ""
        texts = tuple(dict.fromkeys(t for t in map(_tidy, row.texts) if t))
        if not texts:
            skipped["no caption"] += 1
            continue
        try:
            image = row.read()
        except FileNotFoundError:
            skipped["missing image"] += 1
            continue
        except (BadImage, OSError):
            skipped["damaged image"] += 1
            continue
        made = resized(image, size)
        if file is None:
            pixels.append(made)
        else:
            file.write(np.ascontiguousarray(made.transpose(2, 0, 1)).tobytes())
        entries.append((apart + row.name, apart + row.face, texts))
    if not entries:
        said = ", ".join(f"{n} x {reason}" for reason, n in sorted(skipped.items())) or "no entry"
        raise UsageError(
            f"{', '.join(map(str, sources))}: no image with a caption ({said}); give a part after "
            "sfhq caption, a .csv with file,text, or a folder with a .txt for each image"
        )
    if file is None or kept is None:
        stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    else:
        stacked = _ended(kept, file, (len(entries), 3, size, size))
    names, faces, texts_of = zip(*entries, strict=True)
    places = None if kept is None else torch.arange(len(entries))
    return Captioned(stacked, names, faces, texts_of, dict(skipped), places)


HEAD = 128  # bytes of the head of an .npy file of this kind


def _begin(path: Path) -> IO[bytes]:
    """A file whose head is written last, when the number of images is known."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path.with_name(path.name + ".part"), "wb")  # noqa: SIM115, `_ended` closes it
    file.write(bytes(HEAD))
    return file


def _ended(path: Path, file: IO[bytes], shape: tuple[int, ...]) -> Tensor:
    """Write the head, put the file in its place, and map it."""
    head = {"descr": "|u1", "fortran_order": False, "shape": shape}
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, head)
    assert len(buffer.getvalue()) == HEAD
    with file:
        file.seek(0)
        file.write(buffer.getvalue())
    path.with_name(path.name + ".part").replace(path)
    with warnings.catch_warnings():  # that it cannot be written to: nobody does
        warnings.simplefilter("ignore")
        return torch.from_numpy(np.load(path, mmap_mode="r"))


@dataclass(frozen=True)
class _Entry:
    """An image that is not read yet."""

    name: str
    face: str
    texts: tuple[str, ...]
    path: Path | None = None
    pixels: Image.Image | None = None

    def read(self) -> Image.Image:
        if self.pixels is not None:
            return self.pixels
        assert self.path is not None
        return read_image(self.path.read_bytes())


def _tidy(text: str) -> str:
    return " ".join(text[:MOST_TEXT].split())


def _rows(source: Path, skipped: Counter[str], form: TableForm) -> Iterator[_Entry]:
    if (source / "part.json").exists():
        yield from _of_part(source, skipped)
    elif source.suffix.lower() in TABLES and source.is_file():
        yield from _of_table(source, skipped, form)
    elif source.is_dir():
        yield from _of_folder(source, skipped)
    else:
        raise UsageError(f"{source}: wanted a part, a folder, or a .csv or .tsv with file,text")


def _of_part(root: Path, skipped: Counter[str]) -> Iterator[_Entry]:
    part = Part.open(root)
    captioned = False
    for record in part.faces():
        about = record.about
        captioned = captioned or "caption" in about or "captions" in about
        several = about.get("captions")
        texts = [t for t in several if isinstance(t, str)] if isinstance(several, list) else []
        if not texts and isinstance(about.get("caption"), str):
            texts = [str(about["caption"])]
        if not texts:
            skipped["no caption"] += 1
            continue
        pixels = Image.fromarray(read_photo(part, record))
        # Candidates of one face show one person: they are held out together.
        face = record.parent_id or record.face_id
        yield _Entry(record.face_id, face, tuple(texts), pixels=pixels)
    if not captioned:
        raise UsageError(f"{root}: has no captions; write them: sfhq caption {root}")


def _of_table(path: Path, skipped: Counter[str], form: TableForm) -> Iterator[_Entry]:
    entries: dict[str, _Entry] = {}
    csv.field_size_limit(MOST_TEXT)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=TABLES[path.suffix.lower()])
            if not {"file", form.column} <= {*(reader.fieldnames or ())}:
                raise UsageError(
                    f"{path}: has the columns {', '.join(reader.fieldnames or ()) or 'none'}; "
                    f"wanted file and {form.column}"
                )
            for row in reader:
                name, text = row["file"] or "", row[form.column] or ""
                if not name:
                    skipped["no file"] += 1
                    continue
                before = entries.get(name)
                face = row.get("face") or name
                said = text.split(form.separator) if form.separator else [text]
                texts = (*(before.texts if before else ()), *said)
                beside = path.parent / name
                file_at = beside if beside.is_file() else path.with_suffix("") / name
                entries[name] = _Entry(name, face, texts, file_at)
    except (UnicodeDecodeError, csv.Error) as error:
        raise IntegrityError(
            f"{path}: cannot be read ({type(error).__name__}); wanted UTF-8 with file,{form.column}"
        ) from None
    yield from entries.values()


def _of_folder(folder: Path, skipped: Counter[str]) -> Iterator[_Entry]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes() or not path.is_file():
            continue
        beside = path.with_suffix(".txt")
        if not beside.is_file():
            skipped["no caption"] += 1
            continue
        try:
            lines = tuple(beside.read_text(encoding="utf-8-sig").splitlines())
        except UnicodeDecodeError:
            skipped["caption is not UTF-8"] += 1
            continue
        yield _Entry(path.name, path.stem, lines, path)
