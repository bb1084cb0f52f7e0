"""The whole evaluation of a surrogate on labelled fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from ..emulators.loss import SurrogateLoss
from ..errors import ArgumentError
from ..metrics import Metric
from .descent import BAR_DELAY, Descent, descent
from .fidelity import fidelity
from .timing import device_of, milliseconds_per_field


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        figures: JSON-able: "fidelity" (see `fidelity`), "timing" (see `milliseconds_per_field`,
            and the "device"), "descent" (see `Descent`), and "field_unit".
        emulated: (N, C, Q), the surrogate's curves of the fields.
        descent: the fields that were descended, before and after.
    """

    figures: dict[str, Any]
    emulated: NDArray[np.float64]
    descent: Descent


def evaluate(
    surrogate: nn.Module,
    fields: NDArray[Any],
    curves: NDArray[Any],
    *,
    batch_size: int = 64,
    descent_fields: int = 4,
    descent_steps: int = 200,
    field_unit: str = "",
    progress: bool = True,
) -> Evaluation:
    """Measure a surrogate: fidelity, broken constraints, time, and descent from blurred fields.

    Nothing is random, and the surrogate is left as it was.

    Args:
        surrogate: maps fields (N, H, W) to curves (N, C, Q), differentiable; has the attribute
            `metric`. It runs on the device where it is, in evaluation mode.
        fields: (N, H, W), physical units; NaN marks pixels that were not measured.
        curves: (N, C, Q), their exact curves.
        batch_size: fields that the surrogate sees at a time.
        descent_fields: how many of the fuller fields are descended (all, where there are fewer).
        descent_steps: gradient steps each.
        field_unit: name of the fields' unit, for tables and pictures.
        progress: show bars for what takes longer than a few seconds.

    Returns:
        Figures, and the arrays that pictures need.

    Raises:
        ArgumentError: arguments that do not fit one another or are out of range.
    """
    metric = surrogate.metric
    if not isinstance(metric, Metric):
        raise ArgumentError(f"surrogate.metric must be an exact metric, got {type(metric).__name__}")
    fields, curves = np.asarray(fields), np.asarray(curves)
    if fields.ndim != 3 or len(fields) == 0 or len(fields) != len(curves):
        raise ArgumentError(
            f"fields (N, H, W) and curves (N, C, Q) must come in equal, positive number, "
            f"got {fields.shape} and {curves.shape}"
        )
    for name, value in (("batch_size", batch_size), ("descent_fields", descent_fields)):
        if value < 1:
            raise ArgumentError(f"{name} must be at least 1, got {value}")
    training = surrogate.training
    surrogate.eval()
    try:
        emulated = _emulate(surrogate, fields, batch_size, progress)
        found = fidelity(metric, curves, emulated, fields.shape[1:])
        timing = milliseconds_per_field(surrogate, fields)
        picks = _fuller(metric, fields, descent_fields)
        descended = descent(
            SurrogateLoss(surrogate), metric, fields[picks], steps=descent_steps, progress=progress
        )
    finally:
        surrogate.train(training)
    figures = {
        "fidelity": found,
        "timing": {**timing, "device": _device_name(device_of(surrogate))},
        "descent": descended.figures,
        "field_unit": field_unit,
    }
    return Evaluation(figures, emulated, descended)


def fullness(metric: Metric, fields: NDArray[Any]) -> NDArray[np.float64]:
    """Share of each field's pixels that reach the lowest threshold, (N,); NaN does not."""
    return (fields >= metric.thresholds[0]).mean((1, 2))


def _fuller(metric: Metric, fields: NDArray[Any], count: int) -> NDArray[np.intp]:
    """Indices of fields spread over the fullest quarter."""
    order = np.argsort(-fullness(metric, fields), kind="stable")
    quarter = max(len(order) // 4, min(count, len(order)))
    return order[np.unique(np.linspace(0, quarter - 1, count).round().astype(int))]


def _emulate(
    surrogate: nn.Module, fields: NDArray[Any], batch_size: int, progress: bool
) -> NDArray[np.float64]:
    device = device_of(surrogate)
    starts = range(0, len(fields), batch_size)
    parts = []
    with torch.no_grad():
        for i in tqdm(starts, "emulate", unit="batch", delay=BAR_DELAY, disable=not progress, leave=False):
            batch = torch.from_numpy(np.asarray(fields[i : i + batch_size], np.float32)).to(device)
            parts.append(surrogate(batch).double().cpu().numpy())
    return np.concatenate(parts)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"
