"""Pictures for users: axes in, axes out, what they show, and what they refuse."""

import emuloss
import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")
from emuloss import plot
from matplotlib import pyplot as plt

METRIC = emuloss.metric("minkowski", thresholds=[0.5, 1.0, 5.0], outputs=("area", "components"))


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def drawn(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(0)
    both = generator.gamma(0.4, 2.0, (2, count, 24, 24)).astype(np.float32)
    both[both < 0.3] = 0
    return torch.from_numpy(both[0]), torch.from_numpy(both[1])


def drawn_by(axes) -> None:
    axes.figure.canvas.draw()


def test_curves_are_the_exact_ones():
    prediction, target = drawn()
    panels = plot.curves(prediction.requires_grad_(), target, METRIC, unit="mm/h")
    assert [panel.get_title() for panel in panels] == ["area (pixel²)", "components"]
    for c, panel in enumerate(panels):
        lines = {line.get_label(): line for line in panel.get_lines()}
        exact = METRIC(target.numpy())[:, c].mean(0)
        np.testing.assert_allclose(lines["target"].get_ydata(), exact)
        assert (
            len({(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines.values()}) == 2
        )
        assert panel.get_xlabel() == "threshold (mm/h)"
        drawn_by(panel)
    assert {text.get_text() for text in panels[0].get_legend().get_texts()} == {"prediction", "target"}


def test_axes_that_are_given_are_those_that_come_back():
    prediction, target = drawn(1)
    _, mine = plt.subplots(2)
    assert plot.curves(prediction[0], target[0], METRIC, mine) == list(mine)
    _, two = plt.subplots(1, 2)
    assert plot.fields({"a": prediction, "b": target.numpy()}, METRIC, two) == list(two)
    _, one = plt.subplots()
    loss = emuloss.relax(METRIC).as_loss()
    assert plot.gradient(loss, prediction[:, None], target[:, None], one) is one
    for panel in (*mine, *two, one):
        drawn_by(panel)


def test_scores_of_pairs():
    (panel,) = plot.curves(*drawn(), emuloss.metric("csi", thresholds=[0.5, 1.0]))
    (line,) = panel.get_lines()
    assert line.get_label().startswith("csi")
    drawn_by(panel)


def test_fields_share_their_colours():
    prediction, target = drawn()
    target[0, :5] = torch.nan
    panels = plot.fields({"prediction": prediction, "target": target}, METRIC, index=0, unit="mm/h")
    images = [panel.get_images()[0] for panel in panels]
    assert images[0].norm is images[1].norm
    assert [panel.get_title() for panel in panels] == ["prediction", "target"]
    drawn_by(panels[0])


def test_the_gradient_is_that_of_the_loss():
    prediction, target = drawn()
    loss = emuloss.relax(METRIC).as_loss()
    panel = plot.gradient(loss, prediction, target, index=1)
    shown = np.asarray(panel.get_images()[0].get_array())
    x = prediction.clone().requires_grad_()
    loss(x, target).backward()
    np.testing.assert_allclose(shown, x.grad[1] / x.grad[1].abs().max(), rtol=1e-3, atol=1e-5)
    same = plot.gradient(loss, target, target)
    assert not np.asarray(same.get_images()[0].get_array()).any()
    drawn_by(same)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x, y: plot.curves(x, y[:1], METRIC), "target must have the prediction's shape"),
        (lambda x, y: plot.curves(x, y, METRIC, plt.subplots()[1]), "axes must be 2 matplotlib axes, got 1"),
        (lambda x, y: plot.curves(x, y, "minkowski"), "such as surrogate.metric"),
        (lambda x, y: plot.curves(x[None], y[None], METRIC), "pick a channel"),
        (lambda x, y: plot.fields({"x": x}, index=3), "index must be below the 3 fields of x"),
        (lambda x, y: plot.fields(x), "takes a dictionary"),
        (lambda x, y: plot.fields({"x": x * torch.nan}), "NaN alone"),
    ],
)
def test_mistakes_are_told(call, said):
    with pytest.raises(emuloss.ArgumentError, match=said):
        call(*drawn())
