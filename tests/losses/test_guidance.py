"""Guidance of generative models: directions, lengths, sums, annealing, live losses, particles, adapters."""

import types

import emuloss
import pytest
import torch
from emuloss.errors import ArgumentError
from emuloss.losses import Guidance, Live, for_scores, guided_output

N, SIDE = 3, 6


@pytest.fixture
def linear():
    """Noisy fields, and a model whose estimate of the clean field is linear in them."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(N, 1, SIDE, SIDE, generator=draw)
    matrix = torch.randn(SIDE**2, SIDE**2, generator=draw) / SIDE
    matrix = matrix @ matrix.T + 0.1 * torch.eye(SIDE**2)
    return x, lambda x: (x.flatten(1) @ matrix.T).view_as(x)


def away(fields):
    """A smooth objective (N,), far from 0."""
    return 5 + (fields - 1).square().flatten(1).sum(1).sqrt() + fields.sin().flatten(1).sum(1) / 10


def lengths(x):
    return x.flatten(1).norm(dim=1)


def test_channels_are_those_of_the_loss():
    """One that knows of none guides single fields, and no first channel alone."""
    draw = torch.Generator().manual_seed(0)
    estimate, x = torch.rand(2, 2, 3, 16, 16, generator=draw).unbind()
    target = torch.rand(2, 3, 16, 16, generator=draw) * 2
    surrogate = emuloss.relax(emuloss.metric("minkowski", thresholds=[0.3, 0.6]))
    with pytest.raises(ArgumentError, match="3 channels or times"):
        Guidance(surrogate.as_loss(reduction="none"), target=target[:, 0])(x, estimate, 0.5)
    each = surrogate.as_loss(channels="each", reduction="none")
    expected = Guidance(lambda fields: each(fields, target).mean(1))(x, estimate, 0.5)
    assert (expected.abs().sum((-2, -1)) > 0).all()
    assert torch.equal(Guidance(each, target=target)(x, estimate, 0.5), expected)
    curves = surrogate(target.flatten(0, 1)).unflatten(0, (2, 3))
    torch.testing.assert_close(Guidance(each, target_curves=curves)(x, estimate, 0.5), expected)
    alike = target[0], target[:1].expand(2, 3, 16, 16)
    assert torch.equal(*(Guidance(each, target=given)(x, estimate, 0.5) for given in alike))
    single = surrogate.as_loss(reduction="none")
    found = [
        Guidance(single, target=given)(x[:, :1], estimate[:, :1], 0.5)
        for given in (target[:, :1], target[:, 0])
    ]
    assert torch.equal(*found)


def test_way_through_the_model_is_that_of_finite_differences(linear):
    """Along each pixel of x, the objective of the estimate grows as the shift says, in double precision."""
    x, model = linear
    x = x.requires_grad_()
    shift = Guidance(away, aim=None, strength=1.0)(x, model(x), 0.5)
    slopes = torch.empty(N, SIDE**2, dtype=torch.float64)
    base = x.detach().double()
    double = lambda x: model(x.float()).double()  # noqa: E731
    for k in range(SIDE**2):
        bump = torch.zeros(1, SIDE**2, dtype=torch.float64)
        bump[0, k] = 1e-2
        bump = bump.view(1, 1, SIDE, SIDE)
        slopes[:, k] = (away(double(base + bump)) - away(double(base - bump))) / 2e-2
    found = -shift.flatten(1).double()
    torch.testing.assert_close(
        found / found.norm(dim=1, keepdim=True), slopes / slopes.norm(dim=1, keepdim=True), atol=1e-3, rtol=0
    )


def test_without_a_graph_the_way_is_the_gradient_at_the_estimate(linear):
    x, model = linear
    estimate = model(x)
    shift = Guidance(away, aim=None)(x, estimate, 0.0)
    leaf = estimate.clone().requires_grad_()
    (slope,) = torch.autograd.grad(away(leaf).sum(), leaf)
    cosine = torch.cosine_similarity(-shift.flatten(1), slope.flatten(1))
    torch.testing.assert_close(cosine, torch.ones(N))
    assert not shift.requires_grad


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("steps", [1, 4])
def test_length_is_the_strength_of_the_way_left_in_any_unit(linear, unit, steps):
    x, model = linear
    estimate = model(x)
    shift = Guidance(lambda f: unit * away(f), strength=0.1, steps=steps)(x, estimate, 0.0)
    reach = 0.1 * lengths(estimate - x)
    if steps == 1:
        torch.testing.assert_close(lengths(shift), reach)
    assert (lengths(shift) <= reach * (1 + 1e-5)).all()
    assert (lengths(shift) > 0.5 * reach).all()


def test_near_its_aim_the_objective_decides(linear):
    """A distance from a plane is linear: one step, through the model or not, ends on it and not beyond."""
    x, model = linear
    for given in (x, x.clone().requires_grad_()):
        estimate = model(given)
        level = estimate.detach().flatten(1).mean(1) + 0.1
        shift = Guidance(lambda f, level=level: (f.flatten(1).mean(1) - level).abs(), strength=50.0)(
            given, estimate, 0.0
        )
        torch.testing.assert_close((estimate + shift).flatten(1).mean(1), level)


def test_at_its_aim_nothing_moves(linear):
    x, model = linear
    assert not Guidance(away, aim=1e3)(x, model(x), 0.0).any()


def test_several_steps_never_end_worse_than_they_began(linear):
    """An objective of steep walls throws single steps beyond; the best of several is taken."""
    x, model = linear
    guidance = Guidance(lambda f: (20 * f).cos().flatten(1).sum(1) + 100, strength=1.0, steps=8)
    estimate = model(x)
    assert (guidance.values(estimate + guidance(x, estimate, 0.0)) <= guidance.values(estimate)).all()


def test_objective_of_all_samples_together_moves_them_together(linear):
    x, model = linear
    estimate = model(x)
    shift = Guidance(lambda f: (f.mean() - 1).abs(), strength=50.0)(x, estimate, 0.0)
    assert float((estimate + shift).mean()) == pytest.approx(1.0, abs=1e-5)


def test_guidances_add(linear):
    x, model = linear
    estimate = model(x)
    parts = [Guidance(away), Guidance(lambda f: f.abs().flatten(1).sum(1), strength=0.2), Guidance(away)]
    both = parts[0] + parts[1]
    torch.testing.assert_close(
        both(x, estimate, 0.5), parts[0](x, estimate, 0.5) + parts[1](x, estimate, 0.5)
    )
    all_of_them = parts[2] + both
    assert all_of_them.parts == (parts[2], parts[0], parts[1])


def test_strength_follows_its_schedule(linear):
    x, model = linear
    guidance = Guidance(away, strength=lambda progress: 0.1 * progress)
    assert not guidance(x, model(x), 0.0).any()
    torch.testing.assert_close(lengths(guidance(x, model(x), 0.5)), 0.05 * lengths(model(x) - x))


def test_sample_whose_gradient_is_not_finite_stays(linear):
    x, model = linear
    estimate = model(x)
    hurt = torch.tensor([1.0, torch.nan, 1.0])
    shift = Guidance(lambda f: away(f) * hurt)(x, estimate, 0.0)
    assert shift.flatten(1).any(1).tolist() == [True, False, True]


@pytest.fixture
def rain():
    draw = torch.Generator().manual_seed(1)
    return torch.rand(4, 16, 16, generator=draw) * 4


@pytest.fixture
def surrogate():
    return emuloss.relax(emuloss.metric("minkowski", thresholds=[1.0, 2.0]))


def test_samples_come_to_have_the_curves_asked_for(rain, surrogate):
    """Of a model that expects what it is given: exact area and perimeter of one field, from others."""
    asked = torch.from_numpy(surrogate.metric(rain[:1].numpy())).float()[0]
    guidance = Guidance(
        surrogate, target_curves=asked, to_physical=torch.expm1, anneal=(0.5, 0.05), steps=10, strength=0.3
    )
    x = torch.zeros(3, 1, 16, 16)
    estimate = rain[1:, None].log1p() * 0.8
    before = guidance.values(estimate)
    for k in range(10):
        estimate = estimate + guidance(x, estimate, k / 9)
    assert (guidance.values(estimate) < 0.3 * before).all()
    assert surrogate.temperature == pytest.approx(0.05)


def test_annealing_follows_progress(rain, surrogate):
    guidance = Guidance(surrogate, target=rain[0], anneal=(0.4, 0.1))
    found = []
    for progress in (0.0, 0.5, 1.0):
        guidance(rain[1:], rain[1:] / 2, progress)
        found.append(surrogate.temperature)
    assert found == pytest.approx([0.4, 0.2, 0.1])


def test_score_takes_samples_for_members(rain, surrogate):
    score = surrogate.as_score(reduction="none")
    guidance = Guidance(score, target=rain[0])
    torch.testing.assert_close(guidance.values(rain[1:, None]), score(rain[None, 1:], rain[:1])[0])
    assert guidance(rain[1:, None], rain[1:, None] / 2, 0.5).any()


def test_live_loss_learns_on_the_estimates():
    loss = emuloss.load("clusters-opera").as_loss(live=Live(), reduction="none")
    torch.manual_seed(0)
    guidance = Guidance(loss, target=4 * torch.rand(1, 32, 32))
    x = 4 * torch.rand(2, 32, 32)
    with torch.no_grad():
        assert guidance(x, x / 2, 0.0).any()
    assert loss.gauge.figures()["exact"] > 0
    assert "1 steps" in repr(loss)


def test_best_particle_of_each_sample_without_gradients(rain, surrogate):
    def count(fields):
        return torch.from_numpy(surrogate.metric(fields.detach().numpy())[:, 0, 0])

    particles = torch.stack([rain * factor for factor in (1.0, 0.2, 0.5)], 1)
    assert Guidance(count).best(particles).tolist() == [1] * 4
    # Targets go with their samples, not with their particles.
    own = Guidance(surrogate, target=torch.stack([particles[i, i % 3] for i in range(4)]))
    assert own.best(particles).tolist() == [0, 1, 2, 0]
    # Dry ones are nearest to nothing, the best first.
    assert Guidance(count).best(particles, keep=2).tolist() == [[1, 2]] * 4
    assert own.best(particles, keep=3)[:, 0].tolist() == [0, 1, 2, 0]
    with pytest.raises(ArgumentError, match="without gradient; see best"):
        Guidance(count)(rain, rain / 2, 0.0)


def test_term_of_a_score_is_the_shift_over_the_variance(linear):
    """physicsnemo adds g(x, t, x_0) to the score: the estimate that the sum stands for is the guided one."""
    x, model = linear
    t = torch.full((N,), 0.3)
    guidance = Guidance(away, strength=0.2)
    term = for_scores(guidance, sigma=lambda t: 2 * t, progress=lambda t: 0.5)(x, t, model(x))
    score = (model(x) - x) / 0.6**2
    torch.testing.assert_close(x + 0.6**2 * (score + term), model(x) + guidance(x, model(x), 0.5))


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_schedulers_of_diffusers_expect_the_guided_field(linear, kind):
    diffusers = pytest.importorskip("diffusers")
    x, model = linear
    scheduler = diffusers.DDIMScheduler(prediction_type=kind, clip_sample=False)
    scheduler.set_timesteps(10)
    _steps_with(scheduler, scheduler.timesteps[3], model(x), x)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_output_for_the_documented_face_of_a_scheduler(linear, kind):
    x, model = linear
    kept = torch.linspace(0.99, 0.01, 100)

    def step(output, t, sample):
        a, s = kept[t].sqrt(), (1 - kept[t]).sqrt()
        clean = {
            "epsilon": (sample - s * output) / a,
            "sample": output,
            "v_prediction": a * sample - s * output,
        }
        return types.SimpleNamespace(pred_original_sample=clean[kind])

    config = types.SimpleNamespace(prediction_type=kind)
    scheduler = types.SimpleNamespace(alphas_cumprod=kept, config=config, step=step)
    _steps_with(scheduler, 40, model(x), x)
    config.prediction_type = "flow"
    with pytest.raises(ArgumentError, match="prediction_type must be one of epsilon"):
        guided_output(Guidance(away), scheduler, model(x), 40, x, 0.5)


def _steps_with(scheduler, t, output, x):
    """The scheduler's estimate of the clean field is the guided one, as it is without, and the shift."""
    guidance = Guidance(away, strength=0.2)
    before = scheduler.step(output, t, x).pred_original_sample
    after = scheduler.step(guided_output(guidance, scheduler, output, t, x, 0.5), t, x).pred_original_sample
    torch.testing.assert_close(after, before + guidance(x, before, 0.5), atol=1e-4, rtol=1e-4)
    assert not torch.equal(after, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objective": 3}, "objective must be a loss"),
        ({"strength": -1}, "strength must be a number >= 0"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"aim": "none"}, "aim must be a number or None"),
        ({"anneal": (0.2, 0.1)}, "anneal is for losses"),
        ({"target": torch.zeros(1, 4, 4)}, "takes no target"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        Guidance(**{"objective": away} | arguments)


def test_refuses_what_does_not_fit(rain, surrogate):
    with pytest.raises(ArgumentError, match="needs either target or target_curves"):
        Guidance(surrogate)
    with pytest.raises(ArgumentError, match="reduction='none'"):
        Guidance(surrogate.as_loss(), target=rain[0])
    with pytest.raises(ArgumentError, match="one shape"):
        Guidance(away)(rain, rain[:1], 0.0)
    with pytest.raises(ArgumentError, match="progress must be a share"):
        Guidance(away)(rain, rain, 2.0)
    with pytest.raises(ArgumentError, match="strength must be"):
        Guidance(away, strength=lambda _: -1.0)(rain, rain, 0.0)
    with pytest.raises(ArgumentError, match="estimates must be"):
        Guidance(away).best(rain[:, 0])
    with pytest.raises(ArgumentError, match="keep must be at most the 16 particles, got 17"):
        Guidance(away).best(rain, keep=17)
    with pytest.raises(ArgumentError, match="values \\(N,\\)"):
        Guidance(lambda f: f.mean()).best(rain[:, None])
