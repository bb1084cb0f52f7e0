"""One command: label fields, train an emulator of a metric, evaluate it, freeze it.

python train_surrogate.py --metric minkowski --fields rain --arch constrained --minutes 3 --out runs/first
"""

from __future__ import annotations

import signal
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

from ._command import QUIET_TYPER, first_of_several, numbers, run, source_options, whole_numbers
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
_SAMPLED_FIELDS = 512
"""Training fields whose quantiles stand for the thresholds of a metric that has none."""
_INTENSITIES = (0.1, 0.5, 0.8, 0.92, 0.97, 0.99, 0.997)
"""Their levels, close together where values are large: metrics that look at peaks are learnt the latest."""


class _Asked(NamedTuple):
    """The metric as the options give it: thresholds, with levels or not, or quantiles of the data."""

    name: str
    options: dict[str, Any]
    thresholds: list[float] | None
    levels: list[float] | None
    quantiles: list[float] | None

    @classmethod
    def read(
        cls,
        name: str,
        outputs: str | None,
        options: list[str] | None,
        thresholds: str | None,
        levels: str | None,
        quantiles: str | None,
        length_unit: str | None,
    ) -> _Asked:
        """Read the options.

        Raises:
            ArgumentError: options that do not go together, or an unknown metric.
        """
        found = cls(
            name,
            _metric_options(options or []),
            thresholds=numbers("thresholds", thresholds),
            levels=numbers("levels", levels),
            quantiles=numbers("quantiles", quantiles),
        )
        if found.thresholds and found.quantiles:
            raise ArgumentError("give either --thresholds or --quantiles")
        if found.levels and not found.thresholds:
            raise ArgumentError("--levels go with --thresholds; quantiles are levels by themselves")
        if found.quantiles and (found.quantiles[0] <= 0 or found.quantiles[-1] >= 1):
            raise ArgumentError(f"--quantiles must lie strictly between 0 and 1, got {found.quantiles}")

        from .metrics import takes

        known = takes(name)
        given = (
            ("outputs", "outputs", outputs),
            ("length-unit", "length_unit", length_unit),
            ("thresholds", "thresholds", thresholds),
            ("quantiles", "thresholds", quantiles),
        )
        for option, argument, value in given:
            if value is not None and argument not in known:
                raise ArgumentError(f"metric {name!r} takes no {argument}; leave --{option} out")
            if value is not None and argument in found.options:
                raise ArgumentError(
                    f"{argument} of metric {name!r} is given by --{option} and --metric-option"
                )
        if outputs is not None:
            found.options["outputs"] = [part.strip() for part in outputs.split(",")]
        if length_unit is not None:
            found.options["length_unit"] = length_unit
        return found


def _metric_options(given: list[str]) -> dict[str, Any]:
    """Arguments of a metric from KEY=VALUE: JSON, or else text."""
    import json

    options: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name.isidentifier() or not equals or name in options:
            raise ArgumentError(
                f"--metric-option must be KEY=VALUE, each KEY once, such as windows=[1,5]; got {text!r}"
            )
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


Fields = Annotated[str, typer.Option(help="rain | opera:DIR | images:DIR | FILE (.npy .npz .h5 .nc .zarr)")]
MetricName = Annotated[
    str,
    typer.Option(
        help="metric: a name of `emuloss list --metrics`, or a function, FILE.py:NAME or MODULE:NAME"
    ),
]
MetricOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--metric-option", help="argument of the metric, KEY=VALUE, VALUE as JSON: windows=[1,5]; repeatable"
    ),
]
Outputs = Annotated[str | None, typer.Option(help="outputs of the metric; default: the metric's")]
Thresholds = Annotated[
    str | None, typer.Option(help="thresholds, such as 0.1,1,5; default: quantiles of the data")
]
Quantiles = Annotated[
    str | None, typer.Option(help="levels of the wet pixels at which thresholds lie, such as 0.1,0.5,0.9")
]
Levels = Annotated[
    str | None,
    typer.Option(help="with --thresholds: their quantile levels, over which curves are integrated"),
]
Size = Annotated[int | None, typer.Option(help="edge length of a field, in pixels")]
Stride = Annotated[int | None, typer.Option(help="step between training patches, in pixels")]
Count = Annotated[int | None, typer.Option(help="number of synthetic fields")]
MinCoverage = Annotated[float | None, typer.Option(help="least share of measured pixels in a patch")]
Bounds = Annotated[
    str | None, typer.Option(help="rates below the first are dry, above the second capped; radar: 0.1,150")
]
PixelSize = Annotated[float | None, typer.Option(help="edge length of a pixel, if the data do not say")]
LengthUnit = Annotated[str | None, typer.Option(help="unit of the pixel size; default: what the data say")]
TestChunks = Annotated[int | None, typer.Option(help="last files (or blocks of fields) kept for the test")]
GapChunks = Annotated[int | None, typer.Option(help="files left out before the test")]
Progress = Annotated[bool, typer.Option(help="show progress bars")]


