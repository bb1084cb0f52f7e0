"""Terms of the super-resolution example that others have published: what they see, and their gradients."""

import importlib
import sys
from pathlib import Path

import emuloss
import numpy as np
import pytest
import torch
from drawn import read_all
from emuloss import train_surrogate
from emuloss.datasets import Rain
from emuloss.errors import ArgumentError
from scipy.integrate import trapezoid
from torch.nn.functional import avg_pool2d

FOLDER = Path(train_surrogate.__file__).resolve().parent / "examples" / "super_resolution"
TERMS = {
    "betti_matching": "BettiMatching",
    "persistence": "PersistenceDistance",
    "paper": "MinkowskiImageLoss",
}
PACKAGES = {"betti_matching": "topolosses.losses", "persistence": "torch_topological.nn"}
HEIGHT = 2.0
"""log(1 + rain) of what is drawn."""
SIZE = 64


def _of_the_example():
    return {name for name in sys.modules if name.partition(".")[0] in {"terms", "objectives"}}


@pytest.fixture(scope="module", autouse=True)
def _modules():
    """Modules of the example, which stand in no package."""
    kept = {name: sys.modules.pop(name) for name in _of_the_example()}
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))
    for name in _of_the_example():
        del sys.modules[name]
    sys.modules.update(kept)


def built(name, **arguments):
    """A term, or a skip that tells which package it misses."""
    kind = getattr(importlib.import_module(f"terms.{name}"), TERMS[name])
    try:
        return kind(**arguments)
    except ArgumentError as error:
        pytest.skip(str(error))


@pytest.fixture(params=TERMS)
def term(request):
    return built(request.param)


