"""The surrogate that users hold: a frozen one that can be saved and published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from numpy.typing import ArrayLike

from ..emulators import RELAXATIONS, lesser_spreads, relaxation
from ..emulators.relaxations.relaxation import takes_spreads
from ..errors import ArgumentError
from ..findings.verdict import UNFIT
from ..foundation.arguments import as_array, as_path
from ..foundation.docs import entry, with_section
from ..losses import FrozenSurrogate
from ..metrics import Metric
from . import checkpoint


class Surrogate(FrozenSurrogate):
    """A frozen, differentiable stand-in for a metric: physical fields in, physical curves out.

    Its weights take no gradient and it stays in evaluation mode, whatever its parent does; gradients flow to
    the fields alone. Thawed with all of a parent's weights, it is frozen again by its next call, but not in
    compiled code. Build one with `emuloss.load`, `emuloss.relax` or `emuloss.train`, or wrap a trained
    emulator.

    Args:
        module: the stand-in. It is frozen in place, its spectral norms made plain weights.
        architecture: name of the module's architecture.
        provenance: what it says about itself.
    """

    @property
    def unfit(self) -> bool:
        """Whether the verdict of its evaluation is that it is unfit to train with."""
        found = self.evaluation.get("verdict")
        return isinstance(found, dict) and found.get("fit") == UNFIT

    def save_pretrained(self, directory: str | Path) -> None:
        """Write config.json, model.safetensors, golden.safetensors and README.md, for `emuloss.load`.

        Args:
            directory: made if missing; files of the same names are replaced.

        Raises:
            ArgumentError: no path.
            CheckpointError: the directory cannot be written.
        """
        checkpoint.save(self.module, self.architecture, self.provenance, as_path("directory", directory))

    def push_to_hub(self, repo: str, **options: Any) -> str:
        """Publish this surrogate on the Hugging Face Hub; it must have an evaluation.

        Args:
            repo: "org/repo"; made if missing.
            **options: of `emuloss.zoo.publish`: `private`, `revision`, `create_pr`, `tag`, `token` and
                `dry_run`. Publish the folder of a run where its pictures should be shown.

        Returns:
            Where it is published; for a dry run, what would be sent.

        Raises:
            ArgumentError: a name that cannot be meant, or a surrogate without evaluation.
            CheckpointError: the Hub cannot be reached, refuses, or has changed meanwhile.
        """
        from .publishing import publish  # the Hub's client is slow to import, and few publish

        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return publish(folder, repo, **options)


@torch.inference_mode(False)  # it may be built where nothing is trained
def relax(
    metric: Metric,
    *,
    temperature: float | Sequence[float] | None = None,
    forward: str | None = None,
    fields: ArrayLike | None = None,
    **arguments: Any,
) -> Surrogate:
    """Analytical surrogate of a metric; no training.

    Args:
        metric: one whose relaxation is known, see below: of the kinds "minkowski", "fss", "csi", "boxcount"
            and "spectrum", or "sal" with the amplitude alone.
        temperature: how soft it is, relative to the data; a hot relaxation has gradients that reach far, a
            cold one is close to the metric. Default: that of the relaxation, 0.05. A spectrum has none: its
            values are the metric's, within rounding.
        forward: "soft", or "exact": exact values with the gradient of the soft ones. Default: "soft".
        fields: a sample of the fields, of any shape, that tells what temperatures are relative to, see
            `emuloss.emulators.lesser_spreads`. Default: what the thresholds tell by their distances, taken
            for quantiles at the metric's levels; with a lone one, each field tells for itself.
        **arguments: others of the relaxation, which are listed below for each.

    Raises:
        ArgumentError: no metric, one without a known relaxation, or an argument that is unknown or out of
            range.
    """
    asked = {"temperature": temperature, "forward": forward}
    given = {name: value for name, value in asked.items() if value is not None}
    if fields is not None and isinstance(metric, Metric):
        if "spreads" in arguments:
            raise ArgumentError("give relax fields or spreads, not both: fields tell the spreads")
        if RELAXATIONS.of(metric) is not None and not takes_spreads(metric):
            raise ArgumentError(
                f"the relaxation of metric {metric.name!r} takes no fields: nothing in it depends on "
                "the data; leave them out"
            )
        given["spreads"] = lesser_spreads(as_array("fields", fields), metric.thresholds, metric.levels)
    return Surrogate(relaxation(metric, **given, **arguments), "relaxed")


relax.__doc__ = with_section(
    relax.__doc__, "Relaxations", (entry(kind.__name__, kind) for kind in RELAXATIONS.things())
)
