"""A lock is held by one at a time, and ends with its holder."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sfhq.errors import SfhqError
from sfhq.lock import file_lock, folder_lock

REPO = Path(__file__).parent.parent
HOLD = """
import sys, time
from pathlib import Path
from sfhq.lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            with pytest.raises(SfhqError, match="another sfhq run is writing here"):
                folder_lock(tmp_path).__enter__()
        finally:
            holder.kill()
        holder.wait()
    with folder_lock(tmp_path):
        pass


def test_a_thread_of_this_process_is_kept_out_as_well(tmp_path: Path) -> None:
    said: list[str] = []

    def enter() -> None:
        try:
            with file_lock(tmp_path / "lock", "busy"):
                said.append("in")
        except SfhqError as error:
            said.append(str(error))

    with file_lock(tmp_path / "lock", "busy"):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    enter()
    assert said == ["busy", "in"]


def test_without_real_locks_nothing_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A soft lock would stay behind when its holder is killed."""

    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", missing)
    with pytest.raises(SfhqError, match=r"cannot write here .*make the folder writable"):
        folder_lock(tmp_path).__enter__()
