"""Compiled kernels for packages that may not import `stylegan2_ops` themselves."""

from __future__ import annotations

from stylegan2_ops.build import BuildError, cpu_features, load

__all__ = ["BuildError", "cpu_features", "load"]
