"""Loading the embedded networks is quick, because it imports nothing that is not needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cli

LOADED = """
import sys
from sfhq import stages
from sfhq.pipeline.recipe import ModelSettings

pair = stages.network("generator and encoder")(ModelSettings())
reader, _ = stages.network("label reader")(None)
print(*sorted({"torch._dynamo", "sympy", "sklearn"} & {*sys.modules}))
"""


def test_no_compiler_is_imported_to_load_networks() -> None:
    """On the meta device a product of tensors, or a random one, imports it: seconds each time."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=Path(cli.__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []
