"""The whole evaluation of a surrogate on labelled fields."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..emulators.certificates import certify
from ..emulators.differentiable import Differentiable
from ..emulators.relaxations.relaxation import relaxable
from ..emulators.spaces import Values, floating
from ..errors import ArgumentError
from ..findings.figures import CertificateFigures, Figures, ShiftFigures
from ..findings.verdict import verdict
from ..foundation.arguments import as_count, filled
from ..losses.loss import SurrogateLoss
from ..metrics import Metric
from .bars import Parts, Progress
from .classes import fidelity_by_class, fullness, reached
from .descent import STARTS, Descent, descent
from .emulate import emulate
from .fidelity import fidelity
from .gradients import GradientQuality, gradient_quality, gradient_sizes
from .inversion import Inversion, inversion
from .plan import PERTURBATIONS, TILES, Effort, Plan
from .shift import shift
from .slopes import largest_slope
from .timing import milliseconds_per_field

_SIZED = 64
"""Most fields whose gradients are sized."""
_INVERTED = 2
"""Most real fields whose curves are inverted."""
_SEARCHED = 2
"""Fields from which steep places are searched."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        figures: JSON-able: "fidelity" (see `fidelity`), "classes" (see `fidelity_by_class`),
            "timing" (see `milliseconds_per_field`), "gradients" (see
            `GradientQuality`, and "sizes", see `gradient_sizes`), "descent" from blurred fields and
            "descent_noisy" (see `Descent`), "certificate" (the global Lipschitz "bound", None where there
            is none, and then the "reason"; the "largest_slope" found), "field_unit", "reached" (the
            value that pixels reach to count in the classes) and "verdict" (see `verdict`); of a thorough
            evaluation also "inversion" (see `Inversion`) and "shift" (see `shift`). A quick one has
            neither gradients nor descents.
        emulated: (N, C, Q), the surrogate's curves of the fields.
        descent: the fields that were descended from their blur, before and after; None in a quick
            evaluation, as the two below.
        descent_noisy: the same fields, descended from noise on them.
        gradients: the surrogate's gradients beside exact ones.
        inversion: what noise became, in a thorough evaluation.
    """

    figures: Figures
    emulated: NDArray[np.float64]
    descent: Descent | None = None
    descent_noisy: Descent | None = None
    gradients: GradientQuality | None = None
    inversion: Inversion | None = None


def evaluate(
    surrogate: Differentiable,
    fields: NDArray[Any],
    curves: NDArray[Any],
    *,
    batch_size: int = 64,
    descent_fields: int = 4,
    descent_steps: int = 200,
    quick: bool = False,
    thorough: bool = False,
    plan: Plan | None = None,
    field_unit: str = "",
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Measure a surrogate: fidelity, broken constraints, time, gradients, and descent; and judge it.

    The surrogate is left as it was, and all but the time is the same in every run. Nothing but figures per
    unit of the fields changes where fields and thresholds are turned into a x + b (a > 0) together.

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
        quick: leave out gradients and descents, which take most of the time; the verdict then says that
            they were not measured.
        thorough: invert the surrogate and shift the data, too; this takes a minute or more. Storms to
            invert to are drawn from thresholds, and neither is done for pairs.
        plan: how much of it to do in the time there is, in place of `descent_fields`, `descent_steps` and
            `quick`; see `planned`.
        field_unit: name of the fields' unit, for tables and pictures.
        seed: of all noise.
        progress: show one bar for all of it.

    Returns:
        Figures, and the arrays that pictures need.

    Raises:
        ArgumentError: arguments that do not fit one another or are out of range, or a surrogate
            whose curves or gradients are not finite.
    """
    check_surrogate(surrogate)
    as_count("batch_size", batch_size)
    as_count("descent_fields", descent_fields)
    if quick and thorough:
        raise ArgumentError("quick and thorough cannot be meant together; leave one of them out")
    effort = plan.effort if plan else Effort(0 if quick else descent_fields, descent_steps)
    examined = _Examined(surrogate, filled(fields), np.asarray(curves), batch_size, seed, effort)
    with _in_evaluation_mode(surrogate):
        if plan is None and progress:
            plan = Plan.of(surrogate, examined.fields, effort, thorough)
        with Parts(plan.seconds if plan else {}, progress) as bar:
            return examined.whole(bar, thorough, field_unit)


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
    effort: Effort

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

    @functools.cached_property
    def values(self) -> Values:
        """What values the fields take."""
        return Values.of(floating(self.fields))

    @property
    def reached(self) -> float:
        """The value that pixels reach to count."""
        return reached(self.metric, self.values)

    def whole(self, bar: Parts, thorough: bool, field_unit: str) -> Evaluation:
        """All that there is to measure; without fields to descend, neither gradients nor descents."""
        with bar.part("curves") as tell:
            emulated = emulate(self.surrogate, self.fields, batch_size=self.batch_size, progress=tell)
        with bar.part("time"):
            timing = milliseconds_per_field(self.surrogate, self.fields, self.effort.repeats)
        with bar.part("slopes") as tell:
            certificate = self.certificate(tell)
        figures: Figures = {
            "fidelity": fidelity(self.metric, self.curves, emulated, self.shape),
            "classes": fidelity_by_class(self.metric, self.fields, self.curves, emulated, self.reached),
            "timing": timing,
            "certificate": certificate,
            "field_unit": field_unit,
            "reached": self.reached,
        }
        found = Evaluation(figures, emulated)
        if self.effort.fields:
            found = self.with_descents(found, bar)
        if thorough and self.metric.arity == 1:
            found = self.with_others(found, bar)
        figures["verdict"] = verdict(
            figures,
            trained=self.surrogate.has_weights,
            relaxable=relaxable(self.metric),
            tempered=self.surrogate.relaxation is not None,
        )
        return found

    def with_descents(self, found: Evaluation, bar: Parts) -> Evaluation:
        """What was found, and gradients and descents of some fields."""
        fuller = self.fuller(self.effort.fields)
        with bar.part("descents") as tell:
            blurry = self.descended(fuller, STARTS[0], lambda share: tell(share / 2))
            noise = self.descended(fuller, STARTS[1], lambda share: tell((1 + share) / 2))
        with bar.part("gradients"):
            gradients = self.gradients(fuller)
            sizes = gradient_sizes(self.surrogate, self.fuller(_SIZED), batch_size=self.batch_size)
        found.figures["gradients"] = {**gradients.figures, "sizes": sizes}
        found.figures["descent"], found.figures["descent_noisy"] = blurry.figures, noise.figures
        return replace(found, descent=blurry, descent_noisy=noise, gradients=gradients)

    def with_others(self, found: Evaluation, bar: Parts) -> Evaluation:
        """What was found, an inversion for the curves of some fields, and shifted data."""
        with bar.part("inversion") as tell:
            inverted = self.inverted(self.fuller(self.effort.fields)[:_INVERTED], tell)
        if inverted is not None:
            found.figures["inversion"] = inverted.figures
        with bar.part("shifted data"):
            found.figures["shift"] = self.shifted()
        return replace(found, inversion=inverted)

    def fuller(self, count: int) -> NDArray[Any]:
        """Some of the fields, or of the observations, spread over the fullest quarter, (n, H, W)."""
        picks = _spread(self.fullness(), count)
        return self.metric.parts(self.fields)[-1][picks]

    def fullness(self) -> NDArray[np.float64]:
        """How full each field is, (N,).

        Where a metric of one field has no thresholds, those are the fullest whose values are the furthest
        from those of an empty field.
        """
        metric, fields = self.metric, self.fields
        if metric.arity == 2 or metric.thresholds:
            return fullness(metric, fields, self.reached)
        empty = metric(np.full((1, *fields.shape[1:]), self.values.centre, floating(fields[:1]).dtype))
        return np.abs((self.curves - empty) / np.array(metric.scales)[:, None]).sum((1, 2))

    def descended(self, fields: NDArray[Any], start: str, progress: Progress) -> Descent:
        """A descent to the fields (n, H, W)."""
        return descent(
            SurrogateLoss(self.surrogate),
            self.metric,
            fields,
            start=start,
            steps=self.effort.steps,
            seed=self.seed,
            values=self.values,
            progress=progress,
        )

    def gradients(self, fields: NDArray[Any]) -> GradientQuality:
        """The surrogate's gradients at fields (n, H, W) beside exact ones."""
        compare = functools.partial(gradient_quality, self.surrogate, self.metric, seed=self.seed)
        if not self.metric.slow:
            return compare(fields, values=self.values)
        # Too slow for a derivative along many tiles; along few, noise is what has to be averaged out.
        tile = math.ceil(max(self.shape) / TILES)
        return compare(fields, tile=tile, perturbations=PERTURBATIONS, values=self.values)

    def certificate(self, progress: Progress) -> CertificateFigures:
        """The sound bound of the Lipschitz constant, and a slope that a short search found."""
        certificate = certify(self.surrogate, self.shape)
        picks = np.unique(np.linspace(0, len(self.fields) - 1, _SEARCHED).round().astype(int))
        slope = largest_slope(
            self.surrogate,
            self.fields[picks],
            steps=self.effort.slopes,
            seed=self.seed,
            values=self.values,
            progress=progress,
        )
        return {"bound": certificate.bound, "reason": certificate.reason, "largest_slope": slope}

    def inverted(self, fields: NDArray[Any], progress: Progress) -> Inversion | None:
        """What noise becomes; None where no storms can be drawn."""
        if not self.metric.thresholds:
            return None
        return inversion(
            self.surrogate, self.metric, fields, seed=self.seed, values=self.values, progress=progress
        )

    def shifted(self) -> dict[str, ShiftFigures]:
        """Fidelity on data unlike the fields."""
        return shift(
            self.surrogate,
            self.metric,
            self.fields,
            seed=self.seed,
            batch_size=self.batch_size,
            values=self.values,
        )


def _spread(full: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Indices of fields spread over the fullest quarter; the one in its middle, if one is asked for."""
    order = np.argsort(-full, kind="stable")
    quarter = max(len(order) // 4, min(count, len(order)))
    first = 0.0 if count > 1 else (quarter - 1) / 2
    return order[np.unique(np.linspace(first, quarter - 1, count).round().astype(int))]
