"""Pictures of predictions and targets: matplotlib axes in, axes out.

    emuloss.plot.curves(prediction, target, metric)
    emuloss.plot.fields({"prediction": prediction, "target": target}, metric)
    emuloss.plot.gradient(loss, prediction, target)

What is told by colour is told by a mark or a line, too, and colours can be told apart by the colour-blind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import SubFigure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .emulators.spaces import Values
from .errors import ArgumentError
from .evaluation.axes import (
    COLOURS,
    colour_bar,
    field_colours,
    framed,
    threshold_axis,
    value_axis,
    with_unit,
)
from .foundation.arguments import as_array, as_natural
from .foundation.limits import shown
from .losses.loss import SurrogateLoss
from .metrics import Metric

__all__ = ["curves", "fields", "gradient"]

Shown = Tensor | ArrayLike
_SIDE = 3.0
"""Of a panel that is made here, in inches."""
_STYLES = (("-", "o"), ("--", "s"))
"""Lines and marks of predictions and targets."""
_FAINTEST = 0.01
"""Share of the largest gradient below which colours are linear."""
_BAND = (0.05, 0.95)
"""Quantiles over fields between which a band is drawn."""


def curves(
    prediction: Shown,
    target: Shown,
    metric: Metric,
    axes: Axes | Sequence[Axes] | None = None,
    *,
    unit: str = "",
) -> list[Axes]:
    """Exact curves of predictions and targets over the thresholds, a panel for each output.

    Lines are means over fields; where there are several, a band has nine tenths of them. Of a pairwise metric
    the scores of pairs.

    Args:
        prediction: (N, H, W), (N, 1, H, W) or (H, W), a tensor or an array.
        target: the same shape.
        metric: the exact metric, such as `surrogate.metric`.
        axes: one for each output; default: those of a new figure.
        unit: of the fields.

    Returns:
        The axes.

    Raises:
        ArgumentError: other shapes, no metric, or as many axes as do not fit.
    """
    given = {"prediction": _batch("prediction", prediction), "target": _batch("target", target)}
    _check_alike(given)
    if not isinstance(metric, Metric):
        raise ArgumentError(
            f"metric must be an emuloss.Metric, such as surrogate.metric, got {shown(metric)}"
        )
    lines = (
        {metric.title: metric(*given.values())}
        if metric.arity == 2
        else {k: metric(x) for k, x in given.items()}
    )
    panels = _panels(axes, len(metric.outputs))
    along = metric.thresholds or metric.levels
    for c, panel in enumerate(panels):
        for (name, found), (line, mark), colour in zip(lines.items(), _STYLES, COLOURS, strict=False):
            values = found[:, c]
            if len(values) > 1:
                low, high = np.nanquantile(values, _BAND, axis=0)
                panel.fill_between(along, low, high, color=colour, alpha=0.2, lw=0)
            panel.plot(along, np.nanmean(values, axis=0), line, marker=mark, ms=3.5, color=colour, label=name)
        threshold_axis(panel, metric, unit, panel.get_window_extent().width / cast(Any, panel.figure).dpi)
        value_axis(panel, np.concatenate([found[:, c] for found in lines.values()]), metric.scales[c])
        panel.set_title(with_unit(metric.outputs[c], metric.units[c]))
    panels[0].legend()
    return panels


def fields(
    named: Mapping[str, Shown],
    metric: Metric | None = None,
    axes: Axes | Sequence[Axes] | None = None,
    *,
    index: int = 0,
    unit: str = "",
) -> list[Axes]:
    """A field of each batch side by side, in the same colours, grey where nothing was measured.

    Args:
        named: (N, H, W), (N, 1, H, W) or (H, W) by what it is: {"prediction": x, "target": y}.
        metric: below whose lowest threshold pixels are white, where the fields have a dry value.
        axes: one for each; default: those of a new figure.
        index: which field of the batches.
        unit: of the fields.

    Returns:
        The axes.

    Raises:
        ArgumentError: other shapes, an index beyond, or as many axes as do not fit.
    """
    if not isinstance(named, Mapping) or not named:
        raise ArgumentError(f'fields takes a dictionary such as {{"prediction": x}}, got {shown(named)}')
    given = {name: _picked(name, _batch(name, field), index) for name, field in named.items()}
    panels = _panels(axes, len(given))
    both = np.concatenate([field.ravel() for field in given.values()])
    values = Values.of(both)
    lowest = next(iter(metric.thresholds), None) if metric is not None else None
    if np.isnan(both).all():
        raise ArgumentError("fields must have measured pixels, got NaN alone")
    colours, scale = field_colours(lowest, values, both)
    for panel, (name, field) in zip(panels, given.items(), strict=True):
        image = panel.imshow(field, cmap=colours, norm=scale, interpolation="nearest")
        framed(panel)
        panel.set_title(name)
    colour_bar(cast(SubFigure, panels[0].figure), image, panels, with_unit("value", unit), values.dry)
    return panels


def gradient(
    loss: SurrogateLoss,
    prediction: Shown,
    target: Shown,
    axes: Axes | None = None,
    *,
    index: int = 0,
) -> Axes:
    """Where a loss wants pixels to fall (red) and to rise (blue): its gradient, on a log scale.

    Args:
        loss: any loss `loss(prediction, target)` that returns one number.
        prediction: (N, H, W), (N, 1, H, W) or (H, W), a tensor or an array.
        target: the same shape.
        axes: default: those of a new figure.
        index: which field of the batch.

    Returns:
        The axes.

    Raises:
        ArgumentError: other shapes, or an index beyond.
    """
    given = {"prediction": _batch("prediction", prediction), "target": _batch("target", target)}
    _check_alike(given)
    x, y = (torch.from_numpy(np.ascontiguousarray(field)).float() for field in given.values())
    with torch.enable_grad():
        x.requires_grad_()
        (found,) = torch.autograd.grad(loss(x, y), x)
    field = _picked("prediction", found.numpy(), index)
    largest = float(np.abs(field).max())
    (panel,) = _panels(axes, 1)
    # Gradients of counts are large at few pixels: a linear scale would show these alone.
    scale = SymLogNorm(_FAINTEST, vmin=-1, vmax=1)
    image = panel.imshow(field / (largest or 1.0), cmap="RdBu_r", norm=scale, interpolation="nearest")
    framed(panel)
    panel.set_title(f"gradient, relative to {largest:.2g}")
    bar = cast(Any, panel.figure).colorbar(image, ax=panel, aspect=28, pad=0.015)
    bar.set_label("falls: red, rises: blue")
    return panel


def _batch(name: str, field: Any) -> NDArray[Any]:
    """Fields (N, H, W) of a tensor or an array."""
    array = as_array(name, field.detach().cpu().double().numpy() if isinstance(field, Tensor) else field)
    array = (
        array[None] if array.ndim == 2 else array[:, 0] if array.ndim == 4 and array.shape[1] == 1 else array
    )
    if array.ndim != 3 or 0 in array.shape:
        raise ArgumentError(
            f"{name} must have shape (N, H, W), (N, 1, H, W) or (H, W), got {np.shape(field)}; pick a channel"
        )
    return array


def _check_alike(given: Mapping[str, NDArray[Any]]) -> None:
    """Raise ArgumentError for a target of another shape than the prediction."""
    prediction, target = given.values()
    if prediction.shape != target.shape:
        raise ArgumentError(f"target must have the prediction's shape {prediction.shape}, got {target.shape}")


def _picked(name: str, batch: NDArray[Any], index: int) -> NDArray[Any]:
    if as_natural("index", index) >= len(batch):
        raise ArgumentError(f"index must be below the {len(batch)} fields of {name}, got {index}")
    picked: NDArray[Any] = batch[index]
    return picked


def _panels(axes: Axes | Sequence[Axes] | None, count: int) -> list[Axes]:
    """So many axes: those that are given, or new ones."""
    if axes is None:
        size = (1.2 * _SIDE * count, _SIDE)
        _, made = plt.subplots(1, count, figsize=size, squeeze=False, layout="constrained")
        return list(made[0])
    found = list(np.atleast_1d(np.asarray(axes, dtype=object)).ravel())
    if len(found) != count or not all(isinstance(each, Axes) for each in found):
        raise ArgumentError(f"axes must be {count} matplotlib axes, got {len(found)}")
    return found
