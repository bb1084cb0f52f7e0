"""The constrained emulator: admissible on any input, built on the relaxation, the same after copies."""

import copy
import itertools
import json
import math

import numpy as np
import pytest
import torch
from emuloss.emulators import ARCHITECTURES, ConstrainedEmulator, RelaxedMinkowski, signed_log1p
from emuloss.emulators.backbone import MultiScaleBackbone
from emuloss.errors import ArgumentError
from emuloss.metrics import Metric, Minkowski
from emuloss.metrics.constraints import AtLeast, NonIncreasing
from torch import Tensor

THRESHOLDS = (0.2, 0.7, 1.5, 4.0)
ALL = ("area", "perimeter", "euler", "components", "holes")
INF, NAN = math.inf, math.nan


class Brightest(Metric):
    """Values of the 4 brightest pixels: a metric without a relaxation."""

    name = "brightest"
    outputs, units, levels, pixel_size = ("value",), ("mm/h",), (0.0, 1.0, 2.0, 3.0), 1.0
    thresholds = THRESHOLDS

    def __init__(self):
        self.constraints = (NonIncreasing("value"), AtLeast("value", "value >= 0", lambda: 0.0))

    def arguments(self):
        return {}

    def _compute(self, fields):
        return np.sort(np.nan_to_num(fields).reshape(len(fields), 1, -1))[..., :-5:-1]


def build(metric=None, *, weights: int | None = None, widths=(8, 16), hidden=16, **arguments):
    """A tiny emulator; with `weights`, its weights are drawn at random with that seed."""
    torch.manual_seed(0)
    emulator = ConstrainedEmulator(
        metric or Minkowski(THRESHOLDS, 2.0), widths=widths, hidden=hidden, **arguments
    )
    if weights is not None:
        generator = torch.Generator().manual_seed(weights)
        with torch.no_grad():
            for parameter in emulator.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
    return emulator.eval()


def rain(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator).exp() - 0.7).clamp(min=0)


def inputs() -> dict[str, Tensor]:
    """Fields that a network has not seen, beside those that it has."""
    some = rain(3, 13, 18)
    holes = some.clone()
    holes[:, 3:6, 4:9], holes[0] = NAN, NAN
    spikes = some.clone()
    spikes[:, 2, 2], spikes[:, 5, 5], spikes[:, 7, 7] = INF, -INF, 1e35
    dtype = torch.float32
    return {
        "rain": some,
        "dry": torch.zeros((2, 16, 16)),
        "wet": torch.full((2, 9, 16), 30.0),
        "huge": torch.full((1, 8, 8), torch.finfo(dtype).max),
        "infinite": torch.full((1, 8, 8), INF),
        "negative": -1e6 * some,
        "tiny values": 1e-30 * some,
        "not measured": holes,
        "spikes": spikes,
        "one pixel": torch.nn.functional.pad(torch.ones((1, 1, 1)), (3, 4, 3, 4)),
        "least size": rain(1, 4, 4),
        "long": rain(1, 4, 61),
        "half": some.half(),
        "bfloat16": some.bfloat16(),
        "double": some.double(),
        "channel": some[:, None],
        "strided": rain(2, 40, 40)[:, ::2, 1::3],
        "empty": torch.zeros((0, 8, 8)),
    }


def assert_admissible(emulator: ConstrainedEmulator, fields: Tensor, curves: Tensor) -> None:
    metric = emulator.metric
    assert curves.shape == (len(fields), len(metric.outputs), len(metric.thresholds))
    assert curves.isfinite().all()
    shares = metric.check(curves.detach().double().numpy(), tuple(fields.shape[-2:]))
    assert {label: share for label, share in shares.items() if share} == {}


@pytest.mark.parametrize("weights", [None, 1, 2])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("boundary", ["closed", "open"])
@pytest.mark.parametrize("prior", [0.05, None])
def test_curves_are_admissible_whatever_comes_in(weights, autocast, boundary, prior):
    emulator = build(Minkowski(THRESHOLDS, 2.0, ALL, boundary), weights=weights, prior=prior)
    for name, fields in inputs().items():
        for mode in (emulator.eval(), emulator.train()):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                curves = mode(fields)
            assert curves.dtype == torch.float32, name
            assert_admissible(emulator, fields, curves)


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_gradients_are_finite_whatever_comes_in(autocast):
    emulator = build(weights=1)
    for name, fields in inputs().items():
        fields = fields.detach().clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            curves = emulator(fields)
        signed_log1p(curves).sum().backward()
        assert fields.grad.isfinite().all(), name
        assert (fields.grad[~fields.isfinite()] == 0).all(), name
        assert all(p.grad.isfinite().all() for p in emulator.parameters()), name


