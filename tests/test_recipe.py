"""Recipes: TOML in, every key checked, flags before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotate.align import Align
from curation.dedup import Dedup
from encoders.embed import Embed
from sfhq.errors import UsageError
from sfhq.ingest import Ingest
from sfhq.pipeline.recipe import Recipe, load_recipe
from sfhq.synthesis.names import DEFAULT_CANDIDATES
from sfhq.synthesis.synthesize import Synthesize


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def refused(path: Path | None, *words: str, **overrides: object) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(path, {k.replace("__", "."): v for k, v in overrides.items()})
    message = str(caught.value)
    assert "\n" not in message
    for word in (*words, *([str(path)] if path else [])):
        assert word in message


def test_defaults() -> None:
    recipe = load_recipe(None)
    assert recipe == Recipe()
    assert recipe.seed == 0
    assert recipe.table(Synthesize).candidates == DEFAULT_CANDIDATES
    align = recipe.table(Align)
    assert (align.min_face, align.max_padding) == (64, 0.35)
    assert recipe.table(Embed).encoder == "dlib-face"
    assert (recipe.export.image_format, recipe.export.quality) == ("jpg", 95)


def test_equal_models_are_one_key() -> None:
    """Networks are loaded once for all stages of a run."""
    assert hash(load_recipe(None).models) == hash(Recipe().models)
    assert load_recipe(None, {"seed": 1}) != Recipe()


def test_every_table_can_be_given(tmp_path: Path) -> None:
    text = """
        seed = 7
        [models]
        generator = "g.safetensors"
        [ingest]
        only = "*_art.jpg"
        limit = 3
        [align]
        aligned = true
        max_padding = 1
        [synthesize]
        candidates = ["strict", "sefa-0+1.5"]
        max_prior_distance = 1.25
        [embed]
        encoder = "clip"
        [dedup]
        threshold = 0.9
        [export]
        name = "SFHQ_pt5"
    """
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.seed == 7
    assert recipe.models.generator == Path("g.safetensors")
    assert recipe.tables["ingest"] == {"only": "*_art.jpg", "limit": 3}
    align = recipe.table(Align)
    assert align.aligned is True
    assert align.max_padding == 1.0
    assert isinstance(align.max_padding, float)
    synthesize = recipe.table(Synthesize)
    assert synthesize.candidates == ("strict", "sefa-0+1.5")
    assert synthesize.max_prior_distance == 1.25
    assert recipe.table(Dedup).threshold == 0.9
    assert recipe.export.name == "SFHQ_pt5"
    assert align.min_face == 64


def test_flags_go_before_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'seed = 7\n[ingest]\nlimit = 3\nonly = "a*"\n')
    recipe = load_recipe(
        path, {"seed": 8, "ingest.limit": 5, "ingest.only": None, "align.size": 64}
    )
    assert (recipe.seed, recipe.tables["ingest"]) == (8, {"limit": 5, "only": "a*"})
    assert recipe.table(Align).size == 64
    given = load_recipe(None, {"synthesize.candidates": ("low",)})
    assert given.table(Synthesize).candidates == ("low",)
    assert load_recipe(None, {"align.aligned": False}).table(Align).aligned is False


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, "")) == Recipe()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sede = 1", ("unknown key sede", "did you mean seed?")),
        ("[synthesise]", ("unknown key synthesise", "did you mean synthesize?")),
        ("[synthesize]\ncandidate = []", ("synthesize.candidate;", "mean synthesize.candidates?")),
        ("[align]\nzzz = 1", ("unknown key align.zzz", "known: aligned, detector")),
        ('seed = "one"', ("seed is 'one'; wanted a whole number from 0 to 4294967295",)),
        ("seed = 1.5", ("seed is 1.5; wanted a whole",)),
        ("seed = true", ("seed is True; wanted a whole",)),
        ("[align]\naligned = 1", ("align.aligned is 1; wanted true or false",)),
        (
            "[align]\nmax_padding = true",
            ("align.max_padding is True; wanted a number from 0 to 1",),
        ),
        ("[synthesize]\ncandidates = 'low'", ("'low'; wanted a list of names",)),
        ("[synthesize]\ncandidates = ['low', 1]", ("wanted a list of names",)),
        ("align = 3", ("align is 3; wanted a table",)),
        ("seed = -1", ("seed is -1; wanted a whole number from 0",)),
        ("[align]\nmin_face = -1", ("align.min_face is -1; wanted a whole number, 0 or more",)),
        ("[align]\nfaces = 'every'", ("align.faces is 'every'; wanted best or single or all",)),
        ("[dedup]\nthreshold = nan", ("dedup.threshold is nan; wanted a number from -1 to 1",)),
        ("[export]\nquality = 500", ("export.quality is 500; wanted a whole number from 1",)),
        ("[synthesize]\nmax_realism = 1", ("is now called synthesize.max_prior_distance",)),
        ("[models]\nencoder = 'x'", ("is now called embed.encoder_weights",)),
        ("seed = ", ("not TOML",)),
        ("\0", ("not TOML",)),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    refused(write(tmp_path, text), *words)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xff\xfe\x00")
    refused(path, "not TOML")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    refused(tmp_path / "none.toml", "cannot read recipe")
    refused(tmp_path, "cannot read recipe")


def test_a_flag_for_a_table_that_is_none(tmp_path: Path) -> None:
    refused(write(tmp_path, "align = 3"), "align is 3; wanted a table", align__size=64)


def test_wrong_flags_name_the_command_line() -> None:
    refused(None, "the command line: seed is 'x'; wanted a whole number", seed="x")
    refused(None, "the command line: unknown key dedup.treshold", dedup__treshold=0.9)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbfseed = 4\n")
    assert load_recipe(path).seed == 4


def test_what_must_be_given_is_asked_for_when_it_is_needed() -> None:
    with pytest.raises(UsageError, match=r"the command line: ingest\.source is missing; wanted a"):
        load_recipe(None, {"ingest.limit": 3}).table(Ingest)
