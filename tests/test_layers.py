"""Imports point down: cli > annotate, curation, encoders > sfhq > stylegan2_ops."""

from __future__ import annotations

import ast
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


def imported(path: Path) -> set[tuple[str, int]]:
    """Top-level names a file imports anywhere in it, with the line."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names |= {(alias.name.split(".")[0], node.lineno) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; name the package"
            names.add((str(node.module).split(".")[0], node.lineno))
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
        if name in forbidden
    ]
    assert not broken, "\n".join(broken)


def test_the_walk_sees_imports_inside_functions(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import os\ndef f():\n    from sfhq.parts.part import Part\n    import encoders.embed\n"
    )
    assert imported(path) == {("os", 1), ("sfhq", 3), ("encoders", 4)}
