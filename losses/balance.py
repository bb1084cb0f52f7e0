"""Several losses in one: fixed weights, or weights that follow from a share of the gradient."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

from ..emulators.embedded import Embedded
from ..emulators.fields import check_tensor
from ..emulators.relaxations.relaxation import COLD, HOT
from ..emulators.transforms import traced, transformed
from ..errors import ArgumentError
from ..foundation.arguments import as_count, as_positive, as_real, as_share, known_names
from ..foundation.limits import shown
from .comparison import Comparison, is_weight
from .live import LiveLoss

Term = Callable[..., Tensor]
_LOOKED_AT = 16
"""Batches in which gaps are looked for: a look waits for the device."""
_OPTIONS = ("losses", "temperatures", "settle", "smoothing", "every", "self")


@dataclass(frozen=True)
class Share:
    """The weight of a loss by what it contributes to the gradient, rather than by a number.

    Args:
        share: of the sum of all losses' gradient norms at the prediction, in (0, 1). Shares of all losses add
            up to less than 1: the others have the rest.
        rise: share of the training over which it rises from 0, along a half cosine, in [0, 1]; see
            `Combined.step`. First predictions of a network are far from any target: there the gradient of a
            metric leads nowhere yet.

    Raises:
        ArgumentError: a share that is not within (0, 1), or a rise not within [0, 1].
    """

    share: float
    rise: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < as_real(self.share) < 1:
            raise ArgumentError(
                f"share must be a number between 0 and 1, such as 0.1, got {shown(self.share)}; "
                "a plain number instead of a Share is a fixed weight"
            )
        as_share("rise", self.rise)


class Combined(Embedded):
    r"""A weighted sum of losses whose weights need no sweep.

        combined = emuloss.Combined(
            {"mse": torch.nn.MSELoss(), "geometry": surrogate.as_loss()}, geometry=emuloss.Share(0.1)
        )
        combined.step(step / steps)
        combined(prediction, target).backward()
        optimizer.step()
        combined.learn()  # where one of them is live, as of surrogate.as_loss(live=True)

    The weight of a loss k with a share s_k is such that its gradient at the prediction has that share of all
    gradients' norms: with m_k the norms ||dL_k/dx||_2 over the batch, smoothed over steps,

        w_k = s_k / (1 - sum_j s_j) * sum_(i with fixed weights) w_i m_i / m_k,

    the balancing of losses by gradient norms of Défossez et al. (2022, arXiv 2210.13438), beside losses that
    keep their weights. A weight is a constant of the step: it takes no gradient.

    Norms are measured in training mode alone, where the prediction takes a gradient, each time by one more
    backward pass from the losses to the prediction, not through the network. Before the first one a share
    weighs 0. A gradient that is 0, or not finite, tells nothing of its size and is left out. That of a live
    loss counts as if it were heeded wholly: one whose slopes are its own has less than its share where it
    errs. Where torch.distributed is initialised, all processes take the mean of their norms, and so have the
    same weights: let all of them call it as often.

    Args:
        losses: by name: modules or functions `loss(prediction, target)` that return one number.
        temperatures: relative temperatures of surrogates that have one, at the start and from `settle` on;
            None leaves them as they are. See `step`.
        settle: share of the training after which temperatures stay at their last value, in (0, 1].
        smoothing: how much of the smoothed norms is kept in a step, in [0, 1); the first steps have the mean
            of all so far.
        every: norms are measured in every so manieth step; 1 measures in each.
        **weights: by the name of a loss: a number >= 0, or a `Share`; a loss left out weighs 1.

    Attributes:
        losses: the losses, by name.
        values: of the last step, by name: what each loss was, without its weight, detached.

    Raises:
        ArgumentError: names that do not belong together, shares without a loss of fixed weight, or an
            argument out of range.
    """

    norms: Tensor
    counts: Tensor
    risen: Tensor
    fixed: Tensor
    given_shares: Tensor

    @torch.inference_mode(False)
    def __init__(
        self,
        losses: Mapping[str, Term],
        *,
        temperatures: Sequence[float] | None = (HOT, COLD),
        settle: float = 0.75,
        smoothing: float = 0.98,
        every: int = 1,
        **weights: float | Share,
    ) -> None:
        super().__init__()
        if not isinstance(losses, Mapping) or not losses:
            raise ArgumentError(
                'losses must be a dictionary such as {"mse": torch.nn.MSELoss(), "geometry": loss}, '
                f"got {shown(losses)}"
            )
        for name, loss in losses.items():
            if not isinstance(name, str) or not name.isidentifier() or not _free(name):
                raise ArgumentError(f"each name of losses must be a free Python name, got {shown(name)}")
            if not callable(loss):
                raise ArgumentError(f"losses[{name!r}] must be callable, got {type(loss).__name__}")
        for name, weight in weights.items():
            if name not in losses:
                raise ArgumentError(f"there is no loss {name!r}; losses are {known_names(name, losses)}")
            if not isinstance(weight, Share) and not is_weight(weight):
                raise ArgumentError(
                    f"the weight of {name!r} must be a number >= 0 or a Share, got {shown(weight)}"
                )
        self.names = tuple(losses)
        self.asked = {name: weights.get(name, 1.0) for name in losses}
        shared = [weight.share for weight in self.asked.values() if isinstance(weight, Share)]
        if shared and not any(w > 0 for w in self.asked.values() if not isinstance(w, Share)):
            raise ArgumentError(
                "a Share needs a loss beside it whose weight is a number above 0; give one of "
                f"{', '.join(losses)} a number"
            )
        if sum(shared) >= 1:
            raise ArgumentError(f"shares must add up to less than 1, got {sum(shared):g}; lower them")
        self.left = 1 - sum(shared)
        if temperatures is not None:
            hot, cold = _pair(temperatures)
            temperatures = (as_positive("temperatures", hot), as_positive("temperatures", cold))
        self.temperatures = temperatures
        self.settle = as_positive("settle", settle, high=1.0)
        self.smoothing = as_share("smoothing", smoothing)
        if self.smoothing == 1:
            raise ArgumentError("smoothing must be below 1, at which nothing is learnt of later steps")
        self.every = as_count("every", every)
        self.losses = nn.ModuleDict({name: _as_module(loss) for name, loss in losses.items()})
        self.values: dict[str, Tensor] = {}
        single = torch.float32  # whatever the default is
        self.register_buffer("norms", torch.zeros(len(losses), dtype=single))
        self.register_buffer("counts", torch.zeros(len(losses), dtype=single))
        self.register_buffer("risen", torch.ones(len(losses), dtype=single))
        fixed = [0.0 if isinstance(w, Share) else float(w) for w in self.asked.values()]
        given = [w.share if isinstance(w, Share) else 0.0 for w in self.asked.values()]
        self.register_buffer("fixed", torch.tensor(fixed, dtype=single), persistent=False)
        self.register_buffer("given_shares", torch.tensor(given, dtype=single), persistent=False)
        self._steps, self._looks = 0, _LOOKED_AT

    def step(self, progress: float) -> None:
        """Set shares that rise, and temperatures that fall, for a moment of the training.

        Call it before each step, or each epoch, but not between a loss and its `backward()`. Without it
        shares are at their full size, and temperatures as the surrogates have them.

        Args:
            progress: share of the training that is done, in [0, 1].

        Raises:
            ArgumentError: no share.
        """
        progress = as_share("progress", progress)
        for place, weight in enumerate(self.asked.values()):
            if isinstance(weight, Share):
                done = 1.0 if weight.rise == 0 else min(progress / weight.rise, 1.0)
                self.risen[place] = 0.5 * (1 - math.cos(math.pi * done))
        if self.temperatures is None:
            return
        for part in self.losses.modules():
            if isinstance(part, Comparison) and part.surrogate.relaxation is not None:
                part.anneal(min(progress / self.settle, 1.0), *self.temperatures)

    def learn(self) -> dict[str, dict[str, float]]:
        """Let live losses learn on what they were asked; call it after each step of the model.

        Of several processes all have to call it. Losses that do not learn are left as they are, so that a
        loop may call it whatever it is given.

        Returns:
            What `LiveLoss.learn` tells, by the loss's name; of one within another by its place, such as
            "geometry.losses.0". Empty where none is live.
        """
        parts = self.losses.named_modules()
        return {name: part.learn() for name, part in parts if isinstance(part, LiveLoss)}

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights that losses have now, by name; scalar tensors."""
        return dict(zip(self.names, self._weights().unbind(), strict=True))

    @property
    def shares(self) -> dict[str, Tensor]:
        """The shares of the weighed gradients' smoothed norms, by name; scalar tensors, 0 where unknown."""
        sizes = self._weights() * self.norms
        return dict(zip(self.names, (sizes / sizes.sum().clamp(min=1e-30)).unbind(), strict=True))

    @property
    def log(self) -> dict[str, Tensor]:
        """What a logger takes: values, weights and shares by name, as "mse", "mse_weight", "mse_share"."""
        found = dict(self.values)
        found |= {f"{name}_weight": weight for name, weight in self.weights.items()}
        return found | {f"{name}_share": share for name, share in self.shares.items()}

    def forward(self, prediction: Tensor, target: Any, **given: Mapping[str, Any]) -> Tensor:
        """The weighted sum.

        Args:
            prediction: what all losses are given first, floating point; half precision as float32.
            target: what they are given next.
            **given: further arguments of a loss by its name, such as geometry={"mask": mask}.

        Returns:
            A scalar.

        Raises:
            ArgumentError: a prediction that is no tensor of floating point, arguments for a loss that does
                not exist, or a loss that returns more than one number.
        """
        check_tensor("prediction", prediction)
        for name in given:
            if name not in self.losses:
                ours = (own for own, loss in self.losses.items() if isinstance(loss, Comparison))
                raise ArgumentError(
                    f"there is no loss {name!r}; losses are {known_names(name, self.names)}; what one of "
                    "them takes beside the target goes by its name, such as "
                    f"{next(ours, self.names[0])}={{'mask': mask}}"
                )
        if prediction.dtype in (torch.float16, torch.bfloat16):
            prediction = prediction.float()  # in which small gradients have a norm
        # Not the caller's own tensor, whose hooks, such as those of FSDP, an inner gradient would call.
        prediction = prediction.view_as(prediction)
        values = [
            _number(name, loss(prediction, target, **given.get(name, {})))
            for name, loss in self.losses.items()
        ]
        self.values = {name: value.detach() for name, value in zip(self.names, values, strict=True)}
        self._look(prediction, target)
        if self._measures(prediction):
            self._measure(values, prediction)
        weighed = [value * weight for value, weight in zip(values, self._weights().unbind(), strict=True)]
        return torch.stack(weighed).sum()

    if TYPE_CHECKING:
        __call__ = forward  # which torch gives no type

    def _look(self, prediction: Tensor, target: Any) -> None:
        """Tell once, of the first batches, of losses that gaps in the target leave without a value."""
        if not self._looks or not isinstance(target, Tensor) or traced(prediction) or transformed(prediction):
            return
        self._looks -= 1
        if not (target.isnan().any() and prediction.isfinite().all()):
            return
        lost = [name for name, value in self.values.items() if not value.isfinite()]
        if lost:
            self._looks = 0
            warnings.warn(
                f"losses[{lost[0]!r}] is not finite, and targets are NaN where nothing was measured; if that "
                "is why, leave these pixels out, as lambda p, t: (p - t)[~t.isnan()].square().mean() does",
                stacklevel=5,
            )

    def _measures(self, prediction: Tensor) -> bool:
        """Whether the norms of gradients are found in this step."""
        if self.left == 1 or not (self.training and torch.is_grad_enabled() and prediction.requires_grad):
            return False
        self._steps += 1
        return (self._steps - 1) % self.every == 0 and not transformed(prediction)

    def _measure(self, values: Sequence[Tensor], prediction: Tensor) -> None:
        """Take the norms of this step's gradients into the smoothed ones."""
        norms = [_norm(value.float(), prediction) for value in values]
        heeded = [_heeded(loss) for loss in self.losses.values()]
        found = torch.stack(norms).to(self.norms) / self.norms.new_tensor(heeded)
        told = (found.isfinite() & (found > 0)).to(found)
        found = torch.where(told > 0, found, torch.zeros_like(found))
        if distributed.is_available() and distributed.is_initialized():
            both = torch.stack([found, told])
            distributed.all_reduce(both)
            found, told = both[0] / both[1].clamp(min=1), both[1].clamp(max=1)
        self.counts += told
        rate = (1 / self.counts.clamp(min=1)).clamp(min=1 - self.smoothing) * told
        self.norms += rate * (found - self.norms)

    def _weights(self) -> Tensor:
        """The weights (K,) that losses have now."""
        shared = self.given_shares > 0
        whole = (self.fixed * self.norms).sum() / self.left
        measured = self.norms > 0
        free = torch.where(measured, self.given_shares * whole / self.norms.where(measured, 1.0), 0.0)
        return torch.where(shared, free * self.risen, self.fixed)

    def extra_repr(self) -> str:
        """What each loss weighs."""
        told = {
            name: f"share {w.share:g}" if isinstance(w, Share) else f"{w:g}" for name, w in self.asked.items()
        }
        return "weights: " + ", ".join(f"{name} {weight}" for name, weight in told.items())


