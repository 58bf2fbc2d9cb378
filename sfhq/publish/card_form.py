"""The form of a data card, and the card as Markdown and as a page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from sfhq.parts.records import Json


@dataclass(frozen=True)
class Table:
    """Heads and rows of texts."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A section of the card.

    Attributes:
        title: its heading.
        texts: paragraphs.
        points: a list below them.
        tables: with captions.
    """

    title: str
    texts: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    tables: tuple[tuple[str, Table], ...] = ()


@dataclass(frozen=True)
class Card:
    """A data card.

    Attributes:
        title: of the dataset.
        sections: in order.
        missing: keys of `KEYS` that nobody stated.
        data: the same as values that a program can read.
    """

    title: str
    sections: tuple[Section, ...]
    missing: tuple[str, ...]
    data: dict[str, Json] = field(default_factory=dict)


def as_markdown(card: Card) -> str:
    """The card as Markdown; names that others chose are escaped."""
    lines = [f"# {_md(card.title)}", ""]
    for section in card.sections:
        lines += [f"## {_md(section.title)}", ""]
        for text in section.texts:
            lines += [_md(text), ""]
        lines += [f"- {_md(point)}" for point in section.points]
        lines += [""] if section.points else []
        for caption, table in section.tables:
            lines += [f"**{_md(caption)}**", ""] if caption else []
            lines.append(_row(table.heads))
            lines.append("|" + "---|" * len(table.heads))
            lines += [_row(row) for row in table.rows]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_md(cell) for cell in cells) + " |"


def _md(text: str) -> str:
    """Text that Markdown shows as it is; code between backticks stays code."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(
        part.replace("|", "\\|")
        if part.startswith("`")
        else re.sub(r"([\\|<>\[\]*_])", r"\\\1", part)
        for part in parts
    )


def as_page(card: Card) -> str:
    """The card as a page that needs no other file."""
    from sfhq.web.shell import render

    return render("sfhq.publish", "card.html", card=card)
