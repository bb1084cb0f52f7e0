"""What decides a run: the data, the teacher, the network, and where the results go.

What decides the training is `emuloss.training.Training`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ..foundation.arguments import as_count, as_increasing, as_path
from ..foundation.durations import as_duration
from ..foundation.options import SEEDS, Options, option
from ..metrics import Metric, takes
from . import choices
from .parsing import (
    as_mapping,
    key_values,
    metric_name,
    names,
    numbers,
    one_or_numbers,
    whole_numbers,
)


@dataclass(frozen=True)
class Data(Options):
    """Where fields come from, and how they are shared out between training and testing.

    Attributes:
        fields: text for `emuloss.datasets.open_source`, a `FieldSource`, or fields (T, H, W) in order of
            time, as a NumPy array or an xarray DataArray.
        source_options: any other arguments of the source, such as `variable` or `quantity`.
        size: edge length of a field in pixels, or (height, width).
        stride: step between training patches, likewise.
        count: number of synthetic fields.
        min_coverage: least share of measured pixels in a patch.
        bounds: rates below the first are dry, above the second capped.
        wet: pixels above it count where thresholds are placed at quantiles.
        pixel_size: edge length of a pixel, if the data do not say.
        unit: of the values, if the data do not say.
        test_chunks: last chunks (files, or blocks of fields) kept for the test; default: a sixth.
        gap_chunks: chunks left out before the test; default: a twelfth of data in order of time.
        gap: time left out before the test instead, such as "3h" or a timedelta.
        skip_unreadable: whether files that cannot be read are left out, and counted.

    Raises:
        ArgumentError: an argument of the source that is given twice, a gap that is no duration or is given in
            chunks as well.
    """

    fields: Any = option(help="where fields come from", kind=str, choices=choices.sources)
    source_options: Mapping[str, Any] | None = option(
        None,
        "argument of the source, KEY=VALUE, VALUE as JSON or text: variable=rain; repeatable; "
        "default: the source's own",
        flag="--source-option",
        kind=list[str],
        parse=key_values,
    )
    size: int | tuple[int, int] | None = option(
        None, "edge length of a field, in pixels; default: the source's, such as 128", kind=int
    )
    stride: int | tuple[int, int] | None = option(
        None, "step between training patches, in pixels; default: the source's", kind=int
    )
    count: int | None = option(None, "number of synthetic fields; default: the source's, such as 4096")
    min_coverage: float | None = option(
        None, "least share of measured pixels in a patch; default: the source's, such as 0.9"
    )
    bounds: Sequence[float] | None = option(
        None,
        "rates below the first are dry, above the second capped; default: the source's, such as 0.1,150",
        parse=numbers,
    )
    wet: float | None = option(
        None, "pixels above it set default thresholds; default: rain above 0, other fields as the data tell"
    )
    pixel_size: float | None = option(None, "edge length of a pixel; default: what the data say")
    unit: str | None = option(None, "unit of the values; default: what the data say")
    test_chunks: int | None = option(
        None, "last files (or blocks of fields) kept for the test; default: a sixth"
    )
    gap_chunks: int | None = option(
        None, "files left out before the test; default: a twelfth of data in order of time"
    )
    gap: str | timedelta | None = option(
        None,
        "time left out before the test instead, such as 3h or 90min; default: see --gap-chunks",
        kind=str,
    )
    skip_unreadable: bool = option(False, "leave files out that cannot be read, and count them")

    def __post_init__(self) -> None:
        object.__setattr__(self, "source_options", as_mapping("source_options", self.source_options))
        if self.gap is not None:
            as_duration("gap", self.gap)
            if self.gap_chunks is not None:
                raise ArgumentError("give either `gap` or `gap_chunks`, not both")
        for name in _OF_SOURCES:
            if name in self._named and name in (self.source_options or {}):
                raise ArgumentError(f"{name} of the source is given by `{name}` and by `source_options`")

    @property
    def title(self) -> str:
        """What messages call the data."""
        return self.fields if isinstance(self.fields, str) else "the fields"

    @property
    def opened_with(self) -> dict[str, Any]:
        """The arguments of the source that are given."""
        return {**(self.source_options or {}), **self._named}

    @property
    def _named(self) -> dict[str, Any]:
        """Those that are options by themselves."""
        given = {name: getattr(self, name) for name in _OF_SOURCES}
        return {name: value for name, value in given.items() if value is not None and value is not False}


_OF_SOURCES = (
    "size",
    "stride",
    "count",
    "min_coverage",
    "bounds",
    "wet",
    "pixel_size",
    "unit",
    "skip_unreadable",
)
"""Options that are arguments of sources."""


@dataclass(frozen=True)
class Teacher(Options):
    """The exact metric: thresholds, with levels or not, or quantiles of the data.

    Attributes:
        metric: the name of a metric; a Python function, or the place of one, or of a class of metrics; or a
            `Metric`, to which nothing is added.
        outputs: names of its outputs; default: the metric's.
        metric_options: other arguments of the metric.
        thresholds: in the fields' unit; default: quantiles of the data.
        quantiles: levels of the pixels that count, wet ones in rain, at which thresholds lie.
        levels: with thresholds: their quantile levels, over which curves are integrated.
        length_unit: unit of the pixel size; default: what the data say.

    Raises:
        ArgumentError: settings that do not go together, or an unknown metric.
    """

    metric: str | Metric | Callable[..., Any] = option(
        "minkowski",
        "the exact metric, by its name or as the place of a function or class of yours",
        parse=metric_name,
        choices=choices.metrics,
    )
    outputs: Sequence[str] | None = option(
        None,
        "outputs, such as area,holes (`emuloss list --metrics` shows them); default: the metric's",
        parse=names,
    )
    metric_options: Mapping[str, Any] | None = option(
        None,
        "argument of the metric, KEY=VALUE, VALUE as JSON or text: windows=[1,5]; repeatable; "
        "default: the metric's own",
        flag="--metric-option",
        kind=list[str],
        parse=key_values,
    )
    thresholds: Sequence[float] | None = option(
        None, "thresholds, such as 0.1,1,5; default: quantiles of the data", parse=numbers
    )
    quantiles: Sequence[float] | None = option(
        None,
        "levels of the pixels that count at which thresholds lie, such as 0.1,0.5,0.9; "
        "default: 21 from 0.01 to 0.99",
        parse=numbers,
    )
    levels: Sequence[float] | None = option(
        None,
        "of given thresholds: their quantile levels, over which curves are integrated; "
        "default: evenly spaced",
        parse=numbers,
    )
    length_unit: str | None = option(None, "unit of the pixel size; default: what the data say")

    def __post_init__(self) -> None:
        for name in ("thresholds", "quantiles", "levels"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_increasing(name, getattr(self, name)))
        if isinstance(self.metric, Metric):
            for name in ("outputs", "metric_options", *_ARGUMENTS, "levels"):
                if getattr(self, name) is not None:
                    raise ArgumentError(f"{name} is for a metric by name; give it to the metric itself")
            return
        object.__setattr__(self, "metric_options", as_mapping("metric_options", self.metric_options))
        if self.thresholds and self.quantiles:
            raise ArgumentError("give either `thresholds` or `quantiles`, not both")
        if self.levels and not self.thresholds:
            raise ArgumentError("levels must go with `thresholds`; quantiles are levels by themselves")
        if self.quantiles and (self.quantiles[0] <= 0 or self.quantiles[-1] >= 1):
            raise ArgumentError(f"quantiles must lie strictly between 0 and 1, got {list(self.quantiles)}")
        known = takes(self.metric)
        for name, argument in _ARGUMENTS.items():
            if getattr(self, name) is not None and argument not in known:
                raise ArgumentError(f"metric {self.title!r} takes no {argument}; leave `{name}` out")
            if getattr(self, name) is not None and argument in (self.metric_options or {}):
                raise ArgumentError(
                    f"{argument} of metric {self.title!r} is given by `{name}` and by `metric_options`"
                )

    @property
    def title(self) -> str:
        """What messages call the metric."""
        if isinstance(self.metric, Metric):
            return self.metric.title
        if isinstance(self.metric, str):
            return self.metric
        return getattr(self.metric, "__name__", type(self.metric).__name__)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the metric that are given, but for quantiles."""
        names = ("outputs", "thresholds", "levels", "length_unit")
        found = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {**(self.metric_options or {}), **found}


