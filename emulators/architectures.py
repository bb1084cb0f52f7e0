"""The architectures that `--arch` takes, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from ..metrics import Metric, Minkowski
from .certified import CertifiedEmulator
from .emulator import ConvEmulator
from .excursion import Excursion
from .relaxed import relaxation

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "baseline": partial(ConvEmulator, backbone="plain", heads="free", spectral="none"),
    "lipschitz": partial(ConvEmulator, heads="free"),
    "constrained": ConvEmulator,
    "hybrid": partial(ConvEmulator, readout="all", masks=7, prior=0.05),
    "certified": CertifiedEmulator,
    "excursion": Excursion,
    "relaxed": relaxation,
}
"""Builders: (metric, **arguments) -> module, with `metric`, `stride` and `arguments()`.

The first three follow Quarenghi, Cotsakis and Beucler (arXiv 2604.11422): a plain CNN, a Lipschitz CNN, and
the latter with constrained heads, here built from the constraints that exact values do obey.
"hybrid" reads out every stage and corrects a relaxed prior, where one is known; "certified" has a sound
Lipschitz bound. The last two have no weights to train.
"""


def default_architecture(metric: Metric) -> str:
    """The architecture to take unless there are reasons for another one."""
    return "excursion" if isinstance(metric, Minkowski) else "hybrid"
