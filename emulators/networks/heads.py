"""Output heads built from a metric's declared constraints: whatever the network says, they hold.

Each output gets a raw value per threshold and a map onto its admissible range, in the order in
which bounds refer to one another: an identity needs no raw value; a non-increasing output is a
reverse cumulative sum of a softmax, or, where bounds by other outputs vary along the curve, rises
step by step from its last value; an output between bounds is a sigmoid share of the way; one
with a single bound departs from it by a positive amount; a free one is read on the signed-log
scale. A non-decreasing output is a non-increasing one read backwards. The maps suit quantities
that span decades: raw values act on logarithms.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ArgumentError
from ...foundation.arguments import as_choice
from ...metrics import Metric
from ...metrics.constraints import FRAME, AtLeast, AtMost, Constraint, Identity, NonDecreasing, NonIncreasing
from ..curves import signed_expm1, signed_log1p
from ..straight_through import inward, straight_through

_SMALL_BAND = 1e-6
"""Share of the field that an empty band counts as: a sixtieth of a pixel of a 128 x 128 field."""
LARGEST_LOG = 69.0
"""Raw values beyond count as this: exp(69) = 1e30 leaves room for sums in float32."""
_UNSEEN = 0.01
"""Share of an output's size that makes no difference: nearer to a bound, training steps no further to it."""
_SMALL_SHARE = 1e-4
"""Least distance from a bound at which raw values end, as a share of the way between two bounds."""


def in_order(metric: Metric, constraints: tuple[Constraint, ...]) -> tuple[str, ...]:
    """The metric's outputs, each after those that the constraints refer to.

    Raises:
        ArgumentError: constraints refer to one another in a circle.
    """
    needs = {
        name: {other for c in constraints if c.output == name for other in c.of} for name in metric.outputs
    }
    # What an identity defines depends on its terms alone; its bounds then follow from theirs.
    for c in constraints:
        if isinstance(c, Identity):
            needs[c.output] = set(c.of)
    done: list[str] = []
    while len(done) < len(needs):
        ready = [name for name in needs if name not in done and needs[name] <= {*done, FRAME}]
        if not ready:
            raise ArgumentError(
                f"the constraints of metric {metric.name!r} refer to one another in a circle: "
                f"{', '.join(name for name in needs if name not in done)}"
            )
        done += ready
    return tuple(done)


