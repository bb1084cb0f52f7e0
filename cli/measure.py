"""The commands that measure a surrogate: evaluate and certify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ArgumentError
from .zoo import Source


def evaluate(
    source: Source,
    fields: Annotated[str, typer.Option(help="rain | opera:DIR | images:DIR | FILE")] = "rain",
    count: Annotated[int, typer.Option(min=1, help="most fields to evaluate on")] = 400,
    whole: Annotated[
        bool, typer.Option(help="take all the data, not the last part that training leaves for the test")
    ] = False,
    thorough: Annotated[
        bool, typer.Option(help="invert the surrogate and shift the data, too; takes minutes")
    ] = True,
    out: Annotated[Path | None, typer.Option(help="folder for evaluation.json and report.png")] = None,
    save: Annotated[
        bool, typer.Option("--save", help="put the figures into the checkpoint itself, a folder")
    ] = False,
    function: Annotated[
        str | None,
        typer.Option("--metric", help="place of a metric that is a function of yours: FILE.py:NAME"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="seed of all noise and of rain")] = 0,
    progress: Annotated[bool, typer.Option(help="show progress bars")] = True,
) -> None:
    """Measure a frozen surrogate on labelled fields: fidelity, gradients, descent, inversion, shift."""
    from ..evaluation import summary_table
    from ..metrics import metric
    from ..pipeline.measuring import fields_for, measured, write_evaluation
    from ..zoo import load

    if save and not Path(source).is_dir():
        raise ArgumentError(f"--save needs a folder to write to, got {source!r}; copy the checkpoint first")
    surrogate = load(source)
    if function is not None:
        metric(function)  # a checkpoint's configuration imports nothing: its user has to name it
    sample = fields_for(surrogate, fields, count, seed, whole=whole)
    exact = surrogate.metric(*surrogate.metric.parts(sample))
    found = measured(surrogate, sample, exact, thorough=thorough, seed=seed, progress=progress)
    for folder in [*([out] if out else []), *([Path(source)] if save else [])]:
        write_evaluation(folder, surrogate, found, sample, exact)
    if save:
        surrogate.provenance.evaluation = dict(found.figures)
        surrogate.save_pretrained(source)
    print(summary_table(found.figures))


def certify(
    source: Source,
    fields: Annotated[
        str, typer.Option(help="fields from which steep places are searched: rain | opera:DIR | FILE")
    ] = "rain",
    count: Annotated[int, typer.Option(min=1, help="how many of them")] = 8,
    steps: Annotated[int, typer.Option(min=0, help="steps of the search")] = 100,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="seed of the search and of rain")] = 0,
) -> None:
    """Bound a frozen surrogate's Lipschitz constant, and search for the largest slope that it has.

    Both are those of the map from fields to signed-log curves, in 2-norms. The bound is sound and
    global, where there is one; the search gives a slope that was measured.
    """
    from ..emulators import certify as certificate_of
    from ..evaluation import largest_slope
    from ..pipeline.measuring import fields_for
    from ..zoo import load

    surrogate = load(source)
    sample = fields_for(surrogate, fields, count, seed, whole=True)
    certificate = certificate_of(surrogate, sample.shape[-2:])
    print(certificate)
    for name, norm in certificate.layers:
        print(f"  {name:40} {norm:.6g}")
    slope = largest_slope(surrogate, sample, steps=steps, seed=seed)
    print(f"largest slope found: {slope:.6g}")
    if certificate.bound is not None:
        print(f"share of the bound:  {slope / certificate.bound:.3g}")
