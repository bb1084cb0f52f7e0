"""The score of ensembles: its value against formulas computed plainly, propriety, gradients, processes."""

import copy
import itertools
import math
import socket
import subprocess
import sys
from functools import partial

import drawn
import emuloss
import numpy as np
import pytest
import torch
from chatter import said
from emuloss.emulators import ARCHITECTURES, CurveDistance, Differentiable, Distance
from emuloss.errors import ArgumentError
from emuloss.losses import SurrogateScore
from emuloss.zoo import Surrogate

OUTPUTS = ("area", "perimeter", "euler", "components")
TEACHER = emuloss.metric("minkowski", thresholds=[0.105, 0.5, 1, 5], pixel_size=2.0, outputs=OUTPUTS)
rain = partial(drawn.rain, law="peaked")
WEIGHTS = {"fair": lambda m: 1 / (m * (m - 1)), "plain": lambda m: 1 / m**2}
WEIGHTS["almost-fair"] = lambda m: 0.95 * WEIGHTS["fair"](m) + 0.05 * WEIGHTS["plain"](m)


def network():
    torch.manual_seed(0)
    emulator = ARCHITECTURES["constrained"](TEACHER, widths=(8, 16), hidden=16)
    with torch.no_grad():
        for parameter in emulator.parameters():  # the last layer starts at 0, which would hide it
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Surrogate(emulator, "constrained")


KINDS = {
    "relaxed": lambda: emuloss.relax(TEACHER),
    "excursion": lambda: Surrogate(ARCHITECTURES["excursion"](TEACHER), "excursion"),
    "constrained": network,
}
each_kind = pytest.mark.parametrize("kind", KINDS)
each_estimator = pytest.mark.parametrize("estimator", WEIGHTS)


