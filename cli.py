"""The `emuloss` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._command import QUIET_TYPER, run, source_options
from .errors import ArgumentError, DataError
from .train_surrogate import label_fields, train

if TYPE_CHECKING:
    import numpy as np

    from .zoo import Surrogate


def main(arguments: list[str] | None = None) -> int:
    """Run the `emuloss` command; returns its exit code."""
    app = typer.Typer(help="Turn any metric of a 2-D field into a training loss.", **QUIET_TYPER)
    app.command()(train)
    app.command("label")(label_fields)
    app.command("list")(list_names)
    app.command()(show)
    app.command()(evaluate)
    app.command()(certify)
    app.command()(verify)
    app.command()(publish)
    return run(app, arguments)


Source = Annotated[str, typer.Argument(help="bundled name, folder, or org/repo[@revision] on the Hub")]


def list_names(
    filter: Annotated[str, typer.Argument(help='names to list, such as "*opera*"')] = "",
    metrics: Annotated[bool, typer.Option("--metrics", help="list the exact metrics")] = False,
) -> None:
    """List the surrogates that ship with the package, or the metrics that can be emulated."""
    from .zoo import info, list_models

    if metrics:
        _print_metrics(filter)
        return
    names = list_models(filter)
    if not names:
        raise ArgumentError(f"no bundled surrogate matches {filter!r}; there are {', '.join(list_models())}")
    print("\n".join(str(info(name)) for name in names))


def _print_metrics(filter: str) -> None:
    """A table of the metrics whose names match."""
    from .emulators.relaxed import relaxable
    from .metrics import list_metrics, metric, takes
    from .zoo import info, list_models
    from .zoo.loading import matches

    pretrained = {info(name).metric for name in list_models()}
    rows = [("metric", "arity", "outputs", "relaxation", "pretrained")]
    for name in list_metrics():
        if not matches(name, filter):
            continue
        needed: dict[str, Any] = {"thresholds": [1.0]} if "thresholds" in takes(name) else {}
        example = metric(name, **needed)
        relaxed = _yes(relaxable(example))
        if relaxed == "no" and "outputs" in takes(name):
            alone = [x for x in example.outputs if relaxable(metric(name, **needed, outputs=[x]))]
            relaxed = ", ".join(alone) or relaxed
        outputs = ", ".join(example.outputs)
        rows.append((name, str(example.arity), outputs, relaxed, _yes(name in pretrained)))
    if len(rows) == 1:
        raise ArgumentError(f"no metric matches {filter!r}; there are {', '.join(list_metrics())}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("or any Python function of yours: --metric FILE.py:NAME or MODULE:NAME")


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def show(source: Source) -> None:
    """Show what a frozen surrogate emulates, and how well."""
    from .evaluation import summary_table
    from .zoo import info

    found = info(source)
    print(found)
    print(summary_table(found.evaluation) if found.evaluation else "not evaluated")


def verify(source: Source) -> None:
    """Replay the golden outputs that a checkpoint was saved with; fails where they differ."""
    from .zoo import verify as replay

    replay(source)
    print(f"{source} gives what it gave when it was saved")


def publish(
    folder: Annotated[Path, typer.Argument(help="folder of a run, evaluated")],
    repo: Annotated[str, typer.Argument(help="org/repo on the Hugging Face Hub")],
    private: Annotated[bool, typer.Option("--private", help="make a new repository private")] = False,
    revision: Annotated[str | None, typer.Option(help="branch; default: main")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="open a pull request instead")] = False,
    tag: Annotated[str | None, typer.Option(help="name for the new commit, such as v1")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be sent")] = False,
) -> None:
    """Publish a run on the Hugging Face Hub, once its golden outputs replay."""
    from .zoo import publish as send

    print(
        send(folder, repo, private=private, revision=revision, create_pr=create_pr, tag=tag, dry_run=dry_run)
    )


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
    import json

    from . import evaluation, metrics
    from .zoo import load

    if save and not Path(source).is_dir():
        raise ArgumentError(f"--save needs a folder to write to, got {source!r}; copy the checkpoint first")
    surrogate = load(source)
    if function is not None:
        metrics.metric(function)  # a checkpoint's configuration imports nothing: its user has to name it
    sample = _some_fields(fields, count, seed, surrogate, whole=whole)
    curves = surrogate.metric(*(sample.swapaxes(0, 1) if surrogate.metric.arity == 2 else [sample]))
    found = evaluation.evaluate(
        surrogate,
        sample,
        curves,
        thorough=thorough,
        field_unit=surrogate.provenance.get("unit", ""),
        seed=seed,
        progress=progress,
    )
    for folder in [*([out] if out else []), *([Path(source)] if save else [])]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "evaluation.json").write_text(json.dumps(found.figures, indent=2))
        evaluation.write_report(folder / "report.png", surrogate, found, sample, curves)
    if save:
        surrogate.provenance["evaluation"] = found.figures
        surrogate.save_pretrained(source)
    print(evaluation.summary_table(found.figures))


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
    from .emulators.certificates import certify as certificate_of
    from .evaluation import largest_slope
    from .zoo import load

    surrogate = load(source)
    sample = _some_fields(fields, count, seed, surrogate, whole=True)
    certificate = certificate_of(surrogate.module, sample.shape[-2:])
    print(certificate)
    for name, norm in certificate.layers:
        print(f"  {name:40} {norm:.6g}")
    slope = largest_slope(surrogate, sample, steps=steps, seed=seed)
    print(f"largest slope found: {slope:.6g}")
    if certificate.bound is not None:
        print(f"share of the bound:  {slope / certificate.bound:.3g}")


def _some_fields(spec: str, count: int, seed: int, surrogate: Surrogate, *, whole: bool) -> np.ndarray:
    """The first usable fields of a source, or of its test split, in the surrogate's unit: (N, H, W).

    For a pairwise metric, pairs (N, 2, H, W) of imagined predictions and these fields.
    """
    import numpy as np

    from .datasets import assign_splits, open_source, predictions_of

    source = open_source(spec, **source_options(spec, seed=seed))
    unit = surrogate.provenance.get("unit", "")
    if unit and source.unit and unit != source.unit:
        raise ArgumentError(f"--fields (={spec!r}) come in {source.unit}, the surrogate takes {unit}")
    roles = ["test"] * len(source) if whole else assign_splits(source)
    found: list[np.ndarray] = []
    for k, role in enumerate(roles):
        if role == "test":
            found += list(source.read(k, "test"))
        if len(found) >= count:
            break
    if not found:
        raise DataError(f"{spec} holds no usable field; give it more data")
    sample = np.stack(found[:count])
    if surrogate.metric.arity == 1:
        return sample
    return np.stack([predictions_of(sample, np.random.default_rng(seed)), sample], axis=1)
