"""What `sfhq doctor` finds, on this machine and on broken ones."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from test_models import command

import cli
from sfhq import doctor
from sfhq.doctor import PACKAGES, Finding, Package, examine, needed_by, report
from sfhq.weights import store as model_store
from sfhq.weights.table import ROWS, model_row
from stylegan2_ops import build

ROOT = Path(cli.__file__).parent
GROUPS = ["system", "kernels", "pack", "packages", "models"]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is built, nothing is fetched."""
    for name in ("SFHQ_HOME", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SFHQ_KERNELS", str(tmp_path / "kernels"))


def sfhq(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.main, ["doctor", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def found(name: str, group: str = "") -> Finding:
    [one] = [f for f in examine() if f.name == name and group in ("", f.group)]
    return one


def test_this_machine(tmp_path: Path) -> None:
    result = sfhq()
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert re.findall(r"^(\w+)$", result.stdout, re.M) == GROUPS
    for row in ROWS:
        assert f" {row.name} " in result.stdout or f" {row.name}\n" in result.stdout
    assert "ok       generator  " in result.stdout
    assert not (tmp_path / "kernels").exists(), "doctor builds nothing unless it is told to"
    assert not (tmp_path / "cache").exists()
    lines = [line for line in result.stdout.splitlines() if "/" not in line]
    assert max(map(len, lines)) <= 110


def test_json() -> None:
    result = sfhq("--json")
    assert result.exit_code == 0
    findings = json.loads(result.stdout)
    assert list(dict.fromkeys(f["group"] for f in findings)) == GROUPS
    assert {f["state"] for f in findings} <= {"ok", "note", "missing", "wrong"}
    keys = {"group", "name", "state", "detail", "needed_by", "advice", "basic"}
    assert all(set(f) == keys for f in findings)
    absent = next(f for f in findings if f["name"] == "bisenet")
    assert (absent["state"], absent["advice"]) == ("missing", "sfhq models fetch bisenet")


def packages_of(name: str) -> set[str]:
    for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            # An upper bound is for pip alone: what doctor looks at is installed already.
            return {text.partition(",")[0] for text in ast.literal_eval(node.value)}
    raise AssertionError(f"setup.py has no {name}")


def test_packages_are_those_of_setup() -> None:
    basic = packages_of("REQUIRES")
    extra = packages_of("TRAIN") | packages_of("RENDER") | packages_of("LANDMARK")
    extra |= packages_of("COCO") | packages_of("FLIP") | packages_of("TENSORBOARD")

    def wanted(package: Package) -> str:
        return f"{package.name}>={package.least}" if package.least else package.name

    assert {wanted(p) for p in PACKAGES if not p.extra} == basic
    assert {wanted(p) for p in PACKAGES if p.extra} == extra


def test_packages_name_commands_that_exist() -> None:
    for package in PACKAGES:
        if package.needed_by not in ("", doctor.EVERYTHING, "the compiled kernels"):
            words = package.needed_by.partition(" --")[0]
            assert command(words) is not None, package
    needed = {package.name: needed_by(package) for package in PACKAGES}
    assert needed["mitsuba"] == "render", "as the stage declares"
    for name, words in (("face-alignment", "landmark"), ("scikit-learn", "score")):
        assert (words in needed[name]) == (command(words) is not None), (
            f"sfhq {words} came or went: change needed_by of {name} in sfhq/doctor.py"
        )


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    basic = Package("no-such-package", "no_such_package", least="3")
    extra = Package("no-such-extra", "no.such.extra", "train", extra="train")
    monkeypatch.setattr(doctor, "PACKAGES", (basic, extra))
    result = sfhq()
    assert result.exit_code == 1
    assert re.search(r"^  missing  no-such-package$", result.stdout, re.M)
    assert "  no-such-package: pip install 'no-such-package>=3'" in result.stdout
    assert "  no-such-extra: pip install 'sfhq[train]'" in result.stdout
    assert result.stderr == "sfhq: the basic pipeline cannot work: no-such-package; see above\n"
    monkeypatch.setattr(doctor, "PACKAGES", (extra,))
    assert sfhq().exit_code == 0, "what only some commands need does not block"
    assert sfhq("--json").exit_code == 0


def test_a_package_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", (Package("numpy", "numpy", least="999"),))
    finding = found("numpy")
    assert finding.state == "wrong" and finding.blocks
    assert finding.detail.endswith("; wanted 999 or newer")
    assert sfhq().exit_code == 1


def test_a_package_without_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sfhq_made_up.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "PACKAGES", (Package("sfhq-made-up", "sfhq_made_up"),))
    assert found("sfhq-made-up").detail == "version unknown"


@pytest.mark.parametrize("harm", ["damage", "delete", "card"])
def test_a_pack_that_is_not_what_its_card_says(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    for path in doctor.PACK.glob("*.*"):
        shutil.copy(path, pack)
    if harm == "damage":
        with open(pack / "e4e.safetensors", "rb+") as file:
            file.seek(100_000)
            file.write(b"\xff\xff")
    elif harm == "delete":
        (pack / "e4e.safetensors").unlink()
    else:
        (pack / "README.md").unlink()
    monkeypatch.setattr(doctor, "PACK", pack)
    finding = found("e4e", "pack")
    assert finding.state == ("missing" if harm == "delete" else "wrong") and finding.blocks
    assert (found("generator", "pack").state == "ok") == (harm != "card")
    result = sfhq()
    assert result.exit_code == 1
    assert "e4e: reinstall sfhq" in result.stdout
    assert result.stderr.count("\n") == 1


def test_a_torch_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    finding = found("torch", "system")
    assert finding.state == "wrong" and finding.blocks
    assert finding.detail.startswith("does not load: ModuleNotFoundError: ")
    assert found("kernels").state in ("ok", "note")  # are found without torch
    result = sfhq()
    assert result.exit_code == 1 and "Traceback" not in result.output


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "find_compiler", lambda: None)
    assert found("compiler").state == "note"
    finding = found("kernels")
    assert finding.detail == "not built: torch's operators serve, slower"
    assert finding.advice == "no C++ compiler; install g++ or clang++, or set CXX"
    assert sfhq().exit_code == 0
    result = sfhq("--build")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "sfhq: kernels: " + finding.advice + "\n"


def test_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if build.find_compiler() is None or build.find_ninja() is None:
        pytest.skip("no compiler or no ninja")
    source = tmp_path / "ops.cpp"
    source.write_text('extern "C" int nothing() { return 0; }\n')
    monkeypatch.setattr(build, "SOURCE", source)
    assert found("kernels").advice == "sfhq doctor --build"
    result = sfhq("--build")
    assert result.exit_code == 0, result.output
    assert "ops.so (" in result.stderr
    assert f"built, in {tmp_path / 'kernels'}" in result.stdout
    source.write_text("nonsense\n")
    result = sfhq("--build")
    assert result.exit_code == 1
    assert result.stderr.startswith("sfhq: kernels: ") and result.stderr.count("\n") == 1


def test_a_stale_model() -> None:
    row = model_row("bisenet")
    path = model_store.model_path(row)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"by hand")
    finding = found("bisenet")
    assert (finding.state, finding.detail) == ("wrong", "stale: it has no record beside it")
    assert not finding.blocks
    result = sfhq()
    assert result.exit_code == 0
    assert re.search(r"^  WRONG    bisenet +stale: ", result.stdout, re.M)
    assert "  bisenet: sfhq models verify bisenet" in result.stdout


def test_advice_of_each_kind_of_row() -> None:
    assert found("flip", "models").advice == "sfhq models fetch flip"
    assert found("attributes").advice == "sfhq models add attributes FILE"
    assert found("e4e-ffhq").needed_by.endswith("; the pack serves too")


def test_dlibs_file_comes_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_store, "places", lambda row: [])
    finding = found("dlib-68")
    assert (finding.state, finding.advice) == ("missing", model_row("dlib-68").hint)


def test_a_report_of_nothing_to_do() -> None:
    text = report([Finding("system", "python", "ok", "3.11")])
    assert text == "system\n  ok       python  3.11"


def test_doctor_needs_no_right_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    monkeypatch.setenv("SFHQ_KERNELS", os.devnull)
    assert sfhq().exit_code == 0
