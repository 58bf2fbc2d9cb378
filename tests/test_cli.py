"""The command: every stage in a row on tiny networks, and every way it can go wrong."""

from __future__ import annotations

import errno
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import torch
from command import told as sfhq
from tiny import tree, write_squares

from cli import main

torch.set_num_threads(1)
ROOT = Path(__file__).parent.parent
PIPELINE = ["ingest", "align", "invert", "synthesize", "detect", "embed", "dedup"]
PIPELINE += ["parse", "landmark", "attribute", "caption"]
COUNT = 5
Networks = tuple[Path, Path]


def works(*arguments: object) -> str:
    result = sfhq(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def fails(code: int, *arguments: object, says: str = "") -> str:
    """The command ends with a code and one line on stderr."""
    result = sfhq(*arguments)
    assert result.exit_code == code, result.output
    return one_line(result.stderr, says)


def one_line(stderr: str, says: str = "") -> str:
    assert stderr.startswith("sfhq: "), stderr
    assert stderr.count("\n") == 1, stderr
    assert stderr.endswith("\n")
    assert "Traceback" not in stderr
    assert says in stderr
    return stderr


@pytest.fixture(scope="module")
def art(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("art") / "squares", COUNT)


@pytest.fixture(scope="module")
def flags(networks: Networks) -> list[str]:
    generator, e4e = networks
    return ["--generator", str(generator), "--e4e", str(e4e)]


@pytest.fixture(scope="module")
def run_flags(flags: list[str]) -> list[str]:
    return [*flags, "--aligned", "--candidates", "strict,low", "--threshold", "1"]


@pytest.fixture(scope="module")
def whole(
    art: Path, run_flags: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A part that was run from end to end; tests that change it take a copy."""
    part = tmp_path_factory.mktemp("whole") / "part"
    works("run", art, part, *run_flags)
    before = tree(part)
    yield part
    assert tree(part) == before, "a test changed the shared part"


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "part"))


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)
        else:
            yield (*above, name)


@pytest.mark.parametrize("words", list(commands(main)), ids=" ".join)
def test_help_has_an_example(words: tuple[str, ...]) -> None:
    text = works(*words, "--help")
    assert "Example" in text
    assert f"sfhq {' '.join(words)}" in text
    assert works(*words, "-h") == text


def test_help_names_every_command() -> None:
    text = works("--help")
    for name in [*PIPELINE, "run", "show", "sheet", "export", "sample", "demo"]:
        assert f"\n  {name}" in text


def command_modules() -> list[str]:
    """The frame of the commands, and every module that holds some."""
    found = [*ROOT.glob("*/commands.py"), *ROOT.glob("*/commands/*.py"), ROOT / "sfhq/console.py"]
    pages = {ROOT / "sfhq/commands/reference.py"}  # holds no command
    found = [path for path in found if path not in pages]
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found)
    return sorted(name.removesuffix(".__init__") for name in names)


HEAVY = {"torch", "dlib", "sklearn", "pyarrow", "duckdb", "tqdm"}


def test_help_needs_neither_torch_nor_dlib() -> None:
    code = (
        "import sys, contextlib, io, cli\n"
        f"for words in {list(commands(main))!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "        cli.main([*words, '--help'])\n"
        f"missing = set({command_modules()!r}) - set(sys.modules)\n"
        "assert not missing, missing\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


@pytest.mark.parametrize("module", command_modules())
def test_a_module_of_commands_is_light(module: str) -> None:
    code = f"import sys, {module}\nheavy = {HEAVY!r} & set(sys.modules)\nassert not heavy, heavy\n"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def inside(group: click.Group) -> Iterator[click.Command]:
    """All commands of a group and of the groups in it."""
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from inside(command)


def test_every_number_has_limits() -> None:
    """No option takes negative, huge or not finite numbers because nobody thought of them."""
    for command in inside(main):
        context = click.Context(command, help_option_names=["-h", "--help"])
        for each in command.get_params(context):
            free = type(each.type) in (click.types.IntParamType, click.types.FloatParamType)
            assert not free, f"{command.name}: give {each.opts} a range"


def test_no_command_is_forgotten() -> None:
    """Whatever a module defines as a command can be called."""
    known = list(inside(main))
    for module in command_modules():
        for name, value in vars(importlib.import_module(module)).items():
            assert not isinstance(value, click.Command) or value in known, f"{module}.{name}"


def test_run_makes_a_finished_part(whole: Path, art: Path) -> None:
    for stage in PIPELINE:
        info = json.loads((whole / "records" / f"{stage}.json").read_text())
        assert info["complete"]
    assert len(list((whole / "aligned").glob("*.png"))) == COUNT
    assert len(list((whole / "images").glob("*.png"))) == 2 * COUNT
    assert len(list((whole / "export" / "images").glob("part_*.jpg"))) == 2 * COUNT
    for path in (whole / "export").rglob("*"):
        if path.is_file():
            assert str(art).encode() not in path.read_bytes(), path


def test_run_again_changes_nothing(whole: Path, art: Path, run_flags: list[str]) -> None:
    before = tree(whole)
    out = works("run", art, whole, *run_flags, "--json")
    assert tree(whole) == before
    stages = json.loads(out)["stages"]
    assert [s["stage"] for s in stages] == PIPELINE
    assert [s["alive"] for s in stages] == [COUNT] * 3 + [2 * COUNT] * 8


def test_stages_one_by_one_are_the_run(
    whole: Path, art: Path, flags: list[str], tmp_path: Path
) -> None:
    part = tmp_path / "part"
    steps: list[list[object]] = [
        ["ingest", art, part],
        ["align", part, "--aligned", *flags],
        ["invert", part, *flags],
        ["synthesize", part, "--candidates", "strict, low", *flags],
        ["detect", part],
        ["embed", part],
        ["dedup", part, "--threshold", "1"],
    ]
    steps += [[name, part] for name in ("parse", "landmark", "attribute", "caption")]
    for step in steps:
        out = json.loads(works(*step, "--json"))
        assert out["stage"] == step[0]
        assert out["rejected"] == {}
    assert "photos in" in works("export", part, part / "export")
    found, wanted = tree(part), tree(whole)
    assert found.pop("export/export.json") != wanted.pop("export/export.json")  # says who wrote it
    assert found == wanted
    assert works("dedup", part, "--verify").startswith(f"{2 * COUNT} photos, no two")
    assert json.loads(works("dedup", part, "--verify", "--json"))["photos"] == 2 * COUNT


def test_show(whole: Path) -> None:
    lines = works("show", whole).splitlines()
    assert [line.split()[0] for line in lines] == [*PIPELINE, "left"]
    assert lines[3].split()[1:5] == [str(COUNT), "in", str(2 * COUNT), "out"]
    shown = json.loads(works("show", whole, "--json"))
    assert shown["part"] == "part"
    assert [s["stage"] for s in shown["stages"]] == PIPELINE


def test_show_lists_what_was_refused(tmp_path: Path) -> None:
    art = write_squares(tmp_path / "art", 1)
    for name in ("b.jpg", "c.jpg", "d.jpg"):
        (art / name).write_text(f"no image {name}")
    works("ingest", art, tmp_path / "part")
    out = works("show", tmp_path / "part", "--rejections", 2)
    assert "rejected: 3 not an image" in out
    assert "b.jpg: not an image" in out
    assert "d.jpg" not in out


def test_sheet(whole: Path, tmp_path: Path) -> None:
    out = works("sheet", whole, "--out", tmp_path / "s.png", "--rows", 2, "--cell", 32)
    names = ["s.png", "s-2.png", "s-3.png"]
    assert out.split() == [str(tmp_path / n) for n in names]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)


def test_export_elsewhere(whole: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    line = works("export", whole, target, "--name", "X", "--image-format", "png")
    assert line.split()[1:3] == [str(2 * COUNT), "photos"]
    assert (target / "images" / "X_00000000.png").is_file()
    fails(2, "export", whole, target, "--name", "Y", says="holds an export of other settings")
    works("export", whole, target, "--name", "Y", "--replace", "--sample", 2)
    assert (target / "images" / "Y_00000000.jpg").is_file()
    assert not (target / "images" / "X_00000000.png").exists()
    assert len(list((target / "tiny sample (2 images)").iterdir())) == 2


def test_a_run_done_again_with_other_settings_replaces_its_export(
    copy: Path, art: Path, run_flags: list[str]
) -> None:
    (copy / "export" / "mine.txt").write_text("mine")
    works("run", art, copy, *run_flags, "--licence", "CC0-1.0", "--redo")
    text = (copy / "export" / "manifest.csv").read_text()
    assert text.count("CC0-1.0") == 2 * COUNT
    assert (copy / "export" / "mine.txt").read_text() == "mine"
    assert not list(copy.glob("export.*"))


def test_a_part_whose_name_is_no_file_name(art: Path, run_flags: list[str], tmp_path: Path) -> None:
    part = tmp_path / "tëst part"
    works("run", art, part, *run_flags, "--limit", 1)
    assert (part / "export" / "images" / "t_st_part_00000000.jpg").is_file()


def test_sample_to_export(flags: list[str], tmp_path: Path) -> None:
    part = tmp_path / "part"
    out = works("sample", part, "--count", 3, "--seed", 4, "--json", *flags)
    assert json.loads(out) == {"stage": "sample", "entered": 3, "alive": 3, "rejected": {}}
    works("detect", part)
    works("embed", part)
    works("dedup", part, "--threshold", "1")
    works("export", part, tmp_path / "out")
    works("sheet", part)
    assert (part / "sheet.png").is_file()
    fails(2, "sample", part, "--count", 4, *flags, says="--redo")
    assert "4 in" in works("sample", part, "--count", 4, "--redo", *flags)
    assert not (part / "records" / "dedup").exists()


def test_a_recipe_and_flags_over_it(
    art: Path, flags: list[str], tmp_path: Path, whole: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        "[align]\naligned = true\n[synthesize]\ncandidates = ['strict', 'psi-0.6']\n"
        "[dedup]\nthreshold = 1.0\n"
    )
    plan = works("run", art, tmp_path / "p", "--recipe", recipe, "--dry-run", *flags)
    assert f"{COUNT} images, at most {2 * COUNT} photos\n" in plan
    part = tmp_path / "part"
    works("run", art, part, "--recipe", recipe, "--candidates", "strict,low", *flags)
    assert tree(part) == tree(whole)


def test_dry_run_writes_nothing(art: Path, whole: Path, tmp_path: Path) -> None:
    before = tree(whole), tree(art)
    arguments = ["run", art, tmp_path / "part", "--aligned", "--dry-run"]
    assert f"{COUNT} images, at most {4 * COUNT} photos" in works(*arguments)
    plan = json.loads(works(*arguments, "--json"))
    assert set(plan["stages"].values()) == {"to do"}
    assert not list(tmp_path.iterdir())
    plan = json.loads(works("run", art, whole, "--dry-run", "--json"))
    assert set(plan["stages"].values()) == {"done"}
    assert (tree(whole), tree(art)) == before
    fails(2, *arguments, "--candidates", "smile", says="unknown candidate 'smile'")


def test_strict(art: Path, run_flags: list[str], tmp_path: Path) -> None:
    mixed = Path(shutil.copytree(art, tmp_path / "mixed"))
    (mixed / "text.jpg").write_text("no image")
    for command in (["run", *run_flags, "--no-export"], ["ingest"]):
        part = tmp_path / command[0]
        name, *rest = command
        works(name, mixed, part, *rest)
        result = sfhq(name, mixed, part, *rest, "--strict", "--json")
        assert result.exit_code == 3
        assert result.stderr == ""
        assert "not an image" in json.dumps(json.loads(result.stdout))
    clean = sfhq("ingest", art, tmp_path / "clean", "--strict")
    assert clean.exit_code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["--nonsense"], "No such option"),
        (["run"], "Missing argument 'SOURCE'"),
        (["show", "x", "--nonsense"], "No such option"),
        (["show", "x", "y"], "unexpected extra argument"),
        (["ingest", "x", "y", "--limit", "many"], "'many' is not a valid integer"),
        (["align", "x", "--faces", "every"], "'every' is not one of"),
        (["export", "x", "y", "--quality", "0"], "0 is not in the range"),
        (
            ["sample", "x"],
            "sample.count is missing; wanted a whole number, 1 or more; give --count",
        ),
        (["train", "nonsense"], "No such command 'nonsense'"),
        (["show", "x"], "x: not a part (no part.json); make one with: sfhq ingest"),
        (["embed", "x"], "x: not a part"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_usage(words: list[str], says: str) -> None:
    fails(2, *words, says=says)


def test_settings_that_cannot_be(
    art: Path, run_flags: list[str], flags: list[str], tmp_path: Path
) -> None:
    part = tmp_path / "part"
    for wrong, says in (
        (["--candidates", "smile"], "unknown candidate 'smile'"),
        (["--candidates", ","], "no candidate named"),
        (["--keep", "-1"], "'--keep': -1 is not in the range x>=1"),
        (["--seed", "-1"], "'--seed': -1 is not in the range 0<=x<=4294967295"),
        (["--encoder", "eye"], "'eye' is not one of 'dlib-face', 'clip'"),
        (["--threshold", "2"], "2.0 is not in the range -1<=x<=1"),
        (["--size", "-2"], "'--size': -2 is not in the range"),
        (["--limit", "-1"], "'--limit': -1 is not in the range"),
        (["--only", "*.tiff"], "none of its 5 images matches"),
        (["--generator", tmp_path / "none"], "no such weights file"),
    ):
        fails(2, "run", art, part, *run_flags, *wrong, says=says)
        assert not part.exists()
    fails(2, "sample", part, "--count", 0, *flags, says="0 is not in the range x>=1")
    fails(
        2,
        "sample",
        part,
        "--count",
        1,
        "--anchor-psi",
        2,
        *flags,
        says="2.0 is not in the range 0<=x<=1",
    )
    assert not part.exists()


def test_recipes_that_cannot_be(art: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    arguments = ["run", art, tmp_path / "part", "--recipe", recipe]
    fails(2, *arguments, says="cannot read recipe")
    recipe.write_text("[synthesize]\ncandidate = ['low']\n")
    fails(2, *arguments, says="did you mean synthesize.candidates?")
    recipe.write_text("seed = 'one'\n")
    fails(2, *arguments, says="seed is 'one'; wanted a whole number")
    recipe.write_text("no TOML at all")
    fails(2, *arguments, says="not TOML")
    recipe.write_text("[align]\nfaces = 'every'\n")
    fails(2, *arguments, says="wanted best or single or all")
    assert not (tmp_path / "part").exists()


def test_sources_that_cannot_be(tmp_path: Path) -> None:
    part = tmp_path / "part"
    fails(2, "run", tmp_path / "none", part, says="no such file or folder")
    folder = tmp_path / "folder"
    folder.mkdir()
    fails(2, "run", folder, part, says="no images among its 0 files")
    (folder / "notes.md").write_text("nothing to see")
    fails(2, "ingest", folder, part, says="no images among its 1 files")
    (folder / "list.txt").write_text("none.jpg\n")
    fails(2, "ingest", folder / "list.txt", part, says="1 of 1 entries do not exist")
    (folder / "broken.zip").write_bytes(b"PK")
    fails(2, "ingest", folder / "broken.zip", part, says="not a readable zip archive")
    assert not part.exists()


def test_text_that_is_called_an_image(run_flags: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "art"
    folder.mkdir()
    (folder / "text.jpg").write_text("no image")
    line = fails(1, "run", folder, tmp_path / "part", *run_flags, says="no face was left after")
    assert "1 not an image" in line
    out = works("show", tmp_path / "part")
    assert "text.jpg: not an image" in out


def test_no_part_where_something_else_is(art: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    fails(2, "ingest", art, tmp_path, says="not empty and not a part")
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize("target", ["/proc/sfhq-part", "/dev/null/part"])
def test_targets_that_cannot_be_written(
    art: Path, whole: Path, run_flags: list[str], target: str
) -> None:
    fails(2, "ingest", art, target, says="cannot make a part here")
    fails(2, "run", art, target, *run_flags, says="cannot make a part here")
    fails(1, "export", whole, target)
    fails(1, "sheet", whole, "--out", f"{target}/sheet.png")


class FullDisk:
    """Stands in for `os.fsync`: room for so many files, and then none."""

    def __init__(self, room: int) -> None:
        self.room = room

    def __call__(self, _: int) -> None:
        self.room -= 1
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("room", [1, 14, 40])
def test_a_full_disk(
    whole: Path,
    art: Path,
    run_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    room: int,
) -> None:
    part = tmp_path / "part"
    with monkeypatch.context() as patch:
        patch.setattr("sfhq.images.os.fsync", FullDisk(room))
        line = fails(1, "run", art, part, *run_flags, says="no space left on device")
        assert "run again" in line
    found = tree(part)
    assert not [p for p in found if p.endswith(".part")]
    assert {
        p: d
        for p, d in found.items()
        if p != "part.json" and not (p.startswith("records/") and p.endswith(".json"))
    }.items() <= tree(whole).items()
    works("run", art, part, *run_flags)
    assert tree(part) == tree(whole)


def test_a_disk_that_is_full_at_once(
    art: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfhq.images.os.fsync", FullDisk(0))
    fails(2, "ingest", art, tmp_path / "part", says="No space left on device")


def test_a_part_of_another_format(copy: Path) -> None:
    (copy / "part.json").write_text('{"format": 99, "name": "part"}')
    for words in (["show", copy], ["dedup", copy], ["sheet", copy], ["export", copy, "x"]):
        fails(4, *words, says="part of format 99, this sfhq reads up to format 2")
    (copy / "part.json").write_text("{")
    fails(4, "show", copy, says="part.json: damaged")


def damage(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def test_damaged_records(copy: Path) -> None:
    damage(copy / "records" / "embed" / "00000.parquet")
    fails(4, "dedup", copy, "--redo", says="damaged records")
    (copy / "records" / "embed.json").write_text("{")
    fails(4, "show", copy, says=f"embed.json: damaged; delete it and run: sfhq embed {copy}")


def test_damaged_arrays_and_images(copy: Path, flags: list[str]) -> None:
    damage(next((copy / "images").iterdir()))
    fails(4, "embed", copy, "--redo", says="not the file that was written here")
    damage(copy / "arrays" / "inverted" / "00000.npy")
    fails(4, "synthesize", copy, "--redo", *flags, says="cannot read array")
    damage(next((copy / "aligned").iterdir()))
    fails(4, "invert", copy, "--redo", *flags, says="not the file that was written here")


def test_a_near_duplicate_that_was_planted(copy: Path) -> None:
    import numpy as np

    path = copy / "arrays" / "embedding" / "00000.npy"
    vectors = np.load(path)
    vectors[1] = vectors[0]
    np.save(path, vectors)
    fails(4, "dedup", copy, "--verify", "--threshold", "0.9999999", says="embedding/00000.npy: ")


def test_damaged_weights(art: Path, networks: Networks, tmp_path: Path) -> None:
    generator, e4e = networks
    bad = tmp_path / "bad.safetensors"
    part = tmp_path / "part"
    for data in (b"", b"no weights at all", generator.read_bytes()[:-100]):
        bad.write_bytes(data)
        fails(4, "run", art, part, "--generator", bad, "--e4e", e4e, says=str(bad))
        fails(4, "run", art, part, "--generator", generator, "--e4e", bad, says=str(bad))
    fails(4, "run", art, part, "--generator", e4e, "--e4e", e4e, says="wanted 'generator'")
    fails(4, "run", art, part, "--generator", generator, "--e4e", generator, says="wanted 'e4e'")
    assert not part.exists()


def test_stages_out_of_order(art: Path, flags: list[str], whole: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    works("ingest", art, part)
    absent = "dedup reads embedding, which is not there; run: sfhq embed"
    fails(2, "dedup", part, says=absent)
    fails(2, "dedup", part, "--threshold", "0.9", says=absent)
    fails(2, "dedup", part, "--verify", says="no dedup records yet")
    fails(2, "sheet", part, says="no images to show yet")
    fails(2, "export", part, tmp_path / "out", says="its faces have no photos yet")


def test_other_settings_need_redo(copy: Path, art: Path, run_flags: list[str]) -> None:
    fails(2, "run", art, copy, *run_flags, "--licence", "CC0-1.0", says="--redo")
    fails(2, "dedup", copy, "--threshold", "0.5", says="now threshold=0.5")
    assert "dedup" in works("dedup", copy, "--threshold", "0.5", "--redo")


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}


@pytest.mark.long
def test_the_file_itself(art: Path, networks: Networks, tmp_path: Path) -> None:
    """As a user calls it: a process, its streams and its exit codes."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)],
            env=environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )

    generator, e4e = networks
    models = ["--generator", generator, "--e4e", e4e]
    done = call("run", art, "part", "--aligned", *models, "--candidates", "strict", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [s["stage"] for s in json.loads(done.stdout)["stages"]] == PIPELINE
    missing = call("show", "nowhere")
    assert (missing.returncode, missing.stdout) == (2, "")
    one_line(missing.stderr, "nowhere: not a part")


# A process that imports once and forks each victim, so that the kills meet the work.
DRIVER = """
import os, pathlib, random, sys, time
import cli, dlib, pyarrow.parquet, PIL.PngImagePlugin, tqdm
import annotate.align, curation.dedup, encoders.e4e.network, encoders.embed
import encoders.features.recognition
import sfhq.export.sfhq_layout, sfhq.synthesis.synthesize
root, kills, flags = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]

def start(part):
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            cli.main(["run", str(root / "art"), str(part), *flags])
        except SystemExit as end:
            os._exit(end.code or 0)
        os._exit(99)
    return pid

began = time.monotonic()
status = os.waitpid(start(root / "whole" / "part"), 0)[1]
assert status == 0, status
took = time.monotonic() - began
draw, killed = random.Random(0), 0
for number in range(kills):
    pid = start(root / "part")
    time.sleep(draw.uniform(0, 2 * took / kills))
    os.kill(pid, 9)
    killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
status = os.waitpid(start(root / "part"), 0)[1]
assert status == 0, status
print(killed)
"""


@pytest.mark.long
def test_twenty_kills_leave_no_trace(networks: Networks, tmp_path: Path) -> None:
    write_squares(tmp_path / "art", 40)
    (tmp_path / "whole").mkdir()
    generator, e4e = networks
    flags = ["--generator", str(generator), "--e4e", str(e4e), "--aligned", "--threshold", "1"]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path), "20", *flags, "--candidates", "strict"],
        env={**environment(), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": ""},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) >= 10, "the runs ended before they could be killed"
    found, wanted = tree(tmp_path / "part"), tree(tmp_path / "whole" / "part")
    assert found == wanted
    assert len([p for p in wanted if p.startswith("records/embed/") and "parquet" in p]) == 2
    assert len([p for p in wanted if p.startswith("export/images/")]) == 40
