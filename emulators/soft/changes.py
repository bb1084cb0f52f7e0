"""What starts and joins components, by a numba kernel on the CPU, wherever the fields are."""

from __future__ import annotations

import torch
from torch import Tensor

from ...metrics.kernels.excursions import component_changes as by_kernel


@torch.library.custom_op("emuloss::component_changes", mutates_args=())
def component_changes(position: Tensor, diagonal: bool) -> Tensor:
    """Components that start less those that join at each pixel, (N, H, W); computed on the CPU."""
    fields = position.detach().cpu().contiguous().numpy()
    return torch.from_numpy(by_kernel(fields, diagonal)).to(position)


@component_changes.register_fake
def _(position, diagonal):
    return position.new_empty(position.shape)


@component_changes.register_vmap
def _(info, dimensions, position, diagonal):
    position = position.movedim(dimensions[0], 0)
    return component_changes(position.flatten(0, 1), diagonal).view_as(position), 0
