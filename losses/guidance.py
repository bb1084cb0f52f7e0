"""Guidance of frozen generative models: where a sampler should go for its samples to score better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..foundation.arguments import as_count, as_real, as_share
from .comparison import Comparison, is_weight
from .loss import SurrogateLoss
from .score import SurrogateScore
from .surrogate import FrozenSurrogate

Schedule = Callable[[float], float]
"""A strength by the share of the sampling that is done, in [0, 1]."""


_TINY = 1e-30
"""Least divisor: what has no length does not move."""


class Guidance:
    """Moves a generative model's estimate of the clean field towards what an objective asks for.

    Diffusion and flow models tell, at each step of sampling, what clean field they expect of the noisy x.
    With g the gradient of the objective there, and J the derivative of the estimate by x, the estimate is
    moved against J^T g, which is the gradient through the model (diffusion posterior sampling, Chung et al.
    2023, arXiv 2209.14687): what the model holds possible moves, the rest stays. Where the estimate has no
    graph that leads to x, it is moved against g: this spares the backward pass of the model, and leaves more
    texture. For a model with the score s and the estimate x + sigma^2 s, a shift of the estimate is
    sigma^2 times what posterior sampling adds to s.

    How far depends on no unit of the objective, nor on the model. A step goes as far as the objective needs
    to come down to `aim`, were it linear (Polyak 1969), and all of them together at most `strength` times as
    far as the model itself still goes, |estimate - x|, in each sample. So 0.1 is a hint, and 1 gives the
    objective as much say as the model. Far from its aim the strength decides, near it the objective.

    Guidances are added by `+`: each is held to its own strength.

    Args:
        objective: what is to become small: a `SurrogateLoss`, live or not, with reduction "none"; a
            `SurrogateScore`, for which the samples of a batch are the members of one ensemble; a frozen
            surrogate of a metric of one field, for the distance of its exact curves, with its gradient; or
            any function of physical fields that gives values (N,), or one of all samples together. A live
            loss learns on the estimates as it goes, which is the way to metrics without a relaxation;
            see `best` for one without gradients.
        target: of a loss, score or surrogate: what it compares with, (N, H, W), or one field (H, W) for all;
            of a loss with `channels` (N, C, H, W) or (C, H, W), whose channels then count alike.
        target_curves: instead of it, its curves (N, C, Q), or (C, Q) for all samples; of K channels one
            dimension more.
        strength: at least 0, or a function of the share of the sampling that is done.
        to_physical: differentiable, from the model's fields to those of the objective, such as
            `lambda x: x.expm1()`. Default: as they are.
        anneal: temperatures of a relaxation at the start and at the end of the sampling. Hot ones reach
            far, cold ones are exact. Default: as it is set.
        aim: value of the objective with which to be content; None: none, always go as far as the strength
            allows, for objectives that have no least value.
        steps: gradient steps at each call. Of several the best is taken, judged by the objective itself. A
            few dozen at the end of the sampling, without the model, bring samples close to what is asked for.

    Raises:
        ArgumentError: an argument out of range, or one that the objective does not take.
    """

    def __init__(
        self,
        objective: Any,
        *,
        target: Tensor | None = None,
        target_curves: Tensor | None = None,
        strength: float | Schedule = 0.5,
        to_physical: Callable[[Tensor], Tensor] | None = None,
        anneal: tuple[float, float] | None = None,
        aim: float | None = 0.0,
        steps: int = 1,
    ) -> None:
        if isinstance(objective, FrozenSurrogate):
            objective = objective.as_loss(forward="exact", reduction="none")
        if not callable(objective):
            raise ArgumentError(f"objective must be a loss, score, surrogate or function, got {objective!r}")
        compares = isinstance(objective, Comparison)
        if compares != ((target is None) != (target_curves is None)):
            asked = "needs either target or target_curves" if compares else "takes no target"
            raise ArgumentError(f"guidance by {type(objective).__name__} {asked}")
        if isinstance(objective, SurrogateLoss) and objective.reduction != "none":
            raise ArgumentError(
                "the loss of a guidance must tell samples apart, got reduction "
                f"{objective.reduction!r}; pass as_loss(reduction='none')"
            )
        if anneal is not None and not compares:
            raise ArgumentError("anneal is for losses and scores by a relaxation; leave it out")
        if not callable(strength):
            _as_strength(strength)
        self.objective, self.target, self.target_curves = objective, target, target_curves
        self.strength, self.to_physical, self.anneal = strength, to_physical, anneal
        self.aim = None if aim is None else as_real(aim)
        if self.aim is not None and self.aim != self.aim:
            raise ArgumentError(f"aim must be a number or None, got {aim!r}")
        self.steps = as_count("steps", steps)

    def __call__(self, x: Tensor, estimate: Tensor, progress: float) -> Tensor:
        """How to move the estimate of the clean field.

        Args:
            x: noisy fields (N, ...), such as (N, 1, H, W), in the model's space.
            estimate: clean fields that the model expects, of the same shape. If they have a graph, the one
                that the model left from x, which then requires a gradient, the way is through the model.
            progress: share of the sampling that is done, in [0, 1].

        Returns:
            What to add to the estimate, of its shape, without a graph: shift. For a flow with noise at t = 0
            add shift / (1 - t) to the velocity, for a score shift * alpha / sigma^2. A sample whose
            gradient is not finite is not moved.

        Raises:
            ArgumentError: tensors or a progress that do not fit, or an objective without a gradient.
        """
        if x.shape != estimate.shape or x.ndim < 2:
            raise ArgumentError(
                "x and estimate must have one shape (N, ...), "
                f"got {tuple(x.shape)} and {tuple(estimate.shape)}"
            )
        progress = as_share("progress", progress)
        strength = _as_strength(self.strength(progress) if callable(self.strength) else self.strength)
        if self.anneal is not None:
            self.objective.anneal(progress, *self.anneal)
        start = estimate.detach().float()
        reach = strength * _lengths(start - x.detach().float())
        moved = best = start
        least = torch.full((), torch.inf, device=start.device)
        for _ in range(self.steps):
            values, slope = self._slope(moved, estimate.dtype)
            best = torch.where(_like(values < least, moved), moved, best)
            least = torch.minimum(values, least)
            moved = moved - self._step(values, slope, self._through(x, estimate, slope), reach)
            moved = _within(moved, start, reach)
        if self.steps > 1:  # steps that go too far are taken back; a single one is believed
            with torch.no_grad():
                better = self.values(moved.to(estimate.dtype)).float() < least
            moved = torch.where(_like(better, moved), moved, best)
        return (moved - start).to(estimate.dtype)

    def _step(self, values: Tensor, slope: Tensor, way: Tensor, reach: Tensor) -> Tensor:
        """What to take off samples, along the way (N, ...): as far as needed, at most as reach says."""
        length = reach / _lengths(way).clamp(min=_TINY)
        if self.aim is not None:
            product = slope * way
            fall = product.flatten(1).sum(1) if values.ndim else product.sum()
            needed = (values - self.aim).clamp(min=0) / fall.clamp(min=_TINY)
            length = torch.minimum(length, _like(needed, way))
        step = length * way
        return torch.where(_like(step.flatten(1).isfinite().all(1), step), step, 0.0)

    def __add__(self, other: Guidance | Guidances) -> Guidances:
        """Both at once."""
        return Guidances(self) + other

    def values(self, estimate: Tensor) -> Tensor:
        """The objective of fields in the model's space: (N,), or () where it is of all together."""
        fields = estimate if self.to_physical is None else self.to_physical(estimate)
        if not isinstance(self.objective, Comparison):
            return self.objective(fields)
        layout, target, curves = self.objective.layout, self.target, self.target_curves
        if layout.channels is None:  # several channels are the objective's to refuse
            fields, target = _single(fields), None if target is None else _single(target)
        own = 2 if layout.channels is None else 3
        of_all = isinstance(self.objective, SurrogateScore)
        given = fields[None] if of_all else fields
        found = self.objective(
            given,
            None if target is None else _for_each("target", target, own, len(given)),
            target_curves=None if curves is None else _for_each("target_curves", curves, own, len(given)),
        )
        found = found.mean(1) if found.ndim == 2 else found  # of channels
        return found.sum() if of_all else found

    @torch.no_grad()
    def best(self, estimates: Tensor, keep: int | None = None) -> Tensor:
        """Which particles are best, for objectives without gradients, at the cost of all particles.

        Args:
            estimates: (N, K, ...): clean fields that the model expects of K particles for each sample.
            keep: how many of them, at most K; None: the best one.

        Returns:
            Places (N,) of the particles with the least objective, or (N, keep), the best one first. At the
            end of the sampling these are the samples; on the way it goes on from them, or from copies of
            them with fresh noise.

        Raises:
            ArgumentError: no particles, fewer than are to be kept, or an objective of all samples together.
        """
        if estimates.ndim < 3 or 0 in estimates.shape[:2]:
            raise ArgumentError(f"estimates must be (N, K, ...), got {tuple(estimates.shape)}")
        if keep is not None and as_count("keep", keep) > estimates.shape[1]:
            raise ArgumentError(f"keep must be at most the {estimates.shape[1]} particles, got {keep}")
        # Particle by particle, so that targets go with their samples.
        values = torch.stack([self.values(each) for each in estimates.unbind(1)], dim=-1)
        if values.ndim != 2:
            raise ArgumentError("best needs an objective that gives values (N,), got one of all samples")
        order = values.nan_to_num(nan=torch.inf).argsort(dim=1, stable=True)
        return order[:, 0] if keep is None else order[:, :keep]

    def _slope(self, estimate: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Values (N,) or (), and their gradient at estimates; a live loss then learns on these."""
        # Whatever the sampler does without gradients, this needs them.
        with torch.inference_mode(False), torch.enable_grad():
            leaf = estimate.clone().requires_grad_()
            values = self.values(leaf.to(dtype))
            if values.shape not in ((), (len(estimate),)) or not values.requires_grad:
                raise ArgumentError(
                    "objective must give values (N,) or (), differentiable, got shape "
                    f"{tuple(values.shape)}{'' if values.requires_grad else ' without gradient; see best'}"
                )
            (slope,) = torch.autograd.grad(values.sum(), leaf)
        if hasattr(self.objective, "learn"):
            with torch.inference_mode(False):
                self.objective.learn()
        return values.detach().float(), slope

    @staticmethod
    def _through(x: Tensor, estimate: Tensor, slope: Tensor) -> Tensor:
        """The gradient by x, where the estimate has a graph; where it leads upwards, that by the estimate."""
        if not estimate.requires_grad:
            return slope
        # Other guidances, and further steps, need the graph as well.
        (way,) = torch.autograd.grad(estimate, x, slope.to(estimate.dtype), retain_graph=True)
        upwards = (slope * way).flatten(1).sum(1) <= 0
        return torch.where(_like(upwards, way), slope, way.float())


class Guidances:
    """Several guidances at once, whose shifts are added; made by `+`, called as one `Guidance`.

    Args:
        *parts: the guidances.
    """

    def __init__(self, *parts: Guidance) -> None:
        self.parts = parts

    def __call__(self, x: Tensor, estimate: Tensor, progress: float) -> Tensor:
        """How to move the estimate; see `Guidance`."""
        return torch.stack([part(x, estimate, progress) for part in self.parts]).sum(0)

    def __add__(self, other: Guidance | Guidances) -> Guidances:
        """These and others."""
        return Guidances(*self.parts, *(other.parts if isinstance(other, Guidances) else [other]))


def for_scores(
    guidance: Guidance | Guidances,
    sigma: Callable[[Tensor], Tensor],
    progress: Callable[[Tensor], float],
    alpha: Callable[[Tensor], Tensor] = torch.ones_like,
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A guidance g(x, t, x_0) that gives what is added to a score, as NVIDIA's physicsnemo takes it.

    Args:
        guidance: what is asked for.
        sigma: standard deviation of the noise in x at times t (N,), in x = alpha x_0 + sigma noise.
        progress: share of the sampling that is done at times t.
        alpha: factor of the clean field at times t; default: 1, as of Karras et al. (2022).
    """

    def guided(x: Tensor, t: Tensor, x_0: Tensor) -> Tensor:
        scale = alpha(t) / sigma(t) ** 2
        return guidance(x, x_0, progress(t)) * _like(scale, x)

    return guided


def guided_output(
    guidance: Guidance | Guidances,
    scheduler: Any,
    model_output: Tensor,
    timestep: int,
    sample: Tensor,
    progress: float,
) -> Tensor:
    """What to hand to a scheduler of Hugging Face diffusers in place of the model's output.

    Its estimate of the clean field, `pred_original_sample`, is then the guided one, in one step of
    `scheduler.step(...)` by whatever rule. To go through the model, let sample require a gradient.

    Args:
        guidance: what is asked for.
        scheduler: one with `alphas_cumprod` and `config.prediction_type`, such as DDIMScheduler.
        model_output: (N, ...).
        timestep: of the scheduler's.
        sample: noisy fields, as the model was given them.
        progress: share of the sampling that is done.

    Returns:
        Of the shape of model_output, without a graph.

    Raises:
        ArgumentError: a scheduler of another prediction type.
    """
    kept = scheduler.alphas_cumprod[int(timestep)].to(sample)
    alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
    # x = alpha clean + sigma noise, v = alpha noise - sigma clean: the estimate, and its slope by the output.
    of_estimate = {
        "epsilon": (1 / alpha, -sigma / alpha),
        "sample": (torch.zeros_like(alpha), torch.ones_like(alpha)),
        "v_prediction": (alpha, -sigma),
    }
    kind = scheduler.config.prediction_type
    if kind not in of_estimate:
        raise ArgumentError(f"prediction_type must be one of {', '.join(of_estimate)}, got {kind!r}")
    of_sample, of_output = of_estimate[kind]
    estimate = of_sample * sample + of_output * model_output
    return model_output.detach() + guidance(sample, estimate, progress) / of_output


def _single(fields: Tensor) -> Tensor:
    """Fields (N, 1, H, W) as (N, H, W); others as they are."""
    return fields[:, 0] if fields.ndim == 4 and fields.shape[1] == 1 else fields


def _for_each(name: str, value: Tensor, own: int, count: int) -> Tensor:
    """What has `own` dimensions for one sample, for each of a number of them."""
    if value.ndim == own:
        value = value[None]
    if value.ndim != own + 1 or len(value) not in (1, count):
        raise ArgumentError(
            f"{name} must be for one sample or for each of {count}, with {own} dimensions of a sample, "
            f"got {tuple(value.shape)}"
        )
    return value.expand(count, *value.shape[1:])


def _as_strength(value: Any) -> float:
    if not is_weight(value):
        raise ArgumentError(f"strength must be a number >= 0, or a function that gives one, got {value!r}")
    return float(value)


def _lengths(x: Tensor) -> Tensor:
    """Euclidean lengths of samples (N, ...), (N, 1, ...)."""
    return _like(x.flatten(1).norm(dim=1), x)


def _within(moved: Tensor, start: Tensor, reach: Tensor) -> Tensor:
    """Samples (N, ...) no further from the start than reach (N, 1, ...)."""
    shift = moved - start
    return start + shift * (reach / _lengths(shift).clamp(min=_TINY)).clamp(max=1)


def _like(values: Tensor, x: Tensor) -> Tensor:
    """Values (N,) or () that can be multiplied with samples (N, ...)."""
    return values.view(-1, *(1,) * (x.ndim - 1)) if values.ndim else values
