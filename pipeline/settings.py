"""What decides a run: the data, the teacher, the network, and where the results go.

What decides the training is `emuloss.training.Training`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ..foundation.arguments import as_increasing
from ..foundation.options import SEEDS, Options, option
from ..metrics import Metric, takes
from .parsing import key_values, names, numbers, whole_numbers


@dataclass(frozen=True)
class Data(Options):
    """Where fields come from, and how they are shared out between training and testing.

    Attributes:
        fields: text for `emuloss.datasets.open_source`, a `FieldSource`, or fields (T, H, W) in order of
            time, as a NumPy array or an xarray DataArray.
        size: edge length of a field in pixels, or (height, width).
        stride: step between training patches, likewise.
        count: number of synthetic fields.
        min_coverage: least share of measured pixels in a patch.
        bounds: rates below the first are dry, above the second capped.
        pixel_size: edge length of a pixel, if the data do not say.
        unit: of the values, if the data do not say.
        test_chunks: last chunks (files, or blocks of fields) kept for the test; default: a sixth.
        gap_chunks: chunks left out before the test; default: a twelfth of data in order of time.
    """

    fields: Any = option(help="rain | opera:DIR | images:DIR | FILE (.npy .npz .h5 .nc .zarr)", kind=str)
    size: int | tuple[int, int] | None = option(None, "edge length of a field, in pixels", kind=int)
    stride: int | tuple[int, int] | None = option(None, "step between training patches, in pixels", kind=int)
    count: int | None = option(None, "number of synthetic fields")
    min_coverage: float | None = option(None, "least share of measured pixels in a patch")
    bounds: Sequence[float] | None = option(
        None, "rates below the first are dry, above the second capped; radar: 0.1,150", parse=numbers
    )
    pixel_size: float | None = option(None, "edge length of a pixel, if the data do not say")
    unit: str | None = option(None, "unit of the values, if the data do not say")
    test_chunks: int | None = option(
        None, "last files (or blocks of fields) kept for the test; default: a sixth"
    )
    gap_chunks: int | None = option(None, "files left out before the test")

    @property
    def title(self) -> str:
        """What messages call the data."""
        return self.fields if isinstance(self.fields, str) else "the fields"

    @property
    def source_options(self) -> dict[str, Any]:
        """The options of the source that are given."""
        names = ("size", "stride", "count", "min_coverage", "bounds", "pixel_size", "unit")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True)
class Teacher(Options):
    """The exact metric: thresholds, with levels or not, or quantiles of the data.

    Attributes:
        metric: the name of a metric, a Python function, or the place of one; or a `Metric`, to which nothing
            is added.
        outputs: names of its outputs; default: the metric's.
        metric_options: other arguments of the metric.
        thresholds: in the fields' unit; default: quantiles of the data.
        quantiles: levels of the wet pixels at which thresholds lie.
        levels: with thresholds: their quantile levels, over which curves are integrated.
        length_unit: unit of the pixel size; default: what the data say.

    Raises:
        ArgumentError: settings that do not go together, or an unknown metric.
    """

    metric: str | Metric | Callable[..., Any] = option(
        "minkowski",
        "a name of `emuloss list --metrics`, or a function, FILE.py:NAME or MODULE:NAME",
        kind=str,
    )
    outputs: Sequence[str] | None = option(None, "outputs of the metric; default: the metric's", parse=names)
    metric_options: Mapping[str, Any] | None = option(
        None,
        "argument of the metric, KEY=VALUE, VALUE as JSON: windows=[1,5]; repeatable",
        flag="--metric-option",
        kind=list[str],
        parse=key_values,
    )
    thresholds: Sequence[float] | None = option(
        None, "thresholds, such as 0.1,1,5; default: quantiles of the data", parse=numbers
    )
    quantiles: Sequence[float] | None = option(
        None, "levels of the wet pixels at which thresholds lie, such as 0.1,0.5,0.9", parse=numbers
    )
    levels: Sequence[float] | None = option(
        None, "with --thresholds: their quantile levels, over which curves are integrated", parse=numbers
    )
    length_unit: str | None = option(None, "unit of the pixel size; default: what the data say")

    def __post_init__(self) -> None:
        for name in ("thresholds", "quantiles", "levels"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_increasing(name, getattr(self, name)))
        if not isinstance(self.metric_options, Mapping | None):
            raise ArgumentError(
                f"metric_options must be a mapping, such as {{'size': 3}}, got {self.metric_options!r}"
            )
        if isinstance(self.metric, Metric):
            for name in ("outputs", "metric_options", *_ARGUMENTS, "levels"):
                if getattr(self, name) is not None:
                    raise ArgumentError(f"{name} is for a metric by name; give it to the metric itself")
            return
        if self.thresholds and self.quantiles:
            raise ArgumentError("give either --thresholds or --quantiles")
        if self.levels and not self.thresholds:
            raise ArgumentError("--levels go with --thresholds; quantiles are levels by themselves")
        if self.quantiles and (self.quantiles[0] <= 0 or self.quantiles[-1] >= 1):
            raise ArgumentError(f"--quantiles must lie strictly between 0 and 1, got {list(self.quantiles)}")
        known = takes(self.metric)
        for name, argument in _ARGUMENTS.items():
            flag = f"--{name.replace('_', '-')}"
            if getattr(self, name) is not None and argument not in known:
                raise ArgumentError(f"metric {self.title!r} takes no {argument}; leave {flag} out")
            if getattr(self, name) is not None and argument in (self.metric_options or {}):
                raise ArgumentError(
                    f"{argument} of metric {self.title!r} is given by {flag} and --metric-option"
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
        spectral: spectral normalisation.
        widths: channels of the network's stages.
        isoperimetric: lower bound of the perimeter in constrained heads.
    """

    arch: str | None = option(
        None, "architecture; default: excursion for minkowski, hybrid for other metrics"
    )
    spectral: str | None = option(
        None, "spectral normalisation: none | power | exact; default: the architecture's"
    )
    widths: Sequence[int] | None = option(
        None,
        "channels of the network's stages, such as 16,32,64,128; default: the architecture's",
        parse=whole_numbers,
    )
    isoperimetric: str | None = option(
        None, "lower bound of the perimeter in constrained heads: valid | textbook"
    )

    @property
    def options(self) -> dict[str, Any]:
        """What is chosen, by the names that architectures know."""
        return {"spectral": self.spectral, "widths": self.widths, "isoperimetric": self.isoperimetric}