def train(
    fields: Fields,
    out: Annotated[Path, typer.Option(help="folder of the run; an interrupted run in it goes on")],
    metric: MetricName = "minkowski",
    arch: Annotated[
        str | None,
        typer.Option(help="architecture; default: excursion for minkowski, hybrid for other metrics"),
    ] = None,
    outputs: Outputs = None,
    metric_option: MetricOptions = None,
    thresholds: Thresholds = None,
    quantiles: Quantiles = None,
    levels: Levels = None,
    minutes: Annotated[
        float | None, typer.Option(help="training time; default: 10, or none with --budget")
    ] = None,
    budget: Annotated[int | None, typer.Option(help="fields seen after which training ends")] = None,
    size: Size = None,
    stride: Stride = None,
    count: Count = None,
    min_coverage: MinCoverage = None,
    bounds: Bounds = None,
    pixel_size: PixelSize = None,
    length_unit: LengthUnit = None,
    test_chunks: TestChunks = None,
    gap_chunks: GapChunks = None,
    batch_size: Annotated[int, typer.Option(help="fields a step, over all processes")] = 32,
    learning_rate: Annotated[float, typer.Option(help="peak learning rate")] = 1e-3,
    precision: Annotated[str, typer.Option(help="auto | float32 | bfloat16")] = "auto",
    spectral: Annotated[
        str | None,
        typer.Option(help="spectral normalisation: none | power | exact; default: the architecture's"),
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option(
            help="channels of the network's stages, such as 16,32,64,128; default: the architecture's"
        ),
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
    licence: Annotated[
        str, typer.Option("--license", help="licence of the checkpoint, as the Hub names it: apache-2.0, ...")
    ] = "",
    progress: Progress = True,
) -> None:
    """Label fields with an exact metric, train an emulator, evaluate it, and freeze it as a loss.

    The folder OUT then holds config.json and model.safetensors, for emuloss.load(OUT); report.png,
    evaluation.json, log.csv, labels.h5, and the state from which an interrupted run goes on.

    `accelerate launch` starts it on several devices or machines, which share the folder OUT.
    """
    # The settings are checked before anything heavy is imported or read.
    asked = _Asked.read(metric, outputs, metric_option, thresholds, levels, quantiles, length_unit)
    limits = numbers("bounds", bounds)
    channels = whole_numbers("widths", widths)
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"--out (={str(out)!r}) is a file; give a folder")

    import torch

    from .emulators import ARCHITECTURES, Training, check_shape, default_architecture, found_scales
    from .emulators.processes import processes
    from .metrics import FunctionMetric
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
    team = processes()
    if not team.main:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process hears it, and tells the others
    with team.together():
        source, roles = _opened(
            fields,
            (test_chunks, gap_chunks),
            seed=seed,
            size=size,
            stride=stride,
            count=count,
            pixel_size=pixel_size,
            min_coverage=min_coverage,
            bounds=limits,
        )
        if "test" not in roles:
            raise ArgumentError(
                f"--test-chunks (={test_chunks}) must be at least 1: the surrogate is evaluated on them"
            )
        teacher = _teacher(asked, source, roles)
        arch = arch or default_architecture(teacher)
        options: dict[str, Any] = {"spectral": spectral, "widths": channels, "isoperimetric": isoperimetric}
        torch.manual_seed(seed)
        emulator = _emulator(arch, teacher, **options)
        check_shape(source.field_shape, emulator.stride)  # type: ignore[arg-type]
        out.mkdir(parents=True, exist_ok=True)

        store = team.of_main(
            lambda: _labelled(source, teacher, asked, fields, out / "labels.h5", roles, seed, progress)
        )
        for role, number in store.counts.items():
            if not number:
                raise DataError(f"{fields} holds no usable field for the {role} split; give it more data")
        if store.constant_outputs() == store.outputs:
            raise DataError(
                f"constant output: {metric} is the same for all {len(store)} fields, so that there is "
                "nothing to learn; choose other thresholds, outputs or fields"
            )
        # Built anew with what the labels tell: the size of a function's values, what stands for thresholds.
        if isinstance(teacher, FunctionMetric):
            teacher = teacher.with_found_scales(lambda: found_scales(store.split("train")[1]))
        if not teacher.thresholds:
            options["intensities"] = _intensities(store)
        torch.manual_seed(seed)
        emulator = _emulator(arch, teacher, **options)
        provenance: dict[str, Any] = {
            "unit": source.unit,
            "field_shape": list(source.field_shape),
            "license": licence,
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
        if team.main:
            surrogate = Surrogate(emulator, arch, provenance)
            surrogate.save_pretrained(out)
            _evaluate(surrogate, *store.split("test"), out, log, progress)


def label_fields(
    fields: Fields,
    out: Annotated[Path, typer.Option(help="file to write, such as labels.h5; goes on where it stopped")],
    metric: MetricName = "minkowski",
    outputs: Outputs = None,
    metric_option: MetricOptions = None,
    thresholds: Thresholds = None,
    quantiles: Quantiles = None,
    levels: Levels = None,
    size: Size = None,
    stride: Stride = None,
    count: Count = None,
    min_coverage: MinCoverage = None,
    bounds: Bounds = None,
    pixel_size: PixelSize = None,
    length_unit: LengthUnit = None,
    test_chunks: TestChunks = None,
    gap_chunks: GapChunks = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="seed of synthetic fields, and of predictions")
    ] = 0,
    engine: Annotated[
        str, typer.Option(help="where the metric runs: local (this machine) | dask (a cluster's workers)")
    ] = "local",
    scheduler: Annotated[
        str | None, typer.Option(help="address of the Dask scheduler, such as tcp://HOST:8786")
    ] = None,
    progress: Progress = True,
) -> None:
    """Label fields with an exact metric, and store both in one HDF5 file, without training."""
    from .datasets.engines import engine_named

    asked = _Asked.read(metric, outputs, metric_option, thresholds, levels, quantiles, length_unit)
    limits = numbers("bounds", bounds)
    if out.is_dir():
        raise ArgumentError(f"--out (={str(out)!r}) is a folder; give a file")
    engine_named(engine, scheduler)  # refuses a wrong choice before any field is read
    source, roles = _opened(
        fields,
        (test_chunks, gap_chunks),
        seed=seed,
        size=size,
        stride=stride,
        count=count,
        pixel_size=pixel_size,
        min_coverage=min_coverage,
        bounds=limits,
    )
    teacher = _teacher(asked, source, roles)
    out.parent.mkdir(parents=True, exist_ok=True)
    store = _labelled(
        source, teacher, asked, fields, out, roles, seed, progress, engine=engine, scheduler=scheduler
    )
    counts = ", ".join(f"{number} {role}" for role, number in store.counts.items())
    print(f"{out}: {counts} {'pairs' if store.pairs else 'fields'}; {', '.join(store.outputs)}")