_ARGUMENTS = {
    "outputs": "outputs",
    "length_unit": "length_unit",
    "thresholds": "thresholds",
    "quantiles": "thresholds",
}
"""Which argument of the metric an option decides."""


@dataclass(frozen=True)
class Network(Options):
    """The architecture, and what is chosen about it.

    Attributes:
        arch: name of the architecture; default: the one that suits the metric.
        arch_options: any other arguments of the architecture, such as `hidden`.
        temperature: relative temperature of a relaxation; one, or one for each threshold.
        spectral: spectral normalisation.
        widths: channels of the network's stages.
        isoperimetric: lower bound of the perimeter in constrained heads.

    Raises:
        ArgumentError: an argument of the architecture that is given twice.
    """

    arch: str | None = option(
        None,
        "architecture; default: excursion for minkowski, hybrid for other metrics",
        choices=choices.architectures,
    )
    arch_options: Mapping[str, Any] | None = option(
        None,
        "argument of the architecture, KEY=VALUE, VALUE as JSON or text: hidden=128; repeatable; "
        "default: the architecture's own",
        flag="--arch-option",
        kind=list[str],
        parse=key_values,
    )
    temperature: float | Sequence[float] | None = option(
        None,
        "width of the soft steps of a relaxation, relative to the spread of the data (relaxed), or of those "
        "that its gradient comes from (excursion); one, or one for each threshold; "
        "default: 0.05, of excursion 0.1",
        parse=one_or_numbers,
    )
    spectral: str | None = option(
        None, "spectral normalisation; default: the architecture's", choices=choices.spectral_norms
    )
    widths: Sequence[int] | None = option(
        None,
        "channels of the network's stages, such as 16,32,64,128; default: the architecture's",
        parse=whole_numbers,
    )
    isoperimetric: str | None = option(
        None,
        "lower bound of the perimeter in constrained heads; default: the architecture's, valid",
        choices=lambda: ("valid", "textbook"),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "arch_options", as_mapping("arch_options", self.arch_options))
        for name in _OF_ARCHITECTURES:
            if getattr(self, name) is not None and name in (self.arch_options or {}):
                raise ArgumentError(f"{name} is given by `{name}` and by `arch_options`")

    @property
    def options(self) -> dict[str, Any]:
        """What is chosen, by the names that architectures know."""
        named = {name: getattr(self, name) for name in _OF_ARCHITECTURES if getattr(self, name) is not None}
        return {**(self.arch_options or {}), **named}


