"""What is installed: every module, marker, weight and sample; and a command that starts fast."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
FLAT = ("sfhq", "stylegan2_ops", "encoders", "curation", "annotate")


@cache
def given() -> dict[str, Any]:
    """What setup.py hands to setuptools."""
    words: dict[str, Any] = {}
    with mock.patch("setuptools.setup", words.update):
        runpy.run_path(str(ROOT / "setup.py"))
    return words


def files() -> set[Path]:
    """Every file of the packages that git would know, seen from the root."""
    found = (p.relative_to(ROOT) for name in FLAT for p in (ROOT / name).rglob("*"))
    return {p for p in found if "__pycache__" not in p.parts and (ROOT / p).is_file()}


def modules() -> set[str]:
    return {str(p) for p in files() if p.suffix == ".py"} | {"cli.py"}


def test_every_folder_with_code_is_listed() -> None:
    folders = {str(Path(m).parent).replace("/", ".") for m in modules() - {"cli.py"}}
    missing = folders - set(given()["packages"])
    assert not missing, f"add to PACKAGES in setup.py: {sorted(missing)}"


def test_every_listed_package_exists() -> None:
    missing = [p for p in given()["packages"] if not (ROOT / p.replace(".", "/")).is_dir()]
    assert not missing, f"setup.py lists {missing}, which do not exist"


def test_every_data_file_is_listed_and_every_pattern_finds_one() -> None:
    listed: set[Path] = set()
    for package, patterns in given()["package_data"].items():
        for pattern in patterns:
            found = set((ROOT / package.replace(".", "/")).glob(pattern))
            assert found, f"package_data of {package}: {pattern} finds no file"
            listed |= {p.relative_to(ROOT) for p in found}
    lost = {p for p in files() if p.suffix != ".py"} - listed
    assert not lost, f"add to package_data in setup.py: {sorted(map(str, lost))}"


@pytest.mark.parametrize("package", FLAT)
def test_packages_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_the_readme_shows_every_folder() -> None:
    """The table between the marks: each package and each folder in it, named once."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"<!-- layout -->\n(.*?)<!-- /layout -->", text, re.S)
    assert table, "README.md has no table between <!-- layout --> and <!-- /layout -->"
    shown = re.findall(r"^\| `([\w/]+)/` \| \S", table[1], re.M)
    there = {p.replace(".", "/") for p in given()["packages"] if p.count(".") < 2}
    assert len(shown) == len(set(shown)), "the table in README.md names a folder twice"
    assert not there - set(shown), f"add to it: {sorted(there - set(shown))}"
    assert not set(shown) - there, f"these are no packages: {sorted(set(shown) - there)}"


def test_every_version_of_python_is_named_once() -> None:
    """The oldest in four places; those up to the newest as classifiers."""
    prefix = "Programming Language :: Python :: 3."
    minors = [int(c.removeprefix(prefix)) for c in given()["classifiers"] if c.startswith(prefix)]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert given()["python_requires"] == f">=3.{minors[0]}"
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert tools["mypy"]["python_version"] == f"3.{minors[0]}"
    assert tools["ruff"]["target-version"] == f"py3{minors[0]}"


# The distribution that brings a module, where their names differ by more than a dash.
BRINGS = {
    "PIL": "pillow",
    "c2pa": "c2pa-python",
    "dlib": "dlib-bin",
    "open_clip": "open_clip_torch",
    "sklearn": "scikit-learn",
}
# Modules that a requirement brings along, and that only make sense together with it.
ALONG = {
    "drjit": "mitsuba",  # pinned by it to the very version
    "timm": "open_clip_torch",  # its image towers
    "triton": "torch",  # on Linux; where it is absent, so is what uses it
}
# Requirements that nothing imports as yet: what comes next does.
UNUSED = {"face-alignment"}
LOOKED_UP = ("import_module", "find_spec")  # a module's name as text


@cache
def foreign_modules() -> frozenset[tuple[str, str]]:
    """Top-level modules of others that ours import, or look up by a literal name; and where."""
    seen = set()
    for name in sorted(modules()):
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            found: list[str] = []
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found = [str(node.module)]
            elif isinstance(node, ast.Call) and node.args:
                function = ast.unparse(node.func).rpartition(".")[2]
                first = node.args[0]
                if function in LOOKED_UP and isinstance(first, ast.Constant):
                    found = [str(first.value)]
            for module in found:
                top = module.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in (*FLAT, "cli"):
                    seen.add((top, name))
    return frozenset(seen)


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(r).name) for r in requirements}


def declared() -> set[str]:
    """What a user can install: the requirements, and all extras but that of the tests."""
    extras = {name: wanted for name, wanted in given()["extras_require"].items() if name != "test"}
    return names([*given()["install_requires"], *(r for wanted in extras.values() for r in wanted)])


def test_every_import_is_declared() -> None:
    lost = {
        f"{where} imports {module}"
        for module, where in foreign_modules()
        if module not in ALONG and canonicalize_name(BRINGS.get(module, module)) not in declared()
    }
    assert not lost, f"declare these in setup.py: {sorted(lost)}"


def test_everything_declared_is_imported() -> None:
    used = {canonicalize_name(BRINGS.get(module, module)) for module, _ in foreign_modules()}
    idle = declared() - used - UNUSED
    assert not idle, f"nothing imports {sorted(idle)}; take them out of setup.py"


@pytest.mark.parametrize("module", sorted(ALONG))
def test_what_comes_along_is_brought(module: str) -> None:
    try:
        wanted = importlib.metadata.requires(ALONG[module]) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{ALONG[module]} is not installed")
    if "+cpu" in importlib.metadata.version(ALONG[module]):
        pytest.skip(f"{ALONG[module]} for CPUs alone brings no {module}")
    always = [r for r in wanted if "extra ==" not in r]
    assert module in names(always)


def test_constraints_meet_every_requirement() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    versions = {canonicalize_name(name): version for name, version in pins.items()}
    assert len(versions) == len(lines) - sum(line.startswith("#") for line in lines)
    wanted = [*given()["install_requires"], *given()["extras_require"]["test"]]
    for requirement in map(Requirement, wanted):
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"constraints.txt has no {requirement.name}"
        assert requirement.specifier.contains(version, prereleases=True), requirement


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
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "-w", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = folder.glob("sfhq-*.whl")
    return built


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert not {"cli.py", *map(str, files())} - inside
    tops = {name.partition("/")[0] for name in inside}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cli.py", *FLAT}


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        text = archive.read(name).decode()
    assert "\nLicense-Expression: MIT\n" in text and "License ::" not in text
    assert "\nRequires-Python: >=3.11\n" in text and "\nClassifier: Typing :: Typed\n" in text
    extras = set(re.findall(r"^Provides-Extra: (.*)$", text, re.M))
    assert extras == {
        "c2pa",
        "coco",
        "flip",
        "heif",
        "landmark",
        "ray",
        "render",
        "teachers",
        "tensorboard",
        "train",
        "test",
    }
    assert "face-alignment" not in re.findall(r"^Requires-Dist: ([\w-]+)$", text, re.M)


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
