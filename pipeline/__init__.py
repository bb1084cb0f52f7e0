"""From fields to a frozen surrogate: open, choose, label, build, train, freeze, evaluate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..foundation.lazy import lazily
from .settings import Data, Labelling, Network, Run, Teacher

if TYPE_CHECKING:
    from .labelling import label
    from .run import train

__all__ = ["Data", "Labelling", "Network", "Run", "Teacher", "label", "train"]

# Settings are read before anything heavy is imported.
__getattr__ = lazily(__name__, {"label": ".labelling", "train": ".run"})
