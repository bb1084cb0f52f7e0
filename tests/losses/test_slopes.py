"""Checked and measured slopes: gradients along the surrogate's that the exact metric was asked about."""

import math

import emuloss
import numpy as np
import pytest
import torch
from drawn import rain_array
from emuloss.emulators import ARCHITECTURES
from emuloss.emulators.spaces import Values, space_of
from emuloss.errors import ArgumentError
from emuloss.evaluation.descent import descent
from emuloss.losses import FrozenSurrogate, Live, SurrogateLoss
from emuloss.losses.slopes import Exact, checked_gradient, measured_gradient, values_of, with_gradient

SIDE = 32


def rain(count=4):
    return torch.from_numpy(rain_array(2 * count, SIDE, SIDE)).float().view(2, count, SIDE, SIDE)


def temperature(count=4):
    """Smooth fields in kelvin: values that span no decades."""
    noise = torch.randn(2, count, SIDE + 4, SIDE + 4, generator=torch.Generator().manual_seed(0))
    return 280 + 20 * torch.nn.functional.avg_pool2d(noise, 5, 1)


def surrogate(metric=None, arch="constrained"):
    """A small network that has learnt nothing, and says something else of every field."""
    metric = metric or emuloss.metric("minkowski", thresholds=[0.2, 1.0, 3.0], pixel_size=2.0)
    torch.manual_seed(0)
    network = ARCHITECTURES[arch](metric, widths=(8, 16), hidden=16, spectral="none")
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return FrozenSurrogate(network, arch)


def squared(goal):
    """Mean squared distances of fields (..., N, H, W) from a goal, and their gradient at fields."""
    return (
        lambda fields: (fields - goal).square().mean((-2, -1)),
        lambda fields: 2 * (fields - goal) / (SIDE * SIDE),
    )


def asked(lead, gradient, fields, distances):
    """A gradient that was asked about by distances, which are their own curves."""
    return lead(
        gradient,
        Exact(
            fields,
            values_of(fields),
            lambda batch: distances(batch.unflatten(0, (-1, len(fields)))).flatten()[:, None, None],
            lambda curves, _: curves[:, 0, 0],
        ),
    )


def measured(*given):
    return asked(measured_gradient, *given)


def checked(*given):
    return asked(checked_gradient, *given)


BOTH = pytest.mark.parametrize("ask", [checked, measured])
DATA = pytest.mark.parametrize("data", [rain, temperature])


def stretch(fields):
    """Units of the fields a unit of their pixels' space."""
    values = values_of(fields)
    return space_of(values, values, lowest=values.lowest, highest=math.inf).slope(fields)


def along(gradient, direction):
    return (gradient * direction).sum((-2, -1))


@pytest.mark.parametrize("slopes", ["checked", "measured"])
def test_hooks_on_a_prediction_see_the_gradient_that_it_gets(slopes):
    """The inner gradient, by which the metric is asked, is not the caller's; FSDP resets on hooks."""
    prediction, target = rain()
    found = []
    for scale in (None, 0.1):
        weight = torch.tensor(1.0, requires_grad=True)
        given = weight * prediction
        given.retain_grad()
        if scale:
            given.register_hook(lambda gradient: 0.1 * gradient)
        surrogate().as_loss(forward="exact", slopes=slopes)(given, target).backward()
        torch.testing.assert_close((given.grad * prediction).sum(), weight.grad)
        found.append(weight.grad)
    torch.testing.assert_close(found[1], 0.1 * found[0])


@DATA
def test_a_true_gradient_stays_as_it_is(data):
    fields, goal = data()
    distances, truth = squared(goal)
    torch.testing.assert_close(checked(truth(fields), fields, distances), truth(fields), rtol=1e-4, atol=2e-8)


@DATA
def test_a_true_gradient_has_its_slopes(data):
    fields, goal = data()
    distances, truth = squared(goal)
    found = measured(truth(fields), fields, distances)
    step = found * stretch(fields) ** 2  # in the space of the pixels: along the gradient there
    step *= 1e-3 / step.square().mean((1, 2), keepdim=True).sqrt()
    rises = (distances(fields + step) - distances(fields - step)) / 2
    # What the four directions have in common counts for each.
    share = along(found, step) / rises
    assert (share > 0.8).all()
    assert (share < 4.2).all()


