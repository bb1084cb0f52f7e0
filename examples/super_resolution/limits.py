"""Curves predicted from the coarse field alone, and descent on a surrogate towards them."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import torch
from data import Fields
from emuloss.emulators import ARCHITECTURES
from emuloss.emulators.distances import CurveDistance
from emuloss.emulators.relaxations.relaxation import geometric
from emuloss.evaluation.pixels import minimise
from files import finished, whole, write_json
from objectives import minkowski, relaxed
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from training import Downscaler, Options, batch_of

_BATCH = 64
_WIDTHS = (16, 32, 64, 96)
_STEPS = 60
_TEMPERATURES = (0.2, 0.03)
_RATE = 0.03
"""First step of the descent, in units of log(1 + rain)."""


def predictor(model: Downscaler, fields: Fields, options: Options, folder: Path) -> nn.Module:
    """A network that predicts the exact curves (N, C, Q) of fields from their interpolated coarse ones.

    It is trained on the exact distance itself, without a field in between.

    Args:
        model: which sees the coarse fields.
        fields: to train on; those to test on are where it is judged.
        options: of the training.
        folder: gets weights.safetensors and distances.json; what is finished in it is read instead.

    Raises:
        SystemExit: the folder holds another one.
    """
    metric = minkowski()
    torch.manual_seed(options.seed)
    network = ARCHITECTURES["hybrid"](metric, widths=_WIDTHS, prior=None)
    asked = {"source": fields.source, **asdict(options)}
    if finished(folder / "distances.json", asked):
        network.load_state_dict(load_file(folder / "weights.safetensors"))
        return network.eval()
    distance = CurveDistance(metric.levels)
    labels = torch.from_numpy(metric(fields.train.numpy()))
    optimizer = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
    steps = math.ceil(options.budget / options.batch_size)
    for step in tqdm(range(steps), "curves of coarse fields", unit="step"):
        rate = options.learning_rate * min((step + 1) / 50, 1.0)
        optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        chosen, target = batch_of(fields.train, options, step)
        seen = _seen(model, target)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            curves = network(seen)
        optimizer.zero_grad()
        distance(curves.float(), labels[chosen]).sum(1).mean().backward()
        nn.utils.clip_grad_norm_(network.parameters(), options.clip)
        optimizer.step()
    with whole(folder / "weights.safetensors") as part:
        save_file({key: value.contiguous() for key, value in network.state_dict().items()}, part)
    found = distances(predicted_curves(network.eval(), model, fields.test), fields.test)
    write_json(folder / "distances.json", {"asked": asked, "distances": found})
    return network


@torch.no_grad()
def predicted_curves(network: nn.Module, model: Downscaler, fields: Tensor) -> Tensor:
    """Curves (N, C, Q) that a predictor expects of fields (N, H, W), of which it sees the coarse ones."""
    return torch.cat([network(_seen(model, batch)) for batch in fields.split(_BATCH)])


def distances(curves: Tensor, fields: Tensor) -> dict[str, float]:
    """Mean distance of each output between curves (N, C, Q) and the exact ones of fields (N, H, W)."""
    metric = minkowski()
    found = CurveDistance(metric.levels)(curves, torch.from_numpy(metric(fields.numpy()))).mean(0)
    return dict(zip(metric.outputs, found.tolist(), strict=True))


def descended(prediction: Tensor, curves: Tensor, weight: float) -> Tensor:
    """Fields (N, H, W) that keep close to predicted ones and have given curves (N, C, Q).

    Pixels take steps on squared error in log space and weight times the relaxed loss, which is annealed.
    Those that are NaN stay so: curves are those of the measured ones.
    """
    surrogate = relaxed()
    loss = surrogate.as_loss(reduction="sum")

    def anneal(share: float) -> None:
        surrogate.temperature = geometric(*_TEMPERATURES, share)

    def closer(fields: Tensor, goal: Tensor) -> Tensor:
        missing = fields.isnan()
        start = torch.log1p(fields.nan_to_num(0.0))
        pixels = start.clone().requires_grad_()

        def objective() -> Tensor:
            error = ((pixels - start).square() * ~missing).sum((1, 2)) / (~missing).sum((1, 2)).clamp(min=1)
            return error.sum() + weight * loss(torch.expm1(pixels), target_curves=goal, mask=~missing)

        minimise(
            objective, [pixels], [_RATE], steps=_STEPS, project=lambda: pixels.clamp_(min=0.0), anneal=anneal
        )
        return torch.expm1(pixels.detach()).masked_fill(missing, math.nan)

    batches = list(zip(prediction.split(_BATCH), curves.split(_BATCH), strict=True))
    return torch.cat([closer(*batch) for batch in tqdm(batches, "descent", delay=3.0, leave=False)])


def _seen(model: Downscaler, fields: Tensor) -> Tensor:
    return model.coarsening.interpolate(model.coarsening(fields))