_OF_ARCHITECTURES = ("temperature", "spectral", "widths", "isoperimetric")
"""Options that are arguments of architectures."""


@dataclass(frozen=True)
class Run(Options):
    """Where a run leaves its results, and what it says.

    Attributes:
        out: folder of the run; an interrupted run in it goes on.
        license: of the checkpoint, as the Hub names it.
        quick: whether to leave out what takes long in the evaluation: descents and gradients.
        progress: whether to show progress bars.
    """

    out: Path = option(help="folder of the run; an interrupted run in it goes on", kind=Path)
    license: str = option(
        "", "licence of the checkpoint, as the Hub names it, such as apache-2.0; default: not stated"
    )
    quick: bool = option(False, "evaluate without descents and gradients, which take long")
    progress: bool = option(True, "show progress bars")

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", as_path("out", self.out))
        if os.path.exists(self.out) and not os.path.isdir(self.out):
            raise ArgumentError(f"out (={str(self.out)!r}) is a file; give a folder")


@dataclass(frozen=True)
class Labelling(Options):
    """Where labels go, and where the metric runs.

    Attributes:
        out: file to write; labelling goes on where it stopped.
        seed: of synthetic fields, and of predictions.
        engine: where the metric runs: "local" (this machine) or "dask" (the workers of a cluster).
        scheduler: address of the Dask scheduler.
        progress: whether to show progress bars.
    """

    out: Path = option(help="file to write, such as labels.h5; goes on where it stopped", kind=Path)
    seed: int = option(0, "seed of synthetic fields, and of predictions", within=SEEDS)
    engine: str = option("local", "where the metric runs", choices=choices.engines)
    scheduler: str | None = option(
        None, "address of the Dask scheduler, such as tcp://HOST:8786; default: none, with engine local"
    )
    progress: bool = option(True, "show progress bars")

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", as_path("out", self.out))
        if os.path.isdir(self.out):
            raise ArgumentError(f"out (={str(self.out)!r}) is a folder; give a file")


@dataclass(frozen=True)
class Looking(Options):
    """How fields are looked at, and whether they are drawn.

    Attributes:
        chunks: most chunks to read, spread over all.
        picture: file to draw some fields in.
        seed: of synthetic fields.
        progress: whether to show a progress bar.
    """

    chunks: int = option(12, "most chunks to read, spread over all")
    picture: Path | None = option(
        None, "file to draw some fields in, such as fields.png; default: none", kind=Path
    )
    seed: int = option(0, "seed of synthetic fields", within=SEEDS)
    progress: bool = option(True, "show a progress bar")

    def __post_init__(self) -> None:
        as_count("chunks", self.chunks)
        if self.picture is None:
            return
        object.__setattr__(self, "picture", as_path("picture", self.picture))
        if self.picture.suffix.lower() != ".png":
            raise ArgumentError(f"picture (={str(self.picture)!r}) must end in .png")
