"""What a step of a loss launches on a GPU, counted without one: tensors without values stand in for it."""

import copy
from collections import Counter

from emuloss.emulators.soft import Compiled
from emuloss.emulators.tables import Tabled
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_DEVICE = "meta"
"""Its tensors have no values: what asks for one fails, as what waits for a GPU should."""
_NO_WORK = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"}
"""Operators that leave the values of a new tensor as they are, beside those that give views."""
_ON_THE_HOST = {"exact_curves": 2}
"""Our own operators that compute on the host, and how often they cross: what is given, what is found."""


class Launches(TorchDispatchMode):
    """Counts of the operators that ran: those `launched` on the device, and what `crossed` to or from it."""

    def __init__(self) -> None:
        super().__init__()
        self.launched: Counter[str] = Counter()
        self.crossed: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        name, given, places = func.overloadpacket.__name__, _devices((args, kwargs)), _devices(found)
        if name in _ON_THE_HOST:
            self.crossed[name] += _ON_THE_HOST[name]
        elif name in ("_to_copy", "copy_") and len(given | places) > 1:
            self.crossed[name] += 1
        elif _DEVICE in places and name not in _NO_WORK and not _views(func):
            self.launched[name] += 1
        return found


def _devices(values) -> set[str]:
    return {value.device.type for value in tree_leaves(values) if isinstance(value, Tensor)}


def _views(func) -> bool:
    aliases = [each.alias_info for each in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def step(monkeypatch, loss: nn.Module, prediction: Tensor, *target: Tensor, **more: Tensor) -> Launches:
    """One step of a copy of a loss, forward and backward, counted; a compiled kernel is one launch."""
    monkeypatch.setattr(Compiled, "suits", lambda self, fields: True)
    loss = copy.deepcopy(loss).to(_DEVICE)
    for part in loss.modules():
        if isinstance(part, Tabled):  # which keep off this device of their own accord
            for name in part.tables:
                setattr(part, name, getattr(part, name).to(_DEVICE))
    prediction = prediction.to(_DEVICE).requires_grad_()
    given, named = (
        [each.to(_DEVICE) for each in target],
        {name: each.to(_DEVICE) for name, each in more.items()},
    )
    with Launches() as counted:
        value = loss(prediction, *given, **named)
        (value.sum() if value.ndim else value).backward()
    assert prediction.grad.shape == prediction.shape
    return counted
