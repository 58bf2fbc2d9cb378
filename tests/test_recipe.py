"""Recipes: TOML in, every key checked, flags before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfhq.errors import UsageError
from sfhq.pipeline.recipe import Recipe, load_recipe
from sfhq.synthesis.names import DEFAULT_CANDIDATES


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
    assert recipe.synthesize.candidates == DEFAULT_CANDIDATES
    assert (recipe.align.min_face, recipe.align.max_padding) == (64, 0.35)
    assert recipe.embed.encoder == "dlib-face"
    assert (recipe.export.image_format, recipe.export.quality) == ("jpg", 95)


def test_equal_recipes_are_one_key() -> None:
    assert hash(load_recipe(None)) == hash(Recipe())
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
        max_realism = 1.25
        [embed]
        encoder = "clip"
        [dedup]
        threshold = 0.9
        [export]
        name = "SFHQ_pt5"
    """
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.seed == 7
    assert recipe.models.generator == "g.safetensors"
    assert (recipe.ingest.only, recipe.ingest.limit) == ("*_art.jpg", 3)
    assert recipe.align.aligned is True
    assert recipe.align.max_padding == 1.0
    assert isinstance(recipe.align.max_padding, float)
    assert recipe.synthesize.candidates == ("strict", "sefa-0+1.5")
    assert recipe.synthesize.max_realism == 1.25
    assert recipe.dedup.threshold == 0.9
    assert recipe.export.name == "SFHQ_pt5"
    assert recipe.align.min_face == 64


def test_flags_go_before_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'seed = 7\n[ingest]\nlimit = 3\nonly = "a*"\n')
    recipe = load_recipe(
        path, {"seed": 8, "ingest.limit": 5, "ingest.only": None, "align.size": 64}
    )
    assert (recipe.seed, recipe.ingest.limit, recipe.ingest.only) == (8, 5, "a*")
    assert recipe.align.size == 64
    assert load_recipe(None, {"synthesize.candidates": ("low",)}).synthesize.candidates == ("low",)
    assert load_recipe(None, {"align.aligned": False}).align.aligned is False


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, "")) == Recipe()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sede = 1", ("unknown key sede", "did you mean seed?")),
        ("[synthesise]", ("unknown key synthesise", "did you mean synthesize?")),
        ("[synthesize]\ncandidate = []", ("synthesize.candidate;", "mean synthesize.candidates?")),
        ("[align]\nzzz = 1", ("unknown key align.zzz", "known: aligned, faces")),
        ('seed = "one"', ("seed is 'one'; wanted int",)),
        ("seed = 1.5", ("seed is 1.5; wanted int",)),
        ("seed = true", ("seed is True; wanted int",)),
        ("[align]\naligned = 1", ("align.aligned is 1; wanted bool",)),
        ("[align]\nmax_padding = true", ("align.max_padding is True; wanted float",)),
        ("[synthesize]\ncandidates = 'low'", ("'low'; wanted a list of names",)),
        ("[synthesize]\ncandidates = ['low', 1]", ("wanted a list of names",)),
        ("align = 3", ("align is 3; wanted a table",)),
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
    refused(None, "the command line: seed is 'x'; wanted int", seed="x")
    refused(None, "the command line: unknown key dedup.treshold", dedup__treshold=0.9)
