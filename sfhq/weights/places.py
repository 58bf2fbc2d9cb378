"""Where weights lie: in our cache, and where other packages keep their downloads."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from sfhq.cache import cache_folder
from sfhq.weights.table import ModelRow


def home() -> Path:
    """The cache: $SFHQ_HOME, else sfhq in $XDG_CACHE_HOME, else ~/.cache/sfhq.

    Raises:
        UsageError: the user has no home folder, and no variable names the cache.
    """
    chosen = os.environ.get("SFHQ_HOME")
    return Path(chosen) if chosen else cache_folder("set SFHQ_HOME to a folder")


def model_path(row: ModelRow) -> Path:
    """Where the cache keeps a model's file."""
    return home() / "models" / row.name / row.file


def _others() -> str:
    """The cache as torch and the Hugging Face hub find it, which ask no library."""
    return os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")


def torch_hub() -> Path:
    """Where torch.hub, and so face-alignment, keeps downloads; as `torch.hub.get_dir` says."""
    base = os.environ.get("TORCH_HOME") or os.path.join(_others(), "torch")
    return Path(os.path.expanduser(base)) / "hub" / "checkpoints"


def hugging_face_hub() -> Path:
    """Where the Hugging Face hub keeps downloads; as `huggingface_hub.constants` says."""
    home = os.environ.get("HF_HOME") or os.path.join(_others(), "huggingface")
    hub = os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expanduser(hub))


def places(row: ModelRow) -> list[Path]:
    """Files outside the cache that are this model's.

    `ModelRow.also` names them: "torch-hub:" torch's hub folder, "hf:" the Hugging Face hub's
    cache (with wildcards), "package:" inside an installed package.
    """
    found = []
    for place in row.also:
        scheme, _, pattern = place.partition(":")
        if scheme == "package":
            package, _, inside = pattern.partition("/")
            spec = importlib.util.find_spec(package)
            folders = spec.submodule_search_locations if spec else None
            found += [Path(folder) / inside for folder in folders or ()]
            continue
        folder = {"torch-hub": torch_hub, "hf": hugging_face_hub}[scheme]()
        found += sorted(folder.glob(pattern))
    return found