def _intensities(store: LabelledFields) -> tuple[float, ...] | None:
    """Quantiles of the training fields above their least value, or None where these take few values."""
    import numpy as np

    from .metrics import quantile_thresholds

    fields = store.split("train")[0]
    fields = fields[np.unique(np.linspace(0, len(fields) - 1, _SAMPLED_FIELDS).round().astype(int))]
    try:
        return quantile_thresholds(fields, _INTENSITIES, wet=float(np.nanmin(fields)), quantum=store.quantum)
    except ArgumentError:
        return None


def _emulator(arch: str, teacher: Metric, **options: Any) -> nn.Module:
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
    count = trainer.processes.world_size
    where = str(trainer.device) if count == 1 else f"{trainer.device.type}, in {count} processes"
    _say(f"training on {store.counts['train']} fields, on {where}")
    try:
        trainer.run()
    except KeyboardInterrupt:
        if trainer.best["weights"] is not None and trainer.processes.main:
            Surrogate(emulator, arch, provenance).save_pretrained(out)
            _say(f"emuloss.load({str(out)!r}) gives the best emulator so far")
        raise
    return {"fields_seen": trainer.seen, "seconds": round(trainer.seconds), "seed": settings.seed}


def _opened(
    fields: str, chunks: tuple[int | None, int | None], *, seed: int, **options: Any
) -> tuple[FieldSource, list[str]]:
    """A source of fields, and the roles of its chunks."""
    from .datasets import assign_splits, open_source

    source = open_source(fields, **source_options(fields, seed=seed, **options))
    test, gap = chunks
    return source, assign_splits(source, test=test, gap=gap)


