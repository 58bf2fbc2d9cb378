"""Documentation that fails when it is stale."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from test_layers import ROOMS

import cli
from sfhq import stages
from sfhq.commands.reference import reference
from sfhq.pipeline.recipe import load_recipe
from sfhq.synthesis.synthesize import Synthesize

ROOT = Path(cli.__file__).parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "sfhq/models/README.md"]


def commands_in(page: Path) -> list[list[str]]:
    """Words of every indented `sfhq ...` line, comments and continuations aside."""
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^ {4}(sfhq \S.*)$", text, re.M)
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_and_option_exists(page: Path) -> None:
    context = click.Context(cli.main, help_option_names=["-h", "--help"])
    for words in commands_in(page):
        command: click.Command = cli.main
        while isinstance(command, click.Group):
            name = words.pop(0)
            found = command.get_command(context, name)
            assert found is not None, f"{page.name}: no command {name}"
            command = found
        known = {o for p in command.get_params(context) for o in (*p.opts, *p.secondary_opts)}
        unknown = [w for w in words if w.startswith("--") and w not in known]
        assert not unknown, f"{page.name}: {command.name} has no {unknown}"


def test_the_recipe_in_the_readme_loads(tmp_path: Path) -> None:
    toml = re.search(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert toml is not None
    (tmp_path / "r.toml").write_text(toml[1])
    recipe = load_recipe(tmp_path / "r.toml")
    assert recipe.seed == 7 and recipe.table(Synthesize).keep == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target} is not there"


def test_every_stage_in_the_table_is_a_command() -> None:
    """Every stage in the README's table is a command."""
    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "README.md").read_text(), re.M)
    assert set(table) >= {"ingest", "align", "invert", "synthesize", "embed", "dedup"}
    assert set(table) <= set(
        cli.main.list_commands(click.Context(cli.main, help_option_names=["-h", "--help"]))
    )
    assert set(table) >= set(stages.names())


def test_the_reference_of_commands_is_that_of_today() -> None:
    said = (ROOT / "docs" / "cli.md").read_text()
    assert said == reference(cli.main), "run: make docs"


def test_the_page_of_the_architecture_shows_the_rooms_of_sfhq_in_their_order() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = re.search(r"<!-- rooms -->\n(.*?)<!-- /rooms -->", text, re.S)
    assert table is not None
    lines = re.findall(r"^\| (`.*?) \|", table[1], re.M)
    assert [" ".join(re.findall(r"`(\w+)`", line)) for line in lines] == [*ROOMS["sfhq"]]


def test_the_readme_links_every_page() -> None:
    """In its list of documentation, so that no page is found by chance only."""
    listed = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Documentation")[2]
    linked = {*re.findall(r"\]\(docs/(\w+\.md)\)", listed.partition("\n## ")[0])}
    assert linked == {page.name for page in (ROOT / "docs").glob("*.md")}
