"""Frozen surrogates: loading, saving, publishing, and using them as losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..emulators import SurrogateLoss
from .loading import ModelInfo, info, list_models, load, verify
from .surrogate import Surrogate, relax

if TYPE_CHECKING:
    from .publishing import publish

__all__ = [
    "ModelInfo",
    "Surrogate",
    "SurrogateLoss",
    "info",
    "list_models",
    "load",
    "publish",
    "relax",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "publish":  # the Hub's client is slow to import, and few publish
        from .publishing import publish

        return publish
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
