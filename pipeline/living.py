"""A live loss of any metric: a network that learns on observations at first, and then beside the model."""

from __future__ import annotations

import inspect
import math
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from ..datasets import FieldSource
from ..datasets.sources.predictions import predictions_of
from ..emulators import ARCHITECTURES, check_shape, default_architecture, found_scales
from ..emulators.differentiable import Trainable
from ..errors import ArgumentError, DataError, FieldError
from ..foundation.arguments import as_count, as_share, known_names
from ..foundation.bars import Bar, counted
from ..foundation.threads import usable_cores
from ..foundation.workers import Workers
from ..losses import Live, LiveLoss, Provenance, SurrogateLoss
from ..losses.live.labels import SHORT
from ..losses.live.options import as_live
from ..metrics import Metric, takes
from ..training import Learner, Training
from ..training.batches import Batches, loaders, prefetched
from ..training.descents import Descents
from ..zoo import Surrogate
from .labelling import opened
from .run import built, of_the_data
from .settings import Data, Network, Teacher
from .teacher import metric_of

_OBSERVED = 1024
"""Observed fields that a network begins with, at most; as many as it learns on, if those are fewer,"""
_FEWEST = 64
"""but so many tell how far values reach."""
_LABELLED = 16
"""Fields that are labelled between two looks at the bar."""
_TIMED, _AT_ONCE = 2, 32
"""Fields by which a function is timed, and fields that a step of learning has labelled."""
_SETTLED = 1 / 3
"""Share of the first lessons after which descents begin: before, a network knows next to nothing."""


@torch.inference_mode(False)
@torch.enable_grad()  # whatever the caller does without gradients
def live(
    metric: str | Metric | Callable[..., Any],
    fields: Any,
    *,
    budget: int = 6400,
    arch: str | None = None,
    live: Literal[True] | Live = True,
    descents: float = 0.0,
    seed: int = 0,
    progress: bool = True,
    **arguments: Any,
) -> LiveLoss:
    """A live loss of any metric, without a trained emulator: `loss(prediction, target)`, then `loss.learn()`.

        loss = emuloss.live("clusters", rain)           # rain: an array (T, H, W), or a source of fields
        loss = emuloss.live(my_function, rain)          # of a field, or of a prediction and an observation:
        loss = emuloss.live(my_score, rain, arity=2, lower_better=False)
        value = mse(prediction, target) + weight * loss(prediction, target)
        value.backward()
        optimizer.step()
        loss.learn()

    A network learns on observed fields at first, and on blurred, noisy and rescaled ones, all exactly
    labelled; then on the predictions that it is asked about, see `emuloss.losses.LiveLoss`.

    Args:
        metric: its name, a Python function of a field (or of a prediction and an observation), the place of
            one, or a `Metric`. Thresholds that it needs lie at quantiles of the fields, unless they are
            given.
        fields: observed, such as the targets of the training: an array (T, H, W) or an xarray DataArray in
            order of time, a `FieldSource`, or text for `emuloss.datasets.open_source`. NaN marks pixels that
            were not measured.
        budget: fields of its first lessons.
        arch: architecture of the network; default: hybrid.
        live: how it learns beside the model. Where it does not say whether labels are made in the
            `background`, the time that a call takes decides: those of functions in plain Python are, unless
            they take less than 1.5 ms a field.
        descents: share of its first lessons that it meets on descents of its own, exactly labelled; they
            make it a better guide where it is frozen afterwards, see `emuloss.training.Training`.
        seed: of the network and of its first lessons.
        progress: whether to show a progress bar on standard error.
        **arguments: of the metric, such as thresholds, bounds or arity, unless it is a `Metric`; and of
            `as_loss`.

    Returns:
        The loss, on the CPU; `loss.to(device)` moves it.

    Raises:
        ArgumentError: an argument that cannot be used, or an architecture without weights.
        DataError: fields that cannot be read, or that hold nothing.
    """
    as_count("budget", budget)
    as_share("descents", descents)
    how = as_live(live)
    if how is None:
        raise ArgumentError(
            "live must be True or an emuloss.losses.Live; of a frozen one, call emuloss.train"
        )
    if arch is not None:
        ARCHITECTURES[arch]  # an unknown one is refused before any field is read
    of_the_metric = () if isinstance(metric, Metric) else takes(metric)
    known = [*of_the_metric, *list(inspect.signature(SurrogateLoss).parameters)[1:]]
    for name in arguments:
        if name not in known:
            raise ArgumentError(f"live has no argument {name!r}; it takes {known_names(name, known)}")
    source, roles = opened(Data(fields=fields), seed)
    of_metric = {name: arguments.pop(name) for name in of_the_metric if name in arguments}
    asked = Teacher(metric=metric, metric_options=of_metric or None)
    teacher = metric_of(asked, source, roles, progress=progress)
    arch = arch or _with_weights(default_architecture(teacher))
    observed = _observed(source, roles)
    number = min(len(observed), max(budget, _FEWEST))
    observed = observed[np.linspace(0, len(observed) - 1, number).astype(int)]
    batch = _asked_about(teacher, observed, seed)
    curves = _labelled(teacher, batch, progress)
    teacher = teacher.with_found_scales(lambda: found_scales(curves))
    told = of_the_data(teacher, observed, source.quantum, arch)
    emulator = built(arch, teacher, Network(), seed, told)
    if not isinstance(emulator, Trainable):
        raise ArgumentError(f"architecture {arch!r} has no weights to learn with; take hybrid")
    check_shape(source.field_shape, emulator.stride)
    provenance = Provenance(unit=source.unit, field_shape=list(source.field_shape))
    # What the loss refuses is refused before anything is learnt: by one of a network that is like it.
    Surrogate(built(arch, teacher, Network(), seed, told), arch, provenance).as_loss(live=live, **arguments)
    options = Training(minutes=None, fields=budget, seed=seed, precision="float32", descents=descents)
    _taught(emulator, batch, curves, options, source.quantum, progress)
    provenance.training = {"source": source.config(), "fields": {"train": len(batch)}, "fields_seen": budget}
    if how.background is None and arguments.get("slopes") in (None, "surrogate"):
        how = replace(how, background=_is_slow(teacher, batch))
    return Surrogate(emulator, arch, provenance).as_loss(live=how, **arguments)


