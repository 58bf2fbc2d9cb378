"""Kernels for CUDA in Triton, which comes with torch: no compiler and no build.

They run on the CPU in Triton's interpreter (TRITON_INTERPRET=1), which is how they are tested.
"""