def disk(row=32, column=32, radius=16, hole=None):
    """A disk of rain, with a hole of radius 5 at a place in it."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    inside = (rows - row).square() + (columns - column).square() <= radius**2
    if hole is not None:
        inside &= (rows - hole[0]).square() + (columns - hole[1]).square() > 25
    return HEIGHT * inside.float()


def drawn(ensembles=2, members=3, seed=4):
    """A target (N, H, W) of synthetic rain, a corner not measured; noise on blurred ones as members."""
    source = Rain(ensembles, size=SIZE, seed=seed, regimes="convective")
    target = torch.from_numpy(read_all(source)).nan_to_num(0.0).log1p()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(ensembles, members, SIZE, SIZE, generator=generator)
    smooth = avg_pool2d(target[:, None], 9, 1, padding=4)
    target[:, :8, :8] = torch.nan
    return (smooth * (1 + 0.5 * noise)).clamp(min=0), target


def gradient(term, members, target):
    members = members.clone().requires_grad_()
    value = term(members, target)
    return value.item(), torch.autograd.grad(value, members)[0]


def test_unmeasured_pixels_have_no_say_and_no_gradient(term):
    members, target = drawn()
    value, slope = gradient(term.eval(), members, target)
    assert slope.isfinite().all()
    assert (slope.flatten(2).norm(dim=2) > 0).all()
    assert (slope[..., :8, :8] == 0).all()
    members[..., :8, :8] = 7.0
    target[:, :8, :8] = torch.nan
    assert gradient(term, members, target)[0] == pytest.approx(value, rel=1e-6)


def test_a_term_is_the_mean_over_members_in_any_order(term):
    members, target = drawn()
    value, slope = gradient(term.eval(), members, target)
    turned, slope_turned = gradient(term, members.flip(1), target)
    assert turned == pytest.approx(value, rel=1e-5)
    torch.testing.assert_close(slope_turned.flip(1), slope, rtol=1e-3, atol=1e-6)
    alone = [
        gradient(term, members[n : n + 1, m : m + 1], target[n : n + 1])[0] for n in (0, 1) for m in range(3)
    ]
    assert np.mean(alone) == pytest.approx(value, rel=1e-5)


def test_a_share_of_the_ensembles_is_seen_in_training_alone(term):
    members, target = drawn()
    term.share = 0.3
    _, seen = gradient(term.train(), members, target)
    assert (seen[0] != 0).any()
    assert (seen[1] == 0).all()
    _, every = gradient(term.eval(), members, target)
    assert (every[1] != 0).any()


def test_descent_leads_to_the_target(term):
    members, target = drawn(1, 2)
    members.requires_grad_()
    optimizer = torch.optim.Adam([members], lr=0.02)
    values = []
    for _ in range(20):
        optimizer.zero_grad()
        value = term.eval()(members, target)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.7 * values[0]


def test_dry_fields_are_alike(term):
    dry = torch.zeros(1, SIZE, SIZE)
    value, slope = gradient(term.eval(), dry[None], dry)
    assert slope.isfinite().all()
    wet = gradient(term, disk(hole=(32, 32))[None, None], dry)[0]
    assert value < 0.2 * wet


def test_a_target_is_closer_to_itself_than_a_dry_field(term):
    _, target = drawn()
    itself = target.nan_to_num(0.0)[:, None]
    right, wrong = (gradient(term.eval(), members, target)[0] for members in (itself, 0 * itself))
    assert wrong > 1.5 * right + 0.05


@pytest.mark.parametrize(
    ("member", "unmatched"),
    [
        (disk(hole=(32, 32)), 0),
        (disk(), 1),
        (disk(hole=(32, 22)), 2),  # the same in number, elsewhere
        (disk(hole=(32, 32)) + disk(6, 6, 3), 1),
    ],
)
def test_betti_matching_counts_what_has_no_counterpart_at_its_place(member, unmatched):
    term = built("betti_matching", thresholds=(1.0, 3.0), temperature=0.01)
    target = disk(hole=(32, 32))[None]
    assert term(member[None, None], target).item() == pytest.approx(unmatched, abs=1e-4)


@pytest.mark.parametrize(
    ("member", "more"),
    [
        (disk(hole=(32, 32)), 0),
        (disk(), 1),
        (disk(hole=(32, 22)), 0),  # the same in number, elsewhere
        (disk(hole=(32, 32)) + disk(6, 6, 3) + disk(6, 50, 3), 2),
    ],
)
def test_persistence_counts_half_the_height_of_what_is_missing_or_too_much(member, more):
    term = built("persistence", pool=1)
    target = disk(hole=(32, 32))[None]
    assert term(member[None, None], target).item() == pytest.approx(more * HEIGHT / 2, abs=1e-5)


def test_pooled_fields_are_compared_where_asked():
    members, target = drawn(1, 1)
    target = target.nan_to_num(0.0)
    pooled = [avg_pool2d(x, 2) for x in (members, target)]
    value = built("persistence", pool=2)(members, target)
    torch.testing.assert_close(built("persistence", pool=1)(*pooled), value)


def test_the_paper_s_loss_is_its_formula():
    members, target = drawn(1, 1)
    surrogate = emuloss.load("minkowski-opera-constrained")
    outputs = [surrogate.metric.outputs.index(name) for name in ("area", "perimeter", "components")]
    levels = np.asarray(surrogate.metric.levels)

    def slog(curves):
        curves = np.asarray(curves, np.float64)[:, outputs]
        return np.sign(curves) * np.log1p(np.abs(curves))

    rain = target.nan_to_num(0.0).expm1()
    drawn_rain = members[0].where(~target.isnan(), 0.0).expm1()
    exact = slog(surrogate.metric(rain.numpy()))
    distance = trapezoid(np.abs(slog(surrogate(drawn_rain).detach()) - exact), levels, axis=-1).sum()
    error = trapezoid(np.abs(slog(surrogate(rain).detach()) - exact), levels, axis=-1).sum()
    value = built("paper")(members, target).item()
    assert value == pytest.approx(np.exp(-0.1 * error**2) * distance, rel=1e-3)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_told_with_its_remedy(name, monkeypatch):
    module = importlib.import_module(f"terms.{name}")
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    with pytest.raises(ArgumentError, match=r"^this term needs \w+; run: pip install [^\n]+\.$"):
        getattr(module, TERMS[name])()
