"""The figures of an evaluation, as they are stored: JSON-able; None where one is undefined."""

from __future__ import annotations

from typing import TypedDict

CLASSES = ("dry", "low", "mid", "high")
"""Classes of fields: no pixel counts, see `emuloss.evaluation.classes`; then terciles of the others."""


def class_title(name: str) -> str:
    """What tables and pictures call a class: only rain is dry."""
    return "none" if name == CLASSES[0] else name


class Fit(TypedDict):
    """How closely an output is followed.

    Attributes:
        r2_mean: mean R2 over the levels where it is defined, see `r_squared`.
        distance: mean over fields of `curve_distance`.
    """

    r2_mean: float | None
    distance: float | None


class OutputFit(Fit):
    """The same in full.

    Attributes:
        unit: of the output.
        r2: by threshold, or by level where the metric has no thresholds.
        r2_worst: the least of them.
        r2_worst_threshold: where that is.
        sample_r2_median: of `sample_r_squared`, over the fields where it is defined and finite.
        sample_r2_mean: likewise.
    """

    unit: str
    r2: list[float | None]
    r2_worst: float | None
    r2_worst_threshold: float | None
    sample_r2_median: float | None
    sample_r2_mean: float | None


class Isoperimetry(TypedDict):
    """Shares of the non-empty sets that break P^2 >= 4 pi A, in %."""

    exact: float | None
    emulated: float | None


class FidelityFigures(TypedDict):
    """What `fidelity` returns.

    Attributes:
        fields: their number.
        field_shape: [H, W].
        thresholds: of the metric; empty where it has none.
        outputs: by name.
        violations: share of (field, threshold) pairs that break a constraint, in %, by its label.
        textbook_isoperimetry: None where the metric lacks area or perimeter.
    """

    fields: int
    field_shape: list[int]
    thresholds: list[float]
    outputs: dict[str, OutputFit]
    violations: dict[str, float]
    textbook_isoperimetry: Isoperimetry | None


class ClassFit(Fit):
    """How closely an output is followed on the fields of a class; `sample_r2_median` as in `OutputFit`."""

    sample_r2_median: float | None


class ClassFigures(TypedDict):
    """A class of wetness, see `fidelity_by_class`.

    Attributes:
        fields: their number.
        share: least and largest share of the pixels that count, in %; None of an empty class.
        outputs: by name.
    """

    fields: int
    share: list[float] | None
    outputs: dict[str, ClassFit]


class TimingFigures(TypedDict):
    """What `milliseconds_per_field` returns; times in ms per field."""

    forward: float
    gradient: float
    device: str


class Agreement(TypedDict):
    """Cosines between gradients, see `GradientQuality`."""

    cosine: float | None
    cosine_smoothed: float | None
    ceiling: float | None


class _GradientQualityFigures(TypedDict):
    fields: int
    tile: int
    perturbations: int
    seed: int
    total: Agreement
    outputs: dict[str, Agreement]


class GradientQualityFigures(_GradientQualityFigures, total=False):
    """The figures of a `GradientQuality`: "total" is of the sum over outputs.

    Attributes:
        defined: how many of the fields have an exact gradient that is not 0; earlier versions do not tell.
    """

    defined: int


class Norms(TypedDict):
    """Quantiles over fields of a gradient's 2-norm."""

    q05: float
    q50: float
    q95: float
    max: float


class GradientSizes(TypedDict):
    """What `gradient_sizes` returns.

    Attributes:
        fields: their number.
        near_zero: share of the pixels, in %; None where nothing was measured.
        norm: per field unit of a pixel.
    """

    fields: int
    near_zero: float | None
    norm: Norms


class GradientFigures(GradientQualityFigures):
    """What an evaluation finds about gradients."""

    sizes: GradientSizes


class DescentDistances(TypedDict):
    """Exact distance in an output, mean over fields, and the share that a descent removed, in %."""

    before: float
    after: float
    removed: float | None


