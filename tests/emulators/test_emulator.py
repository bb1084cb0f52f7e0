"""The CNN emulator: its prior, its readouts, its heads, and what its arguments may be."""

import copy
import math

import numpy as np
import pytest
import torch
from drawn import rain, spreads
from emuloss.emulators import ConvEmulator, RelaxedMinkowski, signed_log1p
from emuloss.emulators.networks.backbone import PlainBackbone, ResidualBackbone, _moments
from emuloss.emulators.networks.encodings import LevelEncoding, LogEncoding
from emuloss.errors import ArgumentError
from emuloss.metrics import Metric, Minkowski
from torch import Tensor

THRESHOLDS = (0.2, 0.7, 1.5, 4.0)
ALL = ("area", "perimeter", "euler", "components", "holes")
NAN = math.nan
HYBRID = {"readout": "all", "masks": 7, "prior": 0.05}
"""Arguments of the architecture of that name."""


class Total(Metric):
    """Rain of the whole field: a metric without a relaxation."""

    name = "total"
    outputs, units, levels, pixel_size, constraints = ("total",), ("mm/h",), (0.5,), 1.0, ()
    thresholds = (1.0,)

    def arguments(self):
        return {}

    def _compute(self, fields):
        return fields.sum((1, 2))[:, None, None]


def build(metric=None, *, weights: int | None = None, scale=1.0, widths=(8, 16), hidden=16, **arguments):
    """A tiny emulator; with `weights`, its weights are moved at random with that seed, by that scale."""
    torch.manual_seed(0)
    metric = metric or Minkowski(THRESHOLDS, 2.0)
    arguments = {"spreads": spreads(metric.thresholds)} | arguments if metric.thresholds else arguments
    emulator = ConvEmulator(metric, widths=widths, hidden=hidden, **arguments)
    if weights is not None:
        generator = torch.Generator().manual_seed(weights)
        with torch.no_grad():
            for parameter in emulator.parameters():
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return emulator.eval()


def assert_admissible(emulator: ConvEmulator, fields: Tensor, curves: Tensor) -> None:
    metric = emulator.metric
    assert curves.shape == (len(fields), len(metric.outputs), len(metric.thresholds))
    assert curves.isfinite().all()
    shares = metric.check(curves.detach().double().numpy(), tuple(fields.shape[-2:]))
    assert {label: share for label, share in shares.items() if share} == {}


# Sizes and settings


