"""One command: label fields, train an emulator of a metric, evaluate it, freeze it.

python train_surrogate.py --metric minkowski --fields rain --arch constrained --minutes 3 --out runs/first
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

if not __package__:
    # Run as a script: the folder `datasets` beside this file would shadow the Hugging Face package
    # of that name, so this folder leaves the search path, and the installed package takes over.
    _here = Path(__file__).resolve().parent
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != _here]
    try:
        command = import_module("emuloss.train_surrogate")
    except ModuleNotFoundError as error:
        print(
            f"error: {error}; install emuloss, or use .venv/bin/python after `make install`", file=sys.stderr
        )
        sys.exit(2)
    sys.exit(command.main())

import typer

from ._command import QUIET_TYPER, numbers, run, source_options
from .errors import ArgumentError, DataError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from .datasets import FieldSource, LabelledFields
    from .emulators import Training
    from .metrics import Metric
    from .zoo import Surrogate

_SAMPLED_CHUNKS = 16
"""Training chunks whose wet pixels set the default thresholds."""


class _Axis(NamedTuple):
    """The threshold axis as the options give it: thresholds, with levels or not, or quantiles of the data."""

    thresholds: list[float] | None
    levels: list[float] | None
    quantiles: list[float] | None

    def check(self) -> None:
        """Raise ArgumentError for options that do not go together."""
        if self.thresholds and self.quantiles:
            raise ArgumentError("give either --thresholds or --quantiles")
        if self.levels and not self.thresholds:
            raise ArgumentError("--levels go with --thresholds; quantiles are levels by themselves")
        if self.quantiles and (self.quantiles[0] <= 0 or self.quantiles[-1] >= 1):
            raise ArgumentError(f"--quantiles must lie strictly between 0 and 1, got {self.quantiles}")


def train(
    fields: Annotated[
        str, typer.Option(help="rain | opera:DIR | images:DIR | FILE (.npy .npz .h5 .nc .zarr)")
    ],
    out: Annotated[Path, typer.Option(help="folder of the run; an interrupted run in it goes on")],
    metric: Annotated[str, typer.Option(help="metric to emulate")] = "minkowski",
    arch: Annotated[
        str | None,
        typer.Option(help="architecture; default: excursion for minkowski, constrained for other metrics"),
    ] = None,
    outputs: Annotated[str, typer.Option(help="outputs of the metric")] = "area,perimeter,euler",
    thresholds: Annotated[
        str | None, typer.Option(help="thresholds, such as 0.1,1,5; default: quantiles of the data")
    ] = None,
    quantiles: Annotated[
        str | None, typer.Option(help="levels of the wet pixels at which thresholds lie, such as 0.1,0.5,0.9")
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option(help="with --thresholds: their quantile levels, over which curves are integrated"),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="training time; default: 10, or none with --budget")
    ] = None,
    budget: Annotated[int | None, typer.Option(help="fields seen after which training ends")] = None,
    size: Annotated[int | None, typer.Option(help="edge length of a field, in pixels")] = None,
    stride: Annotated[int | None, typer.Option(help="step between training patches, in pixels")] = None,
    count: Annotated[int | None, typer.Option(help="number of synthetic fields")] = None,
    min_coverage: Annotated[
        float | None, typer.Option(help="least share of measured pixels in a patch")
    ] = None,
    bounds: Annotated[
        str | None,
        typer.Option(help="rates below the first are dry, above the second capped; radar: 0.1,150"),
    ] = None,
    pixel_size: Annotated[
        float | None, typer.Option(help="edge length of a pixel, if the data do not say")
    ] = None,
    length_unit: Annotated[
        str | None, typer.Option(help="unit of the pixel size; default: what the data say")
    ] = None,
    test_chunks: Annotated[
        int | None, typer.Option(help="last files (or blocks of fields) kept for the test")
    ] = None,
    gap_chunks: Annotated[int | None, typer.Option(help="files left out before the test")] = None,
    batch_size: Annotated[int, typer.Option(help="fields a step")] = 32,
    learning_rate: Annotated[float, typer.Option(help="peak learning rate")] = 1e-3,
    precision: Annotated[str, typer.Option(help="auto | float32 | bfloat16")] = "auto",
    spectral: Annotated[
        str | None,
        typer.Option(help="spectral normalisation: none | power | exact; default: the architecture's"),
    ] = None,
    isoperimetric: Annotated[
        str | None, typer.Option(help="lower bound of the perimeter in constrained heads: valid | textbook")
    ] = None,
    penalty: Annotated[
        str, typer.Option(help="gradient penalty: none | one-sided | two-sided | jacobian")
    ] = "none",
    penalty_weight: Annotated[float | None, typer.Option(help="weight of the penalty; default: 0.01")] = None,
    penalty_limit: Annotated[
        float | None,
        typer.Option(help="slope beyond which it sets in, in log units per field unit; default: 1.5"),
    ] = None,
    sobolev: Annotated[
        float, typer.Option(help="weight of the distillation of the relaxed surrogate's gradient")
    ] = 0.0,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="seed of weights, batches and synthetic fields")
    ] = 0,
    progress: Annotated[bool, typer.Option(help="show progress bars")] = True,
) -> None:
    """Label fields with an exact metric, train an emulator, evaluate it, and freeze it as a loss.

    The folder OUT then holds config.json and model.safetensors, for emuloss.load(OUT); report.png,
    evaluation.json, log.csv, labels.h5, and the state from which an interrupted run goes on.
    """
    # The settings are checked before anything heavy is imported or read.
    axis = _Axis(
        numbers("thresholds", thresholds), numbers("levels", levels), numbers("quantiles", quantiles)
    )
    axis.check()
    limits = numbers("bounds", bounds)
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"--out (={str(out)!r}) is a file; give a folder")

    from .metrics import list_metrics

    if metric not in list_metrics():
        raise ArgumentError(f"unknown metric {metric!r}; available: {', '.join(list_metrics())}")

    import torch

    from .datasets import assign_splits, label, open_source
    from .emulators import ARCHITECTURES, Training, check_shape, default_architecture
    from .zoo import Surrogate

    if arch is not None and arch not in ARCHITECTURES:
        raise ArgumentError(f"unknown architecture {arch!r}; available: {', '.join(ARCHITECTURES)}")
    if budget is not None and budget < 1:
        raise ArgumentError(f"--budget must be a positive number of fields, got {budget}")
    weights: dict[str, Any] = {"penalty_weight": penalty_weight, "penalty_limit": penalty_limit}
    settings = Training(
        minutes=10.0 if minutes is None and budget is None else minutes,
        fields=budget,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        precision=precision,
        penalty=penalty,
        sobolev=sobolev,
        **{name: value for name, value in weights.items() if value is not None},
    )
    source = open_source(
        fields,
        **source_options(
            fields,
            seed=seed,
            size=size,
            stride=stride,
            count=count,
            pixel_size=pixel_size,
            min_coverage=min_coverage,
            bounds=limits,
        ),
    )
    roles = assign_splits(source, test=test_chunks, gap=gap_chunks)
    if "test" not in roles:
        raise ArgumentError(
            f"--test-chunks (={test_chunks}) must be at least 1: the surrogate is evaluated on them"
        )
    teacher = _teacher(metric, source, roles, axis, outputs, length_unit or source.length_unit)
    arch = arch or default_architecture(teacher)
    torch.manual_seed(seed)
    emulator = _emulator(arch, teacher, spectral=spectral, isoperimetric=isoperimetric)
    check_shape(source.field_shape, emulator.stride)  # type: ignore[arg-type]
    out.mkdir(parents=True, exist_ok=True)

    _say(f"labelling {fields} with {metric} at {len(teacher.thresholds)} thresholds")
    store = label(source, teacher, out / "labels.h5", splits=roles, progress=progress)
    for role, number in store.counts.items():
        if not number:
            raise DataError(f"{fields} holds no usable field for the {role} split; give it more data")
    provenance: dict[str, Any] = {
        "unit": source.unit,
        "field_shape": list(source.field_shape),
        "training": {"source": store.source_config, "fields": store.counts},
    }
    log = None
    if any(True for _ in emulator.parameters()):
        provenance["training"] |= _trained(
            emulator, arch, teacher, store, settings, out, provenance, progress
        )
        log = out / "log.csv"
    else:
        _say(f"{arch} has nothing to train: options of the training have no effect")
    surrogate = Surrogate(emulator, arch, provenance)
    surrogate.save_pretrained(out)
    _evaluate(surrogate, *store.split("test"), out, log, progress)


def _emulator(arch: str, teacher: Metric, **options: str | None) -> nn.Module:
    """The untrained emulator, with those options that were given."""
    from inspect import signature

    from .emulators import ARCHITECTURES

    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in signature(ARCHITECTURES[arch]).parameters:
            raise ArgumentError(f"--{name} is no option of architecture {arch!r}; leave it out")
    return ARCHITECTURES[arch](teacher, **given)


def _trained(
    emulator: nn.Module,
    arch: str,
    teacher: Metric,
    store: LabelledFields,
    settings: Training,
    out: Path,
    provenance: dict[str, Any],
    progress: bool,
) -> dict[str, Any]:
    """Train an emulator in place; returns facts about the training."""
    from .emulators import Trainer
    from .zoo import Surrogate

    trainer = Trainer(
        emulator,
        teacher,
        store.split("train"),
        store.split("validation"),
        settings,
        out,
        quantum=store.quantum,
        progress=progress,
    )
    _say(f"training on {store.counts['train']} fields, on {trainer.device}")
    try:
        trainer.run()
    except KeyboardInterrupt:
        if trainer.best["weights"] is not None:
            Surrogate(emulator, arch, provenance).save_pretrained(out)
            _say(f"emuloss.load({str(out)!r}) gives the best emulator so far")
        raise
    return {"fields_seen": trainer.seen, "seconds": round(trainer.seconds), "seed": settings.seed}


def _teacher(
    name: str,
    source: FieldSource,
    roles: list[str],
    axis: _Axis,
    outputs: str,
    length_unit: str,
) -> Metric:
    """The exact metric, its thresholds given or taken from the training data."""
    from .metrics import WET_LEVELS, metric

    arguments: dict[str, Any] = {
        "pixel_size": source.pixel_size,
        "length_unit": length_unit,
        "outputs": tuple(part.strip() for part in outputs.split(",")),
    }
    if axis.thresholds:
        return metric(name, thresholds=axis.thresholds, levels=axis.levels, **arguments)
    metric(name, thresholds=[1.0], **arguments)  # refuses the other arguments before any field is read
    sample = _sample(source, roles)
    return metric(
        name, quantiles=axis.quantiles or WET_LEVELS, fields=sample, quantum=source.quantum, **arguments
    )


def _sample(source: FieldSource, roles: list[str]) -> np.ndarray:
    """Fields of some training chunks, spread over all of them."""
    import numpy as np

    chunks = [k for k, role in enumerate(roles) if role == "train"]
    picks = np.unique(np.linspace(0, len(chunks) - 1, min(_SAMPLED_CHUNKS, len(chunks))).round().astype(int))
    return np.concatenate([source.read(chunks[k], "train") for k in picks])


def _evaluate(
    surrogate: Surrogate, fields: np.ndarray, curves: np.ndarray, out: Path, log: Path | None, progress: bool
) -> None:
    """Measure the frozen surrogate; print, draw, and put the figures into the checkpoint."""
    import json

    from .evaluation import evaluate, summary_table, write_report

    _say(f"evaluating on {len(fields)} held-out fields")
    unit = surrogate.provenance["unit"]
    evaluation = evaluate(surrogate, fields, curves, field_unit=unit, progress=progress)
    surrogate.provenance["evaluation"] = evaluation.figures
    surrogate.save_pretrained(out)
    (out / "evaluation.json").write_text(json.dumps(evaluation.figures, indent=2))
    write_report(out / "report.png", surrogate, evaluation, fields, curves, training_log=log)
    print(summary_table(evaluation.figures))
    _say(f"frozen in {out}: loss = emuloss.load({str(out)!r}).as_loss(); pictures in {out / 'report.png'}")


def _say(text: str) -> None:
    print(f"emuloss: {text}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    app = typer.Typer(**QUIET_TYPER)
    app.command()(train)
    return run(app, arguments)


if __name__ == "__main__":  # python -m emuloss.train_surrogate
    sys.exit(main())
