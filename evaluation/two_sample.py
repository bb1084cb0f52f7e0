"""Whether a network that is trained to do so can tell generated fields from observed ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..emulators.drawing import DrawnFrom
from ..emulators.spaces import PixelSpace, Values
from ..errors import ArgumentError
from ..foundation.arguments import as_count, as_natural
from .bars import Progress, counted
from .realism import as_finite_fields

_WIDTHS = (16, 32, 64, 64)
"""Channels of the network's layers, each of which halves the sides."""
_SIDES = (5, 3, 3, 3)
"""Of their kernels, in pixels."""
_CROP = 64
"""Side of the squares that it learns from, in pixels, or that of the fields, if they are smaller."""
_PAIRS = 16
"""Squares of each set in a training step."""
_RATE = 1e-2
"""Largest learning rate."""
_SAMPLE = 2**17
"""Pixels of each set that say how values are distributed."""
_PIXELS = 2**18
"""That are scored at a time."""


class ClassifierTest(NamedTuple):
    """How well a network tells generated fields from observed ones that it was not trained on.

    Attributes:
        auc: share of the pairs of a generated and an observed field, both held out in one fold, of which the
            network takes the generated one for the more likely to be generated; ties count half. 0.5: it
            cannot tell them apart, 1: it always can.
        by_fold: the same of each fold.
    """

    auc: float
    by_fold: tuple[float, ...]


def classifier_test(
    fields: Any,
    observed: Any,
    *,
    groups: Any = None,
    observed_groups: Any = None,
    folds: int = 4,
    steps: int = 600,
    seed: int = 0,
    progress: Progress = True,
) -> ClassifierTest:
    """Train networks to tell generated fields from observed ones, and judge fields that they have not seen.

    The classifier two-sample test (Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests", ICLR),
    with the area under the ROC curve, which needs no threshold, in the place of the accuracy.

    The fields are divided into folds, and for each fold a convolutional network is trained on the others. It
    sees asinh((x - c)/s), shifted and scaled to mean 0 and variance 1: c is the dry value (0 mm/h), or the
    median where there is none, and s the median distance from it of other values. This is logarithmic for
    intense rain and linear for weak one, and an outlier moves it little. These figures are of the training
    folds, both sets together. Beside each pixel the network sees how far it is from the mean of its four
    neighbours. It learns from squares of 64 x 64 pixels at random places, which are neither turned nor
    mirrored: which way fields lean is part of how they look. A field's score is the mean over all its places.

    Of two samples of N independent fields each, from one distribution, the AUC is 0.5 give or take about
    sqrt(1/(6 N)), such as 0.02 for N = 400. One that does not exceed 0.5 says that this network found nothing
    in as many steps: differences may still be there.

    A network tells by whatever differs, such as how values are rounded. Pass both sets through what
    the observations went through: for rain that radar gives from 0.1 mm/h in steps of 0.01,
    set values below 0.1 to 0 and round the rest to 0.01. Set pixels that were not measured NaN in both.

    Args:
        fields: (N, H, W), generated.
        observed: (N', H, W), in the same unit. Where N' = N and the groups are equal one by one, the i-th is
            taken to be what the i-th generated field was drawn for: in training the two are then shown
            side by side, which makes small differences easier to learn.
        groups: (N,), labels, such as the hour of each field: all fields with one label, of both sets, are in
            one fold, so that none is judged by a network that was trained on fields much like it. None: the
            i-th fields of both sets are a group, if N' = N, else each field is one.
        observed_groups: (N',), those of the observed fields; None: `groups`, if N' = N.
        folds: number of them, at least 2.
        steps: of the training of each network, on 16 squares of each set. Small differences need many. Time
            grows with it: on one core 4 folds of 388 + 388 fields of 128 x 128 take some 40 s.
        seed: of folds, networks and squares. The result is the same for the same seed, on one machine.
        progress: whether to show a bar if it takes longer than a few seconds.

    Raises:
        ArgumentError: an argument out of range, no fields, fields of different sizes, infinite values, or too
            few groups to have fields of both sets in each fold.
    """
    sets = as_finite_fields("fields", fields), as_finite_fields("observed", observed)
    if sets[0].shape[1:] != sets[1].shape[1:]:
        raise ArgumentError(
            f"fields and observed must have one size (H, W), got {sets[0].shape[1:]} and {sets[1].shape[1:]}"
        )
    labels = _as_groups(groups, observed_groups, (len(sets[0]), len(sets[1])))
    steps, draw = as_count("steps", steps), np.random.default_rng(as_natural("seed", seed))
    places = divided(labels, as_count("folds", folds), draw)
    paired = np.array_equal(*labels)
    found = []
    # Gradients are needed here even where the caller has none.
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        for fold in counted(range(folds), "telling apart", "fold", progress):
            held = [place == fold for place in places]
            space = _Space.of([x[~out] for x, out in zip(sets, held, strict=True)], draw)
            network = _trained(
                [space.enter(x[~out]) for x, out in zip(sets, held, strict=True)], paired, steps, draw
            )
            found.append([_scores(network, space.enter(x[out])) for x, out in zip(sets, held, strict=True)])
    by_fold = [area_under_curve(*scores) for scores in found]
    pairs = [len(first) * len(second) for first, second in found]
    return ClassifierTest(float(np.average(by_fold, weights=pairs)), tuple(by_fold))


