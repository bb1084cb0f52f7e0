"""Exact curves of tensors, computed on the host wherever these are: one operator, for compilers too."""

from __future__ import annotations

import math
import uuid
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..metrics import Metric

_LARGEST = torch.finfo(torch.float32).max


class Teacher:
    """A metric that tensors may be given to, in compiled code as well.

    Operators take no objects: this one goes by a name of its own, as do its copies. No other process has it:
    there an exported program finds no metric, rather than another one.

    Args:
        metric: the exact metric.
    """

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.name = uuid.uuid4().hex
        self._outputs, self._levels = len(metric.outputs), len(metric.levels)
        _TEACHERS[self.name] = self

    def __reduce__(self) -> tuple[type[Teacher], tuple[Metric]]:
        return Teacher, (self.metric,)

    def __call__(self, fields: Tensor) -> Tensor:
        """Exact curves (N, C, Q), float64, without gradient; see `exact_curves`."""
        return _exact_curves(fields.detach(), self.name, self._outputs, self._levels)


_TEACHERS: WeakValueDictionary[str, Teacher] = WeakValueDictionary()
"""Those that are alive, by name."""


def exact_curves(metric: Metric, fields: Tensor) -> Tensor:
    """Exact curves (N, C, Q), float64, computed on the CPU and brought to the fields' device.

    Args:
        metric: the exact metric.
        fields: (N, H, W) or (N, 1, H, W), infinities of which count as the largest single numbers; of a
            pairwise metric pairs (N, 2, H, W).
    """
    fields = fields.detach()
    if fields.ndim == 4 and metric.arity == 1:
        fields = fields[:, 0]
    if fields.dtype != torch.float64:
        fields = fields.float()
    if metric.arity == 1:
        # Some metrics refuse infinities, where the loss of a step that diverges is to tell of them.
        fields = fields.nan_to_num(math.nan, _LARGEST, -_LARGEST)
    return torch.from_numpy(metric(*metric.parts(fields.cpu().numpy()))).to(fields.device)


@torch.library.custom_op("emuloss::exact_curves", mutates_args=())
def _exact_curves(fields: Tensor, name: str, outputs: int, levels: int) -> Tensor:
    if name not in _TEACHERS:
        raise ArgumentError(
            "this compiled or exported code has outlived its metric, or is of another process; make it anew"
        )
    return exact_curves(_TEACHERS[name].metric, fields)


@_exact_curves.register_fake
def _(fields, name, outputs, levels):
    return fields.new_empty((fields.shape[0], outputs, levels), dtype=torch.float64)


@_exact_curves.register_vmap
def _(info, dimensions, fields, name, outputs, levels):
    fields = fields.movedim(dimensions[0], 0)
    curves = _exact_curves(fields.flatten(0, 1), name, outputs, levels)
    return curves.unflatten(0, fields.shape[:2]), 0
