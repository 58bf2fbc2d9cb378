"""The command `sfhq funnel`: a collection of images and texts becomes captioned faces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfhq.commands.stages import Line
from sfhq.console import say

if TYPE_CHECKING:
    from annotate.grammar.statistics import Statistics
    from sfhq.pipeline.recipe import Recipe

# Dai et al. 2024, "15M Multimodal Facial Image-Text Dataset": faces larger than 128 pixels,
# attributes above 0.85, more than five of them.
FUNNEL = Line(
    "funnel",
    "FaceCaption's funnel: from the pictures and texts in SOURCE to captioned faces in PART.",
    stages=("ingest", "align", "detect", "attribute", "caption"),
    about="SOURCE is a folder with a .txt beside each picture, tar shards of WebDataset, or "
    "Parquet files with images; texts are optional. Every picture that is left out is counted "
    "with its reason; at the end the collection's texts and the new captions are compared. Without "
    "--recipe faces of fewer than 128 pixels are left out, and captions need six attributes.",
    examples=(
        "sfhq funnel shards/ part-07 --opt-out opted-out.txt --workers 2",
        "sfhq funnel faces.parquet part-07 --count 5 --two-sided",
    ),
    defaults={"align__min_face": 128, "attribute__least": 6, "caption__rule": True},
)


def tell_funnel(part: Path, recipe: Recipe, tell: bool) -> None:
    """Print the figures of both kinds of texts side by side.

    Args:
        part: folder of the part.
        recipe: of the run; not read.
        tell: whether to print.
    """
    if not tell:
        return
    import numpy as np

    from annotate.grammar.statistics import statistics

    texts, captions, without, quality = texts_of(part)
    if without:
        say(
            f"{without} faces without a caption: too few attributes; --least asks for fewer, "
            "--two-sided also counts those that are surely absent (both with --redo)"
        )
    if quality:
        low, middle, high = np.quantile(quality, [0.1, 0.5, 0.9])
        say(
            f"quality of {len(quality)} faces (0 to 100, ISO/IEC 29794-5's components): median "
            f"{middle:.0f}, 80 % between {low:.0f} and {high:.0f}"
        )
    sets = {"texts of the collection": texts, "captions": captions}
    found = {name: statistics(some) for name, some in sets.items() if some}
    if found:
        say(f"{'':<32}" + "".join(f"{name:>26}" for name in found))
    for label, value in ROWS.items():
        if found:
            say(f"{label:<32}" + "".join(f"{value(s):>26}" for s in found.values()))


def texts_of(root: Path) -> tuple[list[str], list[str], int, list[float]]:
    """Of living faces: texts that came with them, captions, how many have none, and quality."""
    from sfhq.parts.part import Part

    texts: list[str] = []
    captions: list[str] = []
    without = 0
    quality: list[float] = []
    for record in Part.open(root).faces():
        text = record.params.get("text")
        if isinstance(text, str) and text:
            texts.append(text)
        found: Any = record.about.get("captions") or []
        captions += found
        without += not found
        value = record.about.get("quality")
        if isinstance(value, int | float):
            quality.append(float(value))
    return texts, captions, without, quality


def _groups(found: Statistics) -> str:
    return " ".join(f"{100 * share:.0f}" for share in found.groups.values())


ROWS: dict[str, Any] = {
    "number": lambda s: f"{s.captions}",
    "words": lambda s: f"{s.words:.1f}",
    "sentences": lambda s: f"{s.sentences:.1f}",
    "different words": lambda s: f"{s.types}",
    "different 4-grams": lambda s: f"{s.unique_4grams['1']}",
    "lexical diversity (MTLD)": lambda s: f"{s.mtld:.1f}",
    "reading ease (Flesch)": lambda s: f"{s.flesch:.1f}",
    "repeated": lambda s: f"{100 * s.repeated:.1f} %",
    "% with each group of facts": _groups,
}
