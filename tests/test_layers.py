"""Imports point down: between packages, between the rooms of a package, and into no circle."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "annotate": {"sfhq", "stylegan2_ops"},
    "curation": {"sfhq"},
    "encoders": {"sfhq", "stylegan2_ops"},
    "sfhq": {"stylegan2_ops"},
    "stylegan2_ops": set[str](),
}
OURS = {*ALLOWED, "cli"}

# The rooms of a package: its folders and modules, lowest first. A room imports from the lines above
# its own, and from nobody else: rooms on one line do not import each other.
ROOMS = {
    "sfhq": (
        "colour errors formats stages",
        "cache versions web lock kernels marks",
        "images",
        "tensors",
        "parts",
        "pipeline",
        "faces remote weights",
        "imports ingest synthesis render",
        "training",
        "networks publish",
        "export sheet doctor",
        "console",
        "commands",
    ),
    "sfhq.render": (
        "person raster styles",
        "head",
        "hair",
        "wear",
        "scene",
        "labels people",
        "develop",
        "render",
    ),
    "sfhq.training": (
        "augment events features metrics painterly photos precision recorded state",
        "pairs run",
        "generator",
    ),
    "encoders": (
        "e4e flip",
        "features",
        "embed evaluate invert search",
        "commands",
    ),
    "curation": (
        "faces labels sharpness",
        "pairs",
        "taste",
        "dedup explore page score select",
        "missing",
        "commands",
    ),
    "annotate": (
        "align detect fan grammar metrics network",
        "labels rewriting teachers",
        "bisenet exchange training",
        "judge probing",
        "attribute caption forms labeller landmark parse probe resemble rewrite",
        "commands",
    ),
    "stylegan2_ops": (
        "finish shapes",
        "build memory triton",
        "choice cpu",
        "bias_act packed",
        "merged upfirdn2d",
        "modulated_conv",
        "layers",
        "mapping",
        "generator",
        "discriminator inference",
        "foreign",
    ),
}
# Imports that still point up: (module, what it imports). None may be added.
KNOWN: tuple[tuple[str, str], ...] = ()

Import = tuple[str, str]  # the module that imports, the module that it imports


def imported(path: Path, types: bool = True) -> set[tuple[str, int]]:
    """Dotted names a file imports anywhere in it, with the line.

    `types` says whether imports under `if TYPE_CHECKING:` count; they never run.
    """
    names = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"), str(path))]
    while waiting:
        node = waiting.pop()
        if not types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names |= {(alias.name, node.lineno) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; name the package"
            names |= {(f"{node.module}.{alias.name}", node.lineno) for alias in node.names}
    return names


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_package_imports_only_what_lies_below(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    forbidden = OURS - ALLOWED[package] - {package}
    broken = [
        f"{path.relative_to(ROOT)}:{line}: imports {name}"
        for path in files
        for name, line in sorted(imported(path))
        if name.partition(".")[0] in forbidden
    ]
    assert not broken, "\n".join(broken)


def module_of(path: Path) -> str:
    """Dotted name of a file of ours; a package's `__init__.py` goes by the package's name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def our_imports(types: bool = True) -> frozenset[Import]:
    """Every import of one of our modules by another; `types` as in `imported`."""
    files = {module_of(p): p for name in ALLOWED for p in (ROOT / name).rglob("*.py")}
    found = set()
    for module, path in files.items():
        for name, _ in imported(path, types):
            while name and name not in files:  # what a module defines stands behind its name
                name = name.rpartition(".")[0]
            if name and name != module:
                found.add((module, name))
    return frozenset(found)


def broken_in(package: str, rows: tuple[str, ...], imports: Iterable[Import]) -> set[Import]:
    """The imports inside a package that do not point to a room on a line above."""
    height = {room: number for number, row in enumerate(rows) for room in row.split()}

    def room_of(module: str) -> str | None:
        inside = module.startswith(f"{package}.")
        return module.removeprefix(f"{package}.").partition(".")[0] if inside else None

    broken = set()
    for importer, target in imports:
        upper, lower = room_of(importer), room_of(target)
        if upper is None or upper == lower:
            continue  # from outside, from the package's own front, or within a room
        if target == package or (lower is not None and height[lower] >= height[upper]):
            broken.add((importer, target))
    return broken


@pytest.mark.parametrize("package", sorted(ROOMS))
def test_each_room_has_its_place(package: str) -> None:
    folder = ROOT / package.replace(".", "/")
    here = {p.stem for p in folder.glob("*.py")} | {p.parent.name for p in folder.glob("*/*.py")}
    listed = [room for row in ROOMS[package] for room in row.split()]
    assert len(listed) == len(set(listed)), f"a room of {package} stands twice in ROOMS"
    lost = here - {"__init__"} - set(listed)
    assert not lost, f"give {sorted(lost)} of {package} their line in ROOMS"
    gone = set(listed) - here
    assert not gone, f"{package} has no {sorted(gone)}; delete it from ROOMS"


@pytest.mark.parametrize("package", sorted(ROOMS))
def test_rooms_import_only_from_lines_above(package: str) -> None:
    broken = broken_in(package, ROOMS[package], our_imports()) - set(KNOWN)
    assert not broken, "\n".join(f"{a} imports {b}" for a, b in sorted(broken))


def test_known_imports_that_point_up_are_still_there() -> None:
    broken = {
        found for package in ROOMS for found in broken_in(package, ROOMS[package], our_imports())
    }
    assert not set(KNOWN) - broken, f"mended; delete from KNOWN: {sorted(set(KNOWN) - broken)}"


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count: a circle through one of them is a circle all the same."""
    below: dict[str, set[str]] = {}
    for importer, target in our_imports(types=False) - set(KNOWN):
        below.setdefault(importer, set()).add(target)
        below.setdefault(target, set())
    while leaves := {module for module, targets in below.items() if not targets}:
        below = {m: targets - leaves for m, targets in below.items() if m not in leaves}
    assert not below, f"these lie on circles of imports, or above one: {sorted(below)}"


def test_the_walk_sees_imports_inside_functions(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import os\ndef f():\n    from sfhq.parts.part import Part\n    import encoders.embed\n"
    )
    assert imported(path) == {("os", 1), ("sfhq.parts.part.Part", 3), ("encoders.embed", 4)}


def test_the_walk_can_leave_out_imports_for_types(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("import os\nif TYPE_CHECKING:\n    import sys\nelse:\n    import io\n")
    assert {name for name, _ in imported(path)} == {"os", "sys", "io"}
    assert {name for name, _ in imported(path, types=False)} == {"os", "io"}


@pytest.mark.parametrize(
    ("importer", "target", "wrong"),
    [
        ("p.high.a", "p.low.b", False),
        ("p.low.b", "p.high.a", True),
        ("p.low.b", "p.beside", True),
        ("p.low.a", "p.low.b", False),
        ("p.low.a", "p", True),  # the front of the package lies above its rooms
        ("p", "p.high", False),
        ("other.low", "p.high", False),
        ("p.low.a", "other.high", False),
    ],
)
def test_what_is_broken(importer: str, target: str, wrong: bool) -> None:
    found = broken_in("p", ("low beside", "high"), [(importer, target)])
    assert found == ({(importer, target)} if wrong else set())
