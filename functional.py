"""Functions beside the modules, as torch.nn.functional beside torch.nn: nothing to build first.

    from emuloss import functional

    functional.minkowski_distance(prediction, target, [0.1, 1, 5], pixel_size=2.0).backward()
    functional.fss_loss(prediction, target, [0.5, 2.0], windows=[1, 5])

Each calls the loss, score or surrogate that `emuloss.relax` gives of a metric with these arguments: built
when it is first asked for, and kept for the next call. What modules have beyond, such as annealing and live
learning, is to be had from the modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from .emulators.fields import check_tensor
from .emulators.relaxations import relaxation
from .foundation.docs import takes_those_of
from .losses import FrozenSurrogate, SurrogateLoss, SurrogateScore
from .losses.shapes import Channels
from .metrics import CSI, FSS, BoxCount, Metric, Minkowski, Spectrum

__all__ = [
    "boxcount_distance",
    "csi_loss",
    "curves",
    "distance",
    "energy_score",
    "fss_loss",
    "minkowski_distance",
    "spectrum_distance",
]

Built = TypeVar("Built")
_KEPT = 64
"""Modules that are kept for further calls."""


def curves(
    fields: Tensor,
    metric: Metric,
    observations: Tensor | None = None,
    *,
    temperature: float | None = None,
    forward: str = "soft",
) -> Tensor:
    """Curves of fields by the relaxation of a metric, differentiable: `emuloss.relax(metric)(fields)`.

    Args:
        fields: (N, H, W) or (N, 1, H, W), in the unit of the metric's thresholds; NaN where nothing was
            measured. Of a pairwise metric the predictions.
        metric: one that has a relaxation, see `emuloss.relax`.
        observations: of a pairwise metric alone, as fields.
        temperature: how soft it is, relative to the data, see `emuloss.relax`; default: 0.05.
        forward: "soft", or "exact": exact values with the gradient of the soft ones.

    Returns:
        Curves (N, C, Q), of the metric's C outputs at its Q thresholds, in its units.

    Raises:
        ArgumentError: another type or shape, or an argument out of range.
    """
    check_tensor("fields", fields)
    surrogate = _kept(_surrogate, metric, temperature, fields.device, forward)
    found: Tensor = surrogate(fields) if observations is None else surrogate(fields, observations)
    return found


def distance(
    prediction: Tensor,
    target: Tensor,
    metric: Metric,
    *,
    temperature: float | None = None,
    forward: str = "surrogate",
    weights: Mapping[str, float] | None = None,
    reduction: str = "mean",
    mask: Tensor | None = None,
    channels: Channels = None,
) -> Tensor:
    """How far a prediction is from its target by a metric: `emuloss.relax(metric).as_loss()` as a function.

    Args:
        prediction: (N, H, W), (N, 1, H, W) or (H, W), with `channels` (N, C, H, W), in the unit of the
            metric's thresholds.
        target: same shape; NaN where nothing was measured. It gets no gradient.
        metric: one that has a relaxation, see `emuloss.relax`; of one field or of two.
        temperature: how soft it is, relative to the data, see `emuloss.relax`; default: 0.05.
        forward: "surrogate", or "exact": exact values with the gradient of the soft ones.
        weights: weight of each output by name; an output left out weighs 1.
        reduction: "mean" or "sum" over fields, or "none".
        mask: same shape, or (H, W) of all fields, boolean, True where pixels were measured.
        channels: a name for each channel that is measured and None for the others, or "each"; see
            `emuloss.SurrogateLoss`.

    Returns:
        A scalar, or (N,) with reduction "none".

    Raises:
        ArgumentError: another type or shape, or an argument out of range.
    """
    check_tensor("prediction", prediction)
    given = (forward, _items(weights), reduction, _items(channels))
    loss = _kept(_loss, metric, temperature, prediction.device, *given)
    found: Tensor = loss(prediction, target, mask=mask)
    return found


@takes_those_of(distance, Minkowski)
def minkowski_distance(
    prediction: Tensor,
    target: Tensor,
    thresholds: Sequence[float],
    *,
    pixel_size: float | None = None,
    outputs: Sequence[str] = ("area", "perimeter", "euler"),
    boundary: str = "closed",
    connectivity: int = 1,
    levels: Sequence[float] | None = None,
    spacing: Sequence[float] | None = None,
    row_weights: Sequence[float] | None = None,
    persistence: float | str = 0.0,
    temperature: float | None = None,
    forward: str = "surrogate",
    weights: Mapping[str, float] | None = None,
    reduction: str = "mean",
    mask: Tensor | None = None,
    channels: Channels = None,
) -> Tensor:
    """Minkowski image distance (arXiv 2604.11422): of area, perimeter, Euler number, components and holes.

    Raises:
        ArgumentError: another type or shape, or an argument out of range.
    """
    metric = Minkowski(
        thresholds,
        pixel_size,
        outputs,
        boundary,
        connectivity,
        levels=levels,
        spacing=spacing,
        row_weights=row_weights,
        persistence=persistence,
    )
    return distance(
        prediction,
        target,
        metric,
        temperature=temperature,
        forward=forward,
        weights=weights,
        reduction=reduction,
        mask=mask,
        channels=channels,
    )


@takes_those_of(distance, BoxCount)
def boxcount_distance(
    prediction: Tensor,
    target: Tensor,
    thresholds: Sequence[float],
    *,
    scales: Sequence[int] = (1, 2, 4, 8, 16),
    outputs: Sequence[str] | None = None,
    temperature: float | None = None,
    forward: str = "surrogate",
    reduction: str = "mean",
    mask: Tensor | None = None,
    channels: Channels = None,
) -> Tensor:
    """Distance between box counts of excursion sets, from scale to scale.

    Raises:
        ArgumentError: another type or shape, or an argument out of range.
    """
    metric = BoxCount(thresholds, scales, outputs)
    return distance(
        prediction,
        target,
        metric,
        temperature=temperature,
        forward=forward,
        reduction=reduction,
        mask=mask,
        channels=channels,
    )


@takes_those_of(distance, Spectrum)
def spectrum_distance(
    prediction: Tensor,
    target: Tensor,
    *,
    bins: int = 32,
    floor: float = 1e-6,
    outputs: Sequence[str] = ("power",),
    reduction: str = "mean",
    mask: Tensor | None = None,
    channels: Channels = None,
) -> Tensor:
    """Distance between radially averaged power spectra.

    Raises:
        ArgumentError: another type or shape, or an argument out of range.
    """
    metric = Spectrum(bins, floor, outputs=outputs)
    return distance(prediction, target, metric, reduction=reduction, mask=mask, channels=channels)


@takes_those_of(distance, FSS)
def fss_loss(
    prediction: Tensor,
    target: Tensor,
    thresholds: Sequence[float] | None = None,
    *,
    windows: Sequence[int] = (1, 5, 17),
    percentiles: Sequence[float] | None = None,
    temperature: float | None = None,
    forward: str = "surrogate",
    reduction: str = "mean",
    mask: Tensor | None = None,
    channels: Channels = None,
) -> Tensor:
    """1 - FSS, the mean over windows and thresholds: 0 is best, so that it can be minimised as it is.

    Raises:
        ArgumentError: another type or shape, or an argument out of range.
    """
    return distance(
        prediction,
        target,
        FSS(thresholds, windows, percentiles=percentiles),
        temperature=temperature,
        forward=forward,
        reduction=reduction,
        mask=mask,
        channels=channels,
    )


@takes_those_of(distance, CSI)
def csi_loss(
    prediction: Tensor,
    target: Tensor,
    thresholds: Sequence[float],
    *,
    outputs: Sequence[str] = ("csi",),
    temperature: float | None = None,
    forward: str = "surrogate",
    reduction: str = "mean",
    mask: Tensor | None = None,
    channels: Channels = None,
) -> Tensor:
    """1 - CSI, the mean over thresholds: 0 is best, so that it can be minimised as it is; likewise of POD.

    Raises:
        ArgumentError: another type or shape, or an argument out of range.
    """
    return distance(
        prediction,
        target,
        CSI(thresholds, outputs),
        temperature=temperature,
        forward=forward,
        reduction=reduction,
        mask=mask,
        channels=channels,
    )


@takes_those_of(distance, SurrogateScore, SurrogateScore.forward)
def energy_score(
    members: Tensor,
    target: Tensor,
    metric: Metric,
    *,
    estimator: str = "almost-fair",
    alpha: float | None = None,
    temperature: float | None = None,
    forward: str = "surrogate",
    weights: Mapping[str, float] | None = None,
    reduction: str = "mean",
    mask: Tensor | None = None,
    channels: Channels = None,
) -> Tensor:
    """Energy score of an ensemble's curves: `emuloss.relax(metric).as_score()` as a function.

    See `emuloss.SurrogateScore` for the score, and for what makes it proper.

    Raises:
        ArgumentError: another type or shape, or an argument out of range.
    """
    check_tensor("members", members)
    given = (estimator, alpha, forward, _items(weights), reduction, _items(channels))
    score = _kept(_score, metric, temperature, members.device, *given)
    found: Tensor = score(members, target, mask=mask)
    return found


def _kept(build: Callable[..., Built], metric: Metric, *key: Any) -> Built:
    """What is built of a metric and further arguments: that of an earlier call where all were the same."""
    try:
        hash(key)
    except TypeError:  # what has no hash is no argument, which what is built says
        return build(metric, *key)
    found: Built = _memory(build, metric, *key)
    return found


@lru_cache(maxsize=_KEPT)
@torch.inference_mode(False)
def _memory(build: Callable[..., Any], *key: Any) -> Any:
    return build(*key)


def _surrogate(
    metric: Metric, temperature: float | None, device: torch.device, forward: str = "soft"
) -> FrozenSurrogate:
    given = {} if temperature is None else {"temperature": temperature}
    return FrozenSurrogate(relaxation(metric, forward=forward, **given), "relaxed").to(device)


def _loss(
    metric: Metric,
    temperature: float | None,
    device: torch.device,
    forward: str,
    weights: Any,
    reduction: str,
    channels: Any,
) -> SurrogateLoss:
    weights = dict(weights) if isinstance(weights, tuple) else weights
    return _surrogate(metric, temperature, device).as_loss(
        forward=forward, weights=weights, reduction=reduction, channels=channels
    )


def _score(
    metric: Metric,
    temperature: float | None,
    device: torch.device,
    estimator: str,
    alpha: float | None,
    forward: str,
    weights: Any,
    reduction: str,
    channels: Any,
) -> SurrogateScore:
    weights = dict(weights) if isinstance(weights, tuple) else weights
    return _surrogate(metric, temperature, device).as_score(
        estimator=estimator,
        alpha=alpha,
        forward=forward,
        weights=weights,
        reduction=reduction,
        channels=channels,
    )


def _items(given: Any) -> Any:
    """A dictionary or list as what has a hash; all else as it is."""
    if isinstance(given, Mapping):
        return tuple(given.items())
    return tuple(given) if isinstance(given, list) else given