@pytest.mark.parametrize("shape", [(4, 4), (4, 5), (7, 4), (8, 8), (9, 15), (33, 6)], ids=str)
@pytest.mark.parametrize("number", [1, 3])
def test_any_size_from_the_stride_up(shape, number):
    emulator = build(weights=3)
    fields = rain(number, *shape)
    assert_admissible(emulator, fields, emulator(fields))


@pytest.mark.parametrize("widths", [(8,), (8, 8), (16, 8, 24)], ids=str)
def test_any_widths_at_the_least_size(widths):
    emulator = build(widths=widths)
    assert emulator.stride == 2 ** len(widths)
    fields = rain(1, emulator.stride, emulator.stride)
    assert_admissible(emulator, fields, emulator(fields))


@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (1, 1)], ids=str)
def test_smaller_fields_are_refused(shape):
    emulator = build()
    for action in (lambda: emulator.check_shape(shape), lambda: emulator(torch.zeros(1, *shape))):
        with pytest.raises(
            ArgumentError, match=rf"^fields must be at least 4 x 4 .*got {shape[0]} x {shape[1]}$"
        ):
            action()
    emulator.check_shape((4, 4))


def test_padding_with_dry_pixels_makes_little_difference():
    # Only the share of the field that is dry changes with its frame.
    emulator = build()
    fields = rain(4, 13, 18)
    padded = torch.nn.functional.pad(fields, (0, 2, 0, 3))
    torch.testing.assert_close(emulator(padded), emulator(fields), rtol=1e-3, atol=0.1)


def test_readout_does_not_depend_on_the_memory_format():
    backbone = MultiScaleBackbone(2, (8, 16)).eval()
    encoded = rain(2, 2, 8, 12)
    assert backbone(encoded).shape == (2, backbone.features)
    last = encoded.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(backbone(encoded), backbone(last), rtol=1e-4, atol=1e-4)


# The relaxed prior


@pytest.mark.parametrize(
    "outputs", [("area",), ("euler", "area"), ("area", "perimeter", "euler"), ALL], ids="-".join
)
@pytest.mark.parametrize("boundary", ["closed", "open"])
def test_starts_from_the_relaxation(outputs, boundary):
    metric = Minkowski(THRESHOLDS, 2.0, outputs, boundary)
    emulator, fields = build(metric), rain(3, 16, 20)
    known = [name for name in outputs if name in ("area", "perimeter", "euler")]
    relaxed = RelaxedMinkowski(Minkowski(THRESHOLDS, 2.0, known, boundary), 0.05)(fields)
    frame = 16 * 20 * 4.0
    raw = emulator.heads.inverse({name: relaxed[:, c] for c, name in enumerate(known)}, frame)
    torch.testing.assert_close(emulator(fields), emulator.heads(raw, frame), rtol=0, atol=0)
    # Made admissible, the relaxation stays about what it was.
    for c, name in enumerate(known):
        reached = emulator(fields)[:, outputs.index(name)]
        assert (reached - relaxed[:, c]).abs().max() <= 0.02 * relaxed[:, c].abs().max(), name


