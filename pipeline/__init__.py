"""From fields to a frozen surrogate: open, choose, label, build, train, freeze, evaluate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..foundation.lazy import lazily
from .settings import Data, Labelling, Looking, Network, Run, Teacher

if TYPE_CHECKING:
    from .labelling import label
    from .living import live
    from .looked import Look
    from .looking import look
    from .run import train

__all__ = [
    "Data",
    "Labelling",
    "Look",
    "Looking",
    "Network",
    "Run",
    "Teacher",
    "label",
    "live",
    "look",
    "train",
]

# Settings are read before anything heavy is imported.
__getattr__ = lazily(
    __name__,
    {"Look": ".looked", "label": ".labelling", "live": ".living", "look": ".looking", "train": ".run"},
)
