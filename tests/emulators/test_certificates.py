"""Certificates: never below a measured slope, close to the true norm of a layer, or a reason."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from drawn import rain, spreads
from emuloss.emulators import RelaxedMinkowski, signed_log1p
from emuloss.emulators.certificates import certify, conv_norm, linear_norm
from emuloss.emulators.networks.certified import CertifiedEmulator, max_min
from emuloss.emulators.networks.emulator import ConvEmulator
from emuloss.emulators.networks.spectral import polyphase, spectral_conv
from emuloss.errors import ArgumentError
from emuloss.losses import frozen
from emuloss.metrics import Metric, Minkowski
from emuloss.metrics.constraints import AtLeast, AtMost, NonIncreasing
from emuloss.zoo import Surrogate
from torch import Tensor, nn
from torch.nn import functional as F

THRESHOLDS = (0.2, 0.7, 1.5, 4.0)
ALL = ("area", "perimeter", "euler", "components", "holes")


class Range(Metric):
    """Largest and smallest value of a field, whatever the threshold: bounded above, and not at all."""

    name = "range"
    outputs, units, levels, pixel_size = ("largest", "smallest"), ("1", "1"), (0.0, 1.0), 1.0
    thresholds = (0.5, 1.0)

    def __init__(self):
        self.constraints = (
            NonIncreasing("largest"),
            AtMost("largest", "largest <= 3", lambda: 3.0),
            AtLeast("largest", "largest >= -2", lambda: -2.0),
        )

    def arguments(self):
        return {}

    def _compute(self, fields):
        found = np.stack([fields.max((1, 2)), fields.min((1, 2))], axis=1)
        return np.repeat(found[..., None], 2, axis=2)


def certified(metric=None, *, steps: int = 3, **arguments) -> CertifiedEmulator:
    """A tiny emulator after some training, with weights far from where they start."""
    torch.manual_seed(0)
    emulator = CertifiedEmulator(
        metric or Minkowski(THRESHOLDS, 2.0),
        **{"widths": (8, 16), "hidden": 16, "spreads": spreads(THRESHOLDS), **arguments},
    )
    with torch.no_grad():
        for parameter in emulator.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    optimizer = torch.optim.Adam(emulator.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        (-signed_log1p(emulator(rain(4, 12, 16))).square().mean()).backward()
        optimizer.step()
    return emulator.eval()


def plain(**arguments) -> ConvEmulator:
    """A tiny plain CNN with free heads, its weights drawn at random."""
    torch.manual_seed(0)
    arguments = {"backbone": "plain", "heads": "free", "spectral": "none", **arguments}
    arguments["spreads"] = spreads(THRESHOLDS)
    emulator = ConvEmulator(Minkowski(THRESHOLDS, 2.0), widths=(8, 16), hidden=16, **arguments)
    with torch.no_grad():
        for parameter in emulator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return emulator.eval()


def steepest(module: nn.Module, pairs: tuple[Tensor, Tensor]) -> float:
    """Largest slope between pairs of fields, on the scale that certificates bound."""
    with torch.no_grad():
        one, other = (signed_log1p(module(x)).double().flatten(1) for x in pairs)
    distance = (pairs[0] - pairs[1]).double().flatten(1).norm(dim=1)
    return float(((one - other).norm(dim=1) / distance).max())


def random_pairs(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Rain and other rain; rain and rain that is slightly off; dry fields and single pixels."""
    field, other = rain(6, rows, columns), rain(6, rows, columns, seed=1)
    close = field + 1e-2 * torch.randn_like(field)
    shower = torch.zeros(1, rows, columns)
    shower[0, rows // 2, columns // 2] = THRESHOLDS[0]
    return torch.cat([field, field, shower]), torch.cat([other, close, torch.zeros_like(shower)])


def radar_pairs(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Smooth showers in steps of 0.01, as they are, moved by a pixel, and rescaled."""
    smooth = F.avg_pool2d(F.pad(torch.randn(5, rows, columns), (2, 2, 2, 2), mode="circular"), 5, stride=1)
    showers = ((2 + 6 * smooth).exp() / 20).clamp(min=0).mul(100).round() / 100
    return showers.repeat(2, 1, 1), torch.cat([showers.roll(1, 2), 1.1 * showers])


def adversarial_pairs(module: nn.Module, rows: int, columns: int, steps: int = 15) -> tuple[Tensor, Tensor]:
    """Pairs that gradient ascent has made as steep as it can."""
    x = torch.cat([rain(3, rows, columns), torch.full((1, rows, columns), THRESHOLDS[0])])
    y = x + 0.05 * torch.randn_like(x)
    x, y = x.requires_grad_(), y.requires_grad_()
    optimizer = torch.optim.Adam([x, y], lr=0.02)
    for _ in range(steps):
        rise = (signed_log1p(module(x)) - signed_log1p(module(y))).flatten(1).norm(dim=1)
        run = (x - y).flatten(1).norm(dim=1)
        optimizer.zero_grad()
        (-(rise / run).log().sum()).backward()
        optimizer.step()
    return x.detach(), y.detach()


def measured(module: nn.Module, rows: int, columns: int) -> float:
    """Steepest of all kinds of pairs."""
    pairs = [
        random_pairs(rows, columns),
        radar_pairs(rows, columns),
        adversarial_pairs(module, rows, columns),
    ]
    return max(steepest(module, pair) for pair in pairs)


def true_norm(weight: Tensor, stride: int, rows: int, columns: int) -> float:
    """Norm of a zero-padded convolution on a field, from its dense matrix."""
    inputs, padding = weight.shape[1], (weight.shape[2] // 2, weight.shape[3] // 2)
    basis = torch.eye(inputs * rows * columns, dtype=torch.float64).view(-1, inputs, rows, columns)
    matrix = F.conv2d(basis, weight.double(), stride=stride, padding=padding).flatten(1)
    return float(torch.linalg.matrix_norm(matrix, 2))


# Layers


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 6), (9, 7)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", [(3, 2, 3, 3), (1, 4, 1, 1), (4, 1, 5, 5), (2, 3, 2, 4), (2, 2, 7, 3)])
def test_conv_norm_is_never_below_the_dense_norm(shape, stride, size):
    weight = torch.randn(shape)
    assert conv_norm(weight, stride) >= true_norm(weight, stride, *size)


@pytest.mark.parametrize(
    ("shape", "stride", "size"),
    [
        ((1, 1, 3, 3), 1, 30),
        ((4, 4, 3, 3), 1, 16),
        ((2, 2, 5, 5), 1, 24),
        ((8, 2, 5, 5), 2, 24),
        ((4, 4, 3, 3), 2, 16),
        ((5, 3, 1, 1), 1, 3),
    ],
)
def test_conv_norm_is_close_to_that_of_a_large_field(shape, stride, size):
    weight = torch.randn(shape)
    true = true_norm(weight, stride, size, size)
    assert true <= conv_norm(weight, stride) <= 1.1 * true


def test_conv_norm_of_known_kernels():
    assert conv_norm(torch.full((1, 1, 3, 3), 1 / 9)) == pytest.approx(1, rel=0.03)
    assert conv_norm(torch.full((1, 1, 2, 2), 0.5), stride=2) == pytest.approx(1, rel=1e-3)
    assert conv_norm(torch.tensor([[[[-1.0, 0.0, 1.0]]]])) == pytest.approx(2, rel=0.03)
    assert conv_norm(torch.full((1, 1, 2, 2), 0.5), stride=2) >= 1


def test_conv_norm_of_kernels_that_some_frequencies_do_not_pass():
    """Derivatives along one dimension: a wide layer's first symbols are all 0."""
    weight = torch.zeros(256, 256, 3, 3)
    weight[:, :, 0, 1], weight[:, :, 2, 1] = torch.eye(256), -torch.eye(256)
    assert 2 <= conv_norm(weight) <= 2.05


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_norms_are_homogeneous(scale):
    weight = torch.randn(3, 4, 3, 3, dtype=torch.float64)
    assert conv_norm(scale * weight) == pytest.approx(scale * conv_norm(weight))
    assert linear_norm(scale * weight[..., 0, 0]) == pytest.approx(scale * linear_norm(weight[..., 0, 0]))


def test_norms_of_zero_weights_are_zero():
    assert conv_norm(torch.zeros(3, 2, 3, 3)) == 0
    assert linear_norm(torch.zeros(3, 2)) == 0
    one = torch.zeros(3, 2, 3, 3)
    one[1, 1, 2, 0] = 2.0
    assert 2 <= conv_norm(one) <= 2.05


def test_linear_norm():
    weight = torch.randn(7, 5)
    true = float(torch.linalg.svdvals(weight.double())[0])
    assert true <= linear_norm(weight) <= true * (1 + 1e-8)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(value):
    weight = torch.ones(2, 2, 3, 3)
    weight[1, 0, 1, 1] = value
    with pytest.raises(ArgumentError, match="weights must be finite"):
        conv_norm(weight)
    with pytest.raises(ArgumentError, match="weights must be finite"):
        linear_norm(weight[..., 1, 1])


def test_other_shapes_of_weights_are_refused():
    with pytest.raises(ArgumentError, match=r"weight must be \(O, I, k, k\)"):
        conv_norm(torch.ones(2, 2))
    with pytest.raises(ArgumentError, match=r"weight must be \(O, I\)"):
        linear_norm(torch.ones(2, 2, 1, 1))


@pytest.mark.parametrize(("stride", "edge"), [(1, 3), (2, 3), (2, 5), (3, 4)])
def test_polyphase_is_the_strided_convolution(stride, edge):
    weight, x = torch.randn(3, 2, edge, edge), torch.randn(1, 2, 12, 12)
    phases = polyphase(weight, stride)
    plain_way = F.conv2d(x, weight, stride=stride)
    other_way = F.conv2d(F.pixel_unshuffle(x, stride), phases)
    rows = plain_way.shape[2]
    assert torch.allclose(
        other_way[:, :, :rows, :rows], plain_way[..., : other_way.shape[2], : other_way.shape[3]], atol=1e-5
    )


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 2), (1, 1)])
def test_exact_spectral_norm_tends_to_one_and_survives_freezing(kernel, stride):
    conv = spectral_conv(6, 8, kernel, stride, kind="exact").train()
    for _ in range(20):
        weight = conv.weight
    assert 0.99 <= conv_norm(weight, stride) <= 1.1
    assert conv_norm(5 * weight, stride) == pytest.approx(5 * conv_norm(weight, stride))
    before = conv.eval().weight.clone()
    after = frozen(conv).weight
    assert torch.equal(before, after)


