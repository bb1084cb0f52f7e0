"""The commands that measure a surrogate: evaluate and certify."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ArgumentError
from ..foundation.options import SEEDS
from ..pipeline.parsing import key_values
from .flags import flagged
from .teachers import Teacher, introduce
from .zoo import Source

if TYPE_CHECKING:
    from ..zoo import Surrogate

Fields = Annotated[str, typer.Option(help="where fields come from, see `emuloss fields --help`")]
SourceOptions = Annotated[
    list[str] | None,
    typer.Option("--source-option", help="argument of the source of fields, KEY=VALUE; repeatable"),
]
Seed = Annotated[int, typer.Option(min=SEEDS[0], max=SEEDS[1], help="seed of all noise, and of rain")]


_WITH_MEMBERS = ("source", "members", "out", "teacher", "seed", "progress")
"""Parameters of `evaluate` that ensembles of a file are scored with; all others are refused beside them."""


@flagged(source_options="--source-option", teacher="--metric")
def evaluate(
    context: typer.Context,
    source: Source,
    fields: Fields = "rain",
    source_options: SourceOptions = None,
    count: Annotated[int, typer.Option(min=1, help="most fields to evaluate on")] = 400,
    members: Annotated[
        Path | None,
        typer.Option(
            help="in place of --fields: a file (.npz, .h5, .nc, .zarr) of ensembles, the arrays "
            "'members' (N, M, H, W) and 'observed' (N, H, W), in the surrogate's unit; "
            "beside it only --out, --metric, --seed and --progress"
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option(help="take all the data, not the last part that training leaves for the test")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="leave out descents and gradients, too")] = False,
    thorough: Annotated[
        bool | None,
        typer.Option(help="invert the surrogate and shift the data, too; default: yes, unless quick"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="folder for evaluation.json and report.png, or ensembles.json and ensembles.png"),
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="put the figures into the checkpoint itself, a folder")
    ] = False,
    teacher: Teacher = None,
    seed: Seed = 0,
    progress: Annotated[bool, typer.Option(help="show a progress bar")] = True,
) -> None:
    """Measure a frozen surrogate on labelled fields: fidelity, gradients, descent, inversion, shift.

    With --members its exact metric scores the ensembles of any model; the surrogate itself takes no part.
    """
    from ..evaluation import summary_table
    from ..pipeline.measuring import exact_curves, fields_for, measured, write_evaluation
    from ..pipeline.places import as_writable
    from ..zoo import load

    if members is not None:
        _refuse_unused(context)
    if save and not os.path.isdir(source):
        raise ArgumentError(f"--save needs a folder to write to, got {source!r}; copy the checkpoint first")
    if quick and thorough:
        raise ArgumentError("quick and thorough cannot be meant together; leave one of them out")
    introduce(teacher)
    surrogate = load(source)
    if members is not None:
        _score(surrogate, members, out, seed, progress)
        return
    # What cannot be written to is told before minutes are spent.
    folders = [as_writable(folder) for folder in [*([out] if out else []), *([Path(source)] if save else [])]]
    sample = fields_for(surrogate, fields, count, seed, whole=whole, options=_keyed(source_options))
    exact = exact_curves(surrogate.metric, sample, progress=progress)
    found = measured(
        surrogate,
        sample,
        exact,
        quick=quick,
        thorough=not quick if thorough is None else thorough,
        seed=seed,
        progress=progress,
    )
    for folder in folders:
        write_evaluation(folder, surrogate, found, sample, exact)
    if save:
        surrogate.provenance.evaluation = dict(found.figures)
        surrogate.save_pretrained(source)
    print(summary_table(found.figures))


@flagged(source_options="--source-option", teacher="--metric")
def certify(
    source: Source,
    fields: Fields = "rain",
    source_options: SourceOptions = None,
    count: Annotated[int, typer.Option(min=1, help="fields from which steep places are searched")] = 8,
    steps: Annotated[int, typer.Option(min=0, help="steps of the search")] = 100,
    teacher: Teacher = None,
    seed: Seed = 0,
    progress: Annotated[bool, typer.Option(help="show a progress bar")] = True,
) -> None:
    """Bound a frozen surrogate's Lipschitz constant, and search for the largest slope that it has.

    Both are those of the map from fields to signed-log curves, in 2-norms. The bound is sound and
    global, where there is one; the search gives a slope that was measured.
    """
    from ..emulators import certify as certificate_of
    from ..evaluation import largest_slope
    from ..pipeline.measuring import fields_for
    from ..zoo import load

    introduce(teacher)
    surrogate = load(source)
    sample = fields_for(surrogate, fields, count, seed, whole=True, options=_keyed(source_options))
    certificate = certificate_of(surrogate, sample.shape[-2:])
    print(certificate)
    for name, norm in certificate.layers:
        print(f"  {name:40} {norm:.6g}")
    slope = largest_slope(surrogate, sample, steps=steps, seed=seed, progress=progress)
    print(f"largest slope found: {slope:.6g}")
    if certificate.bound is not None:
        print(f"share of the bound:  {slope / certificate.bound:.3g}")


def _refuse_unused(context: typer.Context) -> None:
    """Refuse the first parameter that was given and that ensembles of a file have no use for."""
    for name in context.params:
        told = context.get_parameter_source(name)
        if name not in _WITH_MEMBERS and told is not None and told.name != "DEFAULT":
            raise ArgumentError(f"{name} is not for `members`; leave one of them out")


def _score(surrogate: Surrogate, file: Path, out: Path | None, seed: int, progress: bool) -> None:
    """Score the ensembles of a file by the exact metric of a surrogate."""
    from ..evaluation import ensemble_scores
    from ..pipeline.ensembles import read_ensembles, write_scores
    from ..pipeline.places import as_writable

    folder = None if out is None else as_writable(out)
    members, observed = read_ensembles(file, surrogate.provenance.unit)
    found = ensemble_scores(surrogate.metric, members, observed, seed=seed, progress=progress)
    if folder is not None:
        write_scores(folder, found, members, observed, surrogate.provenance.unit)
    print(found)


def _keyed(given: list[str] | None) -> dict[str, object]:
    """Arguments of the source."""
    return key_values("--source-option", given or [])
