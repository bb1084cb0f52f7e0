"""Exact metrics as metrics of torchmetrics."""

import os
import subprocess
import sys

import emuloss
import numpy as np
import pytest
import torch

torchmetrics = pytest.importorskip("torchmetrics")
measures = pytest.importorskip("emuloss.measures")

MINKOWSKI = emuloss.metric("minkowski", thresholds=[0.5, 1.0, 2.0])
FSS = emuloss.metric("fss", thresholds=[0.5, 2.0], windows=[1, 3])


def drawn(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    both = torch.rand(2, *shape, generator=torch.Generator().manual_seed(seed)) * 4
    return both[0], both[1]


def test_batches_add_up_to_the_mean_over_fields():
    prediction, target = drawn(5, 16, 16)
    target[0, :4] = torch.nan
    distance = measures.ExactDistance(MINKOWSKI)
    score = measures.ExactScore(FSS)
    for part in (slice(0, 2), slice(2, 5)):
        distance.update(prediction[part], target[part])
        score.update(prediction[part], target[part])
    loss = emuloss.relax(MINKOWSKI).as_loss(forward="exact")
    assert float(distance.compute()) == pytest.approx(float(loss(prediction, target)), rel=1e-5)
    exact = FSS(prediction.numpy(), target.numpy())
    assert float(score.compute()) == pytest.approx(float(exact.mean()), rel=1e-5)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_network_that_broke_has_no_score(value):
    """NaN counts for what was not measured, which must not make a perfect score of it."""
    prediction, target = drawn(3, 16, 16)
    target[0, :4] = torch.nan
    for exact, metric in ((measures.ExactDistance, MINKOWSKI), (measures.ExactScore, FSS)):
        sound = exact(metric)
        spoilt = prediction.clone()
        spoilt[0, :2] = value  # where nothing was measured it may be anything
        sound.update(spoilt, target)
        assert sound.compute().isfinite()
        spoilt[1, 3, 3] = value
        broken = exact(metric)
        broken.update(spoilt, target)
        assert broken.compute().isnan()


def test_collections_know_which_way_is_better():
    csi = emuloss.metric("csi", thresholds=[1.0], outputs=("csi", "far"))
    collection = torchmetrics.MetricCollection(
        {
            "distance": measures.ExactDistance(MINKOWSKI),
            "fss": measures.ExactScore(FSS),
            "far": measures.ExactScore(csi, output="far"),
            "error": measures.ExactScore(emuloss.metric("betti-error", thresholds=[1.0])),
        }
    )
    found = collection(*drawn(3, 16, 16))
    assert set(found) == {"distance", "fss", "far", "error"}
    better = {name: each.higher_is_better for name, each in collection.items()}
    assert better == {"distance": False, "fss": True, "far": False, "error": False}
    assert float(collection.compute()["far"]) == pytest.approx(float(found["far"]))
    collection.reset()
    collection.update(drawn(1, 16, 16)[1], drawn(1, 16, 16)[1])
    best = {name: float(value) for name, value in collection.compute().items()}
    assert best == {"distance": 0.0, "fss": 1.0, "far": 0.0, "error": 0.0}


def test_states_are_sums():
    first, second = drawn(3, 16, 16), drawn(2, 16, 16, seed=1)
    one, other, both = (measures.ExactDistance(MINKOWSKI) for _ in range(3))
    one.update(*first)
    other.update(*second)
    for batch in (first, second):
        both.update(*batch)
    one.merge_state(other)
    assert one.compute() == both.compute()


_WORKER = """
import sys, torch, emuloss, emuloss.measures
from torch import distributed
rank, store = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
score = emuloss.measures.ExactScore(emuloss.metric("csi", thresholds=[0.5]))
for k in range(1 + rank):  # a process has one field, the other has two
    field = torch.eye(8)[None]
    score.update(field * rank, field)
print(float(score.compute()))
distributed.barrier()  # none may end while another still listens to it
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_add_up(tmp_path):
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(rank), str(tmp_path / "store")],
            cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    assert [float(run.communicate(timeout=200)[0]) for run in runs] == pytest.approx([2 / 3, 2 / 3])


def test_channels_and_masks():
    prediction, target = drawn(2, 3, 16, 16)
    named = measures.ExactScore(FSS, channels=("rain", None, "snow"))
    flat = measures.ExactScore(FSS)
    for k in (0, 2):
        flat.update(prediction[:, k], target[:, k])
    assert float(named(prediction, target)) == pytest.approx(float(flat.compute()))
    mask = torch.ones(2, 16, 16, dtype=torch.bool)
    mask[:, :5] = False
    gaps = target[:, 0].masked_fill(~mask, torch.nan)
    masked = measures.ExactDistance(MINKOWSKI)(prediction[:, 0], target[:, 0], mask)
    assert masked == measures.ExactDistance(MINKOWSKI)(prediction[:, 0], gaps)


def test_who_trains_on_it_is_told_what_to_take():
    prediction, target = drawn(2, 16, 16)
    value = measures.ExactDistance(MINKOWSKI)(prediction.requires_grad_(), target)
    assert not value.detach().requires_grad
    with pytest.raises(emuloss.ArgumentError, match=r"no gradient.*relax\(metric\)\.as_loss\(\)"):
        (value + prediction.sum()).backward()
    with torch.no_grad():
        assert not measures.ExactDistance(MINKOWSKI)(prediction, target).requires_grad


def test_plots(tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    distance = measures.ExactDistance(MINKOWSKI)
    values = [distance(*drawn(1, 8, 8, seed=seed)) for seed in range(3)]
    for figure, axes in (distance.plot(), distance.plot(values)):
        assert axes.get_ylabel() or axes.lines
        figure.clear()


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: measures.ExactDistance(FSS), "metric must be a metric of 1 field, got 'fss'.*ExactScore"),
        (lambda: measures.ExactScore(MINKOWSKI), "metric must be a metric of 2 fields.*ExactDistance"),
        (lambda: measures.ExactScore("fss"), "got 'fss'"),
        (
            lambda: measures.ExactScore(emuloss.metric("csi", thresholds=[1], outputs=("csi", "far"))),
            "different directions; say which: output='csi'",
        ),
        (lambda: measures.ExactScore(FSS, output="fss_5"), "output must be one of fss_1, fss_3"),
        (lambda: measures.ExactDistance(MINKOWSKI)(*drawn(2, 3, 8, 8)), "3 channels or times"),
        (lambda: measures.ExactDistance(MINKOWSKI)(drawn(2, 8, 8)[0], drawn(1, 8, 8)[1]), "target must have"),
    ],
)
def test_mistakes_are_told(build, said):
    with pytest.raises(emuloss.ArgumentError, match=said):
        build()


def test_scores_of_data_are_those_of_numpy():
    prediction, target = drawn(4, 12, 12)
    metric = emuloss.metric("csi", thresholds=[0.5, 1.0, 2.0], outputs=("csi", "pod"))
    found = measures.ExactScore(metric, output="pod")(prediction, target)
    weights = np.array([0.25, 0.5, 0.25])
    expected = (metric(prediction.numpy(), target.numpy())[:, 1] * weights).sum(1).mean()
    assert float(found) == pytest.approx(expected)


@pytest.mark.parametrize(
    "measure", [lambda: measures.ExactDistance(MINKOWSKI), lambda: measures.ExactScore(FSS)]
)
def test_fields_of_which_nothing_was_measured_are_left_out(measure):
    prediction, target = drawn(3, 16, 16)
    target[1] = torch.nan
    mask = torch.ones(3, 16, 16, dtype=torch.bool)
    mask[2] = False
    found, first, nothing = measure(), measure(), measure()
    found.update(prediction, target, mask)
    first.update(prediction[:1], target[:1])
    assert found.compute() == first.compute()
    nothing.update(prediction[1:2], target[1:2])
    assert nothing.compute().isnan()
