"""docs/python.md runs as it is written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "python.md"
SAMPLES = ("oil_0000.jpg", "pencil_0002.jpg", "clay_0033.jpg")


def test_the_page_runs_as_it_is_written(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) >= 4
    (tmp_path / "paintings").mkdir()
    for name in SAMPLES:
        shutil.copy(ROOT / "sfhq" / "samples" / name, tmp_path / "paintings")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "('synthesize', 6)" in lines[0]
    assert lines[1].startswith("6 ['face_id'")
    assert "torch.Size([4, 3, 256, 256])" in lines[-2]
    assert lines[-1] == "(256, 256, 3) (1, 128)"


@pytest.mark.parametrize("package", ["sfhq", "encoders", "sfhq.pipeline"])
def test_importing_costs_nothing(package: str) -> None:
    code = (
        f"import sys, {package}\n"
        "heavy = {'torch', 'dlib', 'numpy', 'pyarrow', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_a_name_that_is_not_there() -> None:
    import encoders
    import sfhq
    import sfhq.pipeline

    for module in (sfhq, encoders, sfhq.pipeline):
        with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute"):
            module.nonsense  # noqa: B018
