"""The relaxed fractions skill score at percentiles of each field."""

import math

import emuloss
import numpy as np
import pytest
import torch
from emuloss import functional
from emuloss.emulators import RelaxedFSS
from emuloss.errors import ArgumentError
from emuloss.metrics import FSS
from scipy import ndimage
from scipy.optimize import brentq

METRIC = FSS(percentiles=[30, 80, 95], windows=(1, 3, 7))


def pairs(*shape: int, seed: int = 0) -> torch.Tensor:
    noise = np.random.default_rng(seed).gamma(0.5, 3.0, shape)
    return torch.from_numpy(ndimage.uniform_filter(noise, (0, 0, 3, 3)))


def exact(given: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(METRIC(*given.unbind(1)))


def test_tends_to_the_exact_score():
    given = pairs(4, 2, 17, 20)
    errors = [float((RelaxedFSS(METRIC, t)(given) - exact(given)).abs().max()) for t in (0.3, 1e-2, 1e-5)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-6


def test_missing_and_infinite_pixels_and_ties():
    given = pairs(5, 2, 12, 12)
    given[0, 0, :4, :4] = given[1, 1, 3] = given[2, 0] = math.nan
    given[3, 0, 0, 0], given[3, 1, 5, 5] = math.inf, -math.inf
    given[4] = given[4].round().where(given[4] > 1.5, 0.0)  # the lowest percentile is 0
    given.requires_grad_()
    found = RelaxedFSS(METRIC, 1e-5)(given)
    torch.testing.assert_close(found, exact(given.detach()), rtol=0, atol=1e-4)
    found = RelaxedFSS(METRIC, 0.2)(given)
    found.sum().backward()
    assert found.isfinite().all()
    assert given.grad.isfinite().all()
    assert not given.grad[0, :, :4, :4].any()
    assert not given.grad[1, :, 3].any()


def stepped(field: np.ndarray, temperature: float) -> list[tuple[float, float, float]]:
    """(place, width, pixels in the soft set) of the step at each percentile, one by one."""
    found = []
    for percentile in METRIC.percentiles:
        wet = field >= np.percentile(field, percentile)
        place = (field[wet].min() + field[~wet].max()) / 2
        away = np.sort(np.abs(field - place).ravel())
        width = temperature * away[(away.size - 1) // 2]
        found.append((place, width, (1 / (1 + np.exp(-(field - place) / width))).sum()))
    return found


def frozen(given: np.ndarray, steps: list[list[tuple[float, float, float]]], temperature: float) -> float:
    """Sum of the scores, steps of fixed widths being placed so that as many pixels are in the soft set."""
    masks = []
    for field, of_field in zip(given, steps, strict=True):
        each = []
        for place, width, pixels in of_field:

            def excess(u: float, width=width, pixels=pixels, field=field) -> float:
                return (1 / (1 + np.exp(-(field - u) / width))).sum() - pixels

            u = brentq(excess, place - 1, place + 1, xtol=1e-14)
            each.append(1 / (1 + np.exp(-(field - u) / width)))
        masks.append(each)
    total = 0.0
    for predicted, observed in zip(*masks, strict=True):
        for size in METRIC.windows:
            p, o = (ndimage.uniform_filter(mask, size, mode="constant") for mask in (predicted, observed))
            total += 1 - ((p - o) ** 2).sum() / ((p**2 + o**2).sum() + temperature / size**2)
    return total


def test_gradient_is_that_of_a_step_that_keeps_its_share():
    """By finite differences of steps that are placed by a root finder, with their widths held."""
    temperature, given = 0.3, pairs(1, 2, 6, 7, seed=3).requires_grad_()
    value = RelaxedFSS(METRIC, temperature)(given).sum()
    (gradient,) = torch.autograd.grad(value, given)
    plain = given.detach()[0].numpy()
    steps = [stepped(field, temperature) for field in plain]
    assert value.item() == pytest.approx(frozen(plain, steps, temperature), rel=1e-9)
    for at in np.ndindex(plain.shape):
        away = np.zeros_like(plain)
        away[at] = 1e-5
        slope = (frozen(plain + away, steps, temperature) - frozen(plain - away, steps, temperature)) / 2e-5
        assert gradient[0][at].item() == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_bias_has_no_gradient_and_no_value():
    given = pairs(3, 2, 16, 16)
    relaxed = RelaxedFSS(METRIC, 0.1)
    torch.testing.assert_close(relaxed(given * torch.tensor([3.0, 1.0])[:, None, None] + 2), relaxed(given))
    given.requires_grad_()
    (gradient,) = torch.autograd.grad(relaxed(given).sum(), given)
    sizes = gradient.abs().sum((2, 3))
    assert (sizes > 0.01).all()
    assert (gradient.sum((2, 3)).abs() < 1e-12 * sizes).all()


def test_properties_and_constraints():
    given = pairs(3, 2, 14, 15)
    for temperature in (0.01, 0.3, 3.0):
        relaxed = RelaxedFSS(METRIC, temperature)
        curves = relaxed(given)
        assert not any(METRIC.check(curves.numpy(), (14, 15)).values())
        torch.testing.assert_close(relaxed(given.flip(1)), curves)
        torch.testing.assert_close(relaxed(given.rot90(1, (2, 3))), curves)
        assert (relaxed(given[:, :1].expand(-1, 2, -1, -1)) == 1).all()


def test_descent_puts_rain_where_it_was_observed():
    given = pairs(2, 2, 24, 24, seed=5).float()
    prediction, observed = given.unbind(1)
    loss = emuloss.relax(METRIC).as_loss()
    before = exact(torch.stack([prediction, observed], 1)).mean()
    field = prediction.clone().requires_grad_()
    optimizer = torch.optim.Adam([field], lr=0.05)
    for _ in range(80):
        optimizer.zero_grad()
        loss(field, observed).backward()
        optimizer.step()
    after = exact(torch.stack([field.detach(), observed], 1)).mean()
    assert 1 - after < 0.4 * (1 - before)


def test_exact_forward_functions_and_checkpoints(tmp_path):
    given = pairs(2, 2, 16, 16).float()
    hard = emuloss.relax(METRIC, forward="exact")
    assert "thresholds: percentiles of each field, 3 from 30 to 95" in repr(hard)
    assert torch.equal(hard(*given.unbind(1)), exact(given).float())
    hard.save_pretrained(tmp_path / "fss")
    again = emuloss.load(tmp_path / "fss")
    assert again.metric == METRIC
    assert torch.equal(again(*given.unbind(1)), hard(*given.unbind(1)))
    soft = functional.fss_loss(*given.unbind(1), percentiles=[30, 80, 95], windows=(1, 3, 7))
    torch.testing.assert_close(soft, emuloss.relax(METRIC).as_loss()(*given.unbind(1)))


def test_spreads_are_refused():
    with pytest.raises(ArgumentError, match="with percentiles each field tells its own, leave them out"):
        emuloss.relax(METRIC, spreads=[1.0, 1.0, 1.0])
    with pytest.raises(ArgumentError, match="takes no fields"):
        emuloss.relax(METRIC, fields=np.ones((2, 3, 3)))
    assert RelaxedFSS(METRIC, 0.2).arguments() == {"temperature": 0.2, "forward": "soft"}