SETTINGS = {
    "paper": {},
    "hybrid": HYBRID,
    "located": {**HYBRID, "located": True},
    "plain": {"backbone": "plain", "spectral": "none"},
    "plain, normalised": {"backbone": "plain", "spectral": "power"},
    "masks": {"masks": 3, "mask_temperature": 0.5},
    "prior": {"prior": 0.2},
    "all stages": {"readout": "all", "spectral": "none"},
    "deep": {"depth": 3},
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("metric", [Minkowski(THRESHOLDS, 2.0, ALL), Total()], ids=["minkowski", "other"])
def test_settings_go_together(name, metric):
    emulator = build(metric, weights=1, scale=0.2, **SETTINGS[name])
    fields = rain(2, 13, 18).requires_grad_()
    curves = emulator(fields)
    assert_admissible(emulator, fields, curves)
    signed_log1p(curves).sum().backward()
    assert fields.grad.isfinite().all()
    assert fields.grad.any()


@pytest.mark.parametrize("widths", [(8,), (8, 8), (16, 8, 24)], ids=str)
@pytest.mark.parametrize("backbone", ["plain", "residual"])
def test_any_widths_at_the_least_size(widths, backbone):
    emulator = build(widths=widths, backbone=backbone)
    assert emulator.stride == 2 ** len(widths)
    fields = rain(1, emulator.stride, emulator.stride)
    assert_admissible(emulator, fields, emulator(fields))


def test_padding_with_dry_pixels_makes_little_difference():
    # Only the share of the field that is dry changes with its frame.
    emulator = build(**HYBRID)
    fields = rain(4, 13, 18)
    padded = torch.nn.functional.pad(fields, (0, 2, 0, 3))
    torch.testing.assert_close(emulator(padded), emulator(fields), rtol=1e-3, atol=0.1)


BACKBONES = {
    "last": lambda: ResidualBackbone(2, (8, 16), 2, "last", "none"),
    "all": lambda: ResidualBackbone(2, (8, 16), 1, "all", "power"),
    "plain": lambda: PlainBackbone(2, (8, 16)),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_readout_does_not_depend_on_the_memory_format(name):
    backbone = BACKBONES[name]().eval()
    encoded = rain(2, 2, 8, 12)
    assert backbone(encoded).shape == (2, backbone.features)
    last = encoded.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(backbone(encoded), backbone(last), rtol=1e-4, atol=1e-4)


def test_depth_is_the_number_of_blocks_of_a_stage():
    shallow, deep = build(depth=1), build(depth=3)
    assert [len(stage) for stage in shallow.backbone.stages] == [1, 1]
    assert [len(stage) for stage in deep.backbone.stages] == [3, 3]


# The relaxed prior


@pytest.mark.parametrize(
    "outputs",
    [("area",), ("components",), ("euler", "area"), ("area", "perimeter", "euler"), ALL],
    ids="-".join,
)
@pytest.mark.parametrize("boundary", ["closed", "open"])
def test_starts_from_the_relaxation(outputs, boundary):
    metric = Minkowski(THRESHOLDS, 2.0, outputs, boundary)
    emulator, fields = build(metric, **HYBRID), rain(3, 16, 20)
    relaxed = RelaxedMinkowski(metric, 0.05, spreads=spreads(THRESHOLDS))(fields)
    frame = 16 * 20 * 4.0
    raw = emulator.heads.inverse({name: relaxed[:, c] for c, name in enumerate(outputs)}, frame)
    torch.testing.assert_close(emulator(fields), emulator.heads(raw, frame), rtol=0, atol=0)
    # Made admissible, the relaxation stays about what it was.
    for c, name in enumerate(outputs):
        reached = emulator(fields)[:, c]
        assert (reached - relaxed[:, c]).abs().max() <= 0.02 * relaxed[:, c].abs().max().clamp(min=1.0), name


def test_without_a_prior_all_fields_start_alike():
    emulator = build()
    assert emulator.prior is None
    curves = emulator(rain(4, 16, 16))
    assert torch.equal(curves, curves[:1].expand_as(curves))


def test_metrics_without_a_relaxation_have_no_prior():
    emulator = build(Total(), **HYBRID)
    assert emulator.prior is None
    assert emulator.arguments()["prior"] is None


# Encodings


@pytest.mark.parametrize("thresholds", [THRESHOLDS, (-1.5, 0.0, 2.0), (-4.0, -2.0), (0.0,)], ids=str)
@pytest.mark.parametrize("settings", [{}, {"masks": 7}, HYBRID], ids=str)
def test_what_was_not_measured_is_dry(thresholds, settings):
    emulator = build(Minkowski(thresholds), weights=4, **settings)
    unmeasured = torch.full((1, 8, 8), NAN)
    dry = torch.full((1, 8, 8), emulator.encoding.dry)
    torch.testing.assert_close(emulator(unmeasured), emulator(dry), rtol=1e-5, atol=1e-5)
    if settings:  # masks see nothing there
        assert not emulator.metric(dry.numpy()).any()
        masks = emulator.encoding(dry)[:, :-1]
        assert masks.max() < 1e-4


@pytest.mark.parametrize("settings", [{}, HYBRID], ids=str)
def test_of_rain_zero_is_dry(settings):
    assert build(**settings).encoding.dry == 0.0


@pytest.mark.parametrize("count", [1, 2, 7, 8, 21])
def test_masks_are_spread_over_the_thresholds(count):
    encoding = build(Minkowski([0.1 * (q + 1) for q in range(count)]), masks=7).encoding
    assert encoding.channels == min(count, 7) + 1
    encoded = encoding(torch.tensor([[[0.0, 0.1, 1e9]]]))
    assert encoded.shape == (1, encoding.channels, 1, 3)
    assert (encoded[0, :-1, 0, 0] < 1e-4).all()
    assert (encoded[0, :-1, 0, 2] == 1).all()
    assert encoded[0, 0, 0, 1] == pytest.approx(0.5)


def test_without_masks_the_field_is_seen_on_a_log_like_scale():
    encoding = build().encoding
    fields = rain(2, 5, 6)
    assert encoding.channels == 1
    torch.testing.assert_close(encoding(fields), torch.asinh(fields / 0.2)[:, None])


@pytest.mark.parametrize("thresholds", [THRESHOLDS, (-1.5, 0.0, 2.0), (0.0,)], ids=str)
@pytest.mark.parametrize("masks", [0, 1, 3])
def test_slope_bounds_what_a_pixel_can_change(thresholds, masks):
    around = spreads(thresholds)
    encoding = LevelEncoding(thresholds, around, masks, 0.1) if masks else LogEncoding(thresholds, around)
    encoding.double()
    x = torch.linspace(-5, 5, 40_001, dtype=torch.float64)
    encoded = encoding(x[None, None])[0, :, 0]
    steepest = (encoded.diff() / x.diff()).norm(dim=0).max()
    assert steepest <= encoding.slope() * (1 + 1e-9)
    if not masks:
        assert steepest > 0.99 * encoding.slope()


# Copies and precision


@pytest.mark.parametrize("settings", [{}, HYBRID, {"backbone": "plain"}], ids=str)
@pytest.mark.parametrize("weights", [None, 1])
def test_double_precision(settings, weights):
    single = build(weights=weights, **settings)
    double = copy.deepcopy(single).double()
    fields = rain(3, 13, 18)
    curves = double(fields)
    assert curves.dtype == torch.float64
    torch.testing.assert_close(curves.float(), single(fields), rtol=2e-3, atol=2e-2)
    assert_admissible(double, fields, curves)


@pytest.mark.parametrize(
    "settings", [{}, HYBRID | {"prior": 0.5, "mask_temperature": 0.5}, {"backbone": "plain"}], ids=str
)
@pytest.mark.parametrize("heads", ["constrained", "free"])
def test_gradient_in_double_precision_by_finite_differences(settings, heads):
    emulator = build(Minkowski(THRESHOLDS, 2.0, ALL), weights=5, scale=0.2, heads=heads, **settings).double()
    fields = 2 * torch.rand((1, 4, 5), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    fields.requires_grad_()

    def curves(x: Tensor) -> Tensor:
        return signed_log1p(emulator(x))

    assert torch.autograd.grad(curves(fields).sum(), fields)[0].abs().max() > 1e-2
    assert torch.autograd.gradcheck(curves, fields, eps=1e-7, atol=1e-4, rtol=1e-3)


# Heads and spectral norms


@pytest.mark.parametrize("weights", [None, 1, 2])
def test_textbook_heads_obey_the_textbook(weights):
    metric = Minkowski(THRESHOLDS, 2.0)
    emulator = build(metric, weights=weights, isoperimetric="textbook")
    for fields in (rain(3, 13, 18), torch.zeros((1, 8, 8)), torch.full((1, 8, 8), 1e30), -rain(2, 9, 9)):
        area, perimeter, _ = emulator(fields).double().unbind(1)
        assert (perimeter**2 >= 4 * math.pi * area * (1 - 1e-6)).all()
        assert (area.diff(dim=1) <= 0).all()
        assert (area >= 0).all()


def test_textbook_heads_are_for_minkowski_metrics():
    with pytest.raises(ArgumentError, match=r"^guarantee of metric 'total' must be .*, got 'textbook'$"):
        build(Total(), isoperimetric="textbook")


def test_free_heads_say_anything():
    emulator = build(heads="free", weights=1)
    assert emulator.heads.constraints == ()
    curves = emulator(rain(8, 16, 16))
    assert curves.isfinite().all()
    assert (curves < 0).any()


def kernels(emulator: ConvEmulator) -> list[Tensor]:
    """Kernels of the stages' convolutions."""
    return [
        part.weight
        for name, part in emulator.backbone.named_modules()
        if isinstance(part, torch.nn.Conv2d) and name != "entry"
    ]


def norms(weights: list[Tensor]) -> list[float]:
    return [torch.linalg.matrix_norm(w.flatten(1), 2).item() for w in weights]


def true_norm(weight: Tensor, size: int = 8) -> float:
    """Largest singular value of the zero-padded convolution of fields of that size, by its matrix."""
    inputs = weight.shape[1]
    basis = torch.eye(inputs * size**2, dtype=weight.dtype).reshape(-1, inputs, size, size)
    matrix = torch.nn.functional.conv2d(basis, weight, padding=weight.shape[-1] // 2).flatten(1)
    return torch.linalg.matrix_norm(matrix, 2).item()


def settled(**arguments) -> ConvEmulator:
    """An emulator whose power iterations have converged."""
    emulator = build(widths=(8,), weights=1, **arguments).train()
    for _ in range(50):
        emulator(rain(1, 8, 8))
    return emulator.eval()


@pytest.mark.parametrize("backbone", ["plain", "residual"])
def test_power_iteration_bounds_the_reshaped_kernels(backbone):
    bounded = norms(kernels(settled(spectral="power", backbone=backbone)))
    assert bounded
    assert all(norm == pytest.approx(1, abs=0.01) for norm in bounded)
    assert max(norms(kernels(settled(spectral="none", backbone=backbone)))) > 2


def test_exact_normalisation_bounds_the_convolution_itself():
    # Reshaped kernels of norm 1 are convolutions of a larger norm.
    of_power, of_exact = ([true_norm(w) for w in kernels(settled(spectral=s))] for s in ("power", "exact"))
    assert max(of_power) > 1.1
    assert all(0.8 < norm < 1.02 for norm in of_exact)


# Errors


@pytest.mark.parametrize("widths", [(), (12,), (0,), (-8,), (8, 7), 8, "8", [8.0], None], ids=str)
def test_bad_widths_are_refused(widths):
    with pytest.raises(ArgumentError, match=r"^widths must be positive multiples of 8, got .*$"):
        ConvEmulator(Minkowski(THRESHOLDS), widths=widths)


@pytest.mark.parametrize("widths", [[2**20], [8] * 9], ids=str)
def test_widths_beyond_any_memory_are_refused(widths):
    with pytest.raises(ArgumentError, match=r"^widths.* a (whole number from 1 to 4096|list of 1 to 8)"):
        ConvEmulator(Minkowski(THRESHOLDS), widths=widths)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": 0}, "hidden must be positive, got 0"),
        ({"depth": 0}, "depth must be positive, got 0"),
        ({"backbone": "transformer"}, "backbone must be one of plain, residual, got 'transformer'"),
        ({"readout": "first"}, "readout must be one of last, all, got 'first'"),
        ({"heads": None}, "heads must be one of free, constrained, got None"),
        ({"isoperimetric": "none"}, "isoperimetric must be one of valid, textbook, got 'none'"),
        ({"spectral": "svd"}, "spectral must be one of none, power, exact, got 'svd'"),
        ({"masks": -1}, "masks must be a whole number from 0 to 1024, got -1"),
        ({"mask_temperature": 0.0}, "mask_temperature must be positive, got 0.0"),
        ({"mask_temperature": NAN}, "mask_temperature must be positive, got nan"),
        ({"hidden": 2.5}, "hidden must be a whole number from 1 to 16384, got 2.5"),
        ({"hidden": "many"}, "hidden must be positive, got 'many'"),
        ({"masks": 10**9}, "masks must be a whole number from 0 to 1024, got 1000000000"),
        ({"depth": 10**9}, "depth must be a whole number from 1 to 8, got 1000000000"),
        ({"located": 1}, "located must be True or False, got 1"),
        ({"located": True, "backbone": "plain"}, "located is for the residual backbone; this one is plain"),
        ({"prior": -0.1}, "temperature must be one positive number[^\n]*"),
    ],
    ids=str,
)
def test_other_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=f"^{message}$"):
        ConvEmulator(Minkowski(THRESHOLDS), **arguments)


# Where things lie


class Centre(Total):
    """Row and column of the centre of mass, from -1 to 1."""

    name = "centre"
    outputs, units = ("row", "column"), ("1", "1")

    def _compute(self, fields):
        rows, columns = (np.linspace(-1, 1, 2 * n + 1)[1::2] for n in fields.shape[1:])
        total = fields.sum((1, 2))
        row, column = (fields.sum(2) * rows).sum(1), (fields.sum(1) * columns).sum(1)
        return (np.stack([row, column], 1) / total[:, None])[:, :, None]


def spots(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Fields with rain in one square, and where its centre is."""
    random = np.random.default_rng(seed)
    fields = np.zeros((count, 16, 16), np.float32)
    for field, (row, column) in zip(fields, random.integers(0, 13, (count, 2)), strict=True):
        field[row : row + 4, column : column + 4] = random.uniform(2, 8)
    return torch.from_numpy(fields), torch.from_numpy(Centre()(fields)).float()


def test_a_network_that_is_told_where_things_lie_learns_it_sooner():
    errors = {}
    for located in (True, False):
        emulator = build(Centre(), readout="all", masks=4, located=located, heads="free").train()
        optimizer = torch.optim.Adam(emulator.parameters(), lr=5e-3)
        for step in range(120):
            fields, exact = spots(32, step)
            optimizer.zero_grad()
            (emulator(fields) - exact).square().mean().backward()
            optimizer.step()
        fields, exact = spots(64, 1000)
        with torch.no_grad():
            errors[located] = float((emulator.eval()(fields) - exact).square().mean())
    assert errors[True] < 0.3 * errors[False]


def test_the_same_thing_elsewhere_is_read_otherwise():
    emulator = build(located=True, **HYBRID)
    field = torch.zeros(1, 16, 16)
    field[0, 2:5, 3:6] = 3.0
    here, there = (emulator.backbone(emulator.encoding(f)) for f in (field, field.roll((4, 4), (1, 2))))
    moments = emulator.backbone.features - emulator.backbone.moments
    assert emulator.backbone.moments == 5 * emulator.encoding.channels
    assert not torch.allclose(here[:, moments:], there[:, moments:], atol=0.01)


def test_where_things_lie_does_not_count_before_it_is_learnt():
    emulator = build(located=True, **HYBRID)
    readout = torch.randn(1, emulator.fc[0].in_features)
    moved = readout.clone()
    moved[:, emulator.backbone.features - emulator.backbone.moments : emulator.backbone.features] += 1.0
    torch.testing.assert_close(emulator.fc[:3](readout), emulator.fc[:3](moved))


def test_moments_of_a_mask_are_its_centre_and_extent():
    mask = torch.zeros(1, 1, 8, 8)
    mask[0, 0, 1, 6] = 2.0  # at x = 0.625, y = -0.625
    mask[0, 0, 3, 4] = 2.0  # at x = 0.125, y = -0.125
    expected = 4 * torch.tensor([[-0.375, 0.375, 0.0625, 0.0625, -0.0625]])
    torch.testing.assert_close(_moments(mask), expected)
    assert not _moments(torch.zeros(1, 2, 8, 8)).any()
    assert _moments(mask.bfloat16()).dtype == torch.float32
