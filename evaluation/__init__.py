"""How good a surrogate is: fidelity, guarantees, speed, gradients, and what they do to fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..emulators.spoilt import blurred, noisy
from ..findings.tables import markdown_table, markdown_verdict, summary_table, verdict_of
from ..findings.verdict import headline, verdict
from .classes import fidelity_by_class, wetness_classes
from .descent import Descended, Descent, descend, descent, exact_distance
from .ensembles import EnsembleScores, ensemble_scores
from .evaluate import Evaluation, evaluate
from .fidelity import curve_distance, fidelity, r_squared, sample_r_squared
from .gradients import GradientQuality, gradient_quality, gradient_sizes
from .inversion import Inversion, Inverted, inversion, invert, storms
from .plan import Plan, planned
from .realism import (
    EnergyTest,
    energy_test,
    grid_harmonics,
    log_spectrum,
    main_axes,
    spectrum_error,
    structure_function,
)
from .shift import shift, shifted
from .slopes import largest_slope
from .timing import milliseconds_per_field
from .two_sample import ClassifierTest, classifier_test

if TYPE_CHECKING:
    from .ensemble_panels import write_ensembles
    from .report import write_report

__all__ = [
    "ClassifierTest",
    "Descended",
    "Descent",
    "EnergyTest",
    "EnsembleScores",
    "Evaluation",
    "GradientQuality",
    "Inversion",
    "Inverted",
    "Plan",
    "blurred",
    "classifier_test",
    "curve_distance",
    "descend",
    "descent",
    "energy_test",
    "ensemble_scores",
    "evaluate",
    "exact_distance",
    "fidelity",
    "fidelity_by_class",
    "gradient_quality",
    "gradient_sizes",
    "grid_harmonics",
    "headline",
    "inversion",
    "invert",
    "largest_slope",
    "log_spectrum",
    "main_axes",
    "markdown_table",
    "markdown_verdict",
    "milliseconds_per_field",
    "noisy",
    "planned",
    "r_squared",
    "sample_r_squared",
    "shift",
    "shifted",
    "spectrum_error",
    "storms",
    "structure_function",
    "summary_table",
    "verdict",
    "verdict_of",
    "wetness_classes",
    "write_ensembles",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # matplotlib is slow to import and few callers draw.
    if name == "write_ensembles":
        from .ensemble_panels import write_ensembles

        return write_ensembles
    if name == "write_report":
        from .report import write_report

        return write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
