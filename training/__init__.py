"""Training of emulators: what decides a run, one step of it, and the clock around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..foundation.lazy import lazily
from .options import Training

if TYPE_CHECKING:
    from .learner import Learner
    from .penalties import PENALTIES
    from .trainer import Trainer

__all__ = ["PENALTIES", "Learner", "Trainer", "Training"]

# Options are read before anything heavy is imported.
__getattr__ = lazily(__name__, {"Learner": ".learner", "PENALTIES": ".penalties", "Trainer": ".trainer"})
