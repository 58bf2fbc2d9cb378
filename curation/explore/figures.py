"""The figures of the original exploration script as files: searches, random grids, isolations."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from curation.explore.explorer import Explorer
from curation.explore.pictures import ISOLATIONS, MASKS, POINTS, isolated
from curation.explore.views import View
from sfhq.errors import UsageError
from sfhq.images import COMPOSITE, write_image
from sfhq.parts.photos import read_mask, read_photo
from sfhq.parts.records import Array, Pixels
from sfhq.stages import reader

BACKGROUND, TEXT = (13, 13, 13), (235, 235, 235)
CELL, GAP, HEADER = 160, 6, 22
POOL = 3  # pictures are drawn at random from the best, this many times as many as are shown
GRID, ISOLATED, OVERLAID = (4, 8), 4, 6
VIEWS = ("face", "skin", "features", "face and hair", "hair and hat", "surroundings")
COLOURS = ("black", "dark brown", "light brown", "blond", "red", "grey")


@dataclass(frozen=True)
class Preset:
    """A figure of searches.

    Attributes:
        name: of the file.
        prefix: before each text.
        texts: a row each.
    """

    name: str
    prefix: str
    texts: tuple[str, ...]


EXPRESSIONS = ("smiling", "serious", "surprised", "angry", "sad")
ORIGINS = ("african", "asian", "european", "indian", "latin", "middle eastern")
AGES = ("baby", "young child", "teenager", "young adult", "middle aged", "very old")
PRESETS = (
    Preset("hair-colour", "", tuple(f"{c} hair" for c in COLOURS)),
    Preset(
        "hair-length-and-colour",
        "woman with ",
        tuple(f"{w} {c} hair" for w in ("short", "long") for c in ("black", "blond", "brown")),
    ),
    Preset(
        "hair-style", "", tuple(f"{s} hair" for s in ("straight", "wavy", "curly", "tied", "afro"))
    ),
    Preset(
        "make-up", "woman ", ("with heavy makeup", "with red lips", "with dark eyes", "no makeup")
    ),
    Preset(
        "background",
        "",
        tuple(f"{c} background" for c in ("white", "black", "blue", "green", "red")),
    ),
    Preset("accessories", "", ("glasses", "bald", "goatee", "lipstick", "hat")),
    Preset("face-shape", "", ("strong jaw", "full beard", "large forehead", "chubby", "thin face")),
    Preset("expression", "", EXPRESSIONS),
    Preset("expression-of-men", "man ", EXPRESSIONS),
    Preset("origin", "", ORIGINS),
    Preset("origin-old", "old age ", ORIGINS),
    Preset("origin-adult", "typical adult ", ORIGINS),
    Preset("origin-child", "young child ", ORIGINS),
    Preset("age", "", AGES),
    Preset("age-asian-women", "asian female ", AGES),
    Preset("age-african-men", "african male ", AGES),
)


@dataclass
class Drawn:
    """What was written.

    Attributes:
        files: in order.
        notes: what could not be drawn and why, a line each.
    """

    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def write_figures(explorer: Explorer, folder: Path, seed: int = 0) -> Drawn:
    """Write the sixteen preset searches, a random grid, overlays and isolations as JPEG files.

    A preset for which no text finds a face, and isolations of parts without masks, are told in the
    notes instead.

    Args:
        explorer: with the faces; refused ones are left out.
        folder: made where it is missing; files of the same names are written over.
        seed: of all random choices.

    Raises:
        UsageError: no face is left, or the folder is a file.
        SfhqError: an encoder cannot be had, or a photo is damaged.
    """
    alive = View(f=(("alive", ("true",)),)) if "alive" in explorer.facets else View()
    living = explorer.order(alive)
    if not len(living) or not explorer.faces.rows("SELECT 1 FROM faces WHERE alive LIMIT 1"):
        raise UsageError(f"{explorer.faces.parts[0].root}: no face is left to draw")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; give a folder")
    drawn, draw = Drawn(), np.random.default_rng(seed)
    searches = explorer.knows_words or explorer.has_captions
    if not searches:
        drawn.notes.append(f"preset searches are left out: {explorer.how_words()}")
    elif not explorer.knows_words:
        drawn.notes.append(explorer.how_words())
    figures = {p.name: _search(explorer, p, alive, draw) for p in PRESETS if searches}
    figures["random"] = [("", _random(explorer, living, draw, GRID[0] * GRID[1]))]
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in figures.items():
        if not any(pictures for _, pictures in rows):
            drawn.notes.append(f"{name}: no face fits any of its texts; left out")
            continue
        across = GRID[1] if name == "random" else 0
        _write(drawn, folder / f"{name}.jpg", _sheet(rows, across))
    for name, rows in (
        ("overlays", _overlays(explorer, living, draw)),
        ("isolations", _isolations(explorer, living, draw)),
    ):
        if rows:
            _write(drawn, folder / f"{name}.jpg", _sheet(rows))
        else:
            drawn.notes.append(
                f"{name}: no face has masks; run: sfhq parse {explorer.faces.parts[0].root}"
            )
    return drawn


def _write(drawn: Drawn, path: Path, sheet: Image.Image) -> None:
    write_image(path, np.asarray(sheet), source_type=COMPOSITE, quality=92)
    drawn.files.append(path)


def _search(
    explorer: Explorer, preset: Preset, alive: View, draw: np.random.Generator
) -> list[tuple[str, list[Pixels]]]:
    """A row for each text: faces drawn from the best ones."""
    wanted = 2 * len(preset.texts) + 1
    rows = []
    for text in preset.texts:
        words = preset.prefix + text
        # Captions are looked up word by word, without the words that say nothing.
        plain = " ".join(w for w in re.findall(r"\w+", words) if w not in ("with", "of", "age"))
        view = View(q=words if explorer.knows_words else plain, f=alive.f)
        best = explorer.order(view)[: POOL * wanted]
        chosen = draw.permutation(len(best))[:wanted]
        rows.append((words, [_photo(explorer, int(best[k])) for k in np.sort(chosen)]))
    return rows


def _random(
    explorer: Explorer, living: Array, draw: np.random.Generator, count: int
) -> list[Pixels]:
    return [_photo(explorer, int(i)) for i in draw.permutation(living)[:count]]


def _photo(explorer: Explorer, i: int) -> Pixels:
    image = Image.fromarray(read_photo(explorer.faces.part(i), explorer.faces.photo_record(i)))
    return np.asarray(image.resize((CELL, CELL), Image.Resampling.LANCZOS))


def _with_masks(
    explorer: Explorer, living: Array, draw: np.random.Generator, count: int
) -> list[int]:
    """Numbers of a few faces that have masks, at random; a few times as many are looked at."""
    drawn = draw.permutation(living)[: 20 * count]
    return [int(i) for i in drawn if MASKS in explorer.faces.record(int(i)).hashes][:count]


def _overlays(
    explorer: Explorer, living: Array, draw: np.random.Generator
) -> list[tuple[str, list[Pixels]]]:
    """Photos; photos with points; classes with points."""
    plain: list[Pixels] = []
    dotted: list[Pixels] = []
    both: list[Pixels] = []
    for i in _with_masks(explorer, living, draw, OVERLAID):
        record, part = explorer.faces.record(i), explorer.faces.part(i)
        photo, mask = read_photo(part, record), read_mask(part, record, MASKS)
        points = part.row(POINTS, record) if POINTS in record.rows else None
        mask = _resized(mask, photo)
        plain.append(_photo(explorer, i))
        for row, shown in ((dotted, None), (both, mask)):
            row.append(_cell(np.asarray(reader("overlay")(photo, shown, points, 2 * CELL))))
    rows = [("photo", plain), ("points", dotted), ("classes and points", both)]
    return rows if plain else []


def _isolations(
    explorer: Explorer, living: Array, draw: np.random.Generator
) -> list[tuple[str, list[Pixels]]]:
    """A row for each face: the photo, its classes, and each view with the rest darkened."""
    rows: list[tuple[str, list[Pixels]]] = []
    for i in _with_masks(explorer, living, draw, ISOLATED):
        record, part = explorer.faces.record(i), explorer.faces.part(i)
        photo, mask = read_photo(part, record), read_mask(part, record, MASKS)
        classes = np.asarray(reader("overlay")(photo, _resized(mask, photo), None, CELL))
        cells = [_cell(photo), _cell(classes)]
        cells += [_cell(isolated(photo, mask, ISOLATIONS[name])) for name in VIEWS]
        rows.append(("" if rows else "photo, classes, " + ", ".join(VIEWS), cells))
    return rows


def _resized(mask: Pixels, photo: Pixels) -> Pixels:
    size = photo.shape[1], photo.shape[0]
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def _cell(pixels: Pixels) -> Pixels:
    image = Image.fromarray(pixels).resize((CELL, CELL), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _sheet(rows: list[tuple[str, list[Pixels]]], across: int = 0) -> Image.Image:
    """Rows of pictures below their texts; with `across` one row is cut into lines."""
    if across:
        (text, pictures) = rows[0]
        cut = range(0, len(pictures), across)
        rows = [(text if k == 0 else "", pictures[k : k + across]) for k in cut]
    wide = max(max(len(pictures) for _, pictures in rows), 1)
    header = HEADER if any(text for text, _ in rows) else 0
    size = wide * (CELL + GAP) + GAP, len(rows) * (CELL + header + GAP) + GAP
    sheet = Image.new("RGB", size, BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for line, (text, pictures) in enumerate(rows):
        top = GAP + line * (CELL + header + GAP)
        draw.text((GAP, top + 1), text, TEXT, font)
        if not pictures:
            draw.text((GAP, top + header + 4), "no face", TEXT, font)
        for column, pixels in enumerate(pictures):
            left = GAP + column * (CELL + GAP)
            sheet.paste(Image.fromarray(pixels), (left, top + header))
    return sheet
