"""Compile the CPU kernels at first use, with ninja and the machine's C++ compiler.

Nothing is built at import. A build is kept in the user's cache under a key made of the sources,
the compiler, its flags, the CPU's features, torch's version and Python's ABI. If one of them
changes, the kernels are built again, and two machines can share a home folder. The library has a
plain C interface: it takes seconds to build and needs no torch headers.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import stat
import subprocess
import sys
import sysconfig
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Literal

import platformdirs
from filelock import FileLock, Timeout

Impl = Literal["auto", "ref", "native"]
IMPLS: tuple[Impl, ...] = ("auto", "ref", "native")

SOURCE = Path(__file__).parent / "csrc" / "ops.cpp"
FLAGS = (
    "-O3",
    "-march=native",
    "-std=c++20",
    "-fopenmp",
    "-fPIC",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
)
BUILD_SECONDS = 300
WORTH_COMPILING = 256  # pixels of an image's side; for smaller ones torch's operators will do


class BuildError(RuntimeError):
    """The kernels could not be built; the message is the compiler's first error."""


def cache_folder() -> Path:
    """Where builds are kept: $SFHQ_KERNELS, or sfhq/kernels in the user's cache.

    Raises:
        BuildError: the user has no home folder, and no variable names the cache.
    """
    chosen = os.environ.get("SFHQ_KERNELS")
    if chosen:
        return Path(chosen)
    try:
        cache = platformdirs.user_cache_path("sfhq", appauthor=False)
    except RuntimeError:  # older versions give a relative path instead
        cache = Path()
    if not cache.is_absolute():
        raise BuildError(
            "this user has no home folder to keep kernels in; set SFHQ_KERNELS to a folder"
        )
    return cache / "kernels"


def find_compiler() -> str | None:
    """Path of the C++ compiler: $CXX, c++, g++ or clang++; None where there is none."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        found = shutil.which(name) if name else None
        if found:
            return found
    return None


def find_ninja() -> str | None:
    """Path of ninja, from its Python package or the system; None where there is none."""
    spec = importlib.util.find_spec("ninja")
    if spec is not None and spec.submodule_search_locations:
        for folder in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
            if (folder / "ninja").is_file():
                return str(folder / "ninja")
    return shutil.which("ninja")


@lru_cache(maxsize=4)
def _compiler_version(compiler: str) -> str:
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def _is_limited() -> bool:
    """Whether $SFHQ_CPU asks for the code of a CPU without AVX-512."""
    return os.environ.get("SFHQ_CPU") == "avx2"


def compiler_flags() -> tuple[str, ...]:
    """`FLAGS`, and those that $SFHQ_CPU adds."""
    return (*FLAGS, "-mno-avx512f") if _is_limited() else FLAGS


def cpu_features() -> str:
    """The CPU's feature flags, sorted, or its name where the system does not list them.

    With SFHQ_CPU=avx2 in the environment, those of AVX-512 and AMX are left out, so that this
    machine compiles and chooses as one without them does. For torch's own kernels set
    ATEN_CPU_CAPABILITY=avx2 and ONEDNN_MAX_CPU_ISA=AVX2 as well.
    """
    found = _cpu_features()
    if not _is_limited():
        return found
    return " ".join(flag for flag in found.split() if not flag.startswith(("avx512", "amx")))


@lru_cache(maxsize=1)
def cpu_model() -> str:
    """The name of the CPU."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def _cpu_features() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return " ".join(sorted(line.partition(":")[2].split()))
    except OSError:
        pass
    return platform.processor() or platform.machine()


