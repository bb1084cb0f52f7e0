"""What a checkpoint says about itself, for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import printable

_LONGEST = 1000
"""Characters of a line: what is said beyond is cut off."""


@dataclass(frozen=True)
class ModelInfo:
    """What a checkpoint says about itself; printed, a few lines for people.

    Attributes:
        name: bundled name, directory or "org/repo@commit".
        metric: name of the metric.
        architecture: name of the architecture.
        outputs: names of the C outputs.
        units: their units.
        thresholds: the Q thresholds, in `unit`.
        unit: unit of the fields; empty if not stated.
        field_shape: (H, W) of the fields trained on; None if any.
        license: licence, as the Hub names it; empty if not stated.
        trained_on: data and settings of the training.
        evaluation: figures measured on held-out fields.
        size: bytes of the weights.
        revision: commit on the Hub; None for a local checkpoint.
    """

    name: str
    metric: str
    architecture: str
    outputs: tuple[str, ...]
    units: tuple[str, ...]
    thresholds: tuple[float, ...]
    unit: str
    field_shape: tuple[int, int] | None
    license: str
    trained_on: dict[str, Any]
    evaluation: dict[str, Any]
    size: int
    revision: str | None

    def __str__(self) -> str:
        outputs = ", ".join(f"{o} ({u})" for o, u in zip(self.outputs, self.units, strict=False))
        shape = " x ".join(map(str, self.field_shape)) if self.field_shape else "any shape"
        lines = [f"{self.name}: {self.metric}, {self.architecture}", f"  outputs     {outputs}"]
        if self.thresholds:
            low, high = self.thresholds[0], self.thresholds[-1]
            lines.append(f"  thresholds  {len(self.thresholds)}, {low:g} to {high:g} {self.unit}".rstrip())
        lines.append(f"  fields      {self.unit or 'unit not stated'}, {shape}")
        scores = self.evaluation.get("fidelity", {}).get("outputs", {})
        if scores:
            found = ", ".join(f"{name} {_four(each.get('r2_mean'))}" for name, each in scores.items())
            lines.append(f"  R2 mean     {found}")
        lines.append(f"  weights     {self.size / 1e6:.1f} MB, licence {self.license or 'not stated'}")
        lines += [] if self.revision is None else [f"  revision    {self.revision}"]
        return "\n".join(printable(line[:_LONGEST]) for line in lines)


def _four(value: float | None) -> str:
    """A number with four decimals; a dash for one that is not defined."""
    return "-" if value is None else f"{value:.4f}"
