"""Written by tests/support/stub.py: what `label`, `look` and `train` take."""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from ..datasets import LabelledFields
from ..metrics import Metric
from ..training import Training
from ..zoo import Surrogate
from .living import live as live
from .looked import Look as Look
from .settings import Data as Data
from .settings import Labelling as Labelling
from .settings import Looking as Looking
from .settings import Network as Network
from .settings import Run as Run
from .settings import Teacher as Teacher

def label(
    *,
    fields: Any = ...,
    source_options: Mapping[str, Any] | None = None,
    size: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    count: int | None = None,
    min_coverage: float | None = None,
    bounds: Sequence[float] | None = None,
    wet: float | None = None,
    pixel_size: float | None = None,
    unit: str | None = None,
    test_chunks: int | None = None,
    gap_chunks: int | None = None,
    gap: str | timedelta | None = None,
    skip_unreadable: bool = False,
    metric: str | Metric | Callable[..., Any] = "minkowski",
    outputs: Sequence[str] | None = None,
    metric_options: Mapping[str, Any] | None = None,
    thresholds: Sequence[float] | None = None,
    quantiles: Sequence[float] | None = None,
    levels: Sequence[float] | None = None,
    length_unit: str | None = None,
    out: str | os.PathLike[str] = ...,
    seed: int = 0,
    engine: str = "local",
    scheduler: str | None = None,
    progress: bool = True,
    data: Data | None = None,
    teacher: Teacher | None = None,
    labelling: Labelling | None = None,
) -> LabelledFields: ...
def look(
    *,
    fields: Any = ...,
    source_options: Mapping[str, Any] | None = None,
    size: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    count: int | None = None,
    min_coverage: float | None = None,
    bounds: Sequence[float] | None = None,
    wet: float | None = None,
    pixel_size: float | None = None,
    unit: str | None = None,
    test_chunks: int | None = None,
    gap_chunks: int | None = None,
    gap: str | timedelta | None = None,
    skip_unreadable: bool = False,
    chunks: int = 12,
    picture: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool = True,
    data: Data | None = None,
    looking: Looking | None = None,
) -> Look: ...
def train(
    *,
    fields: Any = ...,
    source_options: Mapping[str, Any] | None = None,
    size: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    count: int | None = None,
    min_coverage: float | None = None,
    bounds: Sequence[float] | None = None,
    wet: float | None = None,
    pixel_size: float | None = None,
    unit: str | None = None,
    test_chunks: int | None = None,
    gap_chunks: int | None = None,
    gap: str | timedelta | None = None,
    skip_unreadable: bool = False,
    metric: str | Metric | Callable[..., Any] = "minkowski",
    outputs: Sequence[str] | None = None,
    metric_options: Mapping[str, Any] | None = None,
    thresholds: Sequence[float] | None = None,
    quantiles: Sequence[float] | None = None,
    levels: Sequence[float] | None = None,
    length_unit: str | None = None,
    arch: str | None = None,
    arch_options: Mapping[str, Any] | None = None,
    temperature: float | Sequence[float] | None = None,
    spectral: str | None = None,
    widths: Sequence[int] | None = None,
    isoperimetric: str | None = None,
    minutes: float | None = 10.0,
    budget: int | None = None,
    batch_size: int = 32,
    learning_rate: float = 0.001,
    seed: int = 0,
    precision: str = "auto",
    compiled: bool = False,
    penalty: str = "none",
    penalty_weight: float = 0.01,
    penalty_limit: float = 1.5,
    sobolev: float = 0.0,
    descents: float | None = None,
    out: str | os.PathLike[str] = ...,
    license: str = "",
    quick: bool = False,
    progress: bool = True,
    data: Data | None = None,
    teacher: Teacher | None = None,
    network: Network | None = None,
    training: Training | None = None,
    run: Run | None = None,
) -> Surrogate: ...
