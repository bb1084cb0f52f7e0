"""What is built leaves the caller's random numbers and settings as they are, and has nothing of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


@contextmanager
def neutral(seed: int = 0) -> Iterator[None]:
    """What is built within has nothing of the caller's settings, nor do these change.

    Args:
        seed: of random weights, which come from no generator of the caller's.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # in which weights are, and what is computed beside them
    try:
        with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"), DrawnFrom(seed):
            yield
    finally:
        torch.set_default_dtype(default)


class DrawnFrom(TorchDispatchMode):
    """A context in which this thread's random numbers on the CPU come from a generator of its own.

    To set torch's generator and put it back afterwards would do in one thread alone: all share it. Operators
    that take no generator, as `rand_like` in older versions of torch, draw from the caller's all the same.

    Args:
        seed: of the generator, which gives what `torch.manual_seed` with this seed would lead to.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to keep the compiler away torch would import it, which takes a second."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator of torch; those that draw get the generator."""
        given = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags and given.get("generator") is None:
            drawing = _with_generator(func)
            if drawing is not None:
                return drawing(*args, **{**given, "generator": self.generator})
        return func(*args, **given)


def _with_generator(func: Any) -> Any:
    """The form of an operator that takes a generator; None if it has none."""
    name = func._overloadname
    forms = (name, "generator" if name == "default" else f"{name}_generator")
    known = (getattr(func.overloadpacket, form, None) for form in forms)
    return next((form for form in known if form and "generator" in str(form._schema)), None)
