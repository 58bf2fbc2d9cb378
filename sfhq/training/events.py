"""The log of a training as TensorBoard's event files.

Needs `pip install 'sfhq[tensorboard]'`; trainings themselves write JSON lines and need nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

from sfhq.errors import IntegrityError, MissingExtra, UsageError

LOG = "log.jsonl"


def write_events(run: Path, out: Path, done: int = 0) -> int:
    """Write the log lines of a run as events; counts are in images.

    Args:
        run: folder of a training.
        out: folder of the events; made.
        done: bytes of the log that were written before.

    Returns:
        Bytes of the log that are written now; a line that is not whole yet waits.

    Raises:
        UsageError: the folder holds no log.
        IntegrityError: a line of it is damaged.
        MissingExtra: tensorboard is not installed.
    """
    path = run / LOG
    if not path.is_file():
        raise UsageError(f"{path}: no such log; wanted the folder of a training")
    try:
        import tensorboard  # noqa: F401, what torch's writer needs
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtra("events", "tensorboard", "tensorboard") from None
    with open(path, "rb") as file:
        file.seek(done)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    if not whole:
        return done
    writer = SummaryWriter(str(out))
    try:
        for line in whole.splitlines():
            try:
                row = json.loads(line)
                step = int(row.pop("images"))
                for name, value in row.items():
                    writer.add_scalar(name, float(value), step)
            except (ValueError, KeyError, TypeError, AttributeError):
                raise IntegrityError(f"{path}: damaged at {line[:60]!r}") from None
    finally:
        writer.close()
    return done + len(whole)
