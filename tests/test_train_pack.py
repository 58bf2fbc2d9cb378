"""`sfhq train pack`: networks as they are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from label_tiny import crops, tiny_reader

from annotate.network.reader import Calibration, load_labels, save_labels
from cli import main
from sfhq.networks.names import ATTRIBUTES
from sfhq.weights.checkpoints import file_digest


def test_the_label_network_is_written_in_16_bits_with_its_calibration(tmp_path: Path) -> None:
    calibration = Calibration.plain()
    calibration.bias[ATTRIBUTES.index("Eyeglasses")] = -2.5
    reader = tiny_reader(calibration)
    whole = tmp_path / "labels.safetensors"
    save_labels(whole, reader.network, calibration, {"images": "7"})
    done = CliRunner().invoke(
        main, ["train", "pack", "--labels", str(whole), "--out", str(tmp_path / "pack")]
    )
    assert done.exit_code == 0, done.output
    small = tmp_path / "pack" / "labels.safetensors"
    assert done.output == f"{file_digest(small)}  labels.safetensors\n"
    assert small.stat().st_size < 0.75 * whole.stat().st_size
    found, digest = load_labels(small)
    assert digest == file_digest(small)
    assert torch.equal(found.calibration.bias, calibration.bias)
    wanted, given = reader.read(crops(2)), found.read(crops(2))
    torch.testing.assert_close(given.attributes, wanted.attributes, atol=5e-3, rtol=0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "nothing to write; give --generator and --e4e, or --labels"),
        (["--e4e", "e.safetensors"], "a generator and its encoder go together"),
        (["--labels", "none.safetensors"], "none.safetensors"),
    ],
)
def test_what_is_missing_is_said_in_one_line(given: list[str], words: str, tmp_path: Path) -> None:
    out = tmp_path / "pack"
    done = CliRunner().invoke(main, ["train", "pack", *given, "--out", str(out)])
    assert done.exit_code == 2 and words in done.output and not out.exists()