@pytest.mark.parametrize("kind", ["exact", "power"])
@pytest.mark.parametrize("copy_first", [True, False])
def test_a_frozen_copy_leaves_the_other_one_learning(kind, copy_first):
    conv = spectral_conv(2, 3, 3, kind=kind).train()
    other = copy.deepcopy(conv)
    freezes, learns = (other, conv) if copy_first else (conv, other)
    x = torch.ones(1, 2, 8, 8)
    aim = freezes.eval()(x)
    assert torch.equal(frozen(freezes)(x), aim)
    assert type(freezes) is nn.Conv2d
    learns(x).sum().backward()
    assert learns.parametrizations.weight.original.grad.any()
    aim = learns.eval()(x)
    assert torch.equal(frozen(learns)(x), aim)


def test_exact_spectral_norm_is_a_differentiable_division():
    conv = spectral_conv(3, 4, 3, kind="exact").double().train()
    for _ in range(300):
        weight = conv.weight
    conv.eval()
    raw = conv.parametrizations.weight.original
    (gradient,) = torch.autograd.grad((conv.weight * weight.detach()).sum(), raw)
    # A quotient by a norm does not change along the weights themselves.
    raw = raw.detach()
    assert abs(float((gradient * raw).sum())) < 1e-6 * float(gradient.norm() * raw.norm())


