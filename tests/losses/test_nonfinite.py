"""Predictions that are not finite: told where the target was measured, whatever the loss is made of."""

import copy

import drawn
import emuloss
import pytest
import torch

METRICS = {
    "minkowski": lambda: emuloss.metric("minkowski", thresholds=[0.5, 1, 5], outputs=["area", "components"]),
    "boxcount": lambda: emuloss.metric("boxcount", thresholds=[0.5, 2]),
    "fss": lambda: emuloss.metric("fss", thresholds=[0.5, 2]),
    "csi": lambda: emuloss.metric("csi", thresholds=[0.5, 2]),
    "sal": lambda: emuloss.metric("sal", outputs=["amplitude"]),
    "spectrum": lambda: emuloss.metric("spectrum", outputs=["power", "anisotropy"]),
}
BAD = [torch.nan, torch.inf, -torch.inf]


def rain(count=3, seed=0, **how):
    return drawn.rain(count, 1, 32, 32, law="peaked", seed=seed, **how)


def spoilt(value, **how):
    """Fields of which the second has one pixel that is not finite."""
    fields = rain(seed=1, **how)
    fields[1, 0, 3, 4] = value
    return fields


def gradient(loss, prediction, *arguments, **keywords):
    prediction = prediction.clone().requires_grad_()
    loss(prediction, *arguments, **keywords).sum().backward()
    return prediction.grad


def relaxed_loss(name="minkowski", **options):
    return emuloss.relax(METRICS[name]()).as_loss(**options)


SETTINGS = [
    ("minkowski", {}),
    ("minkowski", {"reference": "exact"}),
    ("minkowski", {"forward": "exact"}),
    ("minkowski", {"trust": 1.0}),
    ("minkowski", {"weights": {"area": 0.0, "components": 0.0}}),
    ("boxcount", {}),
    ("fss", {}),
    ("csi", {"forward": "exact"}),
    ("sal", {}),
    ("spectrum", {}),
    ("spectrum", {"forward": "exact"}),
]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize(("name", "options"), SETTINGS, ids=str)
def test_one_pixel_spoils_its_field_alone(name, options, value):
    loss = relaxed_loss(name, reduction="none", **options)
    found, sound = loss(spoilt(value), rain()), loss(rain(seed=1), rain())
    assert found.isfinite().tolist() == [True, False, True]
    assert torch.equal(found[[0, 2]], sound[[0, 2]])
    assert loss.by_output(spoilt(value), rain()).isfinite().all(1).tolist() == [True, False, True]
    for reduction in ("mean", "sum"):
        assert not relaxed_loss(name, reduction=reduction, **options)(spoilt(value), rain()).isfinite()


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize(("name", "options"), SETTINGS, ids=str)
def test_the_gradient_tells_too(name, options, value):
    """What a gradient scaler looks at: NaN where the prediction is not finite, in other fields nothing."""
    loss = relaxed_loss(name, reduction="none", **options)
    found, sound = gradient(loss, spoilt(value), rain()), gradient(loss, rain(seed=1), rain())
    assert (~found.isfinite()).nonzero().tolist() == [[1, 0, 3, 4]]
    assert torch.equal(found[[0, 2]], sound[[0, 2]])


@pytest.mark.parametrize("name", emuloss.list_models())
def test_every_bundled_loss_tells(name):
    loss = emuloss.load(name).as_loss()
    nothing = torch.full((2, 1, 32, 32), torch.nan)
    assert loss(nothing, rain(2)).isnan()
    assert loss(spoilt(torch.inf)[:2], rain(2)).isnan()
    assert gradient(loss, nothing, rain(2)).isnan().all()


@pytest.mark.parametrize("name", METRICS)
def test_the_target_says_what_was_not_measured(name):
    """There a prediction may be anything: it counts as what it counts where it is finite."""
    target = rain()
    target[1, 0, 2:5] = torch.nan
    for value in BAD:
        for loss in (relaxed_loss(name), relaxed_loss(name, forward="exact")):
            assert torch.equal(loss(spoilt(value), target), loss(rain(seed=1), target))
            assert torch.equal(gradient(loss, spoilt(value), target), gradient(loss, rain(seed=1), target))