class ConstrainedHeads(nn.Module):
    """Maps raw values onto curves that obey every declared constraint of a metric.

    Args:
        metric: its `outputs`, `levels` and `constraints` decide the maps.
        guarantee: one of the metric's `guarantees`. "declared": what the metric declares; "textbook" of a
            Minkowski metric: what the paper's heads enforce, see
            `emuloss.metrics.minkowski.textbook_constraints`; "free": nothing.

    Raises:
        ArgumentError: constraints that no head can guarantee together.
    """

    def __init__(self, metric: Metric, guarantee: str = "declared") -> None:
        super().__init__()
        as_choice(f"guarantee of metric {metric.name!r}", guarantee, metric.guarantees)
        self.metric, self.guarantee = metric, guarantee
        self.order = in_order(metric, self.constraints)
        self.sizes = {name: self._raw_size(name) for name in self.order}
        self.raw_size = sum(self.sizes.values())
        self._try()

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """What is guaranteed. Not stored: constraints hold functions, which do not pickle."""
        return self.metric.guaranteed(self.guarantee)

    @torch.no_grad()
    def _try(self) -> None:
        """Raise ArgumentError if random raw values lead to curves that break a constraint.

        That happens where declared bounds exclude one another, or where an identity does not imply
        the bounds of what it defines.
        """
        generator = torch.Generator().manual_seed(0)
        raw = 4 * torch.randn(256, self.raw_size, generator=generator, dtype=torch.float64)
        curves = self(raw, self.metric.frame((128, 128))).numpy()
        by_name = self.metric.named(curves, (128, 128))
        broken = [c.label for c in self.constraints if c.violated(by_name).any()]
        if broken:
            raise ArgumentError(
                f"no head can guarantee {', '.join(broken)} of metric {self.metric.name!r} together with its "
                "other constraints: order the bounds by further constraints, or leave one out"
            )

    def _of_kind(self, name: str, kind: type) -> list[Any]:
        return [c for c in self.constraints if c.output == name and isinstance(c, kind)]

    def _raw_size(self, name: str) -> int:
        if self._of_kind(name, Identity):
            return 0
        return len(self.metric.levels) + (self._falling(name) == "bands")

    def _falling(self, name: str) -> str:
        """How an output falls along the curve (or, read backwards, rises); empty if it need not.

        "bands": shares of the way between two fixed bounds; "steps": sums of positive steps, from a fixed
        lower bound, if any; "shares": shares of the way from each next value to an upper bound that varies,
        or steps upwards where there is none.
        """
        if not self._of_kind(name, NonIncreasing) and not self._of_kind(name, NonDecreasing):
            return ""
        least, most = self._of_kind(name, AtLeast), self._of_kind(name, AtMost)
        if any(set(c.of) - {FRAME} for c in least + most) or (most and not least):
            return "shares"
        return "bands" if most else "steps"

    def forward(self, raw: Tensor, frame: float) -> Tensor:
        """Curves (N, C, Q) of raw values (N, raw_size), float32 or better; frame is the field's area."""
        # Not new_tensor, which copies from the host and waits for the GPU.
        # A bound may be a small difference of large outputs. It therefore starts from these outputs as
        # they will be delivered, rounded, and is itself computed in double precision.
        values: dict[str, Tensor] = {FRAME: raw.new_full((), frame, dtype=torch.float64)}
        for name, part in self._split(raw.double()).items():
            low, high = self._bounds(name, values)
            values[name] = _rounded(self._head(name, part, values, low, high), raw.dtype, low, high)
        return torch.stack([values[name] for name in self.metric.outputs], dim=1).to(raw.dtype)

    def inverse(self, known: dict[str, Tensor], frame: float) -> Tensor:
        """Raw values (N, raw_size) that `forward` maps onto the known curves, as far as these are admissible.

        Args:
            known: curves (N, Q) of some outputs, by name; the raw values of the others are 0.
            frame: the field's area.
        """
        example = next(iter(known.values()))
        values = {FRAME: example.new_full((), frame), **known}
        parts = []
        for name in self.order:
            bounds = {other for c in self.constraints if c.output == name for other in c.of}
            if name in known and all(bound in values for bound in bounds):
                parts.append(self._inverse_head(name, known[name], values))
            else:
                parts.append(example.new_zeros((len(example), self.sizes[name])))
        return torch.cat(parts, dim=1)

    def project(self, curves: Tensor, frame: float) -> Tensor:
        """Curves (N, C, Q) moved no further than to the nearest bound that they break; frame as above.

        Where a curve obeys its bounds it stays as it is, gradient included.
        """
        values: dict[str, Tensor] = {FRAME: curves.new_full((), frame, dtype=torch.float64)}
        given = dict(zip(self.metric.outputs, curves.double().unbind(1), strict=True))
        for name in self.order:
            low, high = self._bounds(name, values)
            value = given[name]
            for c in self._of_kind(name, Identity):
                value = c.function(*(values[other] for other in c.of))
            # Bounds that fall along the curve keep a falling curve falling; a lower bound need not, so it
            # comes first.
            if low is not None:
                value = torch.maximum(value, low)
            if self._falling(name):
                (value,) = self._forwards(name, value)
                value = _largest_from(value)
                (value,) = self._forwards(name, value)
            if high is not None:
                value = torch.minimum(value, high if low is None else torch.maximum(low, high))
            values[name] = _rounded(value, curves.dtype, low, high)
        return torch.stack([values[name] for name in self.metric.outputs], dim=1).to(curves.dtype)

    def _split(self, raw: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.order, raw.split([self.sizes[name] for name in self.order], dim=1), strict=True))

    def _bounds(self, name: str, values: dict[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """Tightest lower and upper bound of an output, given those that it refers to."""
        if self._of_kind(name, Identity):
            return None, None
        found = []
        for kind, tightest in ((AtLeast, torch.maximum), (AtMost, torch.minimum)):
            bounds = [
                _as_tensor(c.bound(*(values[other] for other in c.of)), values[FRAME])
                for c in self._of_kind(name, kind)
            ]
            found.append(functools.reduce(tightest, bounds) if bounds else None)
        return found[0], found[1]

    def _head(
        self, name: str, raw: Tensor, values: dict[str, Tensor], low: Tensor | None, high: Tensor | None
    ) -> Tensor:
        for c in self._of_kind(name, Identity):
            return c.function(*(values[other] for other in c.of))
        if self._falling(name):
            (value,) = self._forwards(name, self._fall(name, raw, *self._forwards(name, low, high)))
            return value
        if low is not None and high is not None:
            return torch.lerp(low, torch.maximum(low, high), torch.sigmoid(raw))
        if low is not None:
            return low + self._positive(name, raw)
        if high is not None:
            return high - self._positive(name, raw)
        return _free(raw)

    def _positive(self, name: str, raw: Tensor, steps: int = 1) -> Tensor:
        """Positive numbers; in training their gradient stays alive where they hardly differ from 0.

        Where most labels lie on a bound, the first steps of training take all fields there, and further along
        a map that gets ever flatter, from where they would not come back.

        Args:
            name: of the output.
            raw: raw values.
            steps: how many such numbers are summed along the curve.
        """
        if not self.training:
            return _positive(raw)
        size = self.metric.scales[self.metric.outputs.index(name)]
        floor = math.log(_UNSEEN * size / steps)
        return straight_through(_positive(inward(raw, floor)), _positive(raw.detach()))

    def _forwards(self, name: str, *curves: Any) -> list[Any]:
        """Curves in the direction in which the output falls; twice, they are as they were."""
        if not self._of_kind(name, NonDecreasing):
            return list(curves)
        return [curve.flip(1) if curve is not None and curve.ndim == 2 else curve for curve in curves]

    def _fall(self, name: str, raw: Tensor, low: Any, high: Any) -> Tensor:
        """Non-increasing curves of raw values; bounds are tensors or None."""
        way = self._falling(name)
        if way == "bands":
            # Band q lies between threshold q - 1 and threshold q; the first lies below them all.
            bands = torch.softmax(raw, dim=1)[:, 1:]
            share = bands.flip(1).cumsum(1).flip(1).clamp(max=1)
            return low + (high - low) * share
        if way == "steps":
            falls = self._positive(name, raw, raw.shape[1])
            if low is None:  # the last value may have any sign; the others rise from it
                falls = torch.cat([falls[:, :-1], _free(raw[:, -1:])], dim=1)
            above = falls.flip(1).cumsum(1).flip(1)
            return above if low is None else low + above
        low, high = (None if bound is None else bound.expand_as(raw) for bound in (low, high))
        found: list[Tensor] = []
        steps = raw.shape[1]
        for q in reversed(range(steps)):
            floor = _larger(None if low is None else low[:, q], found[-1] if found else None)
            if high is None:
                found.append(floor + self._positive(name, raw[:, q], steps))
            elif floor is None:
                found.append(high[:, q] - self._positive(name, raw[:, q], steps))
            else:
                found.append(torch.lerp(floor, torch.maximum(floor, high[:, q]), torch.sigmoid(raw[:, q])))
        return torch.stack(found[::-1], dim=1)

    def _inverse_fall(self, name: str, value: Tensor, low: Any, high: Any) -> Tensor:
        """Raw values that `_fall` maps onto curves; bounds as there."""
        way = self._falling(name)
        if way == "bands":
            share = ((value - low) / (high - low)).clamp(0, 1)
            bands = F.pad(share, (1, 0), value=1.0) - F.pad(share, (0, 1))
            return torch.log(bands.clamp(min=0) + _SMALL_BAND)
        if way == "steps":
            above = value if low is None else value - low
            falls = _inverse_positive(above - F.pad(above[:, 1:], (0, 1)))
            if low is None:
                falls = torch.cat([falls[:, :-1], signed_log1p(value[:, -1:])], dim=1)
            return falls
        low, high = (None if bound is None else bound.expand_as(value) for bound in (low, high))
        raw = []
        for q in range(value.shape[1]):
            last = q + 1 == value.shape[1]
            floor = _larger(None if low is None else low[:, q], None if last else value[:, q + 1])
            if high is None:
                raw.append(_inverse_positive(value[:, q] - floor))
            elif floor is None:
                raw.append(_inverse_positive(high[:, q] - value[:, q]))
            else:
                raw.append(_inverse_share(value[:, q], floor, high[:, q]))
        return torch.stack(raw, dim=1)

    def _inverse_head(self, name: str, value: Tensor, values: dict[str, Tensor]) -> Tensor:
        if self.sizes[name] == 0:
            return value[:, :0]
        low, high = self._bounds(name, values)
        if self._falling(name):
            return self._inverse_fall(name, *self._forwards(name, value, low, high))
        if low is not None and high is not None:
            return _inverse_share(value, low, high)
        if low is not None:
            return _inverse_positive(value - low)
        if high is not None:
            return _inverse_positive(high - value)
        return signed_log1p(value)


def _largest_from(curves: Tensor) -> Tensor:
    """Of each value of curves (N, Q) and those after it the largest, in log2(Q) steps; ONNX has no cummax.

    Among equal ones it is the value itself, so that a falling curve keeps its gradient.
    """
    step = 1
    while step < curves.shape[1]:
        here, ahead = curves[:, :-step], curves[:, step:]
        curves = torch.cat([torch.where(ahead > here, ahead, here), curves[:, -step:]], dim=1)
        step *= 2
    return curves


def _rounded(value: Tensor, dtype: torch.dtype, low: Tensor | None, high: Tensor | None) -> Tensor:
    """Values, in double precision, rounded to numbers of a dtype within bounds; the gradient stays."""
    near = value.detach().to(dtype)
    # To the next number (Rump et al. 2009, BIT 49, 419-431); torch.nextafter is no operator of ONNX.
    half = torch.finfo(dtype).eps / 2
    step = near.abs() * (half * (1 + 2 * half)) + torch.finfo(dtype).tiny
    if high is not None:
        near = torch.where(near > high, near - step, near)
    if low is not None:
        near = torch.where(near < low, near + step, near)
    return straight_through(value, near)


def _as_tensor(bound: Any, like: Tensor) -> Tensor:
    """A bound, which may be a number, where a tensor is."""
    return bound if isinstance(bound, Tensor) else like.new_full((), bound)


def _larger(one: Tensor | None, other: Tensor | None) -> Any:
    """The larger of two values, of which either may be missing."""
    if one is None or other is None:
        return one if other is None else other
    return torch.maximum(one, other)


def _inverse_share(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Raw values whose sigmoid is the share of the way from low to high."""
    share = (value - low) / (high - low).clamp(min=_SMALL_SHARE)
    # Not logit(eps=...), whose second derivative is NaN where it clamps.
    return torch.logit(share.clamp(_SMALL_SHARE, 1 - _SMALL_SHARE))


def _free(raw: Tensor) -> Tensor:
    """Any real number."""
    return signed_expm1(raw.clamp(-LARGEST_LOG, LARGEST_LOG))


def _positive(raw: Tensor) -> Tensor:
    """Any positive number."""
    return torch.exp(raw.clamp(max=LARGEST_LOG))


def _inverse_positive(value: Tensor) -> Tensor:
    """Inverse of `_positive`, for values kept away from 0."""
    return torch.log(value.clamp(min=_SMALL_SHARE))