class DescentFigures(TypedDict):
    """The figures of a `Descent`.

    Attributes:
        fields: their number.
        steps: of the gradient.
        start: "blurred" or "noisy".
        factor: of the blur; None where there was none.
        outputs: by name.
        removed: as in the outputs, of the sum over them.
        rmse_before: per pixel, in the fields' unit.
        rmse_after: likewise.
    """

    fields: int
    steps: int
    start: str
    factor: int | None
    outputs: dict[str, DescentDistances]
    removed: float | None
    rmse_before: float | None
    rmse_after: float | None


class CertificateFigures(TypedDict):
    """Steepness of a surrogate, of fields to signed-log curves, in 2-norms.

    Attributes:
        bound: global Lipschitz bound; None where there is none.
        reason: why there is none; "" where there is one.
        largest_slope: see `largest_slope`.
    """

    bound: float | None
    reason: str
    largest_slope: float


class InversionErrors(TypedDict):
    """RMSE of signed-log1p exact curves after an inversion: of all outputs, and of each by name."""

    rmse: float | None
    outputs: dict[str, float | None]


class InversionFigures(TypedDict):
    """The figures of an `Inversion`; targets by name."""

    steps: int
    starts: int
    seed: int
    targets: dict[str, InversionErrors]


class ShiftFit(Fit):
    """How closely an output is followed on shifted data; `r2_worst` as in `OutputFit`."""

    r2_worst: float | None


class _ShiftedFields(TypedDict):
    fields: int
    field_shape: list[int]


class ShiftFigures(_ShiftedFields, total=False):
    """One of the data sets of `shift`: its fields, and either of the keys below.

    Attributes:
        outputs: by name.
        refused: the message of a surrogate that does not take such fields.
    """

    outputs: dict[str, ShiftFit]
    refused: str


class CheckFigures(TypedDict):
    """What a surrogate is found to be by one criterion, see `emuloss.findings.criteria`.

    Attributes:
        criterion: its name.
        of: the output or the data set; "" of the whole.
        value: that was judged; None where it is undefined or was not measured.
        grade: "good", "fair", "poor", "worse than nothing" or "not measured".
    """

    criterion: str
    of: str
    value: float | None
    grade: str


class VerdictFigures(TypedDict):
    """What `emuloss.evaluation.verdict` returns.

    Attributes:
        fit: "fit", "limited", "unfit" or "unknown".
        why: what speaks against it, in phrases.
        good_for: what it is good for, in phrases; the lists below likewise.
        fair_for: what it is of some use for.
        not_for: what it is of no use for, or worse.
        not_measured: what nothing is known of.
        advice: what to do.
        checks: the judgement by each criterion.
    """

    fit: str
    why: list[str]
    good_for: list[str]
    fair_for: list[str]
    not_for: list[str]
    not_measured: list[str]
    advice: list[str]
    checks: list[CheckFigures]


class _AlwaysMeasured(TypedDict):
    fidelity: FidelityFigures
    classes: dict[str, ClassFigures]
    timing: TimingFigures
    certificate: CertificateFigures
    field_unit: str


# By inheritance: Python 3.10 has no NotRequired.
class Figures(_AlwaysMeasured, total=False):
    """The figures of an `Evaluation`.

    Attributes:
        gradients: missing in a quick evaluation, as are descents.
        descent: from blurred fields.
        descent_noisy: from noisy ones.
        inversion: of unary metrics with thresholds, in a thorough evaluation.
        shift: by name of the data set, in a thorough evaluation.
        reached: the value that pixels reach to count in "classes"; evaluations of earlier versions do not
            tell it.
        verdict: missing in evaluations of earlier versions.
    """

    gradients: GradientFigures
    descent: DescentFigures
    descent_noisy: DescentFigures
    inversion: InversionFigures
    shift: dict[str, ShiftFigures]
    reached: float
    verdict: VerdictFigures