def test_spectral_norm_of_zeros_is_zeros():
    conv = spectral_conv(2, 2, 3, kind="exact")
    nn.init.zeros_(conv.parametrizations.weight.original)
    assert torch.equal(conv.weight, torch.zeros(2, 2, 3, 3))


def test_spectral_norm_recovers_from_zeros():
    conv = spectral_conv(2, 2, 3, kind="exact").train()
    raw = conv.parametrizations.weight.original
    kernel = raw.detach().clone()
    for weight in (torch.zeros_like(kernel), kernel):
        with torch.no_grad():
            raw.copy_(weight)
        for _ in range(30):
            found = conv.weight
    assert conv_norm(found) == pytest.approx(1, rel=0.05)


def test_unknown_kinds_of_spectral_norm_are_refused():
    with pytest.raises(ArgumentError, match="kind must be one of none, power, exact, got 'full'"):
        spectral_conv(2, 2, 3, kind="full")


def test_max_min_keeps_norms():
    x, y = torch.randn(2, 5, 8, 3, 3)
    assert torch.allclose(max_min(x).norm(), x.norm())
    assert (max_min(x) - max_min(y)).norm() <= (x - y).norm()


# Networks


@pytest.mark.parametrize("size", [(12, 16), (4, 4), (5, 17)])
def test_certified_bound_holds(size):
    emulator = certified()
    certificate = certify(emulator, size)
    assert certificate.bound is not None
    assert 0 < measured(emulator, *size) <= certificate.bound
    assert str(certificate) == f"global bound {certificate.bound:.3g} for fields of {size[0]} x {size[1]}"


