"""The public face: what `import emuloss` offers, and the way from a metric to a gradient."""

import emuloss
import numpy as np
import pytest
import torch


@pytest.fixture
def fields():
    return np.random.default_rng(0).gamma(0.5, 2.0, (3, 32, 32)).astype(np.float32)


def test_everything_that_is_promised_is_there():
    for name in emuloss.__all__:
        assert getattr(emuloss, name) is not None
    assert set(emuloss.__all__) <= set(dir(emuloss))
    assert "__version__" in dir(emuloss)


def test_star_import():
    names: dict = {}
    exec("from emuloss import *", names)
    assert names["relax"](names["metric"]("minkowski", thresholds=[1.0])).outputs[0] == "area"


def test_unknown_name():
    with pytest.raises(AttributeError, match="module 'emuloss' has no attribute 'loses'"):
        emuloss.loses  # noqa: B018


def test_metrics_by_name():
    assert "minkowski" in emuloss.list_metrics()
    with pytest.raises(emuloss.ArgumentError, match=r"unknown metric 'minkowsky'.*minkowski"):
        emuloss.metric("minkowsky", thresholds=[1.0])
    with pytest.raises(emuloss.ArgumentError, match="colour"):
        emuloss.metric("minkowski", thresholds=[1.0], colour="red")


def test_exact_curves(fields):
    metric = emuloss.metric("minkowski", thresholds=[0.105, 0.5, 1, 5], pixel_size=2.0)
    assert isinstance(metric, emuloss.Metric)
    assert metric.outputs == ("area", "perimeter", "euler")  # the default
    curves = metric(fields)
    assert curves.shape == (3, 3, 4)
    assert curves.dtype == np.float64
    wet = (fields[:, None] >= np.array([0.105, 0.5, 1, 5])[:, None, None]).sum((2, 3))
    np.testing.assert_array_equal(curves[:, 0], 4.0 * wet)
    five = emuloss.metric(
        "minkowski", thresholds=[0.5], outputs=("components", "holes", "euler", "area", "perimeter")
    )(fields)
    np.testing.assert_array_equal(five[:, 2], five[:, 0] - five[:, 1])


def test_check_counts_what_is_broken(fields):
    metric = emuloss.metric("minkowski", thresholds=[0.105, 0.5, 1, 5])
    curves = metric(fields)
    assert set(metric.check(curves, (32, 32)).values()) == {0.0}
    curves[0, 0] = curves[0, 0, ::-1].copy()
    assert metric.check(curves)["area non-increasing"] == pytest.approx(3 / 12)


def test_from_metric_to_gradient(fields, tmp_path):
    metric = emuloss.metric("minkowski", thresholds=[0.105, 0.5, 1, 5], pixel_size=2.0)
    surrogate = emuloss.relax(metric, temperature=0.02)
    assert isinstance(surrogate, emuloss.Surrogate)
    assert surrogate.metric is metric
    loss = surrogate.as_loss()
    assert isinstance(loss, emuloss.SurrogateLoss)
    prediction = torch.from_numpy(fields).requires_grad_()
    loss(prediction, torch.from_numpy(fields[::-1].copy())).backward()
    assert prediction.grad.abs().sum() > 0

    surrogate.save_pretrained(tmp_path)
    again = emuloss.load(tmp_path)
    assert torch.equal(again(prediction), surrogate(prediction))
    np.testing.assert_array_equal(again.metric(fields), metric(fields))


def test_every_output_can_be_relaxed(fields):
    outputs = ("holes", "components", "euler", "perimeter", "area")
    metric = emuloss.metric("minkowski", thresholds=[0.3, 1.0], outputs=outputs)
    curves = emuloss.relax(metric, temperature=1e-4)(torch.from_numpy(fields))
    np.testing.assert_allclose(curves.numpy(), metric(fields), rtol=0.01, atol=0.5)


def test_other_thresholds_without_training(fields):
    metric = emuloss.metric("minkowski", thresholds=[0.105, 0.5, 1, 5], pixel_size=2.0)
    surrogate = emuloss.relax(metric).with_thresholds([0.3, 3.0])
    assert surrogate.metric == emuloss.metric("minkowski", thresholds=[0.3, 3.0], pixel_size=2.0)
    assert surrogate(torch.from_numpy(fields)).shape == (3, 3, 2)


def test_what_cannot_be_relaxed():
    class Brightest(emuloss.Metric):
        name = "brightest"

        def arguments(self):
            return {}

        def _compute(self, fields):
            return fields.max((1, 2))[:, None, None]

    with pytest.raises(emuloss.ArgumentError, match="no relaxation of metric 'brightest' is known"):
        emuloss.relax(Brightest())


def test_errors_share_a_base():
    for error in (emuloss.ArgumentError, emuloss.DataError, emuloss.CheckpointError):
        assert issubclass(error, emuloss.EmulossError)
    assert issubclass(emuloss.ArgumentError, ValueError)
