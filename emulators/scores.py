"""Kernel scores of ensembles: distances of the members to the truth, less those among themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..foundation.arguments import as_choice, as_share

ESTIMATORS = ("fair", "almost-fair", "plain")
"""Names of `fairness_of`."""
ALMOST = 0.95
"""Fairness of the score that Lang et al. (2024) train on."""


def fairness_of(estimator: str, alpha: float = ALMOST) -> float:
    """How fair an estimator of a kernel score is: 1 of a fair one, alpha of an almost fair one, 0 of a plain.

    Args:
        estimator: "fair", "almost-fair" or "plain".
        alpha: of the almost fair one alone; in [0, 1].

    Raises:
        ArgumentError: another name, or no share.
    """
    alpha = as_share("alpha", alpha)
    return {"fair": 1.0, "almost-fair": alpha, "plain": 0.0}[as_choice("estimator", estimator, ESTIMATORS)]


def pairs_of(members: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """First and second members of all pairs i < j, (P,) each with P = M (M - 1) / 2."""
    first, second = torch.triu_indices(members, members, 1, device=device).unbind()
    return first, second


def kernel_score(to_truth: Tensor, between: Tensor, members: int, fairness: float) -> Tensor:
    r"""Kernel score of an ensemble, from distances d between its members x_1 ... x_M and the truth y.

        1/M sum_i d(x_i, y) - (a / (M (M - 1)) + (1 - a) / M^2) sum_{i < j} d(x_i, x_j)

    With the fairness a = 1 its expectation over members does not depend on M (Ferro 2014, "Fair scores for
    ensemble forecasts", QJRMS 140); with a = 0 it is the score of the ensemble as a distribution (Gneiting
    and Raftery 2007, JASA 102, section 5). The fair one is 0 where all members but one are the truth,
    wherever that one lies; the almost fair ones between see it (Lang et al. 2024, "AIFS-CRPS",
    arXiv 2412.15832). The score is proper where d is of negative type, as is any L1 distance between what is
    computed from fields, such as `CurveDistance`: its expectation is least if members and truth are drawn
    from one distribution.

    It is a sum: scores of parts of the members and of the pairs, given the M of all, add up to that of all.

    Args:
        to_truth: (..., M), distances between members and truth.
        between: (..., P), distances of the P = M (M - 1) / 2 pairs; see `pairs_of`.
        members: M.
        fairness: a, in [0, 1].

    Returns:
        (...), differentiable in both.

    Raises:
        ArgumentError: fewer than two members.
    """
    if members < 2:
        raise ArgumentError(
            f"an ensemble needs at least 2 members, got {members}: without a pair there is no spread to score"
        )
    weight = (members - 1 + fairness) / (members**2 * (members - 1))
    return to_truth.sum(-1) / members - weight * between.sum(-1)
