"""The `emuloss` command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ._command import QUIET_TYPER, run, source_options
from .errors import DataError
from .train_surrogate import train

if TYPE_CHECKING:
    import numpy as np


def main(arguments: list[str] | None = None) -> int:
    """Run the `emuloss` command; returns its exit code."""
    app = typer.Typer(help="Turn any metric of a 2-D field into a training loss.", **QUIET_TYPER)
    app.command()(train)
    app.command("list")(list_metrics)
    app.command()(show)
    app.command()(certify)
    return run(app, arguments)


def list_metrics() -> None:
    """List the metrics that can be emulated."""
    from . import metrics

    for name in metrics.list_metrics():
        print(name)


def show(directory: Annotated[str, typer.Argument(help="folder of a frozen surrogate")]) -> None:
    """Show what a frozen surrogate emulates, and how well."""
    from .evaluation import summary_table
    from .zoo import load

    surrogate = load(directory)
    print(f"{surrogate.metric!r}, {surrogate.architecture}")
    print(summary_table(surrogate.evaluation) if surrogate.evaluation else "not evaluated")


def certify(
    directory: Annotated[str, typer.Argument(help="folder of a frozen surrogate")],
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
    from .emulators.certificates import certify as certificate_of
    from .evaluation import largest_slope
    from .zoo import load

    surrogate = load(directory)
    sample = _some_fields(fields, count, seed)
    certificate = certificate_of(surrogate.module, sample.shape[1:])
    print(certificate)
    for name, norm in certificate.layers:
        print(f"  {name:40} {norm:.6g}")
    slope = largest_slope(surrogate, sample, steps=steps, seed=seed)
    print(f"largest slope found: {slope:.6g}")
    if certificate.bound is not None:
        print(f"share of the bound:  {slope / certificate.bound:.3g}")


def _some_fields(spec: str, count: int, seed: int) -> np.ndarray:
    """The first usable fields of a source."""
    import numpy as np

    from .datasets import open_source

    source = open_source(spec, **source_options(spec, seed=seed))
    found: list[np.ndarray] = []
    for k in range(len(source)):
        found += list(source.read(k, "test"))
        if len(found) >= count:
            break
    if not found:
        raise DataError(f"{spec} holds no usable field")
    return np.stack(found[:count])
