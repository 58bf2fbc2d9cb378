"""What is installed: every module, marker, weight and sample; and a command that starts fast."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

ROOT = Path(__file__).parent.parent
FLAT = ("sfhq", "stylegan2_ops", "encoders", "curation", "annotate")


def listed_packages() -> set[str]:
    """What setup.py hands to setuptools."""
    given: dict[str, Any] = {}
    with mock.patch("setuptools.setup", given.update):
        runpy.run_path(str(ROOT / "setup.py"))
    return set(given["packages"])


def modules() -> set[str]:
    found = {str(p.relative_to(ROOT)) for name in FLAT for p in (ROOT / name).rglob("*.py")}
    return found | {"cli.py"}


def test_every_folder_with_code_is_listed() -> None:
    folders = {str(Path(m).parent).replace("/", ".") for m in modules() - {"cli.py"}}
    missing = folders - listed_packages()
    assert not missing, f"add to PACKAGES in setup.py: {sorted(missing)}"


def test_every_listed_package_exists() -> None:
    missing = [p for p in listed_packages() if not (ROOT / p.replace(".", "/")).is_dir()]
    assert not missing, f"setup.py lists {missing}, which do not exist"


@pytest.mark.parametrize("package", FLAT)
def test_packages_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


HEAVY = ("torch", "torchvision", "dlib", "open_clip", "sklearn", "pyarrow", "face_alignment")


RUN_HELP = "sys.argv = ['sfhq', '--help']\ntry: cli.main()\nexcept SystemExit: pass"


@pytest.mark.parametrize("run", ["", RUN_HELP], ids=["import", "help"])
def test_the_command_starts_without_heavy_imports(run: str) -> None:
    code = (
        f"import sys\nimport cli\n{run}\nheavy = [m for m in {HEAVY} if m in sys.modules]\n"
        "assert not heavy, f'imported at start: {heavy}'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that no build folder appears in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in FLAT:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md", "cli.py"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "-w", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = folder.glob("sfhq-*.whl")
    return built


@pytest.mark.long
def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert not modules() - inside
    assert {f"{package}/py.typed" for package in FLAT} <= inside
    for folder, suffixes in (("models", {".safetensors", ".json", ".md"}),
                             ("samples", {".png", ".jpg"})):  # fmt: skip
        files = [p for p in (ROOT / "sfhq" / folder).iterdir() if p.suffix in suffixes]
        assert files, f"sfhq/{folder} is empty"
        assert {f"sfhq/{folder}/{p.name}" for p in files} <= inside
    data = [p for name in FLAT for kind in ("web", "templates", "csrc")
            for folder in (ROOT / name).rglob(kind) for p in folder.glob("*.*")
            if p.suffix != ".py"]  # fmt: skip
    suffixes = {p.suffix for p in data}
    assert {".js", ".css", ".html", ".cpp"} <= suffixes
    assert {str(p.relative_to(ROOT)) for p in data} <= inside
    assert not [name for name in inside if name.startswith(("tests/", "benchmarks/"))]


@pytest.mark.long
def test_the_wheel_runs_from_a_fresh_folder(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    [scripts] = tmp_path.glob("sfhq-*.dist-info/entry_points.txt")
    assert "sfhq = cli:main" in scripts.read_text()
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import cli; "
        f"assert cli.__file__.startswith({str(tmp_path)!r}); "
        "sys.argv = ['sfhq', '--help']; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
