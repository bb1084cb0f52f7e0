"""Training of the flow: resumable, by steps, with a running mean of the weights."""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path
from typing import Any

import torch
from emuloss.datasets import Rain
from files import check_asked, finished, whole, write_json
from flow import Flow, from_physical
from safetensors.torch import load_file, save_file
from torch import Tensor

_REGIMES = ("stratiform", "convective")
_RATE = 2e-3
_MEMORY = 0.998
"""Share of the running mean of the weights that a step keeps, once it is long enough."""
_KEEP = 100
"""Steps after which the state is written."""


def rain(count: int, size: int, seed: int) -> Tensor:
    """Synthetic rain (count, size, size) in mm/h with at least 2 % of the pixels from 0.5 mm/h on."""
    found: list[Tensor] = []
    for k in range(100):
        source = Rain(count, size=size, seed=seed + 1000 * k, regimes=_REGIMES)
        fields = torch.cat([torch.from_numpy(source.read(j, "train")) for j in range(len(source))])
        found.append(fields[(fields >= 0.5).flatten(1).float().mean(1) >= 0.02])
        if sum(map(len, found)) >= count:
            break
    return torch.cat(found)[:count]


def train(folder: Path, *, fields: int, size: int, steps: int, batch: int, seed: int = 0) -> Flow:
    """Train a flow, or go on with a training that was interrupted, or read one that is finished.

    Args:
        folder: gets flow.safetensors, flow.json, and state.pt on the way.
        fields: number of them to train on.
        size: side of the fields in pixels.
        steps: of the training.
        batch: fields in a step.
        seed: of fields, weights and batches.

    Raises:
        SystemExit: the folder holds another training.
    """
    asked = {"fields": fields, "size": size, "steps": steps, "batch": batch, "seed": seed}
    torch.manual_seed(seed)
    flow = Flow()
    if finished(folder / "flow.json", asked):
        flow.load_state_dict(load_file(folder / "flow.safetensors"))
        return flow.eval()
    mean = copy.deepcopy(flow)
    optimizer = torch.optim.AdamW(flow.parameters(), _RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    done: dict[str, Any] = {"asked": asked, "step": 0, "seconds": 0.0, "log": []}
    if (folder / "state.pt").exists():
        done, weights, means, moments = torch.load(folder / "state.pt", weights_only=True)
        check_asked(done["asked"], asked, folder)
        flow.load_state_dict(weights)
        mean.load_state_dict(means)
        optimizer.load_state_dict(moments)
    data, began, losses = from_physical(rain(fields, size, seed)), time.monotonic(), []
    while done["step"] < steps:
        share = done["step"] / steps
        optimizer.param_groups[0]["lr"] = (
            _RATE * min(20 * share + 0.01, 1) * (1 + math.cos(math.pi * share)) / 2
        )
        loss = velocity_loss(flow, data, batch, torch.Generator().manual_seed(seed * steps + done["step"]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        optimizer.step()
        done["step"] += 1
        losses.append(loss.detach())
        kept = min(_MEMORY, done["step"] / (done["step"] + 10))
        with torch.no_grad():
            for a, b in zip(mean.parameters(), flow.parameters(), strict=True):
                a.lerp_(b, 1 - kept)
        if done["step"] % _KEEP == 0 or done["step"] == steps:
            done["seconds"] += time.monotonic() - began
            done["log"].append([done["step"], float(torch.stack(losses).mean())])
            print(f"step {done['step']} of {steps}: loss {done['log'][-1][1]:.4f}", flush=True)
            with whole(folder / "state.pt") as part:
                torch.save((done, flow.state_dict(), mean.state_dict(), optimizer.state_dict()), part)
            began, losses = time.monotonic(), []
    keep(mean, folder / "flow.safetensors")
    write_json(folder / "flow.json", done)
    return mean.eval()


def keep(flow: Flow, path: Path) -> None:
    """Write weights in half precision, whole or not at all."""
    with whole(path) as part:
        save_file({name: value.half().contiguous() for name, value in flow.state_dict().items()}, part)


def velocity_loss(flow: Flow, data: Tensor, batch: int, draw: torch.Generator) -> Tensor:
    """Squared error of the velocity at random times on straight lines from noise to fields."""
    chosen = torch.randint(len(data), (batch,), generator=draw)
    clean = data[chosen]
    turns, mirrored = (int(torch.randint(n, (), generator=draw)) for n in (4, 2))
    clean = torch.rot90(clean.flip(-1) if mirrored else clean, turns, (-2, -1))
    start = torch.randn(clean.shape, generator=draw)
    # Times near the middle matter most (Esser et al. 2024, arXiv 2403.03206).
    t = torch.randn(batch, generator=draw).sigmoid()
    x = torch.lerp(start, clean, t[:, None, None, None])
    with torch.autocast("cpu", torch.bfloat16):
        velocity = flow(x.contiguous(memory_format=torch.channels_last), t)
    return (velocity - (clean - start)).square().mean()
