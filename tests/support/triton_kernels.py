"""The package's Triton kernels: compiled where there is a GPU, else in Triton's interpreter, on the CPU."""

import importlib
import os
from types import ModuleType
from unittest import mock

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
"""Where the kernels run."""


def load(name: str) -> ModuleType:
    """A module of kernels in `emuloss.emulators.soft`; skips who asks where Triton is missing."""
    pytest.importorskip("triton", reason="needs Triton")
    if DEVICE == "cuda":
        return importlib.import_module(f"emuloss.emulators.soft.{name}")
    # Triton looks at this where a kernel is defined: those that are defined later are to be compiled.
    with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
        _interpret_library()
        return importlib.import_module(f"emuloss.emulators.soft.{name}")


def _interpret_library() -> None:
    """Interpret Triton's own functions, if imported before, too: without a GPU nothing compiles them."""
    import triton
    import triton.experimental.gluon  # else imported as the first kernel runs; it checks the setting

    for module in (triton.language, triton.language.standard):
        for name, function in list(vars(module).items()):
            if isinstance(function, triton.JITFunction):
                setattr(module, name, triton.jit(function.fn))
