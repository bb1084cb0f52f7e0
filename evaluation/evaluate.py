"""The whole evaluation of a surrogate on labelled fields."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..emulators.certificates import certify
from ..emulators.differentiable import Differentiable
from ..errors import ArgumentError
from ..foundation.arguments import as_count
from ..losses.loss import SurrogateLoss
from ..metrics import Metric
from .classes import fidelity_by_class, fullness
from .descent import STARTS, Descent, descent
from .emulate import emulate
from .fidelity import fidelity
from .figures import CertificateFigures, Figures, ShiftFigures
from .gradients import GradientQuality, gradient_quality, gradient_sizes
from .inversion import Inversion, inversion
from .shift import shift
from .slopes import largest_slope
from .timing import milliseconds_per_field

_SIZED = 64
"""Most fields whose gradients are sized."""
_INVERTED = 2
"""Most real fields whose curves are inverted."""
_SEARCHED, _SEARCH_STEPS = 2, 30
"""Fields from which steep places are searched, and steps of the search."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        figures: JSON-able: "fidelity" (see `fidelity`), "classes" (see `fidelity_by_class`),
            "timing" (see `milliseconds_per_field`), "gradients" (see
            `GradientQuality`, and "sizes", see `gradient_sizes`), "descent" from blurred fields and
            "descent_noisy" (see `Descent`), "certificate" (the global Lipschitz "bound", None where there
            is none, and then the "reason"; the "largest_slope" found), and "field_unit"; of a thorough
            evaluation also "inversion" (see `Inversion`) and "shift" (see `shift`).
        emulated: (N, C, Q), the surrogate's curves of the fields.
        descent: the fields that were descended from their blur, before and after.
        descent_noisy: the same fields, descended from noise on them.
        gradients: the surrogate's gradients beside exact ones.
        inversion: what noise became, in a thorough evaluation.
    """

    figures: Figures
    emulated: NDArray[np.float64]
    descent: Descent
    descent_noisy: Descent
    gradients: GradientQuality
    inversion: Inversion | None = None


def evaluate(
    surrogate: Differentiable,
    fields: NDArray[Any],
    curves: NDArray[Any],
    *,
    batch_size: int = 64,
    descent_fields: int = 4,
    descent_steps: int = 200,
    thorough: bool = False,
    field_unit: str = "",
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Measure a surrogate: fidelity, broken constraints, time, gradients, and descent.

    The surrogate is left as it was, and all but the time is the same in every run.

    Args:
        surrogate: maps fields (N, H, W) to curves (N, C, Q), differentiable. It runs on the device where it
            is, in evaluation mode.
        fields: (N, H, W), physical units; NaN marks pixels that were not measured. Of a pairwise metric
            pairs (N, 2, H, W) of prediction and observation: descents then go from spoilt observations
            to the observations.
        curves: (N, C, Q), their exact curves.
        batch_size: fields that the surrogate sees at a time.
        descent_fields: how many of the fuller fields are descended (all, where there are fewer);
            exact gradients are taken at the same.
        descent_steps: gradient steps each.
        thorough: invert the surrogate and shift the data, too; this takes a minute or more. Storms to
            invert to are drawn from thresholds, and neither is done for pairs.
        field_unit: name of the fields' unit, for tables and pictures.
        seed: of all noise.
        progress: show bars for what takes longer than a few seconds.

    Returns:
        Figures, and the arrays that pictures need.

    Raises:
        ArgumentError: arguments that do not fit one another or are out of range, or a surrogate
            whose curves or gradients are not finite.
    """
    check_surrogate(surrogate)
    as_count("batch_size", batch_size)
    as_count("descent_fields", descent_fields)
    examined = _Examined(surrogate, np.asarray(fields), np.asarray(curves), batch_size, seed, progress)
    with _in_evaluation_mode(surrogate):
        return examined.whole(descent_fields, descent_steps, thorough, field_unit)


def check_surrogate(surrogate: Any) -> None:
    """Raise ArgumentError for what is no stand-in for a metric."""
    if not isinstance(surrogate, Differentiable):
        raise ArgumentError(
            f"surrogate must be a Differentiable of emuloss.emulators, got {type(surrogate).__name__}"
        )


@contextlib.contextmanager
def _in_evaluation_mode(surrogate: Differentiable) -> Iterator[None]:
    """Evaluation mode for a while."""
    training = surrogate.training
    surrogate.eval()
    try:
        yield
    finally:
        surrogate.train(training)


