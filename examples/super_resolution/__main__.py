"""Super-resolution of rain with each loss, measured in the exact metric.

    python examples/super_resolution [--fields rain | opera:DIR] [--losses NAME ...] [--weights W ...]

Fields are coarsened, and a small U-Net learns to undo it: first on squared error, then on squared error
beside each loss, or on squared error alone for as long. Fields held out are predicted and scored exactly. The
folder --out then holds report.md and its pictures; what was interrupted goes on, and what is finished is not
repeated, so that a second command adds losses and weights. To train on several devices:
`accelerate launch examples/super_resolution/__main__.py`.

Finer pixels are averaged, in mm/h, over blocks of whole pixels to 2 km before patches are cut. Radar that
says that it has 1 km needs no more than its name: `--fields pysteps:fmi_pgm:DIR`, `pysteps:mch_gif:DIR`.
MRMS has degrees: `--fields xarray:DIR --source-option pixel_size=1 nodata=[-3,-1]` takes its 0.01 degrees,
which are 1.1 by 0.85 km at 40 degrees north, for 1 km, and so two of them for 2 km.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import report
import torch
from accelerate import PartialState
from costs import costs
from data import Fields, add_arguments, read_asked
from emuloss.errors import EmulossError
from files import finished, whole, write_json
from limits import descended, predicted_curves, predictor
from objectives import KINDS, OWN, Objective, kinds_of
from scores import mean, score
from torch import Tensor

from training import Options, train, trained

_DEFAULT = ("relaxed", "certified")
SPLITS = ("validation", "test")
_TURNS, _STEPS = 9, 4
"""In which costs are measured: turns, and steps in each."""
_DESCENTS = (0.003, 0.01, 0.03)
"""Weights of the loss in descent at inference."""


def main() -> None:
    """Read, train, score, and write the report."""
    parser = argparse.ArgumentParser(
        description="Compare losses in super-resolution of rain.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_arguments(parser, count=4096)
    parser.add_argument("--factor", type=float, default=12.5, help="side of a coarse cell in pixels")
    parser.add_argument(
        "--losses", nargs="*", choices=[*KINDS, *OWN], default=_DEFAULT, help="beside squared error"
    )
    parser.add_argument(
        "--surrogate", metavar="PLACE", help=f"folder or name of the surrogate of {' and '.join(OWN)}"
    )
    parser.add_argument("--weights", nargs="+", type=float, help="of each loss; default: its own")
    parser.add_argument("--start", type=int, default=6000, help="fields seen on squared error alone, first")
    parser.add_argument("--budget", type=int, default=3000, help="fields seen then, with each loss")
    parser.add_argument(
        "--limits", type=int, metavar="FIELDS", help="also predict curves, after so many, and descend to them"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches")
    parser.add_argument("--precision", choices=("bf16", "no"), default="bf16", help="of the network")
    parser.add_argument("--out", type=Path, default=Path("runs/super_resolution"), help="folder of the runs")
    parser.add_argument("--page", type=Path, help="the report; default: report.md in --out")
    arguments = parser.parse_args()

    for name in ("count", "factor", "start", "budget"):
        if not getattr(arguments, name) > 0:
            parser.error(f"--{name} must be positive, got {getattr(arguments, name):g}")
    if arguments.surrogate:
        KINDS.update(kinds_of(arguments.surrogate))
    elif unknown := [name for name in arguments.losses if name in OWN]:
        parser.error(f"--losses {unknown[0]} needs a --surrogate")
    try:
        compare(arguments, read_asked(arguments))
    except EmulossError as error:
        parser.error(str(error))


def compare(arguments: argparse.Namespace, fields: Fields) -> None:
    """Train and score with each loss, and write the report."""
    common = {"factor": arguments.factor, "seed": arguments.seed, "precision": arguments.precision}
    first, then = (Options(budget, **common) for budget in (arguments.start, arguments.budget))
    out, processes = arguments.out, PartialState(cpu=not torch.cuda.is_available())
    train(Objective("mse", 0.0), fields, first, out / "start")
    jobs = [("mse", 0.0)]
    jobs += [(name, w) for name in arguments.losses for w in arguments.weights or KINDS[name].weights]
    if processes.is_main_process:
        print(f"{'loss-weight':24}{'log MSE':>10}{'distance':>10}   (test)")
    for name, weight in jobs:
        folder = out / (name if name == "mse" else f"{name}-{weight:g}")
        train(Objective(name, weight), fields, then, folder, start=out / "start")
        if processes.is_main_process:
            model = trained(folder, fields)
            keep_scores({x: partial(model.predict, getattr(fields, x)) for x in SPLITS}, fields, folder)
        processes.wait_for_everyone()
    if not processes.is_main_process:
        return
    if arguments.limits:
        descend(replace(first, budget=arguments.limits), fields, out)
    path = out / "costs.json"
    known = json.loads(path.read_text()) if path.exists() else {"losses": {}, "costs": {}}
    settings = {name: KINDS[name].settings() for name in arguments.losses}
    asked = [name for name in settings if known["losses"].get(name) != settings[name]]
    if asked:
        losses = {name: Objective(name, 0.01) for name in asked}
        known["costs"] |= costs(
            trained(out / "start", fields),
            fields.train,
            Objective("mse", 0.0),
            losses,
            turns=_TURNS,
            steps=_STEPS,
        )
        write_json(path, {"losses": known["losses"] | settings, "costs": known["costs"]})
    page = arguments.page or out / "report.md"
    report.write(page, out, fields)
    print(f"report: {page}")


def descend(options: Options, fields: Fields, out: Path) -> None:
    """Predict curves from the coarse fields, and let what squared error gave descend to them."""
    model = trained(out / "mse", fields)
    network = predictor(model, fields, options, out / "limits")
    for weight in _DESCENTS:

        def predict(split: str, weight: float = weight) -> Tensor:
            observed = getattr(fields, split)
            start = model.predict(observed).masked_fill(observed.isnan(), torch.nan)
            return descended(start, predicted_curves(network, model, observed), weight)

        folder, began = out / f"descent-{weight:g}", time.monotonic()
        keep_scores({split: partial(predict, split) for split in SPLITS}, fields, folder)
        asked = {"name": "mse, descent at inference", "weight": weight, **asdict(options)}
        if not finished(folder / "training.json", asked):
            write_json(folder / "training.json", {"asked": asked, "seconds": time.monotonic() - began})


def keep_scores(predictions: Mapping[str, Callable[[], Tensor]], fields: Fields, folder: Path) -> None:
    """Score what is predicted of each split, into a folder, and print the scores that matter most."""
    for split, predict in predictions.items():
        if not report.scored(folder / f"{split}.npz"):
            with whole(folder / f"{split}.npz") as part, part.open("wb") as file:
                np.savez(file, **score(predict(), getattr(fields, split)))
    with np.load(folder / "test.npz") as scores:
        error, distance = (mean(scores, name) for name in ("log MSE", "distance"))
    print(f"{folder.name:24}{error:10.5f}{distance:10.4f}", flush=True)


if __name__ == "__main__":
    main()