def test_certified_bound_holds_for_gradients():
    emulator = certified().double()
    x = rain(4, 8, 8).double().requires_grad_()
    bound = certify(emulator, (8, 8)).bound
    jacobian = torch.autograd.functional.jacobian(lambda f: signed_log1p(emulator(f[None])).flatten(), x[0])
    assert float(torch.linalg.matrix_norm(jacobian.flatten(1), 2)) <= bound


def test_certified_bound_is_the_same_after_freezing_and_reloading():
    emulator = certified()
    before = certify(emulator, (16, 16))
    other = CertifiedEmulator(emulator.metric, **emulator.arguments())
    other.load_state_dict(emulator.state_dict())
    again = certify(other, (16, 16))
    kept = copy.deepcopy(frozen(emulator).state_dict())
    loaded = frozen(CertifiedEmulator(emulator.metric, **emulator.arguments()))
    loaded.load_state_dict(kept)
    for certificate in (
        again,
        certify(emulator, (16, 16)),
        certify(Surrogate(loaded, "certified"), (16, 16)),
    ):
        assert certificate.bound == pytest.approx(before.bound, rel=1e-6)


def test_certifying_leaves_a_module_as_it_is():
    emulator = certified().train()
    state = copy.deepcopy(emulator.state_dict())
    certify(emulator, (8, 8))
    assert emulator.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in emulator.state_dict().items())


def test_certified_bound_grows_with_the_field_and_the_gains():
    emulator = certified()
    small, large = (certify(emulator, (edge, edge)).bound for edge in (8, 32))
    assert large == pytest.approx(4 * small)
    with torch.no_grad():
        emulator.log_gains += math.log(3) / 8
    assert certify(emulator, (8, 8)).bound == pytest.approx(3 * small)


def test_certified_bound_of_zero_weights_is_zero():
    emulator = frozen(certified())
    for parameter in emulator.parameters():
        nn.init.zeros_(parameter)
    assert certify(emulator, (8, 8)).bound == 0


def test_certified_emulator_keeps_the_bounds_that_it_can():
    metric = Minkowski(THRESHOLDS, 2.0, outputs=ALL)
    emulator = certified(metric)
    with torch.no_grad():
        curves = emulator(100 * rain(5, 9, 13) - 20).numpy()
    shares = metric.check(curves, (9, 13))
    for label in ("area non-increasing", "area >= 0", "area <= field", "perimeter >= 0", "holes >= 0"):
        assert shares[label] == 0
    odd = certified(Range(), steps=30, spreads=None)
    with torch.no_grad():
        curves = odd(rain(5, 8, 8)).numpy()
    assert not any(odd.metric.check(curves, (8, 8)).values())


def test_certified_emulator_ignores_what_was_not_measured():
    emulator = certified()
    field = rain(1, 8, 8)
    field[0, :3] = math.nan
    dry = field.nan_to_num(0.0)
    assert torch.equal(emulator(field), emulator(dry))
    field.requires_grad_()
    emulator(field).sum().backward()
    assert (field.grad[0, :3] == 0).all()
    assert torch.isfinite(field.grad).all()


def test_certified_emulator_counts_what_is_wet():
    """Two showers apart from one another have the sums of one, twice: what is dry adds none."""
    emulator = certified()
    one = torch.zeros(1, 56, 112)
    one[0, 24:30, 24:31] = 3.0
    both = one.clone()
    both[0, 24:30, 80:87] = 3.0
    with torch.no_grad():
        first, second = (emulator._sums(emulator.encoding(torch.cat([x, 0 * x]))) for x in (one, both))
    for a, b in zip(first, second, strict=True):
        assert torch.allclose(2 * a, b, rtol=1e-3, atol=1e-3)


