"""Ensembles of rain by what they are trained on: whether they are right in distribution, and look like rain.

    python examples/super_resolution/ensembles.py [--fields rain | opera:DIR] [--objectives NAME ...]

Fields are coarsened, and a generator draws members of what they may have been. It is trained on the CRPS of
pixels and on terms beside it: `crps`, `crps+relaxed+spectra:0.02`; see `terms`. A deterministic
network is trained on squared error and such terms: `mse`, `mse+relaxed`. Fields held out are drawn and scored
exactly. What was interrupted goes on, and what is finished is not repeated, so that further commands add
objectives and seeds. The folder --out then holds report.md and its pictures; `board.py` writes one page of
several such folders. With --costs, the objectives that are there are timed, and nothing is trained.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import board
import numpy as np
import torch
from accelerate import PartialState
from costs import costs
from data import Fields, add_arguments, read_asked
from emuloss.errors import ArgumentError, EmulossError
from files import finished, whole, write_json
from models import Downscaler, Ensemble, Options
from pages import shown
from recipes import Recipe
from terms import BASES, TERMS
from torch import Tensor
from verification import verify

from training import train, trained

_DEFAULT = ("mse", "mse+relaxed", "crps", "crps+relaxed+spectra")
_BATCH = 2
_SAMPLES = 12
"""Fields whose members are kept for the picture."""
_TURNS = 9
"""In which costs are measured."""


def main() -> None:
    """Read, train, draw, score, and write the report."""
    parser = argparse.ArgumentParser(
        description="Compare what ensembles of rain are trained on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_arguments(parser, count=2048)
    parser.add_argument("--factor", type=float, default=12.5, help="side of a coarse cell in pixels")
    parser.add_argument(
        "--objectives",
        nargs="+",
        type=_recipe,
        default=_DEFAULT,
        help=f"mse or crps, and + terms beside it: {', '.join(TERMS)}; behind a colon another weight",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of weights, batches and noise")
    parser.add_argument("--budget", type=int, default=3000, help="fields seen by each network")
    parser.add_argument("--members", type=int, default=8, help="drawn of each field held out")
    parser.add_argument("--precision", choices=("bf16", "no"), default="bf16", help="of the networks")
    parser.add_argument(
        "--costs", action="store_true", help="time what is trained, and train nothing: on a quiet machine"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/ensembles/rain"), help="folder of the runs")
    arguments = parser.parse_args()
    for name in ("count", "factor", "budget"):
        if not getattr(arguments, name) > 0:
            parser.error(f"--{name} must be positive, got {getattr(arguments, name):g}")
    if arguments.members < 2:
        parser.error(f"--members must be at least 2, got {arguments.members}")
    try:
        fields = read_asked(arguments)
        (measure if arguments.costs else compare)(arguments, fields)
    except EmulossError as error:
        parser.error(str(error))
    if _processes().is_main_process:
        board.write(arguments.out / "report.md", [arguments.out])
        print(f"report: {arguments.out / 'report.md'}")


def _recipe(name: str) -> str:
    """A known objective."""
    try:
        Recipe(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name


def compare(arguments: argparse.Namespace, fields: Fields) -> None:
    """Train each objective with each seed, and score what is drawn of the fields held out."""
    processes = _processes()
    if processes.num_processes > _BATCH:
        raise ArgumentError(f"at most {_BATCH} processes share a batch, got {processes.num_processes}")
    if processes.is_main_process:
        describe(fields, arguments)
    processes.print(
        f"{'objective, seed':36}{'CRPS':>9}{'energy':>9}{'distance':>10}{'spectrum':>10}{'AUC':>7}   (test)"
    )
    for seed in arguments.seeds:
        for name in arguments.objectives:
            recipe = Recipe(name)
            options = Options(
                arguments.budget,
                factor=arguments.factor,
                batch_size=_BATCH,
                learning_rate=1.5e-3,
                validations=4,
                seed=seed,
                precision=arguments.precision,
                members=recipe.members,
            )
            folder = _folder(arguments, name, seed)
            train(recipe, fields, options, folder)
            if processes.is_main_process:
                score(folder, fields, arguments.members)
            processes.wait_for_everyone()


def measure(arguments: argparse.Namespace, fields: Fields) -> None:
    """Measure what objectives add to a training step that were trained, and not measured before."""
    path, seed = arguments.out / "costs.json", arguments.seeds[0]
    known = json.loads(path.read_text())["costs"] if path.exists() else {}
    asked = [name for name in arguments.objectives if name not in {*known, *BASES}]
    asked = [name for name in asked if (_folder(arguments, name, seed) / "training.json").exists()]
    for base in BASES:
        others = {name: Recipe(name) for name in asked if name.partition("+")[0] == base}
        if others:
            model = trained(_folder(arguments, next(iter(others)), seed), fields)
            known |= costs(model, fields.train, Recipe(base), others, batch_size=_BATCH, turns=_TURNS)
            write_json(path, {"costs": known})
    for name in asked:
        print(f"{name:36}{100 * known[name]:+6.1f} % of a training step")


def _processes() -> PartialState:
    return PartialState(cpu=not torch.cuda.is_available())


def _folder(arguments: argparse.Namespace, name: str, seed: int) -> Path:
    """Where a run is kept."""
    folder: Path = arguments.out / f"{name.replace(':', '-')}-seed{seed}"
    return folder


def describe(fields: Fields, arguments: argparse.Namespace) -> None:
    """Keep what the runs of a folder have in common."""
    asked = {"source": fields.source, "factor": arguments.factor}
    if not finished(arguments.out / "fields.json", asked):
        counts = {name: len(getattr(fields, name)) for name in ("train", "validation", "test")}
        composites = len(np.unique(fields.test_groups))
        facts = {"asked": asked, "pixel_size": fields.pixel_size, **counts, "test_composites": composites}
        write_json(arguments.out / "fields.json", facts)


def score(folder: Path, fields: Fields, members: int) -> None:
    """Draw members of the test fields, score them into a folder, and print the scores that matter most.

    Where all is dry there is nothing to score, and that is told instead.
    """
    asked = {"members": members, "source": fields.source}
    if not finished(folder / "scores.json", asked):
        drawn = draw(trained(folder, fields), fields.test, members)
        if not (drawn > 0).any():
            print(f"{folder.name:36}  all dry, its training went astray: take another of --seeds", flush=True)
            return
        by_field, figures = verify(drawn, fields.test, fields.test_groups)
        with whole(folder / "scores.npz") as part, part.open("wb") as file:
            np.savez(file, groups=fields.test_groups, **by_field)
        chosen = shown(fields.test, _SAMPLES)
        with whole(folder / "samples.npz") as part, part.open("wb") as file:
            np.savez_compressed(file, members=drawn[chosen].half(), observed=fields.test[chosen].half())
        write_json(folder / "scores.json", {"asked": asked, **figures})
    figures = json.loads((folder / "scores.json").read_text())
    with np.load(folder / "scores.npz") as scores:
        crps, energy, distance = (scores[name].mean() for name in ("crps", "energy", "distance"))
    told = f"{crps:9.5f}{energy:9.3f}{distance:10.3f}{figures['spectrum']:10.3f}{figures['auc']:7.3f}"
    print(f"{folder.name:36}{told}", flush=True)


def draw(model: Downscaler | Ensemble, fields: Tensor, members: int) -> Tensor:
    """Members (N, M, H, W) in mm/h of what is seen of fields (N, H, W); one of a deterministic network."""
    model = model.to(_processes().device)
    if isinstance(model, Ensemble):
        return model.predict(fields, members)
    return model.predict(fields)[:, None]


if __name__ == "__main__":
    main()