def build_key(compiler: str, source: Path | None = None) -> str:
    """A digest of all that a build depends on, 16 hex digits; `source` as in `build`."""
    parts = (
        (source or SOURCE).read_text(encoding="utf-8"),
        " ".join(compiler_flags()),
        compiler,
        _compiler_version(compiler),
        cpu_features(),
        importlib.metadata.version("torch"),
        str(sysconfig.get_config_var("SOABI")),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system takes back however its holder ends.

    Raises:
        BuildError: another process has held it for `BUILD_SECONDS`.
    """
    path = folder / "lock"
    # No soft lock: where the file system has no real locks, one would outlive a killed holder.
    lock = FileLock(path, BUILD_SECONDS, preserve_lock_file=True, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise BuildError(
            f"{path}: another process has been building for {BUILD_SECONDS} s; end that process"
        ) from None
    try:
        yield
    finally:
        lock.release()


def build(source: Path | None = None) -> Path:
    """Build the kernels unless they are built, and give the library's path.

    Args:
        source: one C++ file with a plain C interface; None takes this package's operators.

    Raises:
        BuildError: no compiler or ninja, the folder cannot be written or may be written by others,
            or the compiler failed.
    """
    compiler, ninja = find_compiler(), find_ninja()
    if compiler is None:
        raise BuildError("no C++ compiler; install g++ or clang++, or set CXX")
    if (limit := os.environ.get("SFHQ_CPU")) not in (None, "", "avx2"):
        raise BuildError(f"SFHQ_CPU is {limit!r}; wanted avx2, or leave it unset")
    source = source or SOURCE
    folder = cache_folder() / build_key(compiler, source)
    library = folder / "ops.so"
    if library.is_file():
        _require_ours(folder)
        return library
    if ninja is None:
        raise BuildError("no ninja; pip install ninja")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_ours(folder)
        with _only_one(folder):
            if not library.is_file():
                _compile(compiler, ninja, folder, source)
    except OSError as error:
        raise BuildError(
            f"{folder}: {error.strerror or error}; set SFHQ_KERNELS to another folder"
        ) from error
    return library


def _require_ours(folder: Path) -> None:
    """Refuse a folder of builds, or a library in it, that somebody else could have written.

    Raises:
        BuildError: it belongs to another user than this one or root, others may write to it, or it
            is a link.
    """
    for path in (folder, folder / "ops.so"):
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(found.st_mode):
            problem, remedy = "a link", "delete it"
        elif found.st_uid not in (0, os.getuid()):
            problem, remedy = "belongs to another user", "set SFHQ_KERNELS to a folder of your own"
        elif found.st_mode & 0o022:
            problem, remedy = "other users may write to it", f"run: chmod -R go-w {folder}"
        else:
            continue
        raise BuildError(f"{path}: {problem}, so it is not loaded; {remedy}")


def _compile(compiler: str, ninja: str, folder: Path, source: Path) -> None:
    rules = f"""\
rule compile
  command = {_quoted(compiler)} {" ".join(compiler_flags())} -MMD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
rule link
  command = {_quoted(compiler)} -shared -fopenmp $in -o $out
build ops.o: compile {_escaped(source)}
build built.so: link ops.o
default built.so
"""
    (folder / "build.ninja").write_text(rules, encoding="utf-8")
    try:
        done = subprocess.run(
            [ninja, "-C", str(folder)],
            capture_output=True,
            text=True,
            check=False,
            timeout=BUILD_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"{folder}: the compiler took over {BUILD_SECONDS} s") from None
    if done.returncode != 0:
        raise BuildError(_first_error(done.stdout + done.stderr))
    (folder / "built.so").chmod(0o700)
    os.replace(folder / "built.so", folder / "ops.so")


def _quoted(path: str) -> str:
    return "'" + path.replace("$", "$$").replace("'", "'\\''") + "'"


def _escaped(path: Path) -> str:
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def _first_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["the compiler failed and said nothing"])[0]


_loaded: dict[Path, ctypes.CDLL] = {}
_failed: dict[Path, str] = {}


def load(source: Path | None = None, *, threaded: bool = True) -> ctypes.CDLL:
    """Load the library of kernels; build it first if needed. This process remembers a failure.

    Args:
        source: as in `build`.
        threaded: whether its kernels use OpenMP; a library without OpenMP is loaded without torch.

    Raises:
        BuildError: as `build`.
    """
    source = source or SOURCE
    if source in _failed:
        raise BuildError(_failed[source])
    if source in _loaded:
        return _loaded[source]
    try:
        if threaded:
            import torch  # noqa: F401  its OpenMP must be the one the kernels find

        path = build(source)
        try:
            library = ctypes.CDLL(str(path))
        except OSError as error:
            raise BuildError(f"{path}: {error}; delete it") from error
    except BuildError as error:
        _failed[source] = str(error)
        raise
    _loaded[source] = library
    return library


def forget() -> None:
    """Forget failures and the loaded libraries, so that the next use tries again."""
    _failed.clear()
    _loaded.clear()
    _warned.clear()


_warned: set[str] = set()


def available(impl: Impl) -> bool:
    """Whether to use the kernels; builds them if they are wanted.

    Args:
        impl: "ref": never. "native": always; it is an error if they cannot be built. "auto": if
            they can be built; otherwise one warning gives the compiler's first error.

    Raises:
        BuildError: "native" and they could not be built.
        ValueError: `impl` is none of these.
    """
    if impl not in IMPLS:
        raise ValueError(f"impl is {impl!r}; wanted one of {IMPLS}")
    if impl == "ref":
        return False
    try:
        load()
    except BuildError as error:
        if impl == "native":
            raise
        if "build" not in _warned:
            _warned.add("build")
            warnings.warn(
                f"no native kernels: {error}; going on with torch's operators, which are slower",
                RuntimeWarning,
                stacklevel=3,
            )
        return False
    return True


def status() -> dict[str, str | bool]:
    """What `sfhq doctor` prints: compiler, ninja, whether the kernels are built, and why they
    cannot be built. Builds nothing."""
    compiler, ninja = find_compiler(), find_ninja()
    reason = ""
    if compiler is None:
        reason = "no C++ compiler; install g++ or clang++, or set CXX"
    elif ninja is None:
        reason = "no ninja; pip install ninja"
    folder = None
    try:
        folder = cache_folder()
    except BuildError as error:
        reason = reason or str(error)
    built = False
    if compiler is not None and folder is not None:
        place = folder / build_key(compiler)
        built = (place / "ops.so").is_file()
        try:
            _require_ours(place)
        except BuildError as error:
            built, reason = False, reason or str(error)
    return {
        "compiler": f"{compiler} ({_compiler_version(compiler)})" if compiler else "",
        "ninja": ninja or "",
        "folder": str(folder or ""),
        "built": built,
        "reason": reason,
    }


def build_all(say: Callable[[str], None] = print) -> None:
    """Build ahead of the first use.

    Args:
        say: takes a line of progress.

    Raises:
        BuildError: as `build`.
    """
    start = time.monotonic()
    path = build()
    say(f"{path} ({time.monotonic() - start:.1f} s)")
