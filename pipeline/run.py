"""A whole run: labels, emulator, training, freezing, evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import LabelledFields
from ..emulators import (
    ARCHITECTURES,
    check_shape,
    default_architecture,
    found_scales,
    lesser_spreads,
    spreads_in,
)
from ..emulators.differentiable import Differentiable, Trainable
from ..emulators.drawing import neutral
from ..errors import ArgumentError, EmulossError, one_line
from ..foundation.files import sweep
from ..foundation.interrupts import ENDED, interrupts_deferred, interrupts_ignored, terminations_raised
from ..foundation.launched import processes
from ..foundation.locks import one_writer
from ..foundation.options import flat
from ..losses import Provenance
from ..metrics import Metric, quantile_thresholds
from ..training import Trainer, Training
from ..training.state import LOG
from ..zoo import Surrogate
from .labelling import labelled, labels_path, opened, refuse_what_teaches_nothing
from .measuring import measured, write_evaluation
from .places import as_writable
from .rehearsal import rehearse
from .saying import say
from .settings import Data, Labelling, Network, Run, Teacher
from .teacher import metric_of

_SAMPLED_FIELDS = 512
"""Training fields whose quantiles stand for the thresholds of a metric that has none."""
_INTENSITIES = (0.1, 0.5, 0.8, 0.92, 0.97, 0.99, 0.997)
"""Their levels, close together where values are large: metrics that look at peaks are learnt the latest."""


@flat(Data, Teacher, Network, Training, Run)
@terminations_raised()
def train(data: Data, teacher: Teacher, network: Network, training: Training, run: Run) -> Surrogate:
    """Label fields with an exact metric, train an emulator, evaluate it, and freeze it as a loss.

        surrogate = emuloss.train(fields="rain", metric="clusters", minutes=3, out="runs/first")
        loss = surrogate.as_loss()

    Fields may also be an array (T, H, W) in order of time, an xarray DataArray or a `FieldSource`; the
    metric a `Metric` or a Python function of a field. The folder `out` then holds config.json and
    model.safetensors, for `emuloss.load(out)`; report.png, evaluation.json, log.csv, labels.h5, and the
    state from which an interrupted run goes on.

    Returns:
        The frozen surrogate, with its evaluation. Of several processes that `accelerate launch` started, the
        main one alone evaluates.

    Raises:
        ArgumentError: an option that cannot be used, or a folder that holds another run.
        DataError: fields that cannot be read, or from which nothing can be learnt; a folder to which another
            process writes.
        SystemExit: SIGTERM or SIGHUP, which batch systems send; what was done is kept, as after Ctrl-C.
    """
    if network.arch is not None:
        ARCHITECTURES[network.arch]  # an unknown one is refused before any field is read
    team = processes()
    if not team.main:
        interrupts_ignored()  # the main process hears them, and tells the others
    with team.together(), contextlib.ExitStack() as held:
        source, roles = opened(data, training.seed)
        if "test" not in roles:
            raise ArgumentError(
                f"test_chunks (={data.test_chunks}) must be at least 1: the surrogate is evaluated on them"
            )
        metric = metric_of(teacher, source, roles, progress=run.progress)
        arch = network.arch or default_architecture(metric)
        emulator = built(arch, metric, network, training.seed)
        check_shape(source.field_shape, emulator.stride)
        provenance = Provenance(unit=source.unit, field_shape=list(source.field_shape), license=run.license)
        rehearse(emulator, arch, source, roles, training, provenance)
        as_writable(run.out)
        if team.main and held.enter_context(one_writer(run.out)):
            sweep(run.out)
        labelling = Labelling(labels_path(run.out), training.seed, progress=run.progress)
        store = team.of_main(lambda: labelled(source, roles, metric, data, labelling))
        refuse_what_teaches_nothing(store, metric, data)
        # Built anew with what the labels tell: the size of a function's values, what stands for thresholds.
        metric = metric.with_found_scales(lambda: found_scales(store.split("train")[1]))
        told = of_the_data(metric, store.split("train")[0], store.quantum, arch)
        emulator = built(arch, metric, network, training.seed, told)
        provenance.training = {"source": store.source_config, "fields": store.counts}
        if isinstance(emulator, Trainable):
            provenance.training |= trained(emulator, arch, store, training, run, provenance)
        else:
            say(f"{arch} has nothing to train: of the training, its time alone limits the evaluation")
        surrogate = Surrogate(emulator, arch, provenance)
        if team.main:
            log = run.out / LOG
            logged = isinstance(emulator, Trainable) and log.is_file()  # none where it never validated
            seconds = None if training.minutes is None else 60 * training.minutes
            evaluated(surrogate, *store.split("test"), run, log if logged else None, seconds)
        return surrogate


def built(
    arch: str,
    metric: Metric,
    network: Network,
    seed: int,
    of_the_data: Mapping[str, tuple[float, ...]] | None = None,
) -> Differentiable:
    """The untrained emulator of an architecture, with the options that are given.

    Args:
        arch: the architecture's name.
        metric: the exact metric.
        network: the options.
        seed: of the weights.
        of_the_data: arguments that the data tell, for architectures that take them; None: not known yet.

    Raises:
        ArgumentError: an option that the architecture does not take.
    """
    architecture = ARCHITECTURES[arch]
    options = architecture.given(arch, network.options)
    if of_the_data is None:
        of_the_data = {"spreads": (1.0,) * len(metric.thresholds)} if metric.thresholds else {}
    for name in architecture.told_by_data(metric):
        if name in of_the_data:
            options.setdefault(name, of_the_data[name])
    for name in architecture.told_by_metric:
        options.setdefault(name, getattr(metric, name))
    try:
        with neutral(seed):
            return architecture(metric, **options)
    except EmulossError:
        raise
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise ArgumentError(
            f"architecture {arch!r} cannot be built: {one_line(error)}; check its arguments"
        ) from error


def trained(
    emulator: Trainable,
    arch: str,
    store: LabelledFields,
    training: Training,
    run: Run,
    provenance: Provenance,
) -> dict[str, Any]:
    """Train an emulator in place; what is best so far is frozen where it is interrupted.

    Returns:
        Facts about the training.
    """
    trainer = Trainer(
        emulator,
        store.split("train"),
        store.split("validation"),
        training,
        run.out,
        quantum=store.quantum,
        progress=run.progress,
    )
    count, device = trainer.team.world_size, trainer.team.device
    where = str(device) if count == 1 else f"{device.type}, in {count} processes"
    say(f"training on {store.counts['train']} fields, on {where}")
    try:
        trainer.run()
    except ENDED:
        if trainer.best["weights"] is not None and trainer.team.main:
            with interrupts_deferred():  # batch systems may say twice what they mean once
                Surrogate(emulator, arch, provenance).save_pretrained(run.out)
            say(f"emuloss.load({str(run.out)!r}) gives the best emulator so far")
        raise
    return {"fields_seen": trainer.seen, "seconds": round(trainer.seconds), "seed": training.seed}


def evaluated(
    surrogate: Surrogate,
    fields: np.ndarray,
    curves: np.ndarray,
    run: Run,
    log: Path | None,
    seconds: float | None,
) -> None:
    """Freeze a surrogate, measure it, draw the report, and put the figures into the checkpoint.

    Args:
        surrogate: what was trained.
        fields: held out.
        curves: their exact curves.
        run: where results go.
        log: of the training; None where there was none.
        seconds: that the evaluation may take; None: as long as it needs.
    """
    surrogate.save_pretrained(run.out)
    try:
        evaluation = measured(
            surrogate, fields, curves, quick=run.quick, seconds=seconds, progress=run.progress
        )
    except BaseException:
        say(f"emuloss.load({str(run.out)!r}) gives the surrogate, which is not evaluated")
        raise
    surrogate.provenance.evaluation = dict(evaluation.figures)
    write_evaluation(run.out, surrogate, evaluation, fields, curves, log)
    surrogate.save_pretrained(run.out)  # after the picture, which its card shows


def of_the_data(
    metric: Metric, fields: np.ndarray, quantum: float | None, arch: str
) -> dict[str, tuple[float, ...]]:
    """What training fields (N, H, W) tell an architecture: how far they lie from the thresholds.

    And what stands for these where the metric has none: quantiles of the fields above their least value,
    unless they take few values; quantum: the step between their values, if they have one.
    """
    fields = fields[np.unique(np.linspace(0, len(fields) - 1, _SAMPLED_FIELDS).round().astype(int))]
    if metric.thresholds:
        if "intensities" in ARCHITECTURES[arch].takes:  # a network, which also takes from them what is dry
            return {"spreads": spreads_in(fields, metric.thresholds)}
        return {"spreads": lesser_spreads(fields, metric.thresholds, metric.levels)}
    lowest = float(np.nanmin(fields))
    try:
        intensities = quantile_thresholds(fields, _INTENSITIES, wet=lowest, quantum=quantum)
    except ArgumentError:
        return {}
    return {"intensities": intensities, "spreads": spreads_in(fields, intensities)}
