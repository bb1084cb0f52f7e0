"""The frozen surrogate that users hold: curves of fields, its teacher, its loss, its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..emulators import PairwiseLoss, SurrogateLoss, relaxation
from ..emulators.fields import stacked
from ..emulators.loss import WidePrecision
from ..errors import ArgumentError
from ..metrics import Metric, metric_from_config


class Surrogate(WidePrecision):
    """A frozen, differentiable stand-in for a metric: physical fields in, physical curves out.

    Its weights take no gradient and it stays in evaluation mode, whatever its parent does;
    gradients flow to the fields alone. Build one with `emuloss.load` or `emuloss.relax`, or wrap a
    trained emulator.

    Args:
        module: maps fields (N, H, W), or pairs (N, 2, H, W), to curves (N, C, Q); has `metric` and
            `arguments()`. It is frozen in place, its spectral norms made plain weights.
        architecture: name of the module's architecture.
        provenance: JSON-able facts for the checkpoint: "unit" and "field_shape" of the fields it
            was made for, "license", "training" (the "source" of the fields, a "synthetic" one beside it,
            and whatever else is worth telling) and "evaluation" (see `emuloss.evaluation.evaluate`).
    """

    def __init__(
        self, module: nn.Module, architecture: str, provenance: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.module = frozen(module)
        self.architecture = architecture
        self.provenance: dict[str, Any] = dict(provenance or {})
        self.revision: str | None = None
        """Commit on the Hub that it was loaded from; None if it comes from elsewhere."""

    @property
    def metric(self) -> Metric:
        """The exact teacher: `surrogate.metric(fields)` on NumPy arrays."""
        return self.module.metric  # type: ignore[return-value]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the C outputs."""
        return self.metric.outputs

    @property
    def units(self) -> tuple[str, ...]:
        """Units of the outputs."""
        return self.metric.units

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The Q thresholds, in the field's unit; empty for a metric without."""
        return self.metric.thresholds

    @property
    def lower_better(self) -> bool | None:
        """Whether smaller values mean a better prediction; None for a metric of one field."""
        return self.metric.lower_better

    @property
    def license(self) -> str:
        """Licence of the checkpoint, as the Hugging Face Hub names it ("apache-2.0"); empty if not stated."""
        return self.provenance.get("license", "")

    @property
    def trained_on(self) -> dict[str, Any]:
        """Data and settings of the training; empty where there was none."""
        return self.provenance.get("training", {})

    @property
    def evaluation(self) -> dict[str, Any]:
        """Figures measured on held-out fields; empty where none were."""
        return self.provenance.get("evaluation", {})

    def train(self, mode: bool = True) -> Surrogate:
        """Stay in evaluation mode: a parent module's `train()` must not thaw a frozen surrogate."""
        return super().train(False)

    def forward(self, fields: Tensor, observations: Tensor | None = None) -> Tensor:
        """Curves of fields, or of predictions and observations where the metric is pairwise.

        Args:
            fields: (N, H, W) or (N, 1, H, W), floating point, in the unit trained on; NaN marks
                pixels that were not measured. Of a pairwise metric: the predictions.
            observations: of a pairwise metric alone: of the same shape. Without, fields are taken for
                pairs (N, 2, H, W) of prediction and observation.

        Returns:
            Curves (N, C, Q), in `units`, differentiable in the fields.

        Raises:
            ArgumentError: fields of another type, shape or dtype, or observations where none belong.
        """
        if observations is None:
            return self.module(fields)
        if self.metric.arity != 2:
            raise ArgumentError(f"metric {self.metric.name!r} takes one batch of fields, got two")
        for name, value in (("predictions", fields), ("observations", observations)):
            if not isinstance(value, Tensor):
                raise ArgumentError(f"{name} must be a torch tensor, got {type(value).__name__}")
        return self.module(stacked(fields, observations))

    @property
    def stride(self) -> int:
        """Least side of a field, in pixels."""
        return int(self.module.stride)  # type: ignore[arg-type]

    @property
    def temperature(self) -> float | tuple[float, ...]:
        """Relative temperature of a relaxation; set it between training steps to anneal.

        A soft step at a threshold u is temperature * |u| wide: a hot one reaches far, a cold one is faithful.

        Raises:
            ArgumentError: a surrogate that is no relaxation, or a temperature that is not positive.
        """
        self._check_relaxed()
        return self.module.temperature  # type: ignore[return-value]

    @temperature.setter
    def temperature(self, value: float | Sequence[float]) -> None:
        self._check_relaxed()
        self.module.temperature = value  # type: ignore[assignment]

    def _check_relaxed(self) -> None:
        if not hasattr(self.module, "temperature"):
            raise ArgumentError(f"architecture {self.architecture!r} is no relaxation: it has no temperature")

    @property
    def threshold_free(self) -> bool:
        """Whether `with_thresholds` works: nothing was trained for these thresholds."""
        return bool(self.thresholds) and not any(True for _ in self.module.parameters())

    def with_thresholds(
        self, thresholds: Sequence[float], *, levels: Sequence[float] | None = None, **arguments: Any
    ) -> Surrogate:
        """The same surrogate at other thresholds; nothing is trained.

        Args:
            thresholds: strictly increasing, in the field's unit.
            levels: coordinates of the threshold axis for integration; default: evenly spaced.
            **arguments: others of the metric, such as `pixel_size`, `length_unit` or `outputs`.

        Raises:
            ArgumentError: an architecture trained for its thresholds, or an argument out of range.
        """
        if not self.threshold_free:
            if not self.thresholds:
                raise ArgumentError(f"metric {self.metric.name!r} has no thresholds")
            raise ArgumentError(
                f"architecture {self.architecture!r} is trained for its thresholds; "
                "take excursion or relaxed, or train another one"
            )
        given = {**self.metric.arguments(), "thresholds": thresholds, "levels": levels, **arguments}
        metric = metric_from_config({"name": self.metric.name, "arguments": given})
        module = type(self.module)(metric, **self.module.arguments())  # type: ignore[operator]
        module.to(next(self.module.buffers()).device)
        provenance = {name: fact for name, fact in self.provenance.items() if name != "evaluation"}
        return Surrogate(module, self.architecture, provenance)

    def as_loss(
        self,
        *,
        forward: str = "surrogate",
        reference: str | None = None,
        reduction: str = "mean",
        weights: Mapping[str, float] | None = None,
        trust: float | None = None,
        in_state_dict: bool = True,
    ) -> SurrogateLoss | PairwiseLoss:
        """A loss module `loss(prediction, target)`.

        Of a metric of one field it is the distance between the curves of both, with the arguments of
        `SurrogateLoss`; of a pairwise metric the metric itself, with those of `PairwiseLoss`, which has
        neither `reference` nor `trust`.

        Raises:
            ArgumentError: an argument out of range.
        """
        arguments: dict[str, Any] = {
            "forward": forward,
            "reduction": reduction,
            "weights": weights,
            "in_state_dict": in_state_dict,
        }
        if self.metric.arity == 1:
            return SurrogateLoss(self, reference=reference, trust=trust, **arguments)
        if reference is not None or trust is not None:
            raise ArgumentError(
                f"reference and trust are for metrics of one field; {self.metric.name!r} compares two"
            )
        return PairwiseLoss(self, **arguments)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write config.json, model.safetensors, golden.safetensors and README.md, for `emuloss.load`.

        Args:
            directory: made if missing; files of the same names are replaced.

        Raises:
            CheckpointError: the directory cannot be written.
        """
        from .checkpoint import save

        save(self, Path(directory))

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
        from .publishing import publish

        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return publish(folder, repo, **options)

    def extra_repr(self) -> str:
        """What `print` shows beside the module."""
        return f"architecture={self.architecture!r}, metric={self.metric.name!r}, outputs={self.outputs}"


def frozen(module: nn.Module) -> nn.Module:
    """Freeze a module in place: evaluation mode, no gradient to weights, spectral norms made plain."""
    module.eval().requires_grad_(False)
    for part in module.modules():
        if parametrize.is_parametrized(part, "weight"):
            parametrize.remove_parametrizations(part, "weight")
    return module.requires_grad_(False)


def relax(metric: Metric, **arguments: Any) -> Surrogate:
    """Analytical surrogate of a metric; no training.

    Args:
        metric: one of the kinds "minkowski", "fss", "csi" and "boxcount", or "sal" with the amplitude alone.
        **arguments: `temperature` (relative to each threshold; default 0.05), `forward` ("soft", or
            "exact": exact values with the gradient of the soft ones), and of
            `emuloss.emulators.RelaxedMinkowski` also `tail` (share and temperature of a hotter sigmoid
            mixed in).

    Raises:
        ArgumentError: the metric has no known relaxation, or an argument is out of range.
    """
    return Surrogate(relaxation(metric, **arguments), "relaxed")
