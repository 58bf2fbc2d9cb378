"""Weak attributes from the words that describe a photo: a prompt, or searches that found it.

What the words do not name stays unknown. Words exclude things too: a woman has no beard, and a
searched hair colour excludes the other colours.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfhq.errors import UsageError
from sfhq.networks.names import ATTRIBUTES

Rule = tuple[str, str]  # words (a pattern), then attributes: "+A" is present, "-A" is absent
BEARDLESS = "+No_Beard -Mustache -Goatee -Sideburns -Full_Beard -5_o_Clock_Shadow"
MADE_UP = "+Heavy_Makeup +Wearing_Lipstick"
HATLESS = "-Wearing_Hat -Beanie -Cap -Brimmed_Hat"
HAIRY = f"-Bald {HATLESS}"
COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Red_Hair", "Dyed_Hair")


def _colour(name: str) -> str:
    return " ".join(f"{'+' if c == name else '-'}{c}" for c in COLOURS) + f" {HAIRY}"


RULES: tuple[Rule, ...] = (
    (r"\b(woman|female|girl|girls)\b", f"-Male {BEARDLESS}"),
    (r"\b(man|male|boy|boys)\b", "+Male -Heavy_Makeup -Wearing_Lipstick"),
    (
        r"\b(child|toddler|baby|infant)\b",
        f"+Child +Young -Gray_Hair -Receding_Hairline -Heavy_Makeup {BEARDLESS}",
    ),
    (r"\b(teenager|teenage)\b", "-Child +Young -Gray_Hair -Bald -Full_Beard"),
    (r"\b(elderly|old age|senior)\b", "-Young -Child"),
    (r"\b(adult|middle-aged)\b", "-Child"),
    (r"\bsunglasses\b", "+Eyeglasses +Sunglasses"),
    (r"\b(reading|rimless|cat-eye|round|square)( sun)? ?glasses\b", "+Eyeglasses"),
    (r"\b(reading|rimless) glasses\b", "-Sunglasses"),
    (r"\bwith (blue|green|brown|hazel|yellow|red) eyes\b", "-Sunglasses -Eyes_Closed"),
    (r"\bwide eyes\b", "-Eyes_Closed -Sunglasses -Narrow_Eyes"),
    (r"\b(hat|fedora|sun hat|cowboy hat|top hat|beanie|baseball cap)\b", "+Wearing_Hat"),
    (r"\bbeanie\b", "+Beanie -Cap -Brimmed_Hat"),
    (r"\bbaseball cap\b", "+Cap -Beanie -Brimmed_Hat"),
    (r"\b(fedora|sun hat|cowboy hat|top hat)\b", "+Brimmed_Hat -Beanie -Cap"),
    (r"\b(?<!no )(headscarf|hijab)\b", "+Headscarf -Wearing_Hat -Bald"),
    (r"\bno headscarf\b", "-Headscarf"),
    (r"\b(full|long white|fashionable) beard\b", "+Full_Beard -No_Beard +Mustache +Male"),
    (r"\bgoatee\b", "+Goatee -No_Beard +Male"),
    (r"\bmustache\b", "+Mustache -No_Beard +Male"),
    (r"\bstubble\b", "+5_o_Clock_Shadow -Full_Beard -No_Beard +Male"),
    (r"\bsideburns\b", "+Sideburns -No_Beard +Male"),
    (r"\bshaved face\b", f"{BEARDLESS} +Male"),
    (r"\b(bald|bald hair)\b", f"+Bald -Bangs -Long_Hair -Curly_Hair {HATLESS}"),
    (r"\bblack hair\b", _colour("Black_Hair")),
    (r"\b(blond|blonde|yellow or blond) hair\b", _colour("Blond_Hair")),
    (r"\bbrown hair\b", _colour("Brown_Hair")),
    (r"\b(gray|white|white or gray) hair\b", _colour("Gray_Hair")),
    (r"\b(red|orange|red or orange) hair\b", _colour("Red_Hair")),
    (r"\b(blue|green|pink|purple|purple or pink) hair\b", _colour("Dyed_Hair")),
    (
        r"\b(afro|curly)( \w+)? ?(hair|hairstyle)\b",
        f"+Curly_Hair +Wavy_Hair -Straight_Hair {HAIRY}",
    ),
    (r"\bwavy( \w+)? hair\b", f"+Wavy_Hair -Straight_Hair {HAIRY}"),
    (r"\bstraight( \w+)? hair\b", f"+Straight_Hair -Wavy_Hair -Curly_Hair {HAIRY}"),
    (r"\blong( \w+)? hair\b", f"+Long_Hair {HAIRY}"),
    (r"\b(short|bob-cut)( \w+)? (hair|hairstyle)\b", f"-Long_Hair {HAIRY}"),
    (r"\b(smiling|happy|cheerful|joyful)\b", "+Smiling"),
    (
        r"\b(sad|depressed|angry|enraged|mad|grim|neutral|fearful|disgusted|frowning|crying|scared)\b"
        r"|\b(bored|lonely|worried|tormented|blank stare|hollow stare|horrified|guilty)\b",
        "-Smiling",
    ),
    (r"\b(surprised|shocked)\b", "-Smiling -Eyes_Closed"),
    (r"\btongue out\b", "+Mouth_Slightly_Open"),
    (r"\beyes closed\b", "+Eyes_Closed -Sunglasses"),
    (r"\b(heavy|traditional) makeup\b", f"{MADE_UP} -Male"),
    (r"\bstrong eyeliner\b", "+Heavy_Makeup -Male"),
    (r"\bwithout makeup\b", "-Heavy_Makeup -Wearing_Lipstick -Male"),
    (r"\b(red lipstick|lipstick)\b", "+Wearing_Lipstick +Heavy_Makeup"),
    (r"\bearrings\b", "+Wearing_Earrings"),
    (r"\b(necklace|gold chain)\b", "+Wearing_Necklace"),
    (r"\btie\b", "+Wearing_Necktie"),
    (r"\bchubby\b", "+Chubby"),
)
# Years by words: the first pattern that fits counts.
YEARS: tuple[tuple[str, float], ...] = (
    (r"\bbaby\b", 0.9),
    (r"\btoddler\b", 2.5),
    (r"\bsmall child\b", 5.0),
    (r"\b(young child|child)\b", 8.0),
    (r"\bteenage\b", 15.0),
    (r"\bmiddle-aged\b", 48.0),
    (r"\b(elderly|old age)\b", 75.0),
)
NOT_ONE_FACE = re.compile(
    r"\b(two people|statue|cat|dog|animal|back of head|hand covering face|blurred)\b"
)


def attributes_of(words: str) -> npt.NDArray[np.float32]:
    """(K,) 1 present, 0 absent, NaN unknown, in the order of `ATTRIBUTES`.

    Words that contradict each other leave an attribute unknown.
    """
    out = np.full(len(ATTRIBUTES), np.nan, np.float32)
    clash = np.zeros(len(ATTRIBUTES), bool)
    text = words.lower()
    for pattern, told in RULES:
        if not re.search(pattern, text):
            continue
        for word in told.split():
            at, value = ATTRIBUTES.index(word[1:]), float(word[0] == "+")
            clash[at] |= out[at] == 1 - value
            out[at] = value
    out[clash] = np.nan
    years = years_of(words)
    if not np.isnan(years):
        out[ATTRIBUTES.index("Young")] = float(years < 45)
        out[ATTRIBUTES.index("Child")] = float(years < 13)
    return out


def years_of(words: str) -> float:
    """The age that the words name in years; NaN if they name none."""
    text = words.lower()
    if found := re.search(r"\b([\d.]+) year old\b", text):
        return float(found[1])
    if found := re.search(r"\b(\d+) month old\b", text):
        return float(found[1]) / 12
    return next((years for pattern, years in YEARS if re.search(pattern, text)), float("nan"))


def shows_one_face(words: str) -> bool:
    """False where the words name what is not one plain face: animals, statues, two people."""
    return NOT_ONE_FACE.search(words.lower()) is None


def read_words(path: Path) -> dict[str, str]:
    """File name -> words, from a CSV table with the columns `file` and `queries` or `prompt`.

    Raises:
        UsageError: no such file, or other columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot read the words: {error.strerror}") from None
    rows = list(csv.DictReader(text.splitlines()))
    columns = set(rows[0]) if rows else set()
    told = next((c for c in ("queries", "prompt") if c in columns), None)
    if told is None or "file" not in columns:
        raise UsageError(
            f"{path}: has the columns {', '.join(sorted(columns)) or 'none'}; wanted file and "
            "queries, or file and prompt"
        )
    return {row["file"]: row[told] or "" for row in rows}
