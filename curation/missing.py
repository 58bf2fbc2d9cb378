"""What a choice lacks, as recipes for `sfhq render`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from curation.select import Lack
from sfhq.images import write_atomic

_AGE = re.compile(r"\(?\s*years\s*(>=|>|<=|<)\s*(\d+(?:\.\d+)?)\s*\)?")
_BETWEEN = re.compile(r"\(?\s*years\s+between\s+(\d+)\s+and\s+(\d+)\s*\)?", re.IGNORECASE)
_MALE = re.compile(r"\(?\s*male\s*(>=|>|<=|<)\s*0?\.\d+\s*\)?")
_WORD = re.compile(r"\(?\s*(glasses|hat|facial_hair|hair_colour)\s*(<>|!=|=)\s*'([a-z ]+)'\s*\)?")
YOUNGEST, OLDEST = 5, 85  # years that the renderer is asked for
WORN: dict[str, dict[str, tuple[str, ...]]] = {
    "glasses": {"clear": ("round", "square"), "sunglasses": ("sunglasses",)},
    "hat": {
        **{"beanie": ("beanie",), "cap": ("cap",), "brimmed hat": ("brim",)},
        "headscarf": ("headscarf",),
    },
    "facial_hair": {
        **{"full beard": ("full",), "goatee": ("goatee",), "moustache": ("moustache",)},
        **{"sideburns": ("sideburns",), "stubble": ("stubble",)},
    },
}
TABLES = {"glasses": "glasses", "hat": "hat", "facial_hair": "beard"}


def recipe_of(condition: str) -> str | None:
    """A recipe of heads that meet a condition, as TOML; None where the renderer cannot be asked.

    Args:
        condition: a comparison of `years`, `male`, `glasses`, `hat`, `facial_hair` with one value,
            also within "not (...)".
    """
    text = condition.strip()
    no = text.lower().startswith("not (") and text.endswith(")")
    if no:
        text = text[5:-1]
    if found := _AGE.fullmatch(text):
        sign, years = found[1], float(found[2])
        older = sign.startswith(">") != no
        limits = (round(years), OLDEST) if older else (YOUNGEST, max(round(years) - 1, YOUNGEST))
        return f'[age]\n"{limits[0]}-{max(limits)}" = 1.0\n' if limits[0] <= OLDEST else None
    if (found := _BETWEEN.fullmatch(text)) and not no:
        return f'[age]\n"{found[1]}-{found[2]}" = 1.0\n'
    if found := _MALE.fullmatch(text):
        male = found[1].startswith(">") != no
        beard = "[beard]\nnone = 1.0\n"
        return f"[gender]\n{'male' if male else 'female'} = 1.0\n" + ("" if male else beard)
    found = _WORD.fullmatch(text)
    if found is None or found[1] not in TABLES:
        return None
    name, equal, word = found[1], (found[2] == "=") != no, found[3]
    kinds = WORN[name]
    if word == "none":
        wanted = ("none",) if equal else tuple(k for several in kinds.values() for k in several)
    elif word in kinds and equal:
        wanted = kinds[word]
    else:
        return None
    men = "[gender]\nmale = 1.0\n" if name == "facial_hair" and "none" not in wanted else ""
    return men + f"[{TABLES[name]}]\n" + "".join(f"{k} = {1 / len(wanted)!r}\n" for k in wanted)


def write_recipes(lacks: Sequence[Lack], folder: Path) -> list[tuple[Lack, Path | None]]:
    """A recipe file for each lack that the renderer can fill: `missing-1.toml` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[tuple[Lack, Path | None]] = []
    for number, lack in enumerate(lacks, 1):
        text = recipe_of(lack.target.condition)
        path = None if text is None else folder / f"missing-{number}.toml"
        if path is not None and text is not None:
            write_atomic(path, text.encode())
        found.append((lack, path))
    return found
