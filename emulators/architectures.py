"""The architectures that `--arch` takes, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ArgumentError
from ..foundation.arguments import known_names
from ..foundation.registry import Registry
from ..foundation.rules import Rule
from ..metrics import Metric, Minkowski
from .differentiable import Differentiable, Relaxation
from .networks.certified import CertifiedEmulator
from .networks.emulator import ConvEmulator
from .relaxations.excursion import Excursion
from .relaxations.relaxation import relaxation, takes_spreads

_OF_DATA = ("intensities", "spreads")


@dataclass(frozen=True)
class Architecture:
    """How a stand-in for a metric is built.

    Attributes:
        build: (metric, **arguments) -> module.
        rules: of the arguments that a foreign configuration may give, see `Differentiable.argument_rules`.
        defaults: arguments that this architecture sets.
        passed_on: names of arguments that `build` takes without naming them.
        told_by_metric: names of arguments whose default, for what is not built yet, is the metric's attribute
            of that name; checkpoints say what theirs is.
    """

    build: Callable[..., Differentiable]
    rules: Mapping[str, Rule]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    passed_on: tuple[str, ...] = ()
    told_by_metric: tuple[str, ...] = ()

    def __call__(self, metric: Metric, **arguments: Any) -> Differentiable:
        """The untrained module."""
        return self.build(metric, **{**self.defaults, **arguments})

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of the arguments, beside the metric, that it takes."""
        parameters = list(inspect.signature(self.build).parameters.values())[1:]
        return (*(p.name for p in parameters if p.kind is not p.VAR_KEYWORD), *self.passed_on)

    def told_by_data(self, metric: Metric) -> tuple[str, ...]:
        """Names of the arguments that training fields tell: values that stand for thresholds, and spreads."""
        names = ("intensities",) if self.build is relaxation and not takes_spreads(metric) else _OF_DATA
        return tuple(name for name in names if name in self.takes)

    def given(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Some options as `build` takes them: those that are not None, sequences as lists.

        Raises:
            ArgumentError: one that this architecture, called name, does not take, or that is out of bounds.
        """
        given = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
        given = {key: value for key, value in given.items() if value is not None}
        for option, value in given.items():
            if option not in self.takes:
                raise ArgumentError(
                    f"{option} is no option of architecture {name!r}; leave it out, for there are "
                    f"{known_names(option, self.takes)}"
                )
            problem = self.rules[option](value, option) if option in self.rules else ""
            if problem:
                raise ArgumentError(problem)
        return given


def _network(told_by_metric: tuple[str, ...] = (), **defaults: Any) -> Architecture:
    return Architecture(ConvEmulator, ConvEmulator.argument_rules, defaults, told_by_metric=told_by_metric)


ARCHITECTURES: Registry[str, Architecture] = Registry("architecture")
"""Architectures by name.

The first three follow Quarenghi, Cotsakis and Beucler (arXiv 2604.11422): a plain CNN, a Lipschitz CNN, and
the latter with constrained heads, here built from the constraints that exact values do obey.
"hybrid" reads out every stage and corrects a relaxed prior, where one is known; "certified" has a sound
Lipschitz bound. The last two have no weights to train.
"""
for _name, _architecture in {
    "baseline": _network(backbone="plain", heads="free", spectral="none"),
    "lipschitz": _network(heads="free"),
    "constrained": _network(),
    "hybrid": _network(("located",), readout="all", masks=7, prior=0.05),
    "certified": Architecture(CertifiedEmulator, CertifiedEmulator.argument_rules),
    "excursion": Architecture(Excursion, Excursion.argument_rules),
    "relaxed": Architecture(
        relaxation, Relaxation.argument_rules, passed_on=("temperature", "forward", "spreads")
    ),
}.items():
    ARCHITECTURES.register(_name)(_architecture)

DEFAULTS: Registry[type[Metric], str] = Registry("default architecture")
"""The architecture to take for a kind of metric, where it is not hybrid."""
DEFAULTS.register(Minkowski)("excursion")


def default_architecture(metric: Metric) -> str:
    """The architecture to take unless there are reasons for another one."""
    return DEFAULTS.of(metric) or "hybrid"
