"""Training of one network on one objective: resumable, stopped early, in one process or several."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from data import Fields
from emuloss.datasets import random_symmetry
from files import check_asked, finished, whole, write_json
from models import Downscaler, Ensemble, Options, network_of
from objectives import Objective
from recipes import Recipe
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

_WARMUP = 0.05
"""Share of the training over which the learning rate rises."""
_BATCH = 64
"""Fields at once where no gradient is taken."""


def train(
    objective: Objective | Recipe,
    fields: Fields,
    options: Options,
    folder: Path,
    *,
    start: Path | None = None,
    progress: bool = True,
) -> None:
    """Train until the budget is spent or the objective on the validation fields stops to improve.

    Where values at two moments do not tell which is better, see `Objective.comparable`, it is the budget that
    ends it, and the last weights are kept.

    Args:
        objective: for as many members as the options have.
        fields: to train on, and to validate on.
        options: see there.
        folder: gets weights.safetensors, the best or last ones; training.json, what happened; and state.pt,
            from which an interrupted training goes on. A finished training in it is left as it is.
        start: weights to start from.
        progress: show a bar.

    Raises:
        SystemExit: the folder holds another training, or the objective was never finite.
    """
    accelerator = Accelerator(mixed_precision=options.precision, cpu=not torch.cuda.is_available())
    asked = {
        **objective.asked,
        "start": str(start and start.name),
        "source": fields.source,
        **asdict(options),
    }
    if finished(folder / "training.json", asked):
        return
    model = network_of(tuple(fields.train.shape[1:]), options)
    if start:
        model.load_state_dict(load_file(start / "weights.safetensors"))
    objective = objective.to(accelerator.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate, betas=(0.9, 0.99))
    parallel, optimizer = accelerator.prepare(model, optimizer)
    wet = fields.train[(fields.train.nan_to_num(0.0) > 0).flatten(1).any(1)]
    labels, labels_of_validation = objective.labels(wet), objective.labels(fields.validation)
    steps = math.ceil(options.budget / options.batch_size)
    done: dict[str, Any] = {
        "asked": asked,
        "step": 0,
        "seconds": 0.0,
        "best": math.inf,
        "stale": 0,
        "log": [],
    }
    if (folder / "state.pt").exists():
        done, weights, moments, learnt = torch.load(folder / "state.pt", weights_only=True)
        check_asked(done["asked"], asked, folder)
        model.load_state_dict(weights)
        optimizer.load_state_dict(moments)
        objective.load_state_dict(learnt)
    own = slice(accelerator.process_index, None, accelerator.num_processes)
    bar = tqdm(
        total=steps,
        initial=done["step"],
        desc=folder.name,
        unit="step",
        disable=not (progress and accelerator.is_main_process),
    )
    began, errors = time.monotonic(), []
    while done["step"] < steps and done["stale"] < options.patience:
        share = done["step"] / steps
        rate = options.learning_rate * min(share / _WARMUP + 1e-2, 1.0)
        optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * share))
        objective.train().at(share)
        model.train()
        chosen, turned = batch_of(wet, options, done["step"])
        target = turned[own].to(accelerator.device)
        curves = None if labels is None else labels[chosen[own]].to(accelerator.device)
        with accelerator.autocast():
            drawn = model.draws(options.seed, done["step"], accelerator.process_index)
            prediction = parallel(target, *drawn)
        total, error = objective(prediction.float(), target, curves)
        optimizer.zero_grad()
        accelerator.backward(total)
        accelerator.clip_grad_norm_(model.parameters(), options.clip)
        optimizer.step()
        objective.learn()
        errors.append(error.detach())
        done["step"] += 1
        bar.update()
        if done["step"] * options.validations // steps > len(done["log"]):
            done["seconds"] += time.monotonic() - began
            # All processes have the same weights; they shall decide alike to the last bit.
            found = accelerator.reduce(
                _validate(model, objective, fields.validation, labels_of_validation, accelerator), "mean"
            )
            value, error_of_pixels = found.tolist()
            better = value < done["best"] or (not objective.comparable and math.isfinite(value))
            done["best"] = value if better else done["best"]
            done["stale"] = 0 if better or not objective.settled(share) else done["stale"] + 1
            done["log"].append([done["step"], float(torch.stack(errors).mean()), value, error_of_pixels])
            bar.set_postfix_str(f"objective {value:.4f}, of pixels {error_of_pixels:.4f}")
            if accelerator.is_main_process:
                if better:
                    with whole(folder / "weights.safetensors") as part:
                        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, part)
                with whole(folder / "state.pt") as part:
                    state = (done, model.state_dict(), optimizer.state_dict(), objective.state_dict())
                    torch.save(state, part)
            began, errors = time.monotonic(), []
    bar.close()
    if not math.isfinite(done["best"]):
        raise SystemExit(f"the objective of {folder.name} was never finite; lower its weight")
    if accelerator.is_main_process:
        write_json(folder / "training.json", {"fields": done["step"] * options.batch_size, **done})
        (folder / "state.pt").unlink(missing_ok=True)
    accelerator.wait_for_everyone()


def batch_of(fields: Tensor, options: Options, step: int) -> tuple[Tensor, Tensor]:
    """Which fields a step takes, and these turned and mirrored at random; the same whatever came before."""
    rng = np.random.default_rng([options.seed, step])
    chosen = torch.from_numpy(rng.integers(len(fields), size=options.batch_size))
    return chosen, torch.from_numpy(random_symmetry(fields[chosen].numpy(), rng))


@torch.no_grad()
def _validate(
    model: Downscaler | Ensemble,
    objective: Objective | Recipe,
    fields: Tensor,
    labels: Tensor | None,
    accelerator: Accelerator,
) -> Tensor:
    """The objective with its full weight and last temperature, and what of it is of pixels, (2,)."""
    model.eval()
    objective.eval().at(1.0)
    values = []
    for part in torch.arange(len(fields)).split(_BATCH):
        batch = fields[part].to(accelerator.device)
        curves = None if labels is None else labels[part].to(accelerator.device)
        with accelerator.autocast():
            prediction = model(batch, *model.draws(0, int(part[0])))
        found = torch.stack(objective(prediction.float(), batch, curves))
        values.append(found * len(batch) / len(fields))
    return torch.stack(values).sum(0)


def trained(folder: Path, fields: Fields) -> Any:
    """The network of a finished training on fields of this shape."""
    asked = json.loads((folder / "training.json").read_text())["asked"]
    options = {name: asked[name] for name in Options.__dataclass_fields__}
    model = network_of(tuple(fields.train.shape[1:]), Options(**options))
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    return model
