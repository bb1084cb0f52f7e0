"""Super-resolution of rain with each loss, measured in the exact metric.

    python examples/super_resolution [--fields rain | opera:DIR] [--losses NAME ...] [--weights W ...]

Fields are coarsened, and a small U-Net learns to undo it: first on squared error, then on squared error
beside each loss, or on squared error alone for as long. Fields held out are predicted and scored exactly. The
folder --out then holds report.md and its pictures; what was interrupted goes on, and what is finished is not
repeated, so that a second command adds losses and weights. To train on several devices:
`accelerate launch examples/super_resolution/__main__.py`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import report
from accelerate import PartialState
from costs import costs
from data import Fields, read
from limits import descended, predicted_curves, predictor
from objectives import KINDS
from scores import mean, score
from torch import Tensor
from training import Options, train, trained

_DEFAULT = ("relaxed", "relaxed-exact", "certified")
_DESCENTS = (0.003, 0.01, 0.03)
"""Weights of the loss in descent at inference."""


def main() -> None:
    """Read, train, score, and write the report."""
    parser = argparse.ArgumentParser(
        description="Compare losses in super-resolution of rain.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--fields", default="rain", help="rain, opera:DIR or FILE, fields of 128 x 128")
    parser.add_argument("--count", type=int, default=4096, help="number of synthetic fields")
    parser.add_argument("--factor", type=float, default=12.5, help="side of a coarse cell in pixels")
    parser.add_argument("--losses", nargs="*", choices=KINDS, default=_DEFAULT, help="beside squared error")
    parser.add_argument("--weights", nargs="+", type=float, help="of each loss; default: its own")
    parser.add_argument("--start", type=int, default=12000, help="fields seen on squared error alone, first")
    parser.add_argument("--budget", type=int, default=6000, help="fields seen then, with each loss")
    parser.add_argument(
        "--limits", type=int, metavar="FIELDS", help="also predict curves, after so many, and descend to them"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches")
    parser.add_argument("--precision", choices=("bf16", "no"), default="bf16", help="of the network")
    parser.add_argument("--out", type=Path, default=Path("runs/super_resolution"), help="folder of the runs")
    parser.add_argument("--page", type=Path, help="the report; default: report.md in --out")
    arguments = parser.parse_args()

    options = {"count": arguments.count} if arguments.fields == "rain" else {}
    fields = read(arguments.fields, size=128, **options)
    common = {"factor": arguments.factor, "seed": arguments.seed, "precision": arguments.precision}
    first, then = (Options(budget, **common) for budget in (arguments.start, arguments.budget))
    start = arguments.out / "start"
    train("mse", 0.0, fields, first, start)
    jobs = [("mse", 0.0)]
    jobs += [(name, w) for name in arguments.losses for w in arguments.weights or KINDS[name].weights]
    processes = PartialState()
    if processes.is_main_process:
        print(f"{'loss-weight':24}{'log MSE':>10}{'distance':>10}")
    for name, weight in jobs:
        folder = arguments.out / (name if name == "mse" else f"{name}-{weight:g}")
        model = train(name, weight, fields, then, folder, start=start)
        if processes.is_main_process:
            if not (folder / "scores.npz").exists():
                keep_scores(model.predict(fields.test, progress=True), fields, folder)
            print_scores(folder)
        processes.wait_for_everyone()
    if processes.is_main_process:
        if arguments.limits:
            descend(replace(first, budget=arguments.limits), fields, arguments.out)
        cost = arguments.out / "costs.json"
        if not cost.exists():
            cost.write_text(json.dumps(costs(trained(start, fields), fields.train), indent=1))
        page = arguments.page or arguments.out / "report.md"
        report.write(page, arguments.out, fields)
        print(f"report: {page}")


def descend(options: Options, fields: Fields, out: Path) -> None:
    """Predict curves from the coarse fields, and let what squared error gave descend to them."""
    model = trained(out / "mse", fields)
    network = predictor(model, fields, options, out / "limits")
    for weight in _DESCENTS:
        folder = out / f"descent-{weight:g}"
        if not (folder / "scores.npz").exists():
            curves = predicted_curves(network, model, fields.test)
            folder.mkdir(parents=True, exist_ok=True)
            asked = {"name": "mse, descent at inference", "weight": weight}
            (folder / "training.json").write_text(json.dumps({"asked": asked, "seconds": 0.0}))
            keep_scores(descended(model.predict(fields.test), curves, weight), fields, folder)
        print_scores(folder)


def keep_scores(prediction: Tensor, fields: Fields, folder: Path) -> None:
    """Score predicted test fields, into a folder."""
    np.savez(folder / "scores.npz", **score(prediction, fields.test))


def print_scores(folder: Path) -> None:
    """Print the two scores that matter most of those in a folder."""
    with np.load(folder / "scores.npz") as scores:
        error, distance = (mean(scores, name) for name in ("log MSE", "distance"))
    print(f"{folder.name:24}{error:10.5f}{distance:10.4f}", flush=True)


if __name__ == "__main__":
    main()