class _Plain(nn.Module):
    """A function as a module."""

    def __init__(self, function: Term) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Any, **named: Any) -> Tensor:
        return self.function(*given, **named)


def _as_module(loss: Term) -> nn.Module:
    return loss if isinstance(loss, nn.Module) else _Plain(loss)


def _free(name: str) -> bool:
    """Whether a loss may have this name."""
    return name not in _OPTIONS and not hasattr(nn.ModuleDict, name)


def _pair(temperatures: Sequence[float]) -> Sequence[float]:
    """Validate two numbers: at the start and at the end."""
    if isinstance(temperatures, str) or not isinstance(temperatures, Sequence) or len(temperatures) != 2:
        raise ArgumentError(
            f"temperatures must be a pair (start, end), such as ({HOT:g}, {COLD:g}), or None, "
            f"got {shown(temperatures)}"
        )
    return temperatures


def _number(name: str, value: object) -> Tensor:
    """Validate what a loss returned: one number."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ArgumentError(
            f'losses[{name!r}] must return one number, got {got}; let it average, as by reduction="mean"'
        )
    return value.reshape(())


def _heeded(loss: nn.Module) -> float:
    """How far a loss heeds itself, above 0; 1 of all but a live one."""
    if isinstance(loss, LiveLoss):
        return max(loss.heeded, 1e-6)
    return 1.0


def _norm(value: Tensor, prediction: Tensor) -> Tensor:
    """Norm of the gradient of a loss at the prediction; 0 where there is none."""
    if not value.requires_grad:
        return value.new_zeros(())
    (gradient,) = torch.autograd.grad(value, prediction, retain_graph=True, allow_unused=True)
    return value.new_zeros(()) if gradient is None else torch.linalg.vector_norm(gradient.detach())