@DATA
def test_what_leads_away_is_left_out(data):
    fields, goal = data()
    distances, truth = squared(goal)
    assert not checked(-truth(fields), fields, distances).any()
    # What is left of the measured one is that a smoother field is nearer.
    left = measured(-truth(fields), fields, distances)
    assert (along(left, truth(fields)) >= 0).all()
    assert torch.equal(left, measured(torch.zeros_like(fields), fields, distances))


def test_what_is_fine_may_be_wrong_where_what_is_coarse_is_right():
    fields, goal = temperature()
    smooth = torch.nn.functional.avg_pool2d(goal - fields, 15, 1, 7)  # the exact metric sees nothing finer
    distances, truth = squared(fields + smooth)
    noise = torch.randn(fields.shape, generator=torch.Generator().manual_seed(1)) * truth(fields).std()
    adverse = -(noise - torch.nn.functional.avg_pool2d(noise, 9, 1, 4))
    gradient = truth(fields) + 3 * adverse
    cosine = torch.nn.functional.cosine_similarity
    true = truth(fields).flatten(1)
    before, after = (
        cosine(each.flatten(1), true).min() for each in (gradient, measured(gradient, fields, distances))
    )
    assert before < 0.5
    assert after > 0.8


def test_what_is_fine_is_left_out_where_it_leads_away():
    fields, goal = temperature()
    distances, truth = squared(goal)
    coarse = torch.nn.functional.avg_pool2d(truth(fields), 5, 1, 2)
    turned = coarse - (truth(fields) - coarse)
    cosine = torch.nn.functional.cosine_similarity
    after = checked(turned, fields, distances)
    assert (cosine(after.flatten(1), coarse.flatten(1)) > cosine(turned.flatten(1), coarse.flatten(1))).all()
    assert (cosine(after.flatten(1), coarse.flatten(1)) > 0.7).all()


def test_noise_that_a_surrogate_does_not_see_is_taken_out():
    smooth, _ = temperature()
    noise = 10 * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(1))
    distances, truth = squared(smooth)
    blind = torch.zeros_like(smooth)
    assert not checked(blind, smooth + noise, distances).any()
    found = measured(blind, smooth + noise, distances)
    cosine = torch.nn.functional.cosine_similarity(found.flatten(1), truth(smooth + noise).flatten(1))
    assert (cosine > 0.8).all()
    # Not where it is what is missing.
    assert not measured(blind, smooth, squared(smooth + 3 * (smooth - smooth.mean()))[0]).any()


@BOTH
def test_where_the_metric_sees_no_difference_the_surrogate_is_heard(ask):
    fields, _ = temperature()
    gradient = torch.randn(fields.shape, generator=torch.Generator().manual_seed(0))
    flat = ask(gradient, fields, lambda fields: torch.full(fields.shape[:-2], 2.0))
    similar = torch.nn.functional.cosine_similarity(flat.flatten(1), gradient.flatten(1))
    assert (similar > 0.8).all()


@BOTH
def test_the_range_of_predictions_counts(ask):
    """Where all targets are dry, or predictions are too warm, a step ahead is one all the same."""
    fields, dry = rain()[0], torch.zeros(4, SIDE, SIDE)
    warm, cold = temperature()
    for prediction, goal in ((fields, dry), (warm + 30, cold)):
        distances, truth = squared(goal)
        exact = Exact(
            prediction,
            values_of(prediction, goal),
            lambda batch, d=distances: d(batch.unflatten(0, (-1, 4))).flatten()[:, None, None],
            lambda curves, _: curves[:, 0, 0],
        )
        lead = {checked: checked_gradient, measured: measured_gradient}[ask]
        astray = lead(-truth(prediction), exact)
        assert (along(astray, truth(prediction)) >= 0).all()
        right = lead(truth(prediction), exact)
        assert (along(right, truth(prediction)) > 0).all()


