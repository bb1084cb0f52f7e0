"""emuloss: turn any non-differentiable metric of a 2-D field into a training loss.

metric = emuloss.metric("minkowski", thresholds=[0.1, 1, 5], pixel_size=2.0)
loss = emuloss.relax(metric).as_loss()          # analytical
loss = emuloss.load("minkowski-opera").as_loss()  # bundled; or a directory, or "org/repo" on the Hub
loss(prediction, target).backward()
surrogate = emuloss.train(fields="rain", metric="clusters", out="runs/mine")  # a trained one
loss = emuloss.live(my_function, fields)  # goes on learning beside your model

Beside the loss that you have: `Combined`, with a `Share` of the gradient. For ensembles:
`surrogate.as_score()`. Of segmentations: `SegmentationLoss`. Of generators: `Guidance`. To look at data
first: `look`. `help(emuloss.live)` and the like tell of one of them; `help(emuloss)` of all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import ArgumentError, CheckpointError, DataError, EmulossError
from .foundation.lazy import lazily

if TYPE_CHECKING:
    from . import functional, plot
    from . import measures as measures  # an extra, so that no star import asks for it
    from .losses import (
        Combined,
        Guidance,
        PerChannel,
        SegmentationLoss,
        Share,
        SurrogateLoss,
        SurrogateScore,
    )
    from .metrics import Metric, list_metrics, metric, register
    from .pipeline import Look, label, live, look, train
    from .zoo import ModelInfo, Surrogate, info, list_models, load, relax

__version__ = "0.2.0.dev0"

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "Combined",
    "DataError",
    "EmulossError",
    "Guidance",
    "Look",
    "Metric",
    "ModelInfo",
    "PerChannel",
    "SegmentationLoss",
    "Share",
    "Surrogate",
    "SurrogateLoss",
    "SurrogateScore",
    "functional",
    "info",
    "label",
    "list_metrics",
    "list_models",
    "live",
    "load",
    "look",
    "metric",
    "plot",
    "register",
    "relax",
    "train",
]

_LOSSES = (
    "Combined",
    "Guidance",
    "PerChannel",
    "SegmentationLoss",
    "Share",
    "SurrogateLoss",
    "SurrogateScore",
)

if not TYPE_CHECKING:  # which sees the names above, and no others
    # Loaded on first use, so that importing emuloss costs nothing until something is asked of it.
    __getattr__ = lazily(
        __name__,
        {
            **dict.fromkeys(("Metric", "list_metrics", "metric", "register"), ".metrics"),
            **dict.fromkeys(("Look", "label", "live", "look", "train"), ".pipeline"),
            **dict.fromkeys(("ModelInfo", "Surrogate", "info", "list_models", "load", "relax"), ".zoo"),
            **dict.fromkeys(_LOSSES, ".losses"),
            "functional": ".",
            "measures": ".",
            "plot": ".",
        },
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