@pytest.mark.parametrize("prior", [0.05, None])
def test_every_weight_learns(prior):
    emulator = build(prior=prior).train()
    optimizer = torch.optim.SGD(emulator.parameters(), lr=0.01)
    for _ in range(2):  # the last layer starts at 0 and holds back the others' first gradients
        optimizer.zero_grad()
        signed_log1p(emulator(rain(4, 16, 16))).sum().backward()
        optimizer.step()
    dead = [name for name, p in emulator.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@pytest.mark.parametrize("weights", [None, 1])
@pytest.mark.parametrize("prior", [0.05, None])
def test_metrics_without_a_relaxation(weights, prior):
    emulator = build(Brightest(), weights=weights, prior=prior)
    assert emulator.prior is None
    for fields in inputs().values():
        assert_admissible(emulator, fields, emulator(fields))


def test_outputs_without_a_relaxation():
    emulator = build(Minkowski(THRESHOLDS, outputs=("components",)))
    assert emulator.prior is None
    assert_admissible(emulator, rain(2, 8, 8), emulator(rain(2, 8, 8)))


@pytest.mark.parametrize("thresholds", [THRESHOLDS, (-1.5, 0.0, 2.0), (-4.0, -2.0), (0.0,)], ids=str)
@pytest.mark.parametrize("prior", [0.05, None])
def test_what_was_not_measured_is_dry(thresholds, prior):
    emulator = build(Minkowski(thresholds), weights=4, prior=prior)
    unmeasured = torch.full((1, 8, 8), NAN)
    dry = torch.full((1, 8, 8), emulator.dry)
    assert not emulator.metric(dry.numpy()).any()
    torch.testing.assert_close(emulator(unmeasured), emulator(dry), rtol=1e-5, atol=1e-5)
    assert torch.sigmoid((emulator.dry - thresholds[0]) * emulator.encoding.steepness.view(-1)[0]) < 1e-4


def test_thresholds_above_zero_leave_zero_dry():
    assert build().dry == 0.0


# Copies and precision


@pytest.mark.parametrize("prior", [0.05, None])
@pytest.mark.parametrize("weights", [None, 1])
def test_double_precision(prior, weights):
    single = build(weights=weights, prior=prior)
    double = copy.deepcopy(single).double()
    fields = rain(3, 13, 18)
    curves = double(fields)
    assert curves.dtype == torch.float64
    torch.testing.assert_close(curves.float(), single(fields), rtol=2e-3, atol=2e-2)
    assert_admissible(double, fields, curves)


def test_gradient_in_double_precision_by_finite_differences():
    emulator = build(prior=0.5, weights=5).double()
    fields = 2 * torch.rand((1, 4, 5), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: signed_log1p(emulator(x)), fields.requires_grad_(), eps=1e-7, atol=1e-4, rtol=1e-3
    )


@pytest.mark.parametrize("metric", [Minkowski(THRESHOLDS, 2.0, ALL), Brightest()], ids=["minkowski", "other"])
def test_deepcopy(metric):
    emulator = build(metric, weights=1)
    twin = copy.deepcopy(emulator)
    fields = rain(2, 12, 12)
    assert torch.equal(twin(fields), emulator(fields))
    with torch.no_grad():
        twin.fc[-1].bias += 1
    assert not torch.equal(twin(fields), emulator(fields))


@pytest.mark.parametrize(
    "arguments", [{}, {"prior": None}, {"prior": 0.2, "widths": [16], "hidden": 8}], ids=str
)
def test_arguments_and_weights_build_it_again(arguments):
    emulator = build(weights=1, **arguments)
    again = ARCHITECTURES["constrained"](
        emulator.metric, **json.loads(json.dumps(emulator.arguments()))
    ).eval()
    again.load_state_dict(emulator.state_dict())
    fields = rain(2, 12, 12)
    assert torch.equal(again(fields), emulator(fields))
    assert again.arguments() == emulator.arguments()


def test_fields_do_not_depend_on_their_batch():
    emulator, fields = build(weights=2), rain(5, 16, 16)
    torch.testing.assert_close(
        torch.cat([emulator(field[None]) for field in fields]), emulator(fields), rtol=1e-4, atol=1e-3
    )


def test_state_holds_weights_alone():
    names = set(build().state_dict())
    assert all(name.startswith(("backbone.", "fc.")) for name in names)


# Errors


@pytest.mark.parametrize("widths", [(), (12,), (0,), (-8,), (8, 7)], ids=str)
def test_bad_widths_are_refused(widths):
    with pytest.raises(ArgumentError, match=r"^widths must be positive multiples of 8, got \[.*\]$"):
        ConstrainedEmulator(Minkowski(THRESHOLDS), widths=widths)


def test_other_bad_arguments_are_refused():
    with pytest.raises(ArgumentError, match=r"^hidden must be positive, got 0$"):
        ConstrainedEmulator(Minkowski(THRESHOLDS), hidden=0)
    with pytest.raises(ArgumentError, match=r"^temperature must be one positive number"):
        ConstrainedEmulator(Minkowski(THRESHOLDS), prior=-0.1)


@pytest.mark.parametrize("shape", [(8, 8), (1, 2, 8, 8), (1, 0, 8)], ids=str)
def test_other_shapes_are_refused(shape):
    with pytest.raises(ArgumentError, match="fields must have shape"):
        build()(torch.zeros(shape))


def test_whole_numbers_are_refused():
    with pytest.raises(ArgumentError, match="floating point"):
        build()(torch.zeros((1, 8, 8), dtype=torch.int32))


@pytest.mark.parametrize("count", [1, 2, 7, 8, 21])
def test_masks_are_spread_over_the_thresholds(count):
    encoding = build(Minkowski([0.1 * (q + 1) for q in range(count)])).encoding
    assert encoding.channels == min(count, 7) + 1
    encoded = encoding(torch.tensor([[[0.0, 0.1, 1e9]]]))
    assert encoded.shape == (1, encoding.channels, 1, 3)
    assert (encoded[0, :-1, 0, 0] < 1e-4).all()
    assert (encoded[0, :-1, 0, 2] == 1).all()
    assert encoded[0, 0, 0, 1] == pytest.approx(0.5)


def test_spectral_norm_bounds_the_kernels():
    emulator = build().train()
    for _ in range(50):
        emulator(rain(1, 8, 8))
    emulator.eval()
    convs = itertools.chain(emulator.backbone.down, *(block.convs for block in emulator.backbone.blocks))
    for conv in convs:
        assert torch.linalg.matrix_norm(conv.weight.flatten(1), 2) <= 1.01