def test_slopes_of_few_pixels_are_theirs():
    fields, _ = temperature()
    goal = fields.clone()
    goal[:, 5, 7] += 2
    goal[:, 20, 9] -= 2
    distances, truth = squared(goal)
    found = measured(truth(fields), fields, distances)
    share = along(found, truth(fields)) / along(truth(fields), truth(fields))
    assert (share > 0.5).all()
    assert (share < 4.2).all()


def test_masks_do_not_stretch_steps():
    fields, goal = temperature()
    some = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    some[10:16, 10:16] = True
    longest = []

    def seen(batch):
        longest.append((batch - fields.repeat(len(batch) // 4, 1, 1))[:, some].square().mean(1).sqrt().max())
        return (batch - goal.repeat(len(batch) // 4, 1, 1))[:, some].square().mean(1)[:, None, None]

    masked = fields.masked_fill(~some, math.nan)
    gradient = (fields - goal) * some
    for lead in (checked_gradient, measured_gradient):
        lead(gradient, Exact(masked, values_of(fields), seen, lambda curves, _: curves[:, 0, 0]))
    assert max(longest) < 0.3 * fields.std()


@BOTH
@pytest.mark.parametrize("shape", [(1, 24), (24, 1), (1, 1)])
def test_fields_of_one_row(ask, shape):
    fields = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    distances, truth = squared(fields.flip(1, 2) + 0.1)
    found = ask(truth(fields), fields, distances)
    assert (along(found, truth(fields)) >= 0).all()
    assert found.isfinite().all()


def test_at_the_goal_there_is_nowhere_to_go():
    fields, _ = temperature()
    gradient = torch.randn(fields.shape, generator=torch.Generator().manual_seed(0))
    assert not measured(gradient, fields, lambda fields: torch.zeros(fields.shape[:-2])).any()


@BOTH
def test_what_is_not_finite_stays_so_and_what_was_not_measured_gets_none(ask):
    fields, goal = rain()
    distances, truth = squared(goal)
    gradient = truth(fields)
    gradient[0, 3, 4] = math.nan
    hidden = fields.clone()
    hidden[1, :5] = math.nan
    gradient = gradient.masked_fill(hidden.isnan(), 0.0)
    found = ask(gradient, hidden, lambda fields: distances(fields.nan_to_num(0.0)))
    assert found[0, 3, 4].isnan()
    assert found.isnan().sum() == 1
    assert not found[1, :5].any()
    assert found[1, 5:].any()


def test_values_keep_their_bits_and_scale_their_gradients():
    fields = torch.randn(3, 1, 4, 4, requires_grad=True)
    values, gradient = torch.rand(3), torch.randn(3, 1, 4, 4)
    out = with_gradient(values, fields, gradient)
    assert torch.equal(out, values)
    (out * torch.tensor([1.0, 2.0, 0.0])).sum().backward()
    torch.testing.assert_close(fields.grad, gradient * torch.tensor([1.0, 2.0, 0.0]).view(3, 1, 1, 1))


def test_some_pixels_tell_the_values():
    assert values_of(torch.full((2, 8, 8), math.nan)) == Values(None, 0.0, 0.0, 0.0, 0.0)
    large = torch.from_numpy(rain_array(1, 600, 600)).float()
    assert values_of(large).scale == pytest.approx(Values.of(large.numpy()).scale, rel=0.05)


# In losses


def widest(field: np.ndarray) -> float:
    """The length of the longest run of rain in any row."""
    best = run = np.zeros(field.shape[0])
    for column in field.T:
        run = np.where(column > 0.5, run + 1, 0)
        best = np.maximum(best, run)
    return float(best.max())


def likeness(prediction: np.ndarray, observation: np.ndarray) -> float:
    """Mean absolute difference, rounded: its gradient is 0 almost everywhere."""
    return float(np.round(np.abs(prediction - observation).mean(), 2))


def pairwise():
    return surrogate(emuloss.metric(likeness, arity=2, lower_better=True, identity=0), "hybrid")


@pytest.mark.parametrize(
    "of", [surrogate, pairwise, lambda: emuloss.relax(emuloss.metric("minkowski", thresholds=[0.5]))]
)
def test_values_are_those_without(of):
    frozen = of()
    prediction, target = rain()
    given = [prediction.clone().requires_grad_() for _ in range(2)]
    for forward in ("surrogate", "exact"):
        plain, sloped = (
            frozen.as_loss(forward=forward, slopes=slopes, reduction="none")(each, target)
            for slopes, each in zip((None, "measured"), given, strict=True)
        )
        assert torch.equal(plain, sloped)
        gradients = [
            torch.autograd.grad(out.sum(), each)[0] for out, each in zip((plain, sloped), given, strict=True)
        ]
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert not torch.equal(*gradients)


@pytest.mark.parametrize("live", [False, Live(gated=False, precision="float32")], ids=["frozen", "live"])
def test_what_the_surrogate_takes_for_reached_is_not_pushed(live, monkeypatch):
    """What the metric is asked about goes to the goal that the surrogate sees."""
    monkeypatch.setattr("emuloss.losses.loss.checked_gradient", lambda gradient, exact: gradient)
    prediction, target = rain()
    prediction.requires_grad_()
    loss = surrogate().as_loss(forward="exact", slopes="checked", reduction="none", live=live)
    said = loss.surrogate(prediction)
    exact, goal = (loss.teacher(fields).to(said) for fields in (prediction, target))
    apart = torch.sign(said.detach() - goal) != torch.sign(exact - goal)
    assert 0.1 < apart.float().mean() < 0.9
    # Of an output about which it is wrong throughout, exact distances are asked about.
    goal[0] = 0.5 * (said[0].detach() + exact[0])
    apart[0] = True
    nowhere = apart.all(-1, keepdim=True)
    apart = apart & ~nowhere

    def gradient(values, curves):
        (found,) = torch.autograd.grad(values.sum(), curves, retain_graph=True)
        return found

    free = exact.clone().requires_grad_()
    exactly = gradient(loss.distance(free, goal), free)
    own = gradient(loss.distance(said, goal), said)
    led = torch.where(apart, 0.0, exactly) if live is False else torch.where(nowhere, exactly, own)
    wanted = gradient(said * led, prediction)
    assert not torch.allclose(wanted[1:], gradient(said * exactly, prediction)[1:])
    found = loss(prediction, target_curves=goal)
    torch.testing.assert_close(found, loss.distance(exact, goal).sum(1))
    close = {"rtol": 1e-3, "atol": 1e-5 * float(wanted.abs().max())}
    torch.testing.assert_close(gradient(found, prediction), wanted, **close)


@pytest.mark.parametrize(
    ("arguments", "per_field"),
    [
        ({"forward": "exact", "slopes": "checked"}, 8),
        ({"forward": "exact", "slopes": "measured"}, 10),
        ({"forward": "exact", "reference": "surrogate", "slopes": "checked"}, 8),
        ({"slopes": "checked"}, 8),
    ],
    ids=["exact", "measured", "exact forward", "surrogate"],
)
def test_exact_curves_are_found_once(arguments, per_field, monkeypatch):
    """Two variants a direction, prediction and target."""
    loss = surrogate().as_loss(**arguments)
    teacher, asked = loss.teacher, []
    monkeypatch.setattr(loss, "teacher", lambda fields: asked.append(len(fields)) or teacher(fields))
    prediction, target = rain()
    loss(prediction.requires_grad_(), target)
    assert sum(asked) == per_field * len(target)


def test_shapes_of_the_gradient():
    frozen = surrogate()
    prediction, target = rain()
    single = prediction.clone().requires_grad_()
    frozen.as_loss(slopes="measured")(single, target).backward()
    for shape in ((4, 1, SIDE, SIDE), (1, 4, SIDE, SIDE)):
        channels = "each" if shape[1] > 1 else None
        other = prediction.reshape(shape).clone().requires_grad_()
        frozen.as_loss(slopes="measured", channels=channels)(other, target.reshape(shape)).backward()
        torch.testing.assert_close(other.grad.reshape(single.shape), single.grad)
    loss = frozen.as_loss(forward="exact", slopes="measured")
    known = prediction.clone().requires_grad_()
    loss(known, target_curves=loss.teacher(target)).backward()
    assert known.grad.isfinite().all()


def test_missing_pixels_get_no_gradient_and_broken_ones_are_told():
    frozen = surrogate()
    prediction, target = rain()
    target[0, :8] = math.nan
    given = prediction.clone().requires_grad_()
    frozen.as_loss(slopes="measured")(given, target).backward()
    assert not given.grad[0, :8].any()
    assert given.grad.isfinite().all()
    broken = prediction.clone()
    broken[1, 2, 3] = math.inf
    broken.requires_grad_()
    loss = frozen.as_loss(slopes="measured")(broken, target)
    loss.backward()
    assert not loss.isfinite()
    assert not broken.grad[1, 2, 3].isfinite()


def test_they_lead_where_the_surrogate_does_not():
    frozen, fields = surrogate(), rain_array(4, 64, 64)  # one that has learnt nothing
    removed = {
        slopes: descent(
            frozen.as_loss(forward="exact", slopes=slopes), frozen.metric, fields, start="noisy", steps=30
        ).figures["removed"]
        for slopes in ("surrogate", "checked", "measured")
    }
    assert removed["checked"] > removed["surrogate"] + 10
    assert removed["measured"] > removed["surrogate"] + 10


def test_live_losses_check_them_where_labels_are_made_at_once():
    frozen = surrogate()
    assert frozen.as_loss(live=True).slopes == "checked"
    assert frozen.as_loss(live=True, slopes="measured").slopes == "measured"
    assert frozen.as_loss(live=True, forward="surrogate").slopes == "surrogate"
    slow = surrogate(emuloss.metric(widest), "hybrid")
    assert slow.as_loss(live=True).slopes == "surrogate"
    assert slow.as_loss(live=Live(background=False)).slopes == "checked"
    asked = slow.as_loss(live=True, slopes="measured")  # which cannot be behind
    assert asked.exact_forward
    assert asked.slopes == "measured"


@pytest.mark.parametrize("slopes", ["checked", "measured"])
def test_no_fields_and_half_precision(slopes):
    frozen = surrogate()
    loss = frozen.as_loss(slopes=slopes, reduction="sum")
    assert loss(torch.empty(0, SIDE, SIDE, requires_grad=True), torch.empty(0, SIDE, SIDE)) == 0
    prediction, target = rain()
    half = prediction.half().requires_grad_()
    value = loss(half, target)
    assert torch.equal(value, frozen.as_loss(reduction="sum")(half.detach().float(), target))
    (2.0**18 * value).backward()  # as scalers do; what does not fit is infinite, and nothing is NaN
    assert not half.grad.isnan().any()
    assert half.grad.isfinite().float().mean() > 0.9


def test_what_cannot_be():
    frozen = surrogate()
    with pytest.raises(ArgumentError, match="slopes must be"):
        frozen.as_loss(slopes="steep")
    prediction, target = rain()
    for forward in ("surrogate", "exact"):
        loss = frozen.as_loss(forward=forward, slopes="measured")
        with pytest.raises(ArgumentError, match="leave slopes out"):
            torch.func.grad(loss)(prediction, target)
        by_output = torch.func.grad(lambda fields, of=loss: of.by_output(fields, target).sum())(prediction)
        plain = frozen.as_loss(forward=forward)
        own = torch.func.grad(lambda fields, of=plain: of.by_output(fields, target).sum())(prediction)
        torch.testing.assert_close(by_output, own)
    trainable = SurrogateLoss(frozen.module.requires_grad_(True), slopes="checked")
    with pytest.raises(ArgumentError, match="freeze"):
        trainable(prediction.requires_grad_(), target)
