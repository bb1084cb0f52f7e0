"""The typed form of config.json: what a checkpoint says about itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from ..errors import IncompatibleError

if TYPE_CHECKING:
    from ..emulators.differentiable import Differentiable
    from ..losses.surrogate import Provenance

CONFIG, WEIGHTS, GOLDEN, CARD = "config.json", "model.safetensors", "golden.safetensors", "README.md"
"""The files of a checkpoint."""
FORMAT, FORMAT_VERSION = "emuloss surrogate", 2
"""The format that is written; `READERS` has those that are read."""
UNSEALED = "0" * 64
"""Stands for a hash until what it is the hash of is there."""


@dataclass(frozen=True)
class Built:
    """A name, and the JSON-able keyword arguments that build what it names."""

    name: str
    arguments: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Both, as config.json holds them."""
        return {"name": self.name, "arguments": self.arguments}


@dataclass(frozen=True)
class Manifest:
    """What config.json holds, its keys in the order in which they are written.

    Attributes:
        format: "emuloss surrogate".
        format_version: of the configuration.
        package_version: of the emuloss that wrote it.
        architecture: what the module is built from, beside the metric.
        metric: what the exact teacher is built from.
        outputs: names of the C outputs.
        units: their units.
        constraints: labels of what exact curves obey, as the metric declared them.
        unit: of the fields that the surrogate was made for; empty if not stated.
        field_shape: (H, W) of these fields; None if any.
        license: of the checkpoint, as the Hugging Face Hub names it; empty if not stated.
        training: data and settings of the training; empty where there was none.
        evaluation: figures measured on held-out fields; empty where none were.
        weights_sha256: hash of model.safetensors.
        golden_sha256: hash of golden.safetensors.
        config_sha256: hash of all the above.
    """

    format: str
    format_version: int
    package_version: str
    architecture: Built
    metric: Built
    outputs: Sequence[str]
    units: Sequence[str]
    constraints: Sequence[str]
    unit: str = ""
    field_shape: Sequence[int] | None = None
    license: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str = UNSEALED
    golden_sha256: str = UNSEALED
    config_sha256: str = UNSEALED

    @classmethod
    def of(cls, module: Differentiable, architecture: str, provenance: Provenance) -> Manifest:
        """That of a stand-in, its hashes yet unknown; what provenance holds is taken as it is.

        Args:
            module: the stand-in.
            architecture: name of its architecture.
            provenance: what else it says about itself.
        """
        from importlib.metadata import version  # not needed to read

        metric = module.metric
        return cls(
            format=FORMAT,
            format_version=FORMAT_VERSION,
            package_version=version("emuloss"),
            architecture=Built(architecture, module.arguments()),
            metric=Built(**metric.config()),
            outputs=metric.outputs,
            units=metric.units,
            constraints=[c.label for c in metric.constraints],
            unit=provenance.unit,
            field_shape=provenance.field_shape,
            license=provenance.license,
            training=provenance.training,
            evaluation=provenance.evaluation,
        )

    def as_dict(self) -> dict[str, Any]:
        """The JSON-able content of config.json."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        return plain | {"architecture": self.architecture.as_dict(), "metric": self.metric.as_dict()}

    @property
    def provenance(self) -> Provenance:
        """What the surrogate says about itself, beside what it is."""
        from ..losses.surrogate import Provenance  # torch is slow to import, and not needed to read

        return Provenance(
            unit=self.unit,
            field_shape=self.field_shape,
            license=self.license,
            training=self.training,
            evaluation=self.evaluation,
        )


def as_written(config: dict[str, Any]) -> Manifest:
    """The manifest of a configuration as it stands, whose schema holds for it."""
    built = {key: Built(**config[key]) for key in ("architecture", "metric")}
    return Manifest(**config | built)


def read_1(config: dict[str, Any]) -> Manifest:
    """The manifest of a configuration of format version 1: temperatures were relative to the thresholds.

    Raises:
        IncompatibleError: a network that was trained for thresholds around 0 or far from it, which saw its
            fields otherwise than networks do now.
    """
    from ..emulators.differentiable import DEFAULT_INTENSITIES  # needed where it is built
    from ..emulators.spreads import spreads_of_version_1

    manifest = as_written(config)
    arguments = manifest.architecture.arguments
    axis = manifest.metric.arguments.get("thresholds") or arguments.get("intensities")
    if not axis and "mask_temperature" in arguments:
        axis = DEFAULT_INTENSITIES
    if not axis:
        return manifest
    far = len(axis) > 1 and min(map(abs, axis)) > axis[-1] - axis[0]
    if "mask_temperature" in arguments and (axis[0] <= 0 or far):
        raise IncompatibleError(
            f"emuloss {manifest.package_version} trained it for thresholds from {axis[0]:g} to {axis[-1]:g}, "
            "and networks see such fields otherwise by now; train it again, or load it with that version"
        )
    then: dict[str, Any] = {"spreads": spreads_of_version_1(axis)}
    if "tail" in arguments:  # a relaxation, whose values and gradient came from the same steps
        then["forward"] = "soft"
    known = Built(manifest.architecture.name, then | arguments)
    return replace(manifest, architecture=known)


READERS: dict[int, Callable[[dict[str, Any]], Manifest]] = {1: read_1, 2: as_written}
"""By format version: from a configuration, which the schema of that version holds for, to its manifest."""
