"""The whole evaluation of a surrogate on labelled fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..emulators.certificates import certify
from ..emulators.loss import loss_of
from ..errors import ArgumentError
from ..metrics import Metric
from .classes import fidelity_by_class, fullness
from .descent import STARTS, Descent, descent
from .emulate import emulate
from .fidelity import fidelity
from .gradients import GradientQuality, gradient_quality, gradient_sizes
from .inversion import Inversion, inversion
from .shift import shift
from .slopes import largest_slope
from .timing import milliseconds_per_field

_SIZED = 64
"""Most fields whose gradients are sized."""
_INVERTED = 2
"""Most real fields whose curves are inverted."""
_SEARCHED, _SEARCH_STEPS = 2, 30
"""Fields from which steep places are searched, and steps of the search."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        figures: JSON-able: "fidelity" (see `fidelity`), "classes" (see `fidelity_by_class`),
            "timing" (see `milliseconds_per_field`), "gradients" (see
            `GradientQuality`, and "sizes", see `gradient_sizes`), "descent" from blurred fields and
            "descent_noisy" (see `Descent`), "certificate" (the global Lipschitz "bound", None where there
            is none, and then the "reason"; the "largest_slope" found), and "field_unit"; of a thorough
            evaluation also "inversion" (see `Inversion`) and "shift" (see `shift`).
        emulated: (N, C, Q), the surrogate's curves of the fields.
        descent: the fields that were descended from their blur, before and after.
        descent_noisy: the same fields, descended from noise on them.
        gradients: the surrogate's gradients beside exact ones.
        inversion: what noise became, in a thorough evaluation.
    """

    figures: dict[str, Any]
    emulated: NDArray[np.float64]
    descent: Descent
    descent_noisy: Descent
    gradients: GradientQuality
    inversion: Inversion | None = None


def evaluate(
    surrogate: nn.Module,
    fields: NDArray[Any],
    curves: NDArray[Any],
    *,
    batch_size: int = 64,
    descent_fields: int = 4,
    descent_steps: int = 200,
    thorough: bool = False,
    field_unit: str = "",
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Measure a surrogate: fidelity, broken constraints, time, gradients, and descent.

    The surrogate is left as it was, and all but the time is the same in every run.

    Args:
        surrogate: maps fields (N, H, W) to curves (N, C, Q), differentiable; has the attribute
            `metric`. It runs on the device where it is, in evaluation mode.
        fields: (N, H, W), physical units; NaN marks pixels that were not measured. Of a pairwise metric
            pairs (N, 2, H, W) of prediction and observation: descents then go from spoilt observations
            to the observations.
        curves: (N, C, Q), their exact curves.
        batch_size: fields that the surrogate sees at a time.
        descent_fields: how many of the fuller fields are descended (all, where there are fewer);
            exact gradients are taken at the same.
        descent_steps: gradient steps each.
        thorough: invert the surrogate and shift the data, too; this takes a minute or more. Storms to
            invert to are drawn from thresholds, and neither is done for pairs.
        field_unit: name of the fields' unit, for tables and pictures.
        seed: of all noise.
        progress: show bars for what takes longer than a few seconds.

    Returns:
        Figures, and the arrays that pictures need.

    Raises:
        ArgumentError: arguments that do not fit one another or are out of range, or a surrogate
            whose curves or gradients are not finite.
    """
    metric = surrogate.metric
    if not isinstance(metric, Metric):
        raise ArgumentError(f"surrogate.metric must be an exact metric, got {type(metric).__name__}")
    fields, curves = np.asarray(fields), np.asarray(curves)
    axes = 3 if metric.arity == 1 else 4
    if fields.ndim != axes or len(fields) == 0 or len(fields) != len(curves):
        wanted = "fields (N, H, W)" if metric.arity == 1 else "pairs (N, 2, H, W)"
        raise ArgumentError(
            f"{wanted} and curves (N, C, Q) must come in equal, positive number, "
            f"got {fields.shape} and {curves.shape}"
        )
    for name, value in (("batch_size", batch_size), ("descent_fields", descent_fields)):
        if value < 1:
            raise ArgumentError(f"{name} must be at least 1, got {value}")
    training = surrogate.training
    surrogate.eval()
    try:
        emulated = emulate(surrogate, fields, batch_size=batch_size, progress=progress)
        truth = fields if metric.arity == 1 else fields[:, 1]
        shape = (int(fields.shape[-2]), int(fields.shape[-1]))
        fuller = truth[_fuller(metric, fields, curves, descent_fields)]
        loss = loss_of(surrogate)
        descents = {
            start: descent(
                loss, metric, fuller, start=start, steps=descent_steps, seed=seed, progress=progress
            )
            for start in STARTS
        }
        if metric.parallel == "processes":  # too slow for a derivative along every tile of many fields
            gradients = gradient_quality(
                surrogate, metric, fuller[:1], tile=max(shape) // 2, perturbations=2, seed=seed
            )
        else:
            gradients = gradient_quality(surrogate, metric, fuller, seed=seed)
        figures = {
            "fidelity": fidelity(metric, curves, emulated, shape),
            "classes": fidelity_by_class(metric, fields, curves, emulated),
            "timing": milliseconds_per_field(surrogate, fields),
            "gradients": {
                **gradients.figures,
                "sizes": gradient_sizes(
                    surrogate, truth[_fuller(metric, fields, curves, _SIZED)], batch_size=batch_size
                ),
            },
            "descent": descents["blurred"].figures,
            "descent_noisy": descents["noisy"].figures,
            "certificate": _certificate(surrogate, fields, seed),
            "field_unit": field_unit,
        }
        inverted = None
        if thorough and metric.arity == 1 and metric.thresholds:
            inverted = inversion(surrogate, metric, fuller[:_INVERTED], seed=seed, progress=progress)
            figures["inversion"] = inverted.figures
        if thorough and metric.arity == 1:
            figures["shift"] = shift(
                surrogate, metric, fields, seed=seed, batch_size=batch_size, progress=progress
            )
    finally:
        surrogate.train(training)
    return Evaluation(figures, emulated, descents["blurred"], descents["noisy"], gradients, inverted)


def _certificate(surrogate: nn.Module, fields: NDArray[Any], seed: int) -> dict[str, Any]:
    """The sound bound of the Lipschitz constant, and a slope that a short search found."""
    certificate = certify(surrogate, (int(fields.shape[-2]), int(fields.shape[-1])))
    picks = np.unique(np.linspace(0, len(fields) - 1, _SEARCHED).round().astype(int))
    slope = largest_slope(surrogate, fields[picks], steps=_SEARCH_STEPS, seed=seed)
    return {"bound": certificate.bound, "reason": certificate.reason, "largest_slope": slope}


def _fuller(metric: Metric, fields: NDArray[Any], curves: NDArray[Any], count: int) -> NDArray[np.intp]:
    """Indices of fields spread over the fullest quarter.

    Where a metric of one field has no thresholds, those are the fullest whose values are the furthest from
    those of a field of zeros.
    """
    if metric.arity == 1 and not metric.thresholds:
        empty = metric(np.zeros((1, *fields.shape[1:]), fields.dtype))
        full = np.abs((curves - empty) / np.array(metric.scales)[:, None]).sum((1, 2))
    else:
        full = fullness(metric, fields)
    order = np.argsort(-full, kind="stable")
    quarter = max(len(order) // 4, min(count, len(order)))
    return order[np.unique(np.linspace(0, quarter - 1, count).round().astype(int))]
