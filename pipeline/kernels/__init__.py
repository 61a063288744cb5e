"""Compiled kernels on raw arrays; the only room that may import numba."""
