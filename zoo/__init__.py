"""Frozen surrogates: loading, saving, publishing, and using them as losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..foundation.lazy import lazily

if TYPE_CHECKING:
    from ..losses import SurrogateLoss
    from .describing import ModelInfo, info
    from .loading import load, verify
    from .names import list_models
    from .publishing import publish
    from .surrogate import Surrogate, relax

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

if not TYPE_CHECKING:  # which sees the names above, and no others
    # What a checkpoint says is read without torch, and the Hub's client is slow to import, too.
    __getattr__ = lazily(
        __name__,
        {
            "SurrogateLoss": "..losses",
            **dict.fromkeys(("ModelInfo", "info"), ".describing"),
            **dict.fromkeys(("load", "verify"), ".loading"),
            "list_models": ".names",
            "publish": ".publishing",
            **dict.fromkeys(("Surrogate", "relax"), ".surrogate"),
        },
    )