def test_certified_emulator_trains_in_bfloat16():
    emulator = CertifiedEmulator(Minkowski(THRESHOLDS), widths=(8, 8), hidden=8).train()
    with torch.autocast("cpu", torch.bfloat16):
        curves = emulator(rain(2, 16, 16))
    assert curves.dtype == torch.float32
    curves.sum().backward()
    for name, parameter in emulator.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (8, 7)}, "widths must be positive even numbers"),
        ({"widths": ()}, "widths must be positive even numbers"),
        ({"hidden": 3}, "hidden must be a positive even number, got 3"),
        ({"masks": 0}, "masks must be positive, got 0"),
        ({"mask_temperature": math.nan}, "mask_temperature must be positive, got nan"),
        ({"gain": -1.0}, "gain must be positive, got -1.0"),
        ({"widths": [2**20]}, "must be a whole number from 1 to 4096, got 1048576"),
        ({"hidden": 2**20}, "hidden must be a whole number from 1 to 16384, got 1048576"),
        ({"hidden": "8"}, "hidden must be a positive even number, got '8'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        CertifiedEmulator(Minkowski(THRESHOLDS), **arguments)


def test_small_fields_are_refused():
    with pytest.raises(ArgumentError, match="at least 4 x 4 pixels"):
        certified(steps=0)(torch.zeros(1, 3, 8))


@pytest.mark.parametrize("masks", [0, 3])
@pytest.mark.parametrize("size", [(12, 16), (5, 9)])
def test_bound_of_a_plain_network_holds(size, masks):
    emulator = plain(masks=masks)
    certificate = certify(emulator, size)
    assert 0 < measured(emulator, *size) <= certificate.bound
    assert certificate.layers[0] == ("encoding", emulator.encoding.slope())
    assert math.prod(bound for _, bound in certificate.layers) == pytest.approx(certificate.bound)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"boundary": "open"},
        {"connectivity": 2},
        {"connectivity": 2, "boundary": "open"},
    ],
)
@pytest.mark.parametrize("temperature", [0.05, (0.3, 0.02, 0.1, 0.01)])
def test_relaxed_bound_holds(arguments, temperature):
    for outputs in (ALL, *((name,) for name in ALL)):
        relaxed = RelaxedMinkowski(Minkowski(THRESHOLDS, 0.1, outputs=outputs, **arguments), temperature)
        bound = certify(relaxed, (7, 9)).bound
        assert 0 < measured(relaxed, 7, 9) <= bound


def test_relaxed_bound_covers_both_sigmoids_of_a_membership():
    relaxed = RelaxedMinkowski(Minkowski((1.0,), outputs=("euler",)), 0.01, tail=(0.2, 0.1), spreads=(1.0,))
    steepest_membership = certify(relaxed, (1, 1)).bound / math.sqrt(3)
    assert steepest_membership == pytest.approx(0.8 / 0.04 + 0.2 / 0.4, rel=0.01)
    x = torch.linspace(0.9, 1.1, 4001, dtype=torch.float64).view(-1, 1, 1).requires_grad_()
    (slopes,) = torch.autograd.grad(relaxed(x).sum(), x)
    assert 0.98 * steepest_membership <= float(slopes.max()) <= steepest_membership


def test_relaxed_bounds_come_within_sight_of_gradients():
    """A checkerboard about a threshold, where every pixel is an extreme; single pixels in the dry."""
    signs = (-1.0) ** (torch.arange(8)[:, None] + torch.arange(8))
    board = (1 + 1e-6 * signs.double())[None].requires_grad_()
    relaxed = RelaxedMinkowski(Minkowski((1.0,), outputs=("euler",)), 0.05, spreads=(1.0,))
    (gradient,) = torch.autograd.grad(relaxed(board).sum(), board)
    assert 0.2 <= float(gradient.norm()) / certify(relaxed, (8, 8)).bound <= 1
    field = torch.zeros(40, 9, 9, dtype=torch.float64)
    field[:, 4, 4] = torch.linspace(0.7, 1.1, 40)
    for output, share in (("area", 0.9), ("perimeter", 0.2)):
        relaxed = RelaxedMinkowski(Minkowski((1.0,), 1.5, outputs=(output,)), 0.05, spreads=(1.0,))
        x = field.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(signed_log1p(relaxed(x)).sum(), x)
        assert share <= float(gradient.flatten(1).norm(dim=1).max()) / certify(relaxed, (9, 9)).bound <= 1


