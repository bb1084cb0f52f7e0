"""The criteria that surrogates are judged by: what is looked at, and from where on it is good."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from .figures import DescentFigures, Figures

GOOD, FAIR, POOR, WORSE, UNMEASURED = "good", "fair", "poor", "worse than nothing", "not measured"
"""Grades, from the best; the last one says nothing."""

Values = dict[str, float | None]
"""By output, or by data set; "" stands for the whole. None where one is undefined."""


class Criterion(NamedTuple):
    """A figure that a surrogate is judged by.

    Attributes:
        name: by which checks of a verdict name it.
        purpose: what a surrogate is good for that does well in it.
        figure: what is looked at, in words.
        harm: what it means to be worse than nothing, in words.
        good: from this on it does well.
        fair: from this on it is of some use; below, of little.
        worse: below this it is worse than nothing; None where nothing is.
        read: its values in the figures of an evaluation.
        text: a value in words.
        rising: whether larger values are better; where not, "from" means "up to".
    """

    name: str
    purpose: str
    figure: str
    harm: str
    good: float
    fair: float
    worse: float | None
    read: Callable[[Figures], Values]
    text: Callable[[float], str]
    rising: bool = True

    def grade(self, value: float | None) -> str:
        """The grade of a value."""
        if value is None or not math.isfinite(value):
            return UNMEASURED
        sign = 1 if self.rising else -1
        if sign * value >= sign * self.good:
            return GOOD
        if sign * value >= sign * self.fair:
            return FAIR
        return WORSE if self.worse is not None and value < self.worse else POOR


def _r2_means(figures: Figures) -> Values:
    return {name: found["r2_mean"] for name, found in figures["fidelity"]["outputs"].items()}


def _r2_worst(figures: Figures) -> Values:
    """Of curves: a single number has no other threshold that is worse."""
    outputs = figures["fidelity"]["outputs"].items()
    return {name: found["r2_worst"] for name, found in outputs if len(found["r2"]) > 1} or {"": None}


def _removed(figures: Figures) -> Values:
    found = figures.get("descent")
    return {"": None} if found is None else _of_whole_and_outputs(found)


def _removed_noisy(figures: Figures) -> Values:
    found = figures.get("descent_noisy")
    return {"": None} if found is None else _of_whole_and_outputs(found)


def _of_whole_and_outputs(found: DescentFigures) -> Values:
    outputs = {name: each["removed"] for name, each in found["outputs"].items()}
    return {"": found["removed"], **(outputs if len(outputs) > 1 else {})}


def _cosine(figures: Figures) -> Values:
    """Of several fields: a single one tells nothing of others."""
    found = figures.get("gradients")
    if found is None or found.get("defined", found["fields"]) < 2:
        return {"": None}
    return {"": found["total"]["cosine_smoothed"]}


def _broken(figures: Figures) -> Values:
    return {"": max(figures["fidelity"]["violations"].values(), default=None)}


def _r2_shifted(figures: Figures) -> Values:
    """Means over the outputs, on each data set that the surrogate takes."""
    means: Values = {}
    for name, found in figures.get("shift", {}).items():
        known = [fit["r2_mean"] for fit in found.get("outputs", {}).values() if fit["r2_mean"] is not None]
        if name != "unshifted" and known:
            means[name] = math.fsum(known) / len(known)
    return means or {"": None}


def _r2(value: float) -> str:
    return "R2 below -9" if value < -9 else f"R2 {value:.3f}"


def _share_removed(value: float) -> str:
    return f"{max(value, -999.0):.1f} % of the exact distance removed"


CRITERIA = (
    Criterion(
        name="values",
        purpose="values",
        figure="mean R2 of each output over held-out fields",
        harm="worse than a constant",
        good=0.9,
        fair=0.5,
        worse=0.0,
        read=_r2_means,
        text=_r2,
    ),
    Criterion(
        name="descent",
        purpose="training, from smooth predictions",
        figure="share of the exact distance that gradient steps from blurred fields remove, in %",
        harm="gradient steps make blurred fields worse",
        good=50.0,
        fair=20.0,
        worse=-1.0,
        read=_removed,
        text=_share_removed,
    ),
    Criterion(
        name="descent from noise",
        purpose="training, from noisy predictions",
        figure="share of the exact distance that gradient steps from noisy fields remove, in %",
        harm="gradient steps make noisy fields worse",
        good=50.0,
        fair=20.0,
        worse=-1.0,
        read=_removed_noisy,
        text=_share_removed,
    ),
    Criterion(
        name="gradient",
        purpose="gradients",
        figure="cosine between its gradient and the exact one, both smoothed",
        harm="gradients point away from where the metric improves",
        good=0.3,
        fair=0.1,
        worse=0.0,
        read=_cosine,
        text="cosine {:.2f}".format,
    ),
    Criterion(
        name="worst threshold",
        purpose="values at every threshold",
        figure="R2 of each output at its worst threshold",
        harm="",
        good=0.5,
        fair=0.0,
        worse=None,
        read=_r2_worst,
        text=_r2,
    ),
    Criterion(
        name="constraints",
        purpose="values that obey the metric's constraints",
        figure="share of fields and thresholds that break the most broken constraint, in %",
        harm="",
        good=1.0,
        fair=10.0,
        worse=None,
        read=_broken,
        text="broken in {:.3g} %".format,
        rising=False,
    ),
    Criterion(
        name="shift",
        purpose="data unlike the held-out fields",
        figure="mean R2 over the outputs, on each set of shifted data",
        harm="worse than a constant on other data",
        good=0.8,
        fair=0.5,
        worse=0.0,
        read=_r2_shifted,
        text=_r2,
    ),
)
"""The most important first; docs/verdict.md explains them."""
