"""A frozen surrogate as a score of ensembles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

from ..emulators.curves import full_precision
from ..emulators.differentiable import Differentiable
from ..emulators.distances import Distance
from ..emulators.fields import check_tensor, stacked
from ..emulators.scores import ALMOST, fairness_of, kernel_score, pairs_of
from ..errors import ArgumentError
from ..foundation.arguments import as_flag
from .comparison import Comparison, as_reference, reduced, through
from .inputs import broken, check_inputs, countable, unmeasured
from .shapes import Channels, Layout


class SurrogateScore(Comparison):
    """How good ensembles are by a surrogate: a proper score, differentiable in the members.

    Of a metric of one field it is the kernel score of the curves. For members x_1 ... x_M, a target y and the
    distance d between curves S it is

        mean_i d(S(x_i), S(y)) - 1/2 mean_(i, j) d(S(x_i), S(x_j)),

    the second mean over pairs of different members ("fair", Ferro 2014), over all pairs ("plain"), or in
    between ("almost-fair", Lang et al. 2024, arXiv 2412.15832). The expectation of the fair one is least
    where members are drawn as the truth is, whatever the curves: a score of a transformed forecast is proper
    (Pic, Dombry, Naveau and Taillardat 2025). The plain one is least where a few members differ too little
    (for a normal truth by 0.38 of its spread for 2 members, by 0.62 for 4), the almost fair one hardly (by
    0.95 for 2); and it keeps members from differing without bound, which the fair one allows one of them.
    The score says nothing of what curves do not see: train on it beside one of pixels, such as the CRPS. Its
    cost is that of the members' curves: pairs are of curves, not of fields.

    Of a pairwise metric it is the mean over members of the loss, which is no proper score; of one that says
    that it is of negative type, such as "betti-error", the kernel score of its distances between fields, at
    the cost of all pairs.

    Args:
        surrogate: maps fields (N, H, W), or pairs (N, 2, H, W), to curves (N, C, Q), differentiable.
        distance: as for `SurrogateLoss`; of negative type and differentiable in both curves, as one says by
            its attribute `negative_type`.
        estimator: "fair", "almost-fair" or "plain".
        alpha: how fair the almost fair one is, from 0 (plain) to 1; default: 0.95.
        forward: curves of members and targets: "surrogate", or "exact": exact values, those of members with
            the gradient of the surrogate. Both are of one kind: else the best ensemble is not the truth's.
        reduction: "mean" or "sum" over ensembles, or "none".
        weights: weight of each output by name; an output left out weighs 1.
        missing: what says that a pixel was not measured: the "target" alone, or "either": a NaN in the target
            or in one of the members, which leaves the pixel out of all of them.
        member_dim: dimension of the members: 1 in (N, M, H, W).
        channels: of members (N, M, C, H, W) a name for each channel that is measured, each as a field by
            itself, and None for each that is not: ("rain", None). "each" measures all, such as times.
            Default: single fields. Each channel has its own score: how they hang together is not judged.
        across_processes: whether the processes of torch.distributed hold members of the same ensembles, as
            many each. Their curves are gathered, and each process gets the score of all members. Gradients
            are to be averaged over processes, as `DistributedDataParallel` does: they are then those of
            one process with all members. Not for a pairwise metric of negative type: its score compares
            fields with each other, and these are not gathered.
        in_state_dict: as for `SurrogateLoss`.

    Raises:
        ArgumentError: an argument out of range, a distance that is not of negative type, or members over
            processes where their fields are compared.
    """

    member_dim: int
    layout: Layout
    across_processes: bool
    _compares_members: bool

    @torch.inference_mode(False)
    def __init__(
        self,
        surrogate: Differentiable,
        *,
        distance: str | Distance | type[Distance] | None = None,
        estimator: str = "almost-fair",
        alpha: float | None = None,
        forward: str = "surrogate",
        reduction: str = "mean",
        weights: Mapping[str, float] | None = None,
        missing: str = "target",
        member_dim: int = 1,
        channels: Channels = None,
        across_processes: bool = False,
        in_state_dict: bool = True,
    ) -> None:
        super().__init__(
            surrogate,
            distance=distance,
            forward=forward,
            reference=None,
            reduction=reduction,
            weights=weights,
            missing=missing,
            in_state_dict=in_state_dict,
        )
        if self.metric.arity == 1 and not self.distance.negative_type:
            raise ArgumentError(
                f"distance ({type(self.distance).__name__}) must be of negative type, without which no score "
                "is proper; set its negative_type = True where it is, or take the default"
            )
        if alpha is not None and estimator != "almost-fair":
            raise ArgumentError(f"alpha is for the estimator 'almost-fair', got {estimator!r}; leave it out")
        self.fairness = fairness_of(estimator, ALMOST if alpha is None else alpha)
        self.estimator = estimator
        if isinstance(member_dim, bool) or not isinstance(member_dim, Integral):
            raise ArgumentError(f"member_dim must be a whole number, such as 1, got {member_dim!r}")
        self.member_dim = int(member_dim)
        self.layout = Layout(channels, members=True)
        self.across_processes = as_flag("across_processes", across_processes)
        self._compares_members = self.metric.negative_type and self.distance.negative_type
        if self.across_processes and self.metric.arity == 2 and self._compares_members:
            raise ArgumentError(
                f"across_processes is not for metric {self.metric.title!r}, whose score compares members; "
                "draw all members of an ensemble in one process"
            )

    def forward(
        self,
        members: Tensor,
        target: Tensor | None = None,
        *,
        target_curves: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The score.

        Args:
            members: (N, M, H, W) or (N, M, 1, H, W), with `channels` (N, M, C, H, W), or with the M members
                in dimension `member_dim`, in the surrogate's field unit. Where one is not finite, so are the
                score of its ensemble and its gradient, unless the pixel was not measured.
            target: as the members without their dimension, such as (N, H, W); it gets no gradient. A pixel
                that is NaN was not measured: it counts as dry in all and gets no gradient.
            target_curves: instead of a target: its curves (N, C, Q), of the kind of the members': exact ones
                computed beforehand, where values are exact; of K channels that are measured (N, K, C, Q). Not
                for a pairwise metric.
            mask: of the target's shape, boolean, True where pixels were measured. One (H, W), such as of
                land, is that of all fields, one (N, 1, H, W) that of all channels.

        Returns:
            Scalar, or (N,) with reduction "none", (N, K) of K channels that are measured; float32 or better.
            A fair score can be negative.

        Raises:
            ArgumentError: one member alone, both or neither of target and target_curves, no tensors, or
                shapes that do not belong together.
        """
        return reduced(self._by_field(members, target, target_curves, mask), self.reduction)

    if TYPE_CHECKING:
        __call__ = forward  # which torch gives no type

    def by_channel(
        self,
        members: Tensor,
        target: Tensor | None = None,
        *,
        target_curves: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The mean score of each channel that is measured, by its name; arguments as in `forward`."""
        scores = self._by_field(members, target, target_curves, mask)
        means = scores.mean(0) if self.layout.channels is not None else scores.mean()[None]
        return dict(zip(self.layout.names(self._in_order(members)), means.unbind(), strict=True))

    def _by_field(
        self, members: Tensor, target: Tensor | None, target_curves: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        """The score of each ensemble, (N,), or of each channel of it, (N, K)."""
        members = self._in_order(members)
        scores = self._weighed(self._scored(*self.layout.flat(members, target, target_curves, mask)))
        return self.layout.restored(scores, members)

    def by_output(
        self,
        members: Tensor,
        target: Tensor | None = None,
        *,
        target_curves: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """What the score weighs and sums, (N, C): the score of each output; arguments as in `forward`.

        Of K channels that are measured (N, K, C).
        """
        members = self._in_order(members)
        return self.layout.restored(
            self._scored(*self.layout.flat(members, target, target_curves, mask)), members
        )

    def _scored(
        self, members: Tensor, target: Tensor | None, target_curves: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        """Scores (N, C) of ensembles (N, M, ...) of single fields."""
        each = members[:, 0]
        check_inputs(self.metric, each, target, target_curves, mask, self.output_weights.device)
        missing = unmeasured(self._lacked(members), target, mask, self.missing)
        number, count = members.shape[:2]
        told, lacking = None, None
        if self.missing == "target":
            lacking = None if missing is None else _repeated(missing, count)
            told = broken(members.flatten(0, 1), lacking).view(number, count)
            told = self._of_all(told).sum(1, keepdim=True)
        if missing is not None:
            members = members.masked_fill(missing[:, None], math.nan)
            target = None if target is None else target.detach().masked_fill(missing, math.nan)
        fields = members.flatten(0, 1)
        self.watch.look(fields, target)
        counted = fields.detach()
        if told is not None and self._counts_predictions:
            counted = countable(counted, None if target is None else _repeated(target, count), lacking)
        if self.metric.arity == 2:
            assert target is not None  # `check_inputs` has seen to it
            scores = self._of_pairs(members, counted.view_as(members), _repeated(target.detach(), count))
        else:
            curves = through(*self._both(fields, counted)).unflatten(0, (number, count))
            scores = self._scores(curves, target, target_curves)
        return scores if told is None else scores + told

    def _of_pairs(self, members: Tensor, counted: Tensor, targets: Tensor) -> Tensor:
        """Scores (N, C) of members (N, M, ...), each given its target (N M, ...), by a pairwise metric."""
        number, count = members.shape[:2]

        def between(first: Tensor, second: Tensor, exactly: tuple[Tensor, Tensor], each: int) -> Tensor:
            curves = through(*self._both(stacked(first, second.detach()), stacked(*exactly)))
            with full_precision(curves):
                return self.distance(curves, None).unflatten(0, (number, each))

        to_target = between(members.flatten(0, 1), targets, (counted.flatten(0, 1), targets), count)
        if not self._compares_members:
            return self._of_all(to_target).mean(1)
        i, j = pairs_of(count, members.device)
        one, other = (members[:, k].flatten(0, 1) for k in (i, j))
        first, second = (counted[:, k].flatten(0, 1) for k in (i, j))
        # Second fields get no gradient: each is the first one once, and the value is the mean of both.
        both = between(one, other, (first, second), len(i)) + between(other, one, (second, first), len(i))
        pairs = both - both.detach() / 2
        return kernel_score(to_target.movedim(1, 2), pairs.movedim(1, 2), count, self.fairness)

    def _in_order(self, members: Tensor) -> Tensor:
        """Members with their dimension the second one, (N, M, ...); checked."""
        check_tensor("members", members)
        dimension = self.member_dim
        if not (members.ndim in (4, 5) and -members.ndim <= dimension < members.ndim):
            raise ArgumentError(
                "members must be (N, M, H, W) or (N, M, 1, H, W), with channels= (N, M, C, H, W), the M of "
                f"them in dimension {dimension}, got {tuple(members.shape)}"
            )
        if members.shape[dimension] < (1 if self.across_processes else 2):
            raise ArgumentError(
                "a score needs at least 2 members, among which it measures the spread, got "
                f"{members.shape[dimension]}; for one prediction take surrogate.as_loss()"
            )
        if self.across_processes and not (distributed.is_available() and distributed.is_initialized()):
            raise ArgumentError(
                "across_processes is for several processes; call torch.distributed.init_process_group first, "
                "or leave it out"
            )
        return members.movedim(dimension, 1)

    def _lacked(self, members: Tensor) -> Tensor:
        """One of the members (N, ...), NaN where any of them is, if that says that nothing was measured."""
        first = members[:, 0].detach()
        if self.missing == "target":
            return first
        lacking = members.detach().isnan().any(1).to(torch.uint8)
        if self.across_processes:
            distributed.all_reduce(lacking, distributed.ReduceOp.MAX)
        return first.masked_fill(lacking.bool(), math.nan)

    def _of_all(self, own: Tensor) -> Tensor:
        """What was found for the members (N, M, ...) of this process, for those of all."""
        return _Gathered.apply(own) if self.across_processes else own

    def _scores(self, curves: Tensor, target: Tensor | None, target_curves: Tensor | None) -> Tensor:
        """Scores (N, C) of the curves (N, M, C, Q) of members."""
        reference = self._reference(target, target_curves, curves[:, 0])
        curves = self._of_all(curves)
        count = curves.shape[1]
        first, second = pairs_of(count, curves.device)
        with full_precision(curves):
            to_target = self._distances(curves, reference[:, None].expand_as(curves))
            between = self._distances(curves[:, first], curves[:, second])
            return kernel_score(to_target, between, count, self.fairness)

    def _distances(self, curves: Tensor, others: Tensor) -> Tensor:
        """Distances (N, C, M) of M times N curves (N, M, C, Q) from others."""
        found = self.distance(curves.flatten(0, 1), others.flatten(0, 1))
        return found.unflatten(0, curves.shape[:2]).movedim(1, 2)

    @torch.no_grad()
    def _reference(self, target: Tensor | None, target_curves: Tensor | None, like: Tensor) -> Tensor:
        """The curves (N, C, Q) of the target."""
        if target_curves is not None:
            return as_reference(target_curves, like)
        assert target is not None  # one of both is there: `check_inputs` has seen to it
        counted = self.exact_reference and not self.surrogate.exact
        return (self.teacher(target) if counted else self.surrogate(target)).to(like)

    def _told(self) -> dict[str, str]:
        """What `print` shows, by name."""
        fairness = f" ({self.fairness:g})" if self.estimator == "almost-fair" else ""
        lines = super()._told() | {"estimator": self.estimator + fairness}
        return lines if self.layout.channels is None else lines | {"channels": str(self.layout.channels)}


def _repeated(fields: Tensor, count: int) -> Tensor:
    """Fields (N, ...) as often as there are members, (N M, ...), in their order."""
    return fields[:, None].expand(-1, count, *fields.shape[1:]).flatten(0, 1)


class _Gathered(torch.autograd.Function):
    """Tensors (N, M, ...) of all processes side by side, with gradients to each."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        own, ctx.members = own.contiguous(), own.shape[1]
        parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, own)
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient)  # each process has its own score of all
        return gradient.narrow(1, distributed.get_rank() * ctx.members, ctx.members)
