"""How good a surrogate is: fidelity, guarantees, speed, and what its gradient does to fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .descent import Descended, Descent, blurred, descend, descent, exact_distance
from .evaluate import Evaluation, evaluate
from .fidelity import curve_distance, fidelity, r_squared
from .tables import markdown_table, summary_table
from .timing import milliseconds_per_field

if TYPE_CHECKING:
    from .report import write_report

__all__ = [
    "Descended",
    "Descent",
    "Evaluation",
    "blurred",
    "curve_distance",
    "descend",
    "descent",
    "evaluate",
    "exact_distance",
    "fidelity",
    "markdown_table",
    "milliseconds_per_field",
    "r_squared",
    "summary_table",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name == "write_report":  # matplotlib is slow to import and few callers draw
        from .report import write_report

        return write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
