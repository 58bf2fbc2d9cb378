"""Versions are compared as versions, not as text."""

from __future__ import annotations

import pytest

from sfhq.versions import older


@pytest.mark.parametrize(
    ("version", "least", "expected"),
    [
        ("2.9", "2.10", True),
        ("2.10", "2.10", False),
        ("2.10.0", "2.10", False),
        ("2.10+cu132", "2.10", False),
        ("2.15.0", "2.10", False),
        ("2.10.0rc1", "2.10", True),  # comes before 2.10
        ("2.11.dev20260101", "2.10", False),
        ("12.3", "2.10", False),
        ("version unknown", "2.10", False),
    ],
)
def test_older(version: str, least: str, expected: bool) -> None:
    assert older(version, least) == expected
