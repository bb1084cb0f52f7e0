"""What starts and joins components: by kernels on CUDA devices, elsewhere by one on the CPU.

Triton's kernels know no edges that adjoin: of such fields on CUDA devices torch's operations find it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...metrics.kernels.excursions import component_changes as by_kernel
from ...metrics.kernels.merge_tree import lasting_components, lasting_holes
from .backend import compiles_for
from .spanning_forest import component_changes as by_spanning_forest

_LARGEST = 2**28
"""Pixels of a field from which on the edges between them have no 32-bit numbers."""


@torch.library.custom_op("emuloss::component_changes", mutates_args=())
def component_changes(
    position: Tensor, diagonal: bool, wraps_rows: bool = False, wraps_columns: bool = False
) -> Tensor:
    """Components that start less those that join at each pixel, (N, H, W); see `Backend.changes`."""
    return _by_host(position, diagonal, wraps_rows, wraps_columns)


def _by_host(position: Tensor, diagonal: bool, wraps_rows: bool, wraps_columns: bool) -> Tensor:
    """The same, by the CPU wherever the fields are."""
    fields = position.detach().cpu().contiguous().numpy()
    return torch.from_numpy(by_kernel(fields, diagonal, (wraps_rows, wraps_columns))).to(position)


@component_changes.register_kernel("cuda")
def _(position, diagonal, wraps_rows=False, wraps_columns=False):
    if wraps_rows or wraps_columns:
        return by_spanning_forest(position, diagonal, (wraps_rows, wraps_columns))
    if not compiles_for(position.device) or position.shape[1] * position.shape[2] >= _LARGEST:
        return _by_host(position, diagonal, False, False)
    from .cuda_components import component_changes as by_triton

    return by_triton(position, diagonal)


@component_changes.register_fake
def _(position, diagonal, wraps_rows=False, wraps_columns=False):
    return position.new_empty(position.shape)


@component_changes.register_vmap
def _(info, dimensions, position, diagonal, wraps_rows=False, wraps_columns=False):
    position = position.movedim(dimensions[0], 0)
    found = component_changes(position.flatten(0, 1), diagonal, wraps_rows, wraps_columns)
    return found.view_as(position), 0


@torch.library.custom_op("emuloss::lasting_changes", mutates_args=())
def lasting_changes(
    fields: Tensor,
    persistence: float,
    relative: bool,
    diagonal: bool,
    wraps_rows: bool,
    wraps_columns: bool,
    holes: bool,
) -> Tensor:
    """What pixels (N, H, W) add to lasting components, or holes, by the CPU; see `kernels.merge_tree`."""
    values = fields.detach().double().cpu().contiguous().numpy()
    if holes:
        return torch.from_numpy(lasting_holes(values, persistence, relative, diagonal)).to(fields)
    wraps = (wraps_rows, wraps_columns)
    found = lasting_components(values, persistence, relative, diagonal, wraps)
    return torch.from_numpy(found).to(fields)


@lasting_changes.register_fake
def _(fields, persistence, relative, diagonal, wraps_rows, wraps_columns, holes):
    return fields.new_empty(fields.shape)


@lasting_changes.register_vmap
def _(info, dimensions, fields, *rule):
    fields = fields.movedim(dimensions[0], 0)
    return lasting_changes(fields.flatten(0, 1), *rule).view_as(fields), 0
