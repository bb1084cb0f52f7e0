"""emuloss: turn any non-differentiable metric of a 2-D field into a training loss.

metric = emuloss.metric("minkowski", thresholds=[0.1, 1, 5], pixel_size=2.0)
loss = emuloss.relax(metric).as_loss()          # analytical
loss = emuloss.load("minkowski-opera").as_loss()  # bundled; or a directory, or "org/repo" on the Hub
loss(prediction, target).backward()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import ArgumentError, CheckpointError, DataError, EmulossError

if TYPE_CHECKING:
    from .metrics import Metric, list_metrics, metric, register
    from .zoo import ModelInfo, Surrogate, SurrogateLoss, info, list_models, load, relax

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "DataError",
    "EmulossError",
    "Metric",
    "ModelInfo",
    "Surrogate",
    "SurrogateLoss",
    "info",
    "list_metrics",
    "list_models",
    "load",
    "metric",
    "register",
    "relax",
]

# Loaded on first use, so that importing emuloss costs nothing until something is asked of it.
_HOMES = {
    **dict.fromkeys(("Metric", "list_metrics", "metric", "register"), ".metrics"),
    **dict.fromkeys(
        ("ModelInfo", "Surrogate", "SurrogateLoss", "info", "list_models", "load", "relax"), ".zoo"
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
