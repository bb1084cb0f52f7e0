"""What a checkpoint says about itself, for people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import printable
from ..foundation.docs import takes_those_of
from ..foundation.rules import increasing_numbers
from .manifest import CONFIG, WEIGHTS, Manifest, as_written
from .names import MODELS, found
from .secrets import discreet

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


@discreet
@takes_those_of(found)
def info(
    source: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> ModelInfo:
    """What a checkpoint says about itself, without building it; from the Hub, all of it is fetched.

    Raises:
        EmulossError: see `load`; what it takes to build it is not looked at.
    """
    place = found(source, revision, cache_dir, token, force_download, local_files_only)
    with place.named():
        manifest, size = _manifest_and_size(place.folder)
    thresholds = manifest.metric.arguments.get("thresholds", ())
    shape = manifest.field_shape
    return ModelInfo(
        name=str(place),
        metric=manifest.metric.name,
        architecture=manifest.architecture.name,
        outputs=tuple(manifest.outputs),
        units=tuple(manifest.units),
        # An unknown metric, which `load` will refuse, may call anything its thresholds.
        thresholds=() if increasing_numbers(thresholds, "") else tuple(thresholds),
        unit=manifest.unit,
        field_shape=None if shape is None else (shape[0], shape[1]),
        license=manifest.license,
        trained_on=manifest.training,
        evaluation=manifest.evaluation,
        size=size,
        revision=place.commit,
    )


def _manifest_and_size(folder: Path) -> tuple[Manifest, int]:
    """What a checkpoint says, and the bytes of its weights."""
    if folder.parent == MODELS:  # what the package brings is checked by its tests, and where it is loaded
        config = json.loads((folder / CONFIG).read_bytes())
        return as_written(config), (folder / WEIGHTS).stat().st_size
    from .contract import described, read_sealed  # not needed for a list of what the package brings

    manifest = described(folder / CONFIG)
    return manifest, len(read_sealed(folder, WEIGHTS, manifest))
