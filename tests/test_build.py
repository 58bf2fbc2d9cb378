"""Building the kernels: keyed, locked, recovering, and never at import."""

from __future__ import annotations

import importlib.metadata
import os
import pwd
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from stylegan2_ops import build
from stylegan2_ops.bias_act import bias_act

needs_compiler = pytest.mark.skipif(build.find_compiler() is None, reason="no C++ compiler")
REPO = Path(__file__).parent.parent
BUILD = """
from pathlib import Path
from stylegan2_ops import build
build.SOURCE = Path("{source}")
print(build.build())
"""


def little(folder: Path) -> Path:
    """A source that compiles at once."""
    source = folder / "little.cpp"
    source.write_text('extern "C" int sfhq_version() { return 1; }')
    return source


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder; what the process has loaded is forgotten before and after."""
    monkeypatch.setenv("SFHQ_KERNELS", str(tmp_path / "kernels"))
    monkeypatch.setattr(build, "SOURCE", little(tmp_path))
    build.forget()
    yield tmp_path / "kernels"
    build.forget()


def script(path: Path, text: str) -> str:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def test_importing_builds_nothing(tmp_path: Path) -> None:
    code = "import stylegan2_ops.inference, stylegan2_ops.discriminator"
    environment = {**os.environ, "SFHQ_KERNELS": str(tmp_path / "kernels")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=REPO)
    assert not (tmp_path / "kernels").exists()


@needs_compiler
def test_a_build_is_kept_and_keyed(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build.build()
    changed = first.stat().st_mtime_ns
    assert build.build() == first and first.stat().st_mtime_ns == changed
    compiler = build.find_compiler()
    assert compiler is not None
    key = build.build_key(compiler)
    for name, value in (
        ("FLAGS", (*build.FLAGS, "-DOTHER")),
        ("cpu_features", lambda: "another machine"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(build, name, value)
            assert build.build_key(compiler) != key
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", lambda name: "0.0")
        assert build.build_key(compiler) != key
    assert build.build_key(compiler) == key


def test_this_machine_can_play_one_without_avx512(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_cpu_features", lambda: "amx_bf16 avx2 avx512_bf16 avx512f fma")
    key = build.build_key("c++")
    monkeypatch.setenv("SFHQ_CPU", "avx2")
    assert build.cpu_features() == "avx2 fma"
    assert build.compiler_flags() == (*build.FLAGS, "-mno-avx512f")
    assert build.build_key("c++") != key
    monkeypatch.setenv("SFHQ_CPU", "sse2")
    with pytest.raises(build.BuildError, match="SFHQ_CPU is 'sse2'; wanted avx2"):
        build.build()


def test_auto_warns_once_with_the_first_error(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'if [ "$1" = --version ]; then echo broken 1.0; exit 0; fi\n'
    text += "echo 'ops.cpp:3: error: no such thing as a float' >&2; exit 1\n"
    monkeypatch.setenv("CXX", script(tmp_path / "broken", text))
    x, bias = torch.randn(1, 2, 256, 256), torch.randn(2)
    with pytest.warns(RuntimeWarning, match="no such thing as a float"):
        first = bias_act(x, bias)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(bias_act(x, bias), first)
    assert torch.equal(first, bias_act(x, bias, impl="ref"))
    with pytest.raises(build.BuildError, match="no such thing as a float"):
        bias_act(x, bias, impl="native")


def test_without_a_compiler_native_says_what_to_install(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "find_compiler", lambda: None)
    with pytest.raises(build.BuildError, match=r"install g\+\+"):
        build.available("native")
    build.forget()
    status = build.status()
    assert status["built"] is False and "install g++" in str(status["reason"])


def test_small_tensors_need_no_build(fresh: Path) -> None:
    bias_act(torch.randn(1, 2, 64, 64), torch.randn(2))
    assert not fresh.exists()


@needs_compiler
def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SFHQ_KERNELS", str(tmp_path / "file"))
    build.forget()
    with pytest.raises(build.BuildError, match="set SFHQ_KERNELS to another folder"):
        build.available("native")
    build.forget()


def lock_of(kernels: Path) -> Path:
    compiler = build.find_compiler()
    assert compiler is not None
    folder = kernels / build.build_key(compiler)
    folder.mkdir(parents=True)
    return folder / "lock"


HOLD = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1], preserve_lock_file=True):
    print("held", flush=True)
    time.sleep(60)
"""