@dataclass(frozen=True)
class Run(Options):
    """Where a run leaves its results, and what it says.

    Attributes:
        out: folder of the run; an interrupted run in it goes on.
        license: of the checkpoint, as the Hub names it.
        progress: whether to show progress bars.
    """

    out: Path = option(help="folder of the run; an interrupted run in it goes on", kind=Path)
    license: str = option("", "licence of the checkpoint, as the Hub names it: apache-2.0, ...")
    progress: bool = option(True, "show progress bars")

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        if self.out.exists() and not self.out.is_dir():
            raise ArgumentError(f"--out (={str(self.out)!r}) is a file; give a folder")


@dataclass(frozen=True)
class Labelling(Options):
    """Where labels go, and where the metric runs.

    Attributes:
        out: file to write; labelling goes on where it stopped.
        seed: of synthetic fields, and of predictions.
        engine: where the metric runs: "local" or "dask".
        scheduler: address of the Dask scheduler.
        progress: whether to show progress bars.
    """

    out: Path = option(help="file to write, such as labels.h5; goes on where it stopped", kind=Path)
    seed: int = option(0, "seed of synthetic fields, and of predictions", within=SEEDS)
    engine: str = option("local", "where the metric runs: local (this machine) | dask (a cluster's workers)")
    scheduler: str | None = option(None, "address of the Dask scheduler, such as tcp://HOST:8786")
    progress: bool = option(True, "show progress bars")

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        if self.out.is_dir():
            raise ArgumentError(f"--out (={str(self.out)!r}) is a folder; give a file")