@pytest.mark.parametrize("name", METRICS)
def test_a_mask_says_so_too(name):
    holed, mask = rain(), torch.ones(3, 1, 32, 32, dtype=torch.bool)
    mask[1, 0, 2:5] = False
    holed = holed.masked_fill(~mask, torch.nan)
    loss = relaxed_loss(name)
    assert torch.equal(loss(spoilt(torch.nan), rain(), mask=mask), loss(rain(seed=1), holed))
    assert (gradient(loss, spoilt(torch.nan), rain(), mask=mask)[~mask] == 0).all()
    assert loss(spoilt(torch.nan), rain(), mask=torch.ones_like(mask)).isnan()
    assert loss(spoilt(torch.nan), holed, mask=torch.ones_like(mask)) == loss(rain(seed=1), holed)


@pytest.mark.parametrize("forward", ["surrogate", "exact"])
def test_curves_of_the_target_have_no_mask_but_one_that_is_given(forward):
    loss = relaxed_loss(forward=forward)
    mask = torch.ones(3, 1, 32, 32, dtype=torch.bool)
    mask[1, 0, 2:5] = False
    curves = loss.surrogate(rain().masked_fill(~mask, torch.nan))
    assert loss(spoilt(torch.nan), target_curves=curves).isnan()
    masked = loss(spoilt(torch.nan), target_curves=curves, mask=mask)
    assert masked == loss(rain(seed=1), target_curves=curves, mask=mask)
    assert masked != loss(rain(seed=1), target_curves=curves)


def test_nothing_measured_costs_nothing():
    nothing = torch.full((3, 1, 32, 32), torch.nan)
    for value in (*BAD, 1.0):
        assert relaxed_loss()(spoilt(value), nothing) == 0
        assert (gradient(relaxed_loss(), spoilt(value), nothing) == 0).all()


@pytest.mark.parametrize("name", METRICS)
def test_either_may_say_it_for_those_who_want_that(name):
    """A prediction of NaN then counts as not measured; an infinite one as very large."""
    loss = relaxed_loss(name, missing="either")
    holed = rain()
    holed[1, 0, 3, 4] = torch.nan
    assert torch.equal(loss(spoilt(torch.nan), rain()), relaxed_loss(name)(rain(seed=1), holed))
    for value in BAD:
        assert loss(spoilt(value), rain()).isfinite()
        assert gradient(loss, spoilt(value), rain()).isfinite().all()


def test_a_surrogate_by_itself_takes_nan_for_not_measured():
    for name in ("minkowski", "fss"):
        surrogate = emuloss.relax(METRICS[name]())
        pair = (spoilt(torch.nan),) if name == "minkowski" else (spoilt(torch.nan), rain())
        assert surrogate(*pair).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_in_every_precision(dtype):
    loss = relaxed_loss(reduction="none")
    found = loss(spoilt(torch.inf, dtype=dtype), rain(dtype=dtype))
    assert found.isfinite().tolist() == [True, False, True]
    assert gradient(loss, spoilt(torch.nan, dtype=dtype), rain(dtype=dtype)).isnan().sum() == 1
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(spoilt(torch.nan), rain()).isfinite().tolist() == [True, False, True]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler imports what is deprecated
def test_when_compiled():
    loss = relaxed_loss(reduction="none")
    torch.compiler.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    assert compiled(spoilt(torch.nan), rain()).isfinite().tolist() == [True, False, True]
    assert gradient(compiled, spoilt(torch.inf), rain()).isnan().sum() == 1
    assert torch.equal(compiled(rain(seed=1), rain()), loss(rain(seed=1), rain()))


def test_a_gradient_scaler_leaves_the_step_out():
    """As a training in half precision goes: what overflows is not stepped on, and the scale falls."""
    torch.manual_seed(0)
    model = torch.nn.Conv2d(1, 1, 3, padding=1)
    before = copy.deepcopy(model.state_dict())
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scaler.scale(relaxed_loss()(model(rain()) * torch.inf, rain())).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 4.0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch says where, and that it is slow
def test_anomaly_detection_finds_it():
    prediction = rain(seed=1).requires_grad_()
    with torch.autograd.detect_anomaly(), pytest.raises(RuntimeError, match="nan values"):
        relaxed_loss()(prediction * torch.nan, rain()).backward()
