"""dlib's networks and where their files lie: each is read once a process.

| function | file | licence of the weights |
|---|---|---|
| `hog_detector` | inside dlib | Boost |
| `cnn_detector`, in PyTorch | `mmod_human_face_detector.dat` | CC0 |
| `landmark_predictor` | `shape_predictor_68_face_landmarks.dat` | of 300-W: non-commercial |
| `identity.recognition`, in PyTorch | `dlib_face_recognition_resnet_model_v1.dat` | CC0 |

Source: Davis King's dlib-models, as the package face-recognition-models carries them.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfhq.errors import SfhqError

if TYPE_CHECKING:
    from sfhq.faces.mmod import MmodDetector

CNN = "mmod_human_face_detector.dat"
PREDICTOR = "shape_predictor_68_face_landmarks.dat"
RECOGNITION = "dlib_face_recognition_resnet_model_v1.dat"


def dlib_module() -> Any:
    """The module dlib.

    Raises:
        SfhqError: it is not installed.
    """
    try:
        import dlib
    except ImportError:
        raise _missing("dlib-bin") from None
    return dlib


def model_path(name: str) -> Path:
    """Where a file of weights lies: `CNN`, `PREDICTOR` or `RECOGNITION`.

    Raises:
        SfhqError: the package that carries it is not installed, or lacks the file.
    """
    # Found and not imported: its import needs pkg_resources, which new setuptools dropped.
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / "models" / name
        if path.is_file():
            return path
    raise _missing("face-recognition-models")


@lru_cache(maxsize=8)
def model_digest(name: str) -> str:
    """sha256 of a file of weights, 64 hexadecimal digits.

    Raises:
        SfhqError: as `model_path`.
    """
    with open(model_path(name), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1)
def hog_detector() -> Any:
    """The frontal face detector: `.run(pixels, 0, threshold)` gives boxes, margins, views."""
    return dlib_module().get_frontal_face_detector()


@lru_cache(maxsize=1)
def cnn_detector() -> MmodDetector:
    """The convolutional detector: called with pixels, gives faces.

    Raises:
        SfhqError: the package that carries its weights is not installed.
        IntegrityError: their file is damaged.
    """
    from sfhq.faces.mmod import MmodDetector  # PyTorch; where HOG finds all faces it is not needed

    return MmodDetector.load(model_path(CNN))


@lru_cache(maxsize=1)
def landmark_predictor() -> Any:
    """The 68 points: called with (pixels, box)."""
    return dlib_module().shape_predictor(str(model_path(PREDICTOR)))


def _missing(package: str) -> SfhqError:
    return SfhqError(f"faces: {package} is not installed; install it with: pip install {package}")
