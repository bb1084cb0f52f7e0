"""Frozen surrogates: loading, saving, publishing, and using them as losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..foundation.lazy import lazily
from ..losses import SurrogateLoss
from .info import ModelInfo
from .loading import info, load, verify
from .names import list_models
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

__getattr__ = lazily(__name__, {"publish": ".publishing"})  # the Hub's client is slow to import; few publish
