"""What is measured on: fields, imagined predictions of them, and the metric of the bundled surrogates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from emuloss.datasets import open_source, predictions_of
from emuloss.metrics import Metric
from emuloss.zoo import load
from torch import Tensor

ALL = ("area", "perimeter", "euler", "components", "holes")
"""Outputs of the Minkowski metric."""


@dataclass(frozen=True)
class Sample:
    """Fields of rain in mm/h, for results to be compared and calls to be timed on.

    Attributes:
        opera: folder of ODIM-HDF5 composites; None for synthetic rain.
    """

    opera: str | None

    def fields(self, count: int, size: int = 128) -> np.ndarray:
        """Fields (count, size, size), float32, without NaN, the wettest first; repeated if they are few."""
        if self.opera is None:
            source = open_source("rain", count=count, size=size, quantum=0.01)
            chunks = range(len(source))
        else:
            source = open_source(f"opera:{self.opera}", size=size, stride=size // 2, min_coverage=0.5)
            chunks = range(len(source) // 2, len(source), (len(source) + 1) // 2)  # reading takes long
        # As training fields, which may overlap: there are more of them.
        found = np.concatenate([source.read(k, "train") for k in chunks])
        found = found[np.argsort(-np.nanmean(found > 0.1, axis=(1, 2)), kind="stable")]
        return np.nan_to_num(np.resize(found, (count, size, size))).astype(np.float32)

    def pairs(self, count: int, size: int = 128) -> tuple[Tensor, Tensor]:
        """Observed fields, and predictions of them, both (count, size, size), on the CPU."""
        fields = self.fields(count, size)
        return torch.from_numpy(fields), torch.from_numpy(predictions_of(fields, np.random.default_rng(0)))


def minkowski(outputs: tuple[str, ...]) -> Metric:
    """The Minkowski metric at the thresholds of the bundled surrogates, with these outputs."""
    return load("minkowski-opera").metric.with_arguments(outputs=outputs)
