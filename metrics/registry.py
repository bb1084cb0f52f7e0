"""The metrics that have a name: those of this package, those that users register, those of other packages."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..errors import ArgumentError
from ..foundation.arguments import as_increasing, shown
from ..foundation.docs import entry, with_section
from ..foundation.registry import Registry, place_of
from .found import class_at, is_spec, passed_to
from .functions import FunctionMetric, from_function, from_spec
from .metric import Metric, build
from .thresholds import quantile_thresholds


def _unusable(name: str, cls: Any) -> str:
    """What is wrong with a class that another package offers as a metric."""
    if isinstance(cls, type) and issubclass(cls, Metric) and getattr(cls, "name", None) == name:
        return ""
    return "is no subclass of emuloss.Metric with that name"


METRICS: Registry[str, type[Metric]] = Registry(
    "metric",
    group="emuloss.metrics",
    usable=_unusable,
    hint=", or your own function or class as 'module:NAME' or 'file.py:NAME'",
)
"""Metrics by name; other packages offer theirs as entry points: name = "module:Class"."""

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
        raise ArgumentError(
            f"{place_of(cls)} needs a class attribute name, text without a colon, got {name!r}"
        )
    if name == FunctionMetric.name:
        raise ArgumentError(
            f"metric name {name!r} of {place_of(cls)} is taken by {place_of(FunctionMetric)}; "
            "choose another name"
        )
    registered = METRICS.register(name)(cls)
    known = {kind.name: kind for kind in METRICS.things()} | {"a function of your own": FunctionMetric}
    metric.__doc__ = with_section(_DOC, "Metrics", (entry(name, kind) for name, kind in known.items()))
    return registered


def list_metrics() -> list[str]:
    """Names of the metrics that `metric` builds, those of installed packages included."""
    return sorted(METRICS)


def metric_class(name: str) -> type[Metric]:
    """The class of a metric that has a name; entry points are looked at where it is not known otherwise.

    Raises:
        ArgumentError: unknown name, two packages that offer it, or an entry point that cannot be used.
    """
    return FunctionMetric if name == FunctionMetric.name else METRICS[name]


def class_of(name: str | Callable[..., Any]) -> type[Metric] | None:
    """The class of metrics that has a name, or stands at a place and is registered then.

    Returns:
        None where it is a function, or the place of one.

    Raises:
        ArgumentError: an unknown name, no such place, or a class that cannot be registered.
    """
    if not isinstance(name, str):
        return None
    if not is_spec(name):
        return metric_class(name)
    found = class_at(name)
    return register(found) if isinstance(found, type) and issubclass(found, Metric) else None


def introduce(place: str) -> None:
    """Make a function or a class of the user's own known, of which configurations may speak from now on.

    Raises:
        ArgumentError: no such place, or a class that cannot be registered.
    """
    if class_of(place) is None:
        from_spec(place, {})


def metric(
    name: str | Callable[..., Any],
    *,
    quantiles: Any = None,
    fields: np.ndarray | None = None,
    wet: float | None = None,
    quantum: float | None = None,
    **arguments: Any,
) -> Metric:
    """Build an exact metric, by name or from a function of your own.

    Args:
        name: one of `list_metrics()`; or a Python function of a field (H, W), or of a prediction and an
            observation, which becomes a `FunctionMetric`; or the place of one, or of a subclass of `Metric`,
            "module:NAME" or "path/file.py:NAME", in which case the module or file is run.
        quantiles: instead of `thresholds`: place them at these quantile levels of the pixels of
            `fields` that count (see `quantile_thresholds`), and integrate curves over the levels.
        fields: the data whose quantiles are taken, any shape; (N, H, W) for a function, whose outputs and
            levels are found by calling it on the first of them, where they are not given.
        wet: pixels > wet count; by default those that the data make count, see `quantile_thresholds`.
        quantum: step of the data's values; by default it is found in them.
        **arguments: the metric's own, which are listed below for each. One that is called like those above is
            the metric's as well, such as the `wet` of "sal".

    Raises:
        ArgumentError: unknown name, unknown or unusable argument, or no such function.
    """
    if not (isinstance(name, str) or callable(name)) or isinstance(name, type):
        raise ArgumentError(
            f"a metric is given by its name, by a function, or by the place of one, such as "
            f"'peaks.py:count'; got {shown(name)}"
        )
    own = takes(name)
    # What a metric has an argument for is the metric's.
    asked = {"quantiles": quantiles, "fields": fields, "wet": wet, "quantum": quantum}
    arguments |= {key: value for key, value in asked.items() if value is not None and key in own}
    if quantiles is not None and "quantiles" not in own:
        if fields is None or "thresholds" in arguments:
            raise ArgumentError("quantiles= needs fields= to take them from, and no thresholds=")
        if "thresholds" not in own:
            raise ArgumentError(f"metric {_title(name)!r} has no thresholds; leave quantiles= out")
        levels = as_increasing("quantiles", quantiles)
        arguments["thresholds"] = quantile_thresholds(fields, levels, wet=wet, quantum=quantum)
        if "levels" in own:
            arguments.setdefault("levels", levels)
    elif idle := [key for key in ("wet", "quantum") if asked[key] is not None and key not in own]:
        raise ArgumentError(
            f"metric {_title(name)!r} has no argument {idle[0]!r}; without quantiles=, leave it out"
        )
    if not isinstance(name, str):
        return from_function(name, arguments, fields)
    cls = class_of(name)
    return from_spec(name, arguments, fields) if cls is None else build(cls, arguments)


_DOC = metric.__doc__


def takes(name: str | Callable[..., Any]) -> tuple[str, ...]:
    """Names of the arguments that a metric takes; of a function, thresholds only where it asks for them.

    Raises:
        ArgumentError: unknown name, or no such function.
    """
    cls = class_of(name)
    known = [each for each in inspect.signature(cls or FunctionMetric).parameters if each != "source"]
    return tuple(each for each in known if cls or each != "thresholds" or each in passed_to(name))


def metric_from_config(config: dict[str, Any]) -> Metric:
    """Build the metric that `Metric.config()` describes.

    A configuration may come from anyone, so it never chooses code to import, but for the metrics that
    installed packages offer as entry points: a metric that it says to be a user's function works once the
    user has named this function to `emuloss.metric`.

    Raises:
        ArgumentError: the configuration is not one.
    """
    if (
        not isinstance(config, dict)
        or set(config) != {"name", "arguments"}
        or not isinstance(config["arguments"], dict)
        or not isinstance(config["name"], str)
    ):
        raise ArgumentError(
            f"a metric's configuration has the keys 'name' (text) and 'arguments', got {shown(config)}"
        )
    name = config["name"]
    if name != FunctionMetric.name and name not in METRICS:
        raise ArgumentError(
            f"unknown metric {name!r}; if it is one of yours, run what registers it first, for a "
            "configuration never chooses code to run"
        )
    return build(metric_class(name), config["arguments"])


def _title(name: str | Callable[..., Any]) -> str:
    return name if isinstance(name, str) else place_of(name)
