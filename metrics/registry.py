"""The metrics that have a name: those of this package, those that users register, those of other packages."""

from __future__ import annotations

import inspect
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from ..errors import ArgumentError
from ._base import Metric
from .betti_error import BettiError
from .boxcount import BoxCount
from .clusters import Clusters
from .csi import CSI
from .fss import FSS
from .functions import FunctionMetric
from .minkowski import Minkowski
from .morphology import Morphology
from .percolation import Percolation
from .sal import SAL
from .spectrum import Spectrum

ENTRY_POINTS = "emuloss.metrics"
"""Group of entry points under which other packages offer metrics: name = "module:Class"."""

_METRICS: dict[str, type[Metric]] = {
    cls.name: cls
    for cls in (
        BettiError, BoxCount, Clusters, CSI, FSS, Minkowski, Morphology, Percolation, SAL, Spectrum
    )
}  # fmt: skip

M = TypeVar("M", bound=type[Metric])


def register(cls: M) -> M:
    """Make a metric known by its name, as a decorator of its class.

    Args:
        cls: subclass of `emuloss.Metric` with a class attribute `name`.

    Returns:
        The class itself.

    Raises:
        ArgumentError: no such class, a name that no metric can have, or the name of another metric. A class
            defined anew, as a notebook does when a cell runs again, takes its own place.
    """
    if not (isinstance(cls, type) and issubclass(cls, Metric)):
        raise ArgumentError(f"register takes a subclass of emuloss.Metric, got {cls!r}")
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name or ":" in name:
        raise ArgumentError(f"{_place(cls)} needs a class attribute name, text without a colon, got {name!r}")
    known = FunctionMetric if name == FunctionMetric.name else _METRICS.get(name, cls)
    if _place(known) != _place(cls):
        raise ArgumentError(
            f"metric name {name!r} of {_place(cls)} is taken by {_place(known)}; choose another name"
        )
    _METRICS[name] = cls
    return cls


def list_metrics() -> list[str]:
    """Names of the metrics that `metric` builds, those of installed packages included."""
    return sorted({*_METRICS, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def metric_class(name: str) -> type[Metric]:
    """The class of a metric that has a name; entry points are looked at where it is not known otherwise.

    Raises:
        ArgumentError: unknown name, two packages that offer it, or an entry point that cannot be used.
    """
    if name == FunctionMetric.name:
        return FunctionMetric
    if name not in _METRICS:
        offered = list(entry_points(group=ENTRY_POINTS, name=name))
        if not offered:
            raise ArgumentError(
                f"unknown metric {name!r}; available: {', '.join(list_metrics())}, "
                "or your own function as 'module:function' or 'file.py:function'"
            )
        if len({point.value for point in offered}) > 1:
            packages = " and ".join(f"{_package(point)} ({point.value})" for point in offered)
            raise ArgumentError(f"metric {name!r} is offered by {packages}; uninstall all but one")
        _METRICS[name] = _loaded(offered[0])
    return _METRICS[name]


def build(cls: type[Metric], arguments: dict[str, Any]) -> Metric:
    """A metric of a class.

    Raises:
        ArgumentError: an unknown, missing or unusable argument.
    """
    try:
        inspect.signature(cls).bind(**arguments)
    except TypeError as error:
        known = ", ".join(inspect.signature(cls).parameters)
        raise ArgumentError(f"metric {cls.name!r}: {error}; it takes {known}") from None
    return cls(**arguments)


def metric_from_config(config: dict[str, Any]) -> Metric:
    """Build the metric that `Metric.config()` describes.

    A configuration may come from anyone, so it never chooses code to import, but for the metrics that
    installed packages offer as entry points: a metric that it says to be a user's function works once the
    user has named this function to `emuloss.metric`.

    Raises:
        ArgumentError: the configuration is not one.
    """
    if (
        set(config) != {"name", "arguments"}
        or not isinstance(config["arguments"], dict)
        or not isinstance(config["name"], str)
    ):
        raise ArgumentError(
            f"a metric's configuration has the keys 'name' and 'arguments', got {sorted(config)}"
        )
    return build(metric_class(config["name"]), config["arguments"])


def _loaded(point: EntryPoint) -> type[Metric]:
    """The class behind an entry point."""
    whose = f"metric {point.name!r} of package {_package(point)} ({point.value})"
    try:
        cls = point.load()
    except Exception as error:
        raise ArgumentError(
            f"{whose} cannot be loaded: {type(error).__name__}: {' '.join(str(error).split())}; "
            "repair or uninstall the package"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Metric)) or getattr(cls, "name", None) != point.name:
        raise ArgumentError(f"{whose} is no subclass of emuloss.Metric with that name; repair the package")
    return cls


def _package(point: EntryPoint) -> str:
    return repr(point.dist.name) if point.dist is not None else "unknown"


def _place(cls: Any) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