def area_under_curve(higher: NDArray[Any], lower: NDArray[Any]) -> float:
    """Share of the pairs of a number of the first and one of the second set in which the first is larger.

    Pairs of equal numbers count half: the statistic of Mann and Whitney (1947) over the number of pairs.
    """
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left") + np.searchsorted(ordered, higher, "right")
    return float(below.mean() / (2 * len(lower)))


def divided(
    labels: Sequence[NDArray[np.int64]], folds: int, draw: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Divide two sets into folds that have about equal shares of both.

    Args:
        labels: (N,) and (N',), whole numbers from 0: fields of both sets that have one are in one fold.
        folds: number of them.
        draw: in which order groups of one size are dealt out.

    Returns:
        The fold of each field of both sets, (N,) and (N',).

    Raises:
        ArgumentError: fewer than 2 folds, or too few groups for one with both sets in each.
    """
    groups = 1 + max(int(numbers.max()) for numbers in labels)
    sizes = np.stack([np.bincount(numbers, minlength=groups) / len(numbers) for numbers in labels], axis=1)
    order = draw.permutation(groups)
    filled, fold_of = np.zeros((folds, len(labels))), np.empty(groups, np.int64)
    # The largest first, each to where there are fewest of its sets.
    for group in order[np.argsort(-sizes[order].sum(1), kind="stable")]:
        fold_of[group] = np.argmin(filled @ sizes[group])
        filled[fold_of[group]] += sizes[group]
    if folds < 2 or not filled.all():
        raise ArgumentError(
            f"folds must be at least 2, each with groups of both sets, got {folds} folds for {groups} groups"
        )
    return [fold_of[numbers] for numbers in labels]


def _as_groups(
    groups: Any, observed_groups: Any, counts: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Whole numbers in the place of the labels of both sets, (N,) and (N',)."""
    if groups is None:
        if observed_groups is not None:
            raise ArgumentError("groups must be given where observed_groups are, got None; give both or none")
        start = 0 if counts[0] == counts[1] else counts[0]
        return np.arange(counts[0]), start + np.arange(counts[1])
    given = []
    pairs = (("groups", groups), ("observed_groups", groups if observed_groups is None else observed_groups))
    for (name, labels), count in zip(pairs, counts, strict=True):
        array = np.asarray(labels)
        if array.shape != (count,):
            raise ArgumentError(f"{name} must be {count} labels, one for each field, got shape {array.shape}")
        given.append(array)
    numbers = np.unique(np.concatenate(given), return_inverse=True)[1].reshape(-1)
    return numbers[: counts[0]], numbers[counts[0] :]


class _Space(NamedTuple):
    """What the network sees of fields: asinh, then mean 0 and variance 1."""

    pixels: PixelSpace
    mean: float
    deviation: float

    @classmethod
    def of(cls, sets: list[NDArray[Any]], draw: np.random.Generator) -> _Space:
        """That of training fields."""
        drawn = [x.reshape(-1)[draw.integers(x.size, size=_SAMPLE)] for x in sets]
        sample = np.concatenate(drawn).astype(np.float64)
        known = sample[~np.isnan(sample)] if not np.isnan(sample).all() else np.zeros(1)
        values = Values.of(known)
        pixels = PixelSpace.of(values, lowest=values.lowest)
        z = pixels.enter(torch.from_numpy(known))
        return cls(pixels, float(z.mean()), float(z.std(correction=0)) or 1.0)

    def enter(self, fields: NDArray[Any]) -> NDArray[np.float32]:
        """Fields (n, H, W) as the network sees them; 0 where nothing was measured."""
        z = self.pixels.enter(torch.from_numpy(fields.astype(np.float64)))
        return ((z - self.mean) / self.deviation).nan_to_num(0.0).float().numpy()


class _Network(nn.Module):
    """Fields (N, H, W) to logits (N,) of being generated."""

    def __init__(self) -> None:
        super().__init__()
        form: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}  # whatever the caller's defaults are
        self.layers = nn.Sequential()
        for (inside, outside), side in zip(pairwise((2, *_WIDTHS)), _SIDES, strict=True):
            self.layers += nn.Sequential(
                nn.Conv2d(inside, outside, side, stride=2, padding=side // 2, bias=False, **form),
                nn.BatchNorm2d(outside, **form),
                nn.LeakyReLU(0.1, inplace=True),
            )
        self.judge = nn.Linear(_WIDTHS[-1], 1, **form)
        self.to(memory_format=torch.channels_last)

    def forward(self, fields: Tensor) -> Tensor:
        x = fields[:, None]
        y = F.pad(x, (1, 1, 1, 1), mode="replicate")
        around = (y[..., 2:, 1:-1] + y[..., :-2, 1:-1] + y[..., 1:-1, 2:] + y[..., 1:-1, :-2]) / 4
        # Texture is small beside what is smooth.
        x = torch.cat([x, 3 * (x - around)], 1).contiguous(memory_format=torch.channels_last)
        return self.judge(self.layers(x).mean((2, 3)))[:, 0]


def _trained(
    sets: list[NDArray[np.float32]], paired: bool, steps: int, draw: np.random.Generator
) -> _Network:
    """A network that has learnt to give the first set larger logits than the second."""
    with DrawnFrom(int(draw.integers(2**63))):
        network = _Network()
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=1e-2)
    # From 0 to the largest at a quarter of the steps, and back.
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: math.sin(math.pi * min((step + 0.5) / steps, 1.0) ** 0.5) ** 2
    )
    generated = torch.arange(2 * _PAIRS) < _PAIRS
    for squares in _squares(sets, paired, steps, draw):
        loss = F.binary_cross_entropy_with_logits(network(torch.from_numpy(squares)), generated.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _squares(
    sets: list[NDArray[np.float32]], paired: bool, steps: int, draw: np.random.Generator
) -> Iterator[NDArray[np.float32]]:
    """Batches (2 * _PAIRS, S, S), the first half from the first set."""
    side = min(_CROP, *sets[0].shape[1:])
    windows = [sliding_window_view(x, (side, side), axis=(1, 2)) for x in sets]
    for _ in range(steps):
        chosen = [draw.integers(len(x), size=_PAIRS) for x in sets]
        rows, columns = (draw.integers(count, size=_PAIRS) for count in windows[0].shape[1:3])
        which = chosen[:1] * 2 if paired else chosen
        yield np.concatenate([x[k, rows, columns] for x, k in zip(windows, which, strict=True)])


def _scores(network: _Network, fields: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of whole fields, (n,)."""
    step = max(1, _PIXELS // fields[0].size)
    with torch.no_grad():
        parts = [network(torch.from_numpy(fields[k : k + step])) for k in range(0, len(fields), step)]
    return torch.cat(parts).numpy()