def _with_weights(arch: str) -> str:
    """That architecture, or hybrid where it has nothing to learn with."""
    return arch if "intensities" in ARCHITECTURES[arch].takes else "hybrid"


def _observed(source: FieldSource, roles: list[str]) -> np.ndarray:
    """Fields (N, H, W) of training chunks, spread over all of them, of which something was measured.

    Raises:
        DataError: there are none.
    """
    chunks = [k for k, role in enumerate(roles) if role == "train"]
    found: list[np.ndarray] = []
    order = np.random.default_rng(0).permutation(chunks)
    for k in order:
        fields = source.read(int(k), "train")
        found.append(fields[~np.isnan(fields).all((1, 2))])
        if sum(map(len, found)) >= _OBSERVED:
            break
    fields = np.concatenate(found)[:_OBSERVED].astype(np.float32)
    if not len(fields):
        raise DataError("no field holds a value that was measured: there is nothing to learn on")
    return fields


def _asked_about(metric: Metric, observed: np.ndarray, seed: int) -> np.ndarray:
    """Fields (N, H, W), or pairs (N, 2, H, W) of imagined predictions and what was observed."""
    if metric.arity == 1:
        return observed
    return np.stack([predictions_of(observed, np.random.default_rng(seed)), observed], 1)


def _is_slow(metric: Metric, batch: np.ndarray) -> bool:
    """Whether a metric can be called in other processes, and should be, since it takes long."""
    if metric.parallel != "processes":
        return False
    for field in batch[:_TIMED]:  # the first call may import something
        began = time.monotonic()
        metric(*metric.parts(field[None]))
        if (time.monotonic() - began) * _AT_ONCE < SHORT:
            return False
    return True


def _labelled(metric: Metric, batch: np.ndarray, progress: bool) -> np.ndarray:
    """Exact curves (N, C, Q); in processes where the metric is plain Python. Warns if all are the same."""
    apart = metric.parallel == "processes"
    labelling = Workers(metric, usable_cores(), f"metric {metric.title!r}") if apart else nullcontext(metric)
    parts = np.array_split(batch, math.ceil(len(batch) / _LABELLED))
    found: list[np.ndarray] = []
    with labelling as label:
        for part in counted(parts, "first labels", "batch", progress):
            try:
                found.append(label(*metric.parts(part)))
            except FieldError as error:
                raise FieldError(sum(map(len, found)) + error.index, error.reason) from error
    curves = np.concatenate(found)
    if len(curves) > 1 and (curves == curves[0]).all():
        warnings.warn(
            f"{metric.title} is the same for all {len(curves)} {'fields' if metric.arity == 1 else 'pairs'} "
            "of the first lessons: a network learns of it only where its values differ; "
            "are thresholds and outputs those that were meant?",
            stacklevel=5,
        )
    return curves


def _taught(
    emulator: Trainable,
    fields: np.ndarray,
    curves: np.ndarray,
    options: Training,
    quantum: float | None,
    progress: bool,
) -> None:
    """Let a network learn on labelled fields, in place, on the device of this process."""
    learner = Learner(emulator, options)
    learner.start(fields, curves)
    batches = Batches(emulator.metric, fields, curves, options, quantum, learner.team.part)
    steps = max(1, (options.fields or 0) // options.batch_size)
    descents = Descents(learner, fields, curves, options)
    bar = Bar(total=steps, desc="first lessons", unit="step", disable=not progress, leave=False)
    threads = loaders(learner.device, learner.team.world_size)
    with bar, descents, prefetched(batches.__getitem__, 0, threads) as coming:
        for k, (fields_of_step, curves_of_step) in zip(range(steps), coming, strict=False):
            if k >= _SETTLED * steps:
                descents.prepare(k)
            neighbours = descents.mixed(k, fields_of_step, curves_of_step)
            learner.learn(fields_of_step, curves_of_step, options.rate(k / steps), neighbours)
            bar.update()
    emulator.to("cpu")