def test_relaxed_bounds_of_area_and_perimeter_hardly_grow_with_the_field():
    metric = Minkowski(THRESHOLDS, 2.0, outputs=("area", "perimeter"))
    small, large = (certify(RelaxedMinkowski(metric, 0.1), (edge, edge)).bound for edge in (32, 1024))
    assert small <= large <= 1.1 * small


# Bounds that are attained: a lost or a doubled factor shows


SIGNS = torch.tensor([1.0, -1.0], dtype=torch.float64)
"""Centring and MaxMin leave features (a, -a), a >= 0, as they are."""


def transparent(readouts: tuple[int, ...], channel: int, temperature: float) -> CertifiedEmulator:
    """Weights that carry one signal through every layer, each with a norm of its own, and all else nowhere.

    The kernels do to a uniform change of the field all that their norms allow, and the first fully
    connected layer weighs the readouts (0: the encoding, 1 to 3: the stages) by what they carry.
    """
    metric = Minkowski(THRESHOLDS, 2.0)
    module = CertifiedEmulator(
        metric, widths=(2, 2, 2), hidden=2, masks=1, mask_temperature=temperature, spreads=spreads(THRESHOLDS)
    )
    frozen(module).double()
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    identity = torch.eye(2, dtype=torch.float64)
    module.entry.weight[:, channel, 2:4, 2:4] = (2 / math.sqrt(8)) * SIGNS[:, None, None]
    for k, block in enumerate(module.blocks):
        for conv, norm in zip(block.convs, (2.0, 1.5 + k), strict=True):
            conv.weight[..., 1, 1] = norm * identity
    for widen, norm in zip(module.widen, (3.0, 0.3), strict=True):
        widen.weight[..., 1, 1] = norm * identity
    norms = list(itertools.accumulate((2 * 2.0, 3 * 2.5, 0.3 * 4.0), lambda a, b: a * b, initial=1.0))
    # Small readouts, for which the signed logarithm has slope 1; each of them as steep as the others.
    module.log_gains.fill_(-10.0)
    for k in readouts:
        module.log_gains[k] = math.log(1e-7 / norms[k]) / 8
    weight = torch.zeros(8, dtype=torch.float64)
    for k in readouts:
        weight[2 * k : 2 * k + 2] = SIGNS / math.sqrt(2)
    if 0 in readouts:
        weight[:2] = 0.0
        weight[channel] = 1.0
    module.fc[0].weight[0] = 5 * weight / math.sqrt(len(readouts))
    module.fc[1].weight[0, 0] = 0.4
    for layer in module.fc[:2]:
        layer.bias[1] = -1.0  # the smaller one of the pair
    module.fc[2].weight[:, 0] = 30.0
    module.fc[2].bias.fill_(2 / 8)
    return module


@pytest.mark.parametrize("readouts", [(0,), (1,), (2,), (3,), (0, 1, 2, 3)], ids=str)
@pytest.mark.parametrize(
    ("channel", "temperature", "level"),
    [(0, 0.01, THRESHOLDS[0]), (1, 100.0, 0.0)],
    ids=["mask", "log-like scale"],
)
@pytest.mark.parametrize("size", [(8, 16), (32, 24)])
def test_certified_bound_is_nearly_attained(readouts, channel, temperature, level, size):
    module = transparent(readouts, channel, temperature)
    field = torch.full((1, *size), level, dtype=torch.float64)
    certificate = certify(module, size)
    assert 0.85 <= steepest(module, (field, field + 1e-4)) / certificate.bound <= 1
    assert [name for name, _ in certificate.layers] == [
        "encoding", "entry", "blocks.0.convs.0", "blocks.0.convs.1", "widen.0", "blocks.1.convs.0",
        "blocks.1.convs.1", "widen.1", "blocks.2.convs.0", "blocks.2.convs.1",
        "gain.0", "gain.1", "gain.2", "gain.3", "fc.0", "fc.1", "fc.2", "scale",
    ]  # fmt: skip