@dataclass(frozen=True)
class _Examined:
    """A surrogate that is measured, and on what; attributes as the arguments of `evaluate`."""

    surrogate: Differentiable
    fields: NDArray[Any]
    curves: NDArray[Any]
    batch_size: int
    seed: int
    progress: bool

    def __post_init__(self) -> None:
        fields, curves = self.fields, self.curves
        axes = 3 if self.metric.arity == 1 else 4
        if fields.ndim != axes or len(fields) == 0 or len(fields) != len(curves):
            wanted = "fields (N, H, W)" if self.metric.arity == 1 else "pairs (N, 2, H, W)"
            raise ArgumentError(
                f"{wanted} and curves (N, C, Q) must come in equal, positive number, "
                f"got {fields.shape} and {curves.shape}"
            )

    @property
    def metric(self) -> Metric:
        """The exact teacher."""
        return self.surrogate.metric

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the fields."""
        return int(self.fields.shape[-2]), int(self.fields.shape[-1])

    def whole(self, descent_fields: int, descent_steps: int, thorough: bool, field_unit: str) -> Evaluation:
        """All that there is to measure."""
        emulated = emulate(self.surrogate, self.fields, batch_size=self.batch_size, progress=self.progress)
        fuller = self.fuller(descent_fields)
        blurry, noise = (self.descended(fuller, start, descent_steps) for start in STARTS)
        gradients = self.gradients(fuller)
        sizes = gradient_sizes(self.surrogate, self.fuller(_SIZED), batch_size=self.batch_size)
        figures: Figures = {
            "fidelity": fidelity(self.metric, self.curves, emulated, self.shape),
            "classes": fidelity_by_class(self.metric, self.fields, self.curves, emulated),
            "timing": milliseconds_per_field(self.surrogate, self.fields),
            "gradients": {**gradients.figures, "sizes": sizes},
            "descent": blurry.figures,
            "descent_noisy": noise.figures,
            "certificate": self.certificate(),
            "field_unit": field_unit,
        }
        inverted = None
        if thorough and self.metric.arity == 1:
            inverted = self.inverted(fuller)
            if inverted is not None:
                figures["inversion"] = inverted.figures
            figures["shift"] = self.shifted()
        return Evaluation(figures, emulated, blurry, noise, gradients, inverted)

    def fuller(self, count: int) -> NDArray[Any]:
        """Some of the fields, or of the observations, spread over the fullest quarter, (n, H, W)."""
        picks = _spread(_fullness(self.metric, self.fields, self.curves), count)
        return self.metric.parts(self.fields)[-1][picks]

    def descended(self, fields: NDArray[Any], start: str, steps: int) -> Descent:
        """A descent to the fields (n, H, W)."""
        loss = SurrogateLoss(self.surrogate)
        return descent(
            loss, self.metric, fields, start=start, steps=steps, seed=self.seed, progress=self.progress
        )

    def gradients(self, fields: NDArray[Any]) -> GradientQuality:
        """The surrogate's gradients at fields (n, H, W) beside exact ones."""
        if not self.metric.slow:
            return gradient_quality(self.surrogate, self.metric, fields, seed=self.seed)
        # Too slow for a derivative along every tile of many fields.
        tile = max(self.shape) // 2
        return gradient_quality(
            self.surrogate, self.metric, fields[:1], tile=tile, perturbations=2, seed=self.seed
        )

    def certificate(self) -> CertificateFigures:
        """The sound bound of the Lipschitz constant, and a slope that a short search found."""
        certificate = certify(self.surrogate, self.shape)
        picks = np.unique(np.linspace(0, len(self.fields) - 1, _SEARCHED).round().astype(int))
        slope = largest_slope(self.surrogate, self.fields[picks], steps=_SEARCH_STEPS, seed=self.seed)
        return {"bound": certificate.bound, "reason": certificate.reason, "largest_slope": slope}

    def inverted(self, fields: NDArray[Any]) -> Inversion | None:
        """What noise becomes; None where no storms can be drawn."""
        if not self.metric.thresholds:
            return None
        return inversion(
            self.surrogate, self.metric, fields[:_INVERTED], seed=self.seed, progress=self.progress
        )

    def shifted(self) -> dict[str, ShiftFigures]:
        """Fidelity on data unlike the fields."""
        return shift(
            self.surrogate,
            self.metric,
            self.fields,
            seed=self.seed,
            batch_size=self.batch_size,
            progress=self.progress,
        )


def _fullness(metric: Metric, fields: NDArray[Any], curves: NDArray[Any]) -> NDArray[np.float64]:
    """How full each field is, (N,).

    Where a metric of one field has no thresholds, those are the fullest whose values are the furthest from
    those of a field of zeros.
    """
    if metric.arity == 2 or metric.thresholds:
        return fullness(metric, fields)
    empty = metric(np.zeros((1, *fields.shape[1:]), fields.dtype))
    return np.abs((curves - empty) / np.array(metric.scales)[:, None]).sum((1, 2))


def _spread(full: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Indices of fields spread over the fullest quarter."""
    order = np.argsort(-full, kind="stable")
    quarter = max(len(order) // 4, min(count, len(order)))
    return order[np.unique(np.linspace(0, quarter - 1, count).round().astype(int))]
