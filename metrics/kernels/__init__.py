"""Counts at speed: numba kernels on NumPy arrays."""
