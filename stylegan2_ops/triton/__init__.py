"""Kernels for CUDA in Triton, which torch installs: they need no C++ compiler and no build.

Tests run them on the CPU in Triton's interpreter (TRITON_INTERPRET=1).
"""