def ensembles(number: int, count: int, size: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Members (N, M, H, W), and targets (N, H, W)."""
    members = torch.stack([rain(number, size, size, seed=k) for k in range(count)], dim=1)
    return members, rain(number, size, size, seed=99)


def plainly(metric, curves, reference, estimator) -> np.ndarray:
    """Scores (N, C) of curves (N, M, C, Q), member by member."""
    distance = CurveDistance.of(metric)
    count = curves.shape[1]
    near = sum(distance(curves[:, i], reference) for i in range(count)) / count
    pairs = itertools.combinations(range(count), 2)
    apart = sum(distance(curves[:, i], curves[:, j]) for i, j in pairs)
    return near - WEIGHTS[estimator](count) * apart


@each_estimator
@each_kind
@pytest.mark.parametrize("count", [2, 5])
def test_value(kind, estimator, count):
    surrogate = KINDS[kind]()
    members, target = ensembles(3, count)
    curves = torch.stack([surrogate(members[:, k]) for k in range(count)], 1)
    expected = plainly(TEACHER, curves, surrogate(target), estimator)
    score = surrogate.as_score(estimator=estimator)
    torch.testing.assert_close(score.by_output(members, target), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(score(members, target), expected.sum(1).mean(), rtol=1e-4, atol=1e-5)
    total = surrogate.as_score(estimator=estimator, reduction="sum", weights={"area": 0, "euler": 3.0})
    weighed = (expected * torch.tensor([0.0, 1.0, 3.0, 1.0])).sum()
    torch.testing.assert_close(total(members, target), weighed, rtol=1e-4, atol=1e-5)


@each_kind
def test_exact_curves_of_members_and_target(kind):
    surrogate = KINDS[kind]()
    members, target = ensembles(2, 3)
    curves, reference = (
        torch.from_numpy(TEACHER(fields.flatten(0, -3).numpy())).float() for fields in (members, target)
    )
    expected = plainly(TEACHER, curves.view(2, 3, *curves.shape[1:]), reference, "fair")
    score = surrogate.as_score(estimator="fair", forward="exact")
    members.requires_grad_()
    found = score.by_output(members, target)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        score.by_output(members, target_curves=reference), expected, rtol=1e-5, atol=1e-5
    )
    found.sum().backward()
    assert members.grad.flatten(2).norm(dim=2).min() > 0


def test_members_may_be_anywhere_and_have_a_channel():
    score = KINDS["relaxed"]().as_score()
    members, target = ensembles(3, 4)
    expected = score(members, target)
    assert score(members[:, :, None], target[:, None]) == expected
    for dimension in (0, 2, -1):
        moved = members.movedim(1, dimension)
        assert KINDS["relaxed"]().as_score(member_dim=dimension)(moved, target) == expected


def test_members_are_alike_in_any_order():
    score = KINDS["excursion"]().as_score(reduction="none")
    members, target = ensembles(3, 4)
    torch.testing.assert_close(score(members[:, [2, 0, 3, 1]], target), score(members, target))


@pytest.mark.parametrize("name", ["fss", "csi"])
def test_no_ensembles_at_all_score_nothing(name):
    score = emuloss.relax(emuloss.metric(name, thresholds=[0.5, 2.0])).as_score()
    assert score(torch.zeros(0, 3, 24, 24), torch.zeros(0, 24, 24)) == 0


def test_an_ensemble_of_the_truth_scores_zero():
    score = KINDS["relaxed"]().as_score(estimator="fair")
    _, target = ensembles(2, 2)
    assert score(target[:, None].expand(-1, 3, -1, -1), target) == 0


def test_gradient_by_finite_differences():
    score = emuloss.relax(TEACHER, temperature=0.5).as_score()
    members, target = (fields.double() for fields in ensembles(1, 3, size=6))
    assert torch.autograd.gradcheck(lambda x: score(x, target), members.requires_grad_(), eps=1e-7, atol=1e-4)


class Identity(Differentiable):
    """Of fields of one pixel: the pixel."""

    stride = 1

    def __init__(self) -> None:
        super().__init__()
        self.metric = emuloss.metric(lambda field: float(field.mean()))

    def arguments(self):
        return {}

    def forward(self, fields):
        return fields.reshape(fields.shape[0], 1, -1)[..., :1]


class Absolute(Distance):
    negative_type = True

    def forward(self, curves, reference):
        return (curves - reference).abs().sum(2)


def crps(estimator="fair") -> SurrogateScore:
    return SurrogateScore(Identity(), distance=Absolute(), estimator=estimator, reduction="none")


@each_estimator
def test_of_values_themselves_it_is_the_crps(estimator):
    scoringrules = pytest.importorskip("scoringrules")
    generator = np.random.default_rng(0)
    members, target = generator.normal(size=(50, 7)), generator.normal(size=50)
    found = crps(estimator)(
        torch.from_numpy(members)[..., None, None], torch.from_numpy(target)[:, None, None]
    )
    fair, plain = (scoringrules.crps_ensemble(target, members, estimator=name) for name in ("fair", "nrg"))
    expected = {"fair": fair, "plain": plain, "almost-fair": 0.95 * fair + 0.05 * plain}[estimator]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def normal(shape, spread=1.0, center=0.0, seed=0) -> torch.Tensor:
    return center + spread * torch.randn(
        shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def test_it_is_least_where_members_are_drawn_as_the_truth_is():
    number = 40_000
    target = normal((number, 1, 1), seed=1)
    cases = {(1.0, 0.0), (0.6, 0.0), (1.5, 0.0), (1.0, 0.4)}
    means = {case: float(crps()(normal((number, 4, 1, 1), *case, seed=2), target).mean()) for case in cases}
    best = means.pop((1.0, 0.0))
    # The standard error of a mean is below 0.005.
    assert best == pytest.approx(1 / math.sqrt(math.pi), abs=0.015)
    assert min(means.values()) > best + 0.02


def test_the_fair_score_does_not_depend_on_the_number_of_members():
    number = 40_000
    target = normal((number, 1, 1), seed=3)
    for estimator, most in (("fair", 0.015), ("plain", math.inf)):
        found = [
            float(crps(estimator)(normal((number, count, 1, 1), 1.3, seed=4), target).mean())
            for count in (2, 8)
        ]
        assert abs(found[0] - found[1]) < most
    assert found[0] - found[1] > 0.1  # of the plain one


def test_what_was_not_measured():
    score = KINDS["excursion"]().as_score(reduction="none")
    members, target = ensembles(3, 4)
    missing = torch.rand(target.shape, generator=torch.Generator().manual_seed(0)) < 0.2
    dry = missing[:, None].expand_as(members)
    expected = score(members.masked_fill(dry, 0.0), target.masked_fill(missing, 0.0))
    torch.testing.assert_close(score(members, target.masked_fill(missing, math.nan)), expected)
    torch.testing.assert_close(score(members, target, mask=~missing), expected)
    members.requires_grad_()
    score(members, target, mask=~missing).sum().backward()
    assert not members.grad[dry].any()
    assert members.grad[~dry].any()


def test_a_member_that_is_not_finite_is_told_unless_it_may_be_missing():
    surrogate = KINDS["excursion"]()
    members, target = ensembles(3, 4)
    members[1, 2, 3, 4] = math.nan
    assert surrogate.as_score(reduction="none")(members, target).isnan().tolist() == [False, True, False]
    without = target.clone()
    without[1, 3, 4] = math.nan
    either = surrogate.as_score(reduction="none", missing="either")(members, target)
    torch.testing.assert_close(either, surrogate.as_score(reduction="none")(members.nan_to_num(), without))


def test_of_a_pairwise_metric_it_is_the_mean_loss():
    surrogate = emuloss.relax(emuloss.metric("fss", thresholds=[0.5, 1.0]))
    members, target = ensembles(2, 3)
    loss = surrogate.as_loss()
    expected = sum(loss(members[:, k], target) for k in range(3)) / 3
    torch.testing.assert_close(surrogate.as_score()(members, target), expected)


class Apart(Differentiable):
    """How far two fields of one pixel are apart."""

    stride = 1

    def __init__(self, negative_type=True) -> None:
        super().__init__()
        self.metric = emuloss.metric(
            lambda one, other: float(abs(one - other).mean()), arity=2, symmetric=True, identity=0.0,
            lower_better=True,
        )  # fmt: skip
        self.metric.negative_type = negative_type

    def arguments(self):
        return {}

    def forward(self, pairs):
        return (pairs[:, 0] - pairs[:, 1]).abs().mean((1, 2))[:, None, None]


class Itself(Distance):
    arity = 2
    negative_type = True

    def forward(self, curves, reference):
        return curves.sum(2)


@each_estimator
def test_of_a_pairwise_metric_of_negative_type_it_is_the_kernel_score(estimator):
    fields = normal((20, 5, 1, 1), seed=3).requires_grad_(), normal((20, 1, 1), seed=4)
    pairwise = SurrogateScore(Apart(), distance=Itself(), estimator=estimator, reduction="none")
    scores = [score(*fields) for score in (pairwise, crps(estimator))]
    torch.testing.assert_close(*scores)
    torch.testing.assert_close(*(torch.autograd.grad(score.sum(), fields[0])[0] for score in scores))
    mean = SurrogateScore(Apart(negative_type=False), distance=Itself(), reduction="none")(*fields)
    torch.testing.assert_close(mean, (fields[0] - fields[1][:, None]).abs().mean((1, 2, 3)))


def test_fields_of_several_processes_are_not_compared():
    with pytest.raises(ArgumentError, match="across_processes is not for metric"):
        SurrogateScore(Apart(), across_processes=True)


def test_annealing():
    score = emuloss.relax(TEACHER).as_score()
    members, target = ensembles(2, 3)
    hot, cold = (score.anneal(progress) or float(score(members, target)) for progress in (0.0, 1.0))
    assert hot != cold


def test_it_compiles_to_one_graph():
    score = KINDS["excursion"]().as_score()
    members, target = ensembles(2, 3)
    members.requires_grad_()
    whole = torch.compile(score, fullgraph=True, backend="aot_eager")
    values = [run(members, target) for run in (score, whole)]
    gradients = [torch.autograd.grad(value, members)[0] for value in values]
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_copies_and_pictures_of_it():
    score = KINDS["relaxed"]().as_score(estimator="almost-fair", alpha=0.9)
    members, target = ensembles(2, 3)
    assert copy.deepcopy(score)(members, target) == score(members, target)
    assert "almost-fair (0.9)" in repr(score)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "unfair"}, "estimator"),
        ({"alpha": 2.0}, "alpha"),
        ({"member_dim": 1.5}, "member_dim"),
        ({"member_dim": True}, "member_dim"),
        ({"alpha": 0.9, "estimator": "fair"}, "alpha is for"),
        ({"trust": 1.0}, "as_score has no argument 'trust'"),
        ({"distance": type("Odd", (Distance,), {"forward": lambda *_: None})}, "negative type"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        KINDS["relaxed"]().as_score(**options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda members, target: (members[:, :1], target), r"at least 2 members.*got 1; .*as_loss\(\)"),
        (lambda members, target: (members[:, :0], target), "got 0"),
        (lambda members, target: (members[:, 0], target), "members must be"),
        (lambda members, target: (members, target[:, :5]), "target must have"),
        (lambda members, target: (members,), "target"),
        (lambda members, target: (members.numpy(), target), "members"),
    ],
)
def test_bad_ensembles_are_refused(change, message):
    with pytest.raises(ArgumentError, match=message):
        KINDS["relaxed"]().as_score()(*change(*ensembles(2, 3)))


def test_several_processes_are_needed_where_members_lie_across_them():
    with pytest.raises(ArgumentError, match="init_process_group"):
        KINDS["relaxed"]().as_score(across_processes=True)(*ensembles(2, 3))


def test_target_curves_of_another_shape_are_refused():
    with pytest.raises(ArgumentError, match="target_curves must have shape"):
        KINDS["relaxed"]().as_score()(ensembles(2, 3)[0], target_curves=torch.zeros(2, 3, 4))


# Two processes with two members each: scores, and the gradient of a factor, a mean over processes.
WORKER = """
import math, sys, torch, emuloss
from torch import distributed
rank, port, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
metric = emuloss.metric("minkowski", thresholds=[0.105, 0.5, 1, 5], pixel_size=2.0)
members, target = torch.load(path)
own = slice(2 * rank, 2 * rank + 2)
network = torch.nn.Module()
network.factor = torch.nn.Parameter(torch.ones(()))
network.forward = lambda fields: network.factor * fields
together = torch.nn.parallel.DistributedDataParallel(network)
value = emuloss.relax(metric).as_score(across_processes=True)(together(members[:, own]), target)
value.backward()
members[1, 3, 4, 5] = math.nan
found = [value.detach(), network.factor.grad]
for missing in ("either", "target"):
    score = emuloss.relax(metric).as_score(across_processes=True, missing=missing, reduction="none")
    found += score(members[:, own], target).unbind()
print(*map(float, found), flush=True)
distributed.barrier()  # none may end while another still listens to it
distributed.destroy_process_group()
"""


def test_members_of_two_processes(tmp_path):
    members, target = ensembles(3, 4)
    torch.save((members, target), tmp_path / "fields.pt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    runs = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORKER, str(rank), port, tmp_path / "fields.pt"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for rank in range(2)
    ]
    found = [list(map(float, said(run.communicate(timeout=120)[0]).split())) for run in runs]
    factor = torch.ones((), requires_grad=True)
    metric = emuloss.metric("minkowski", thresholds=[0.105, 0.5, 1, 5], pixel_size=2.0)
    value = emuloss.relax(metric).as_score()(factor * members, target)
    value.backward()
    expected = [value.detach(), factor.grad]
    members[1, 3, 4, 5] = math.nan
    for missing in ("either", "target"):
        expected += (
            emuloss.relax(metric).as_score(missing=missing, reduction="none")(members, target).unbind()
        )
    assert math.isnan(expected[-2])
    for each in found:
        assert each == pytest.approx(list(map(float, expected)), rel=1e-5, nan_ok=True)
