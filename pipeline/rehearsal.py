"""All that a run builds, built and tried on a few fields before any time is spent on labels and training."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets import FieldSource, predictions_of
from ..emulators.differentiable import Differentiable, Trainable, device_of
from ..errors import ArgumentError, EmulossError, one_line
from ..evaluation import fidelity
from ..foundation.launched import processes
from ..losses import Provenance, SurrogateLoss
from ..metrics import Metric
from ..training import Training
from ..training.learner import Learner
from ..zoo import Surrogate
from ..zoo.checkpoint import contents

_FEW = 4
"""Fields that are tried."""
_LOOKED_AT = 16
"""Training chunks that are looked at for fields."""


def rehearse(
    emulator: Differentiable,
    arch: str,
    source: FieldSource,
    roles: Sequence[str],
    training: Training,
    provenance: Provenance,
) -> None:
    """Do once with a few fields what a run does with all of them; what fails late would cost the run.

    Args:
        emulator: of which nothing is needed any more; it learns, and is frozen.
        arch: name of its architecture.
        source: where the fields come from.
        roles: of the source's chunks.
        training: what decides the training.
        provenance: what the checkpoint will say.

    Raises:
        ArgumentError: settings that do not go together, or a stage that fails.
        DataError: a field that cannot be read, or that the metric cannot be taken of.
        CheckpointError: what could not be written as a checkpoint.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a few dry fields are reason to warn, but not here
        loss = SurrogateLoss(emulator)
        learner = Learner(emulator, training) if isinstance(emulator, Trainable) else None
        few = _few(source, roles, emulator.metric, training)
        if few is None:
            return
        try:
            _try(loss, learner, few)
            contents(Surrogate(emulator.cpu(), arch, provenance).module, arch, provenance)
        except EmulossError:
            raise
        except Exception as error:
            raise ArgumentError(
                f"architecture {arch!r} of metric {emulator.metric.title!r} fails on fields of "
                f"{' x '.join(map(str, few.shape[-2:]))} pixels: {one_line(error)}; "
                "take another architecture, or other fields"
            ) from error


def _few(
    source: FieldSource, roles: Sequence[str], metric: Metric, training: Training
) -> NDArray[np.float32] | None:
    """A few training fields, or pairs, in turn where there are fewer; None where none is found soon.

    That there is none at all is for labelling to tell.
    """
    chunks = [k for k, role in enumerate(roles) if role == "train"][:_LOOKED_AT]
    found = next((fields for k in chunks if len(fields := source.read(k, "train"))), None)
    if found is None:
        return None
    # As many as there are processes at least: each takes its part of a batch.
    number = max(_FEW, processes().world_size)
    fields = np.resize(found[:number], (number, *found.shape[1:]))
    if metric.arity == 1:
        return fields
    predictions = predictions_of(fields, np.random.default_rng(training.seed), source.dry)
    return np.stack([predictions, fields], axis=1)


def _try(loss: SurrogateLoss, learner: Learner | None, few: NDArray[np.float32]) -> None:
    """Label, emulate, judge, learn, and take the loss and its gradient."""
    metric, device = loss.metric, device_of(loss)
    curves = metric(*metric.parts(few))
    batch = torch.from_numpy(few)
    if learner is not None:
        learner.start(few, curves)
        learner.learn(batch, torch.from_numpy(curves).float()[learner.team.part])
        device = learner.device
    fields = batch.to(device)
    with torch.no_grad():
        emulated = loss.surrogate(fields)
    height, width = few.shape[-2:]
    fidelity(metric, curves, emulated.double().cpu().numpy(), (height, width))
    observations = metric.parts(fields)[-1]
    predictions = observations.nan_to_num(0.0).flip(-1).requires_grad_()
    loss.to(device)(predictions, observations).backward()
