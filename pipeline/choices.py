"""What there is to choose from, looked up where a help asks: much of what knows it is slow to import."""

from __future__ import annotations

from ..metrics import list_metrics


def sources() -> list[str]:
    """How fields are asked for, by the kind of their source."""
    from ..datasets.sources.opening import usages

    return usages()


def metrics() -> list[str]:
    """Metrics that have a name, and how others are asked for."""
    return [*list_metrics(), "FILE.py:NAME", "MODULE:NAME"]


def architectures() -> list[str]:
    """Names of the architectures."""
    from ..emulators import ARCHITECTURES

    return list(ARCHITECTURES)


def spectral_norms() -> list[str]:
    """Kinds of spectral normalisation."""
    from ..emulators.networks.spectral import KINDS

    return list(KINDS)


def engines() -> list[str]:
    """Names of the engines that label."""
    from ..datasets.labels.engines import ENGINES

    return list(ENGINES)
