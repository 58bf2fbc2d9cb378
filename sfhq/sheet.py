"""Contact sheets: an inspiration and its candidates in a row, or plain grids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sfhq.errors import UsageError
from sfhq.images import COMPOSITE, write_image
from sfhq.parts.folders import ART_FOLDER, RENDER_FOLDER, SYNTHETIC_FOLDER
from sfhq.parts.lineage import faces_stage
from sfhq.parts.part import Part
from sfhq.parts.photos import read_pixels
from sfhq.parts.records import FaceRecord

BACKGROUND = (24, 24, 26)
TEXT = (225, 225, 225)
DIMMED = 0.35
GAP = 6
HEADER = 22


def write_sheets(
    part: Part,
    target: Path,
    *,
    rows: int = 12,
    cell: int = 160,
    pages: int | None = None,
    labels: bool = False,
) -> list[Path]:
    """Draw a part's photos; those that a later stage refused are dimmed and say why.

    Args:
        part: a part that has got as far as images.
        target: a .png or .jpg; further pages get -2, -3 before the suffix.
        rows: rows a page.
        cell: height and width of a picture in pixels.
        pages: most pages to write; None for all.
        labels: of rendered heads draw the classes and landmarks beside each.

    Returns:
        The files, in order.

    Raises:
        UsageError: the part has no images yet, or no labels.
    """
    if target.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"{target}: wanted a name that ends in .png or .jpg")
    for option, number in (("rows", rows), ("cell", cell), ("pages", pages)):
        if number is not None and number < 1:
            raise UsageError(f"{option} is {number}; wanted 1 or more")
    if not part.stages() or part.stages() == ["ingest"]:
        raise UsageError(f"{part.root}: no images to show yet; run: sfhq align {part.root}")
    if labels and "render" not in part.stages():
        raise UsageError(f"{part.root}: no exact labels to show; they come with: sfhq render")
    lines = _heads(part, labels) if labels or faces_stage(part) == "render" else _lines(part)
    written: list[Path] = []
    while page := list(islice(lines, rows)):
        number = len(written) + 1
        path = target if number == 1 else target.with_stem(f"{target.stem}-{number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, np.asarray(_draw(part, page, cell)), source_type=COMPOSITE, quality=92)
        written.append(path)
        if pages is not None and number >= pages:
            break
    if not written:
        raise UsageError(f"{part.root}: no face was left to show; see: sfhq show {part.root}")
    return written


class Cell(NamedTuple):
    """A picture: the face, its folder ("" for an overlay of labels), what stands above it, and why
    the face was refused.
    """

    record: FaceRecord
    folder: str
    caption: str = ""
    refused: str = ""


def _lines(part: Part) -> Iterator[list[Cell]]:
    """Rows of cells: inspiration first where there is one."""
    stages = part.stages()
    if "synthesize" in stages:
        yield from _families(part)
        return
    stage = "sample" if "sample" in stages else "align"
    folder = SYNTHETIC_FOLDER if stage == "sample" else "aligned"
    fates = _fates(part)
    faces = (r for r in part.records(stage) if folder in r.hashes)
    while row := list(islice(faces, 8)):
        yield [Cell(r, folder, "", fates.get(r.face_id, "")) for r in row]


def _heads(part: Part, labels: bool) -> Iterator[list[Cell]]:
    """Rendered heads: the picture, its photograph if that is another, the labels."""
    fates = _fates(part)
    heads = (r for r in part.records("render") if r.alive)
    across = 3 if labels else 8
    while group := list(islice(heads, across)):
        row: list[Cell] = []
        for record in group:
            refused = fates.get(record.face_id, "")
            styled = ART_FOLDER in record.hashes
            folder = ART_FOLDER if styled else RENDER_FOLDER
            row.append(Cell(record, folder, refused=refused))
            if labels:
                row.append(Cell(record, RENDER_FOLDER))
                row.append(Cell(record, ""))
        yield row


def _families(part: Part) -> Iterator[list[Cell]]:
    fates = _fates(part)
    candidates = (r for r in part.records("synthesize") if SYNTHETIC_FOLDER in r.hashes)
    for parent, family in groupby(candidates, key=lambda r: r.parent_id):
        row: list[Cell] = []
        for record in family:
            if not row:  # a candidate's record still names its parent's crop
                row.append(Cell(replace(record, face_id=parent), "aligned", "art"))
            refused = fates.get(record.face_id, "")
            row.append(Cell(record, SYNTHETIC_FOLDER, _caption(record), refused))
        yield row


def _caption(record: FaceRecord) -> str:
    return (
        record.candidate
        if record.prior_distance is None
        else f"{record.candidate} {record.prior_distance:.2f}"
    )


def _fates(part: Part) -> dict[str, str]:
    """face id -> reason, for those refused after they had an image."""
    return {r.face_id: r.reason for r in part.faces(rejected=True) if not r.alive}


def _picture(part: Part, cell: Cell, side: int) -> Image.Image:
    if not cell.folder:
        from sfhq.render.labels.overlay import overlay

        return overlay(part, cell.record, side)
    picture = Image.fromarray(read_pixels(part, cell.record, cell.folder))
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def _draw(part: Part, page: list[list[Cell]], cell: int) -> Image.Image:
    columns = max(len(row) for row in page)
    captioned = any(c.caption for row in page for c in row)
    header = HEADER if captioned else 0
    step = cell + GAP
    sheet = Image.new("RGB", (columns * step + GAP, len(page) * (step + header) + GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=max(11, cell // 12))
    for y, row in enumerate(page):
        for x, one in enumerate(row):
            left, top = GAP + x * step, GAP + y * (step + header) + header
            picture = _picture(part, one, cell)
            if one.refused:
                picture = Image.blend(Image.new("RGB", picture.size, BACKGROUND), picture, DIMMED)
            sheet.paste(picture, (left, top))
            if one.refused:
                draw.text((left + 5, top + cell - cell // 8 - 5), one.refused, TEXT, font)
            if one.caption:
                draw.text((left + 1, top - header + 4), one.caption, TEXT, font)
    return sheet
