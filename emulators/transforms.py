"""What works on a tensor from outside: compilers, tracers, and the transforms of torch.func."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def transformed(x: Tensor) -> bool:
    """Whether torch.func, or differentiation in forward mode, works on a tensor.

    Kernels of our own know neither: there, torch's operations must do the work.
    """
    if torch.compiler.is_compiling():
        return False
    # What torch asks itself; it offers no public way.
    active: bool = torch._C._are_functorch_transforms_active()
    return active or forward_ad.unpack_dual(x).tangent is not None


def traced(x: Tensor) -> bool:
    """Whether a tensor has no values to look at, or none that may be waited for now."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or x.is_meta:
        return True
    return x.is_cuda and torch.cuda.is_current_stream_capturing()