def test_padding_is_part_of_the_certified_bound():
    """A field smaller than its padded shape comes to the share of the root of the pixels that it has."""
    module = transparent((0,), 0, 0.01)
    field = torch.full((1, 9, 9), THRESHOLDS[0], dtype=torch.float64)
    found = steepest(module, (field, field + 1e-4)) / certify(module, (9, 9)).bound
    assert found == pytest.approx(9 / 16, rel=0.03)


def one_way(masks: int, temperature: float) -> ConvEmulator:
    """A plain network that lets one channel through, at the steepest places of its GELUs."""
    module = frozen(plain(masks=masks, mask_temperature=temperature)).double()
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    convolutions = [layer for layer in module.backbone.layers if isinstance(layer, nn.Conv2d)]
    for conv, norm in zip(convolutions, (3.0, 0.25), strict=True):
        conv.weight[0, 0, 1, 1] = norm
    steep = math.sqrt(2)
    module.fc[0].weight[0, 0], module.fc[0].bias[0] = 1e-5, steep
    at_steep = float(F.gelu(torch.tensor(steep, dtype=torch.float64)))
    module.fc[2].weight[0, 0], module.fc[2].bias[0] = 3.0, steep - 3.0 * at_steep
    module.fc[4].weight[:, 0] = 0.5
    return module


@pytest.mark.parametrize(
    ("masks", "temperature", "level"), [(0, 0.1, 0.0), (1, 0.01, THRESHOLDS[0])], ids=["log", "mask"]
)
@pytest.mark.parametrize("size", [(8, 12), (32, 24)])
def test_bound_of_a_plain_network_is_nearly_attained(masks, temperature, level, size):
    module = one_way(masks, temperature)
    field = torch.full((1, *size), level, dtype=torch.float64)
    other = field.clone()
    other[:, ::4, ::4] += 1e-4  # one pixel of each window of the pools, and so the largest of it
    assert 0.9 <= steepest(module, (field, other)) / certify(module, size).bound <= 1


# Those that have none


def test_group_norm_has_no_bound():
    emulator = ConvEmulator(Minkowski(THRESHOLDS), widths=(8, 16), hidden=16)
    certificate = certify(emulator, (8, 8))
    assert certificate.bound is None
    assert certificate.layers == ()
    assert str(certificate) == "no global bound: GroupNorm in stage 1"


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Flatten(), "no rule for Flatten"),
        (RelaxedMinkowski(Minkowski((1.0,)), forward="exact"), "exact values jump"),
        (
            RelaxedMinkowski(Minkowski((1.0,))),
            "steps as wide as each field is spread around its lone threshold",
        ),
    ],
)
def test_what_has_no_bound_says_why(module, reason):
    certificate = certify(module, (8, 8))
    assert certificate.bound is None
    assert certificate.reason == reason


def test_layers_without_a_rule_have_no_bound():
    for layer, reason in (
        (nn.BatchNorm2d(8), "no rule for BatchNorm2d in backbone.layers.1"),
        (nn.MaxPool2d(3, padding=1), "no rule for MaxPool2d in backbone.layers.1"),
        (nn.Conv2d(8, 8, 3, groups=2), "no rule for Conv2d in backbone.layers.1"),
        (nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), "no rule for Conv2d in backbone.layers.1"),
    ):
        emulator = plain()
        emulator.backbone.layers[1] = layer
        assert certify(emulator, (8, 8)).reason == reason
    assert certify(plain(heads="constrained"), (8, 8)).reason == "constrained heads"


def test_overlapping_pools_are_bounded():
    emulator = plain()
    single = certify(emulator, (8, 8)).bound
    emulator.backbone.layers[2] = nn.MaxPool2d(3, stride=2)
    # Each pixel lies in up to 2 x 2 windows, and one pixel instead of 2 x 2 is left to average.
    assert certify(emulator, (8, 8)).bound == pytest.approx(2 * 2 * single)


@pytest.mark.parametrize("shape", [(8,), (0, 8), (8.0, 8), "88"])
def test_shapes_that_are_none_are_refused(shape):
    with pytest.raises(ArgumentError, match="shape must be"):
        certify(nn.Flatten(), shape)


def test_weights_of_networks_must_be_finite():
    emulator = plain()
    with torch.no_grad():
        emulator.fc[0].weight[0, 0] = math.nan
    with pytest.raises(ArgumentError, match="weights must be finite"):
        certify(emulator, (8, 8))