@needs_compiler
def test_a_lock_is_waited_for_while_its_holder_lives(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_of(fresh)
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            monkeypatch.setattr(build, "BUILD_SECONDS", 0.3)
            with pytest.raises(build.BuildError, match=r"another process .* end that process"):
                build.build()
        finally:
            holder.kill()
        holder.wait()
        assert lock.exists()  # the file stays, but nobody holds it any more
        monkeypatch.undo()
        monkeypatch.setenv("SFHQ_KERNELS", str(fresh))
        monkeypatch.setattr(build, "SOURCE", little(fresh.parent))
        assert build.build().is_file()


@needs_compiler
def test_a_lock_file_of_an_older_version_is_in_nobodys_way(fresh: Path) -> None:
    lock = lock_of(fresh)
    lock.write_text(f"{os.getpid()} 1")  # it named its holder
    assert build.build().is_file()


def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and without an account."""
    for name in ("HOME", "XDG_CACHE_HOME", "SFHQ_KERNELS"):
        monkeypatch.delenv(name, raising=False)

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)


@needs_compiler
def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody(monkeypatch)
    build.forget()
    with pytest.raises(build.BuildError, match="set SFHQ_KERNELS to a folder"):
        build.available("native")
    build.forget()
    with pytest.warns(RuntimeWarning, match="set SFHQ_KERNELS to a folder"):
        assert not build.available("auto")
    found = build.status()
    assert not found["built"] and "set SFHQ_KERNELS" in str(found["reason"])
    build.forget()


@needs_compiler
def test_a_killed_build_leaves_nothing_in_the_way(fresh: Path, tmp_path: Path) -> None:
    real = build.find_compiler()
    text = f'if [ "$1" = --version ]; then exec {real} --version; fi\n'
    text += f"touch {tmp_path}/compiling; sleep 30\n"
    slow = script(tmp_path / "slow", text)
    code = BUILD.format(source=little(tmp_path))
    environment = {**os.environ, "SFHQ_KERNELS": str(fresh), "CXX": slow}
    child = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, cwd=REPO, start_new_session=True
    )
    while not (tmp_path / "compiling").exists():
        assert child.poll() is None
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    slow_again = script(tmp_path / "slow", f'exec {real} "$@"\n')  # the same name, now quick
    subprocess.run(
        [sys.executable, "-c", code], env={**environment, "CXX": slow_again}, cwd=REPO, check=True
    )
    assert list(fresh.glob("*/ops.so"))


@needs_compiler
def test_several_processes_build_once(fresh: Path, tmp_path: Path) -> None:
    code = BUILD.format(source=little(tmp_path))
    environment = {**os.environ, "SFHQ_KERNELS": str(fresh)}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment,
            cwd=REPO,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    lines = {child.communicate()[0] for child in children}
    assert len(lines) == 1 and all(child.returncode == 0 for child in children)


def given_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another user: only root can make one, others become another user themselves."""
    if os.getuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)


@needs_compiler
@pytest.mark.parametrize("harm", ["user", "writable", "folder", "link"])
def test_a_library_that_others_could_have_written_is_not_loaded(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    library = build.build()
    assert library.parent.stat().st_mode & 0o077 == 0
    if harm == "user":
        given_away(library, monkeypatch)
    elif harm == "writable":
        library.chmod(0o777)
    elif harm == "folder":
        library.parent.chmod(0o777)
    else:
        library.rename(tmp_path / "elsewhere.so")
        library.symlink_to(tmp_path / "elsewhere.so")
    build.forget()
    with pytest.raises(build.BuildError, match="so it is not loaded"):
        build.available("native")
    found = build.status()
    assert found["built"] is False and "so it is not loaded" in str(found["reason"])
    build.forget()
    if harm in ("writable", "folder"):
        library.parent.chmod(0o700)
        library.chmod(0o700)
        assert build.available("native")
