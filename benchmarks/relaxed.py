"""The relaxed Minkowski surrogate against its straightforward form, forward and backward, side by side.

    python benchmarks/relaxed.py [--fields FILE.npy] [--repeats 7] [--threads N] [--options]

Both take turns in one run, so that a change of load on the machine meets both alike; ratios are
medians over the turns. On a machine that others use, compare with one thread: threads that wait
for one another wait for the other programs, too. The second table shows what ten times the
thresholds and other temperatures cost, as multiples of the first table's case. The third one compares
steps of the default loss, all five outputs: with values from soft steps, as version 0.1.0 had them, and
exact ones. The fourth, which `--options` gives alone, has what the options of metrics cost, as multiples of
the plain ones. The last one has the default loss beside the analytical form, written
straightforwardly (area, perimeter and Euler number of a soft mask a threshold), and beside the losses of
gudhi, topolosses and torch-topological, where these are installed.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numba
import numpy as np
import torch
from _peers import Loss, peers
from _timing import CLOCK, CPU, rain, take_turns
from emuloss.emulators import Excursion, RelaxedFSS, RelaxedMinkowski, signed_log1p
from emuloss.losses import SurrogateLoss
from emuloss.metrics import FSS, Metric, Minkowski, quantile_thresholds
from torch import Tensor

BATCH = 32
TEMPERATURE = 0.05
TEMPERATURES = (0.01, 0.1, 0.3)
REFINED = 10
"""Times as many thresholds, over the same range."""
OUTPUTS = ("area", "perimeter", "euler", "components", "holes")
SOFT = {"temperature": 0.005, "tail": (0.25, 0.05), "forward": "soft"}
"""What `minkowski-opera` was in version 0.1.0."""
PERCENTILES = (75, 90, 95)
SIDES = (128, 64)
FEW = 4
"""Fields of a step beside other packages, which go through them one by one."""


def straightforward(fields: Tensor, thresholds: Sequence[float], spreads: Sequence[float]) -> Tensor:
    """Area, perimeter and Euler number (N, 3, Q) of soft excursion sets, one mask a threshold."""
    u, widths = (torch.tensor(values).view(-1, 1, 1) for values in (thresholds, spreads))
    s = torch.sigmoid((fields[:, None] - u) / (TEMPERATURE * widths))
    upper, lower = s[..., :-1, :], s[..., 1:, :]
    rows = torch.minimum(upper, lower)
    pixels = s.sum((-2, -1))
    axial = rows.sum((-2, -1)) + torch.minimum(s[..., :-1], s[..., 1:]).sum((-2, -1))
    falling = torch.minimum(upper[..., :-1], lower[..., 1:]).sum((-2, -1))
    rising = torch.minimum(upper[..., 1:], lower[..., :-1]).sum((-2, -1))
    blocks = torch.minimum(rows[..., :-1], rows[..., 1:]).sum((-2, -1))
    transitions = (4 * pixels - 2 * axial) + (4 * pixels - 2 * (falling + rising)) / math.sqrt(2)
    return torch.stack([pixels, math.pi / 8 * transitions, pixels - axial + blocks], dim=1)


def value_and_gradient(surrogate: Callable[[Tensor], Tensor], fields: Tensor) -> tuple[Tensor, Tensor]:
    """Curves of the fields, and the gradient of their weighted sum with respect to the fields."""
    x = fields.clone().requires_grad_()
    curves = surrogate(x)
    weights = torch.linspace(0.5, 1.5, curves[0].numel()).view_as(curves[0])
    (gradient,) = torch.autograd.grad((curves * weights).sum(), x)
    return curves.detach(), gradient


def check(surrogate: RelaxedMinkowski, fields: Tensor) -> None:
    """Show that both compute the same, where no two pixels tie: they share ties differently."""
    generator = torch.Generator().manual_seed(0)
    apart = fields * (1 + 0.01 * torch.rand(fields.shape, generator=generator))
    ours = value_and_gradient(surrogate, apart)
    theirs = value_and_gradient(
        lambda x: straightforward(x, surrogate.metric.thresholds, surrogate.spreads), apart
    )
    for name, one, other, tolerance in zip(("values", "gradients"), ours, theirs, (1e-3, 0.05), strict=True):
        error = float((one - other).norm() / other.norm())
        print(f"{name} differ by {error:.1e} (relative norm)")
        if error > tolerance:
            raise SystemExit(f"the {name} should agree within {tolerance:g}")


def losses(fields: Tensor, thresholds: Sequence[float], repeats: int) -> None:
    """Time the default loss and its gradient, half of the fields against the others."""
    metric = Minkowski(thresholds, outputs=OUTPUTS)
    # Version 0.1.0 took its temperatures relative to the thresholds.
    soft, exact = Excursion(metric, **SOFT, spreads=thresholds), Excursion(metric)
    print(f"{'default loss, ms per field':38}{'soft values':>17}{'exact':>10}{'ratio':>8}")
    for side in SIDES:
        prediction, target = fields[:, :side, :side].chunk(2)

        def step(module: Excursion, x: Tensor = prediction, y: Tensor = target) -> None:
            value_and_gradient(lambda each: SurrogateLoss(module)(each, y).view(1, 1), x)

        sides = [lambda m=module, take=step: take(m) for module in (soft, exact)]
        take_turns(1, *sides)
        clock = take_turns(repeats, *sides)[..., CLOCK]
        old, new = 1e3 / len(target) * np.median(clock, axis=0)
        what = f"{len(target)} x {side} x {side}"
        print(f"{what:38}{old:17.2f}{new:10.2f}{np.median(clock[:, 0] / clock[:, 1]):8.1f}")


def options(fields: Tensor, thresholds: Sequence[float], repeats: int) -> None:
    """Time exact values, and soft ones with their gradient, of metrics with one option each."""
    rows = np.cos(np.radians(np.linspace(-60, 60, fields.shape[1])))
    asked = {
        "five curves": {},
        "boundary periodic": {"boundary": "periodic"},
        "boundary periodic-x": {"boundary": "periodic-x"},
        "spacing (1, 2)": {"spacing": (1.0, 2.0)},
        "row_weights": {"row_weights": rows},
        "persistence 0.5 mm/h": {"persistence": 0.5},
        "persistence 5%": {"persistence": "5%"},
    }
    of_fields: dict[str, Metric] = {
        name: Minkowski(thresholds, outputs=OUTPUTS, **given) for name, given in asked.items()
    }
    at = np.quantile(fields[fields > 0].numpy(), (0.5, 0.8, 0.9)).tolist()
    of_pairs: dict[str, Metric] = {
        f"fss at {len(at)} thresholds": FSS(at),
        f"fss at {len(PERCENTILES)} percentiles": FSS(percentiles=PERCENTILES),
    }
    pairs = torch.stack(fields.chunk(2), 1)
    print(f"{'CPU ms per field or pair':34}{'exact':>9}{'cost':>7}{'step':>9}{'cost':>7}")
    kinds = ((RelaxedMinkowski, of_fields, fields), (RelaxedFSS, of_pairs, pairs))
    for build, metrics, batch in kinds:
        parts = [metric.parts(batch.numpy()) for metric in metrics.values()]
        surrogates = [build(metric, TEMPERATURE) for metric in metrics.values()]
        exact = [functools.partial(metric, *x) for metric, x in zip(metrics.values(), parts, strict=True)]
        soft = [functools.partial(value_and_gradient, surrogate, batch) for surrogate in surrogates]
        take_turns(1, *exact, *soft)
        seconds = take_turns(repeats, *exact, *soft)[..., CPU]
        medians = 1e3 / len(batch) * np.median(seconds, axis=0)
        for k, name in enumerate(metrics):
            cells = []
            for first in (0, len(metrics)):
                ratio = np.median(seconds[:, first + k] / seconds[:, first])
                cells.append(f"{medians[first + k]:9.3f}{ratio:7.2f}")
            print(f"{name:34}{''.join(cells)}")


def beside_others(fields: Tensor, thresholds: Sequence[float], repeats: int) -> None:
    """Time a step of the default loss, and steps of what else there is."""
    prediction, target = fields[:FEW], fields[FEW : 2 * FEW]
    first = RelaxedMinkowski(Minkowski(thresholds), TEMPERATURE)

    def analytical(x: Tensor, y: Tensor) -> Tensor:
        curves = [signed_log1p(straightforward(each, thresholds, first.spreads)) for each in (x, y)]
        return (curves[0] - curves[1]).abs().mean()

    default = SurrogateLoss(Excursion(Minkowski(thresholds, outputs=OUTPUTS)))
    losses: dict[str, Loss] = {
        "emuloss, default loss: five curves": default,
        "straightforward: area, perimeter, Euler": analytical,
    }
    for name, loss in peers(thresholds, first.spreads, TEMPERATURE):
        if loss is None:
            print(f"{name:40} is not installed")
        else:
            losses[name] = loss

    def step(loss: Loss) -> None:
        x = prediction.clone().requires_grad_()
        torch.autograd.grad(loss(x, target), x)

    for name in list(losses):
        try:
            step(losses[name])
        except TypeError as error:  # versions that do not go together
            print(f"{name:40} fails: {str(error).splitlines()[0][:60]}")
            del losses[name]
    seconds = take_turns(repeats, *(lambda each=loss: step(each) for loss in losses.values()))
    print(f"{'a step, ms per field':42}{'clock':>10}{'CPU':>10}{'of CPU, ratio':>15}")
    for k, name in enumerate(losses):
        clock, cpu = 1e3 / FEW * np.median(seconds[:, k], axis=0)
        print(f"{name:42}{clock:10.2f}{cpu:10.2f}{np.median(seconds[:, k, CPU] / seconds[:, 0, CPU]):15.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the relaxed surrogate against its plain form.")
    parser.add_argument("--fields", type=Path, help="rain (N, H, W) in mm/h as .npy; default: synthetic")
    parser.add_argument("--repeats", type=int, default=7, help="turns that each side takes; default: 7")
    parser.add_argument("--threads", type=int, help="threads of both; default: one a core")
    parser.add_argument("--options", action="store_true", help="what options of metrics cost, alone")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        numba.config.NUMBA_NUM_THREADS = arguments.threads
    data = np.load(arguments.fields)[:BATCH] if arguments.fields else rain(BATCH)[:BATCH]
    fields = torch.from_numpy(data.astype(np.float32))
    thresholds = quantile_thresholds(data, wet=0.1, quantum=0.01)
    count = len(thresholds)
    refined = np.interp(np.linspace(0, count - 1, REFINED * count), np.arange(count), thresholds)
    print(f"{' x '.join(map(str, data.shape))} fields, {np.mean(data > 0.1):.0%} wet, {count} thresholds")
    if arguments.options:
        options(fields, thresholds, arguments.repeats)
        return

    first = RelaxedMinkowski(Minkowski(thresholds), TEMPERATURE)
    cases = {
        f"{count} thresholds, temperature {TEMPERATURE}": first,
        f"{len(refined)} thresholds": RelaxedMinkowski(Minkowski(refined), TEMPERATURE),
        **{f"temperature {t}": RelaxedMinkowski(Minkowski(thresholds), t) for t in TEMPERATURES},
    }
    check(first, fields)
    sides = [lambda s=surrogate: value_and_gradient(s, fields) for surrogate in cases.values()]
    sides.insert(
        0, lambda: value_and_gradient(lambda x: straightforward(x, thresholds, first.spreads), fields)
    )
    take_turns(1, *sides)
    clock = take_turns(arguments.repeats, *sides)[..., CLOCK]

    plain, *ours = 1e3 / len(fields) * np.median(clock, axis=0)
    print(f"{'ms per field':38}{'straightforward':>17}{'emuloss':>10}{'ratio':>8}")
    print(f"{next(iter(cases)):38}{plain:17.2f}{ours[0]:10.2f}{np.median(clock[:, 0] / clock[:, 1]):8.1f}")
    print(f"{'ms per field, emuloss alone':55}{'emuloss':>10}{'cost':>8}")
    for k, name in list(enumerate(cases))[1:]:
        print(f"{name:55}{ours[k]:10.2f}{np.median(clock[:, k + 1] / clock[:, 1]):8.2f}")
    losses(fields, thresholds, arguments.repeats)
    options(fields, thresholds, arguments.repeats)
    beside_others(fields, thresholds, arguments.repeats)


if __name__ == "__main__":
    main()
