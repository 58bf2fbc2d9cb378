"""The HTML shell of all pages and reports: templates that extend one, values always escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


@lru_cache(maxsize=8)
def _environment(package: str) -> Environment:
    loader = ChoiceLoader([PackageLoader(package), PackageLoader("sfhq.web")])
    return Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(package: str, template: str, **values: Any) -> str:
    """A page.

    Args:
        package: whose folder `templates` holds the template.
        template: file name; it extends `shell.html`, or `report.html` for a page that is opened
            from the disk.
        values: what the template names; a name without a value is an error.
    """
    return _environment(package).get_template(template).render(values)


def jpeg_address(data: bytes) -> str:
    """A JPEG file as an address, so that a report needs no other file."""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


@dataclass(frozen=True)
class Mark:
    """One SVG element; `plot.html` writes it.

    Attributes:
        name: of the element, such as "line".
        attributes: by name; numbers are rounded to a tenth of a pixel.
        text: inside the element.
    """

    name: str
    attributes: dict[str, str]
    text: str = ""


def mark(name: str, text: str = "", **attributes: str | float) -> Mark:
    """An SVG element.

    Args:
        name: of the element.
        text: inside the element.
        attributes: "_" stands for "-", and a "_" at the end of a name is left out: `class_`.
    """
    return Mark(
        name,
        {
            key.rstrip("_").replace("_", "-"): value if isinstance(value, str) else f"{value:.1f}"
            for key, value in attributes.items()
        },
        text,
    )


def points(pairs: Iterable[tuple[float, float]]) -> str:
    """(x, y) pairs as the attribute `points` of a line or an area."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)
