"""The precision of a training's convolutions."""

from __future__ import annotations

import torch

from sfhq.errors import UsageError
from stylegan2_ops.inference import takes_bf16


def fast_convolutions(device: torch.device, precision: str) -> torch.autocast:
    """The autocast context for training at a precision, "fp32" or "bf16"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def check_precision(precision: str, device: str = "cpu") -> None:
    """Check that a precision is fast on this machine.

    Raises:
        UsageError: bf16 on a CPU without AVX-512, where convolutions are 30 times slower.
    """
    if precision == "bf16" and device == "cpu" and not takes_bf16():
        raise UsageError(
            "--precision bf16: this CPU has no AVX-512 for bfloat16; use --precision fp32"
        )
