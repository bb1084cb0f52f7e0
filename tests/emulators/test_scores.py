"""Kernel scores: beside double loops, fair whatever the number of members, least at the truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from emuloss.emulators.scores import fairness_of, kernel_score, pairs_of
from emuloss.errors import ArgumentError
from torch import Tensor


def score(members: Tensor, truth: Tensor, fairness: float) -> Tensor:
    """The score of numbers: members (..., M), truth (...)."""
    first, second = pairs_of(members.shape[-1])
    between = (members[..., first] - members[..., second]).abs()
    return kernel_score((members - truth[..., None]).abs(), between, members.shape[-1], fairness)


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("fairness", [1.0, 0.95, 0.0])
def test_is_the_double_sum(count: int, fairness: float) -> None:
    draw = torch.Generator().manual_seed(count)
    x, y = torch.randn(count, generator=draw, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    apart = sum(abs(float(a - b)) for a, b in itertools.product(x, x))
    fair, plain = apart / (2 * count * (count - 1)), apart / (2 * count**2)
    expected = float((x - y).abs().mean()) - fairness * fair - (1 - fairness) * plain
    assert float(score(x, y, fairness)) == pytest.approx(expected, rel=1e-12)


def test_parts_add_up() -> None:
    draw = torch.Generator().manual_seed(0)
    to_truth, between = torch.rand(5, 4, generator=draw), torch.rand(5, 6, generator=draw)
    whole = kernel_score(to_truth, between, 4, 0.95)
    parts = [kernel_score(to_truth[:, :3], between[:, :1], 4, 0.95)]
    parts.append(kernel_score(to_truth[:, 3:], between[:, 1:], 4, 0.95))
    torch.testing.assert_close(sum(parts), whole)


def test_fair_ones_do_not_depend_on_the_number_of_members() -> None:
    draw = torch.Generator().manual_seed(1)
    truth = torch.zeros(40_000, dtype=torch.float64)

    def drawn(count: int, fairness: float) -> tuple[float, float]:
        members = torch.randn(len(truth), count, generator=draw, dtype=torch.float64) + 0.5
        scores = score(members, truth, fairness)
        return float(scores.mean()), float(scores.std()) / len(truth) ** 0.5

    (few, error), (many, other) = drawn(2, 1.0), drawn(9, 1.0)
    assert abs(few - many) < 4 * np.hypot(error, other)
    # The plain one is larger by E|x - x'| (1/2 - 1/9) / 2, 0.22 here: the test can fail.
    (few, error), (many, other) = drawn(2, 0.0), drawn(9, 0.0)
    assert few - many == pytest.approx(
        2 / np.sqrt(np.pi) * (1 / 2 - 1 / 9) / 2, abs=4 * np.hypot(error, other)
    )


def test_is_least_where_members_are_drawn_as_the_truth_is() -> None:
    draw = torch.Generator().manual_seed(2)
    truth = torch.randn(60_000, generator=draw, dtype=torch.float64)
    noise = torch.randn(len(truth), 4, generator=draw, dtype=torch.float64)
    best = score(noise, truth, 1.0)
    for shift, spread in ((0.0, 0.5), (0.0, 1.5), (0.4, 1.0), (-0.4, 1.0), (0.0, 0.0)):
        worse = score(shift + spread * noise, truth, 1.0) - best
        assert float(worse.mean()) > 4 * float(worse.std()) / len(truth) ** 0.5


def test_gradients() -> None:
    draw = torch.Generator().manual_seed(3)
    to_truth, between = (
        torch.rand(2, n, generator=draw, dtype=torch.float64).requires_grad_() for n in (3, 3)
    )
    assert torch.autograd.gradcheck(lambda a, b: kernel_score(a, b, 3, 0.95), (to_truth, between))


def test_names_of_estimators() -> None:
    assert [fairness_of("fair"), fairness_of("plain"), fairness_of("almost-fair", 0.9)] == [1.0, 0.0, 0.9]
    with pytest.raises(ArgumentError, match=r"estimator must be one of .* got 'best'"):
        fairness_of("best")
    with pytest.raises(ArgumentError, match="alpha"):
        fairness_of("almost-fair", 1.5)


def test_one_member_is_refused() -> None:
    with pytest.raises(ArgumentError, match="at least 2 members, got 1"):
        kernel_score(torch.ones(1), torch.ones(0), 1, 1.0)
