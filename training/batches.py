"""Training batches: drawn by seed and number alone, with exact labels made as they go."""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..datasets import mixup, random_symmetry, rescale
from ..foundation.threads import one_thread, usable_cores
from ..metrics import Metric
from ..metrics.distribution import ground_of

if TYPE_CHECKING:
    from .options import Training

_PREFETCH = 4
"""Batches prepared ahead of the training step, at least."""
_LOADERS = 8
"""Threads that make batches beside a GPU, at most: more would wait for one another at Python's lock."""


class Batches:
    """Endless training batches: batch k depends on the seed and k alone, so that a run can resume.

    Of several processes each makes the whole batch, which is quick, and labels its own part, which is not.

    Args:
        metric: labels the fields whose values are changed, unless it is slow: then none are.
        fields: (N, H, W), or pairs (N, 2, H, W), float32. Both fields of a pair are turned and rescaled
            alike; of those that are mixed it is the prediction.
        curves: (N, C, Q), exact.
        options: shares, batch size and seed.
        quantum: step of the data's values, or None; rescaled fields keep to it, mixed ones do not, as
            the predictions that a loss will see do not.
        part: the fields of a batch that fall to this process; default: all.
    """

    def __init__(
        self,
        metric: Metric,
        fields: np.ndarray,
        curves: np.ndarray,
        options: Training,
        quantum: float | None,
        part: slice = slice(None),
    ) -> None:
        self.metric, self.fields, self.curves = metric, fields, curves.astype(np.float32)
        self.options, self.quantum, self.part = options, quantum, part
        self.ground = ground_of(fields)

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor]:
        """Fields (B, H, W), or pairs (B, 2, H, W), of batch k, and exact curves (b, C, Q) of the part."""
        rng = np.random.default_rng([self.options.seed, k])
        chosen = rng.integers(0, len(self.fields), self.options.batch_size)
        slow, invariant = self.metric.slow, self.metric.invariant
        fields, curves = self.fields[chosen], self.curves[chosen[self.part]]
        if invariant or not slow:
            fields = alike(random_symmetry, fields, rng)
        scaled = 0 if slow else round(self.options.rescaled * len(fields))
        changed = 0 if slow else scaled + round(self.options.mixed * len(fields))
        if scaled:
            fields[:scaled] = alike(
                partial(rescale, low=0.3, high=3.0, quantum=self.quantum, ground=self.ground),
                fields[:scaled],
                rng,
            )
        if changed > scaled:
            mixed = fields[scaled:changed] if fields.ndim == 3 else fields[scaled:changed, 0]
            mixed[...] = mixup(mixed, rng, ground=self.ground)
        if not (invariant or slow):
            changed = len(fields)
        relabelled = fields[:changed][self.part]
        if len(relabelled):
            curves[: len(relabelled)] = self.metric(*self.metric.parts(relabelled))
        return torch.from_numpy(fields), torch.from_numpy(curves)


def alike(
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    fields: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Fields (N, H, W), or pairs (N, 2, H, W), changed at random; both fields of a pair in the same way."""
    if fields.ndim == 3:
        return change(fields, rng)
    seed = rng.integers(2**63)
    return np.stack([change(part, np.random.default_rng(seed)) for part in fields.swapaxes(0, 1)], axis=1)


def loaders(device: torch.device, world_size: int) -> int:
    """Threads that make batches: several beside a GPU, one beside a network that computes on the cores."""
    if device.type == "cpu":
        return 1
    return max(1, min(_LOADERS, usable_cores() // world_size - 1))


@contextlib.contextmanager
def prefetched(make: Callable[[int], Any], start: int, threads: int = 1) -> Iterator[Iterator[Any]]:
    """Iterate over make(start), make(start + 1), ..., each made ahead in a background thread, in order.

    Several threads make several at once, each on one core.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="emuloss-batches")
    numbers = itertools.count(start)
    ahead: collections.deque[Future[Any]] = collections.deque()

    def work(k: int) -> Any:
        with one_thread() if threads > 1 else contextlib.nullcontext():
            return make(k)

    def items() -> Iterator[Any]:
        while True:
            ahead.append(pool.submit(work, next(numbers)))
            yield ahead.popleft().result()

    ahead.extend(pool.submit(work, next(numbers)) for _ in range(max(_PREFETCH, 2 * threads)))
    try:
        yield items()
    finally:
        pool.shutdown(cancel_futures=True)