def _labelled(
    source: FieldSource,
    teacher: Metric,
    asked: _Asked,
    fields: str,
    path: Path,
    roles: list[str],
    seed: int,
    progress: bool,
    *,
    engine: str = "local",
    scheduler: str | None = None,
) -> LabelledFields:
    """The labelled store of a source."""
    from .datasets import label

    where = f" at {len(teacher.thresholds)} thresholds" if teacher.thresholds else ""
    _say(f"labelling {fields} with {asked.name}{where}")
    store = label(
        source, teacher, path, splits=roles, progress=progress, seed=seed, engine=engine, scheduler=scheduler
    )
    for output in store.constant_outputs():
        _say(f"warning: constant output: {output} is the same for all {len(store)} fields")
    return store


def _teacher(asked: _Asked, source: FieldSource, roles: list[str]) -> Metric:
    """The exact metric; what it takes of the data, such as thresholds, is found in the training fields."""
    from .metrics import WET_LEVELS, metric, takes

    known = takes(asked.name)
    of_data = {
        "pixel_size": source.pixel_size,
        "length_unit": source.length_unit,
        "field_unit": source.unit or "unit",
    }
    arguments: dict[str, Any] = {name: value for name, value in of_data.items() if name in known}
    arguments |= asked.options
    if asked.thresholds:
        arguments["thresholds"] = asked.thresholds
    if asked.levels:
        arguments["levels"] = asked.levels
    placed = "thresholds" in known and "thresholds" not in arguments
    # Refuses the other arguments before any field is read.
    metric(asked.name, **arguments | ({"thresholds": [1.0]} if placed else {}))
    if not placed and ":" not in asked.name:
        return metric(asked.name, **arguments)
    if placed:
        arguments |= {"quantiles": asked.quantiles or WET_LEVELS, "quantum": source.quantum}
    return metric(asked.name, fields=_sample(source, roles), **arguments)


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
    (out / "evaluation.json").write_text(json.dumps(evaluation.figures, indent=2))
    write_report(out / "report.png", surrogate, evaluation, fields, curves, training_log=log)
    surrogate.save_pretrained(out)  # after the picture, which its card shows
    print(summary_table(evaluation.figures))
    _say(f"frozen in {out}: loss = emuloss.load({str(out)!r}).as_loss(); pictures in {out / 'report.png'}")


def _say(text: str) -> None:
    if first_of_several():
        print(f"emuloss: {text}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    app = typer.Typer(**QUIET_TYPER)
    app.command()(train)
    return run(app, arguments, speaks=first_of_several)


if __name__ == "__main__":  # python -m emuloss.train_surrogate
    sys.exit(main())
