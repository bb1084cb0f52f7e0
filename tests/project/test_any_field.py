"""Fields of any kind, type, layout, unit and gaps, through labels, relaxation, loss and gradient."""

import emuloss
import numpy as np
import pytest
import torch
from emuloss.datasets import InMemory, label
from emuloss.errors import EmulossError
from emuloss.losses import RangeWarning
from emuloss.metrics import quantile_thresholds
from scipy.ndimage import gaussian_filter

pytestmark = pytest.mark.filterwarnings("ignore::emuloss.losses.RangeWarning")
assert issubclass(RangeWarning, UserWarning)

KINDS = ("smooth", "rain", "noise", "steps", "mask", "grey", "constant", "spikes")
TYPES = ("f4", "f8", "f2", "u1", "i2", "i4", ">f4", "bool")
UNITS = ((1.0, 0.0), (8.0, 285.0), (10.0, -30.0), (255.0, 0.0), (1e-6, 0.0), (1e4, 1e5), (0.01, -0.5))
LAYOUTS = ("plain", "fortran", "strided", "reversed", "channel", "list")
GAPS = ("none", "some", "corner", "one field", "masked")


def drawn(rng: np.random.Generator) -> np.ndarray:
    """Fields (T, H, W), float64, of a kind, in a unit."""
    shape = (int(rng.integers(4, 9)), int(rng.integers(8, 21)), int(rng.integers(8, 21)))
    noise = rng.standard_normal(shape)
    soft = gaussian_filter(noise, (0, 1.5, 1.5))
    kind = KINDS[rng.integers(len(KINDS))]
    fields = {
        "smooth": soft / soft.std(),
        "rain": np.maximum(np.exp(2 * soft / soft.std()) - 2, 0),
        "noise": noise,
        "steps": np.round(3 * soft / soft.std()),
        "mask": (soft > 0).astype(float),
        "grey": (soft - soft.min()) / np.ptp(soft),
        "constant": np.full(shape, 3.0),
        "spikes": np.where(rng.random(shape) < 0.02, 50.0, 0.0),
    }[kind]
    a, b = UNITS[rng.integers(len(UNITS))]
    return a * fields + b


def typed(fields: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same as another type, as far as it fits."""
    kind = np.dtype(TYPES[rng.integers(len(TYPES))])
    if kind.kind in "ui":
        bounds = np.iinfo(kind)
        fields = fields.clip(bounds.min, bounds.max)
    elif kind.itemsize == 2:
        fields = fields.clip(-6e4, 6e4)
    return fields.astype(kind)


def with_gaps(fields: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same with pixels that were not measured."""
    gap = GAPS[rng.integers(len(GAPS))]
    lost = np.zeros(fields.shape, bool)
    if gap == "some":
        lost = rng.random(fields.shape) < 0.2
    elif gap == "corner":
        lost[:, :3, :4] = True
    elif gap == "one field":
        lost[0] = True
    if gap == "masked":
        return np.ma.masked_array(fields, rng.random(fields.shape) < 0.2)
    if gap == "none" or fields.dtype.kind != "f":
        return fields
    return np.where(lost, np.array(np.nan, fields.dtype), fields)


def laid_out(fields: np.ndarray, rng: np.random.Generator):
    """The same in memory otherwise."""
    layout = LAYOUTS[rng.integers(len(LAYOUTS))]
    if layout == "fortran" and not np.ma.isMaskedArray(fields):
        return np.asfortranarray(fields)
    if layout == "strided":
        return np.repeat(fields, 2, axis=2)[:, :, ::2]
    if layout == "reversed":
        return fields[::-1, ::-1]
    if layout == "channel":
        return fields[:, None]
    return list(fields) if layout == "list" else fields


def go_through(seed: int, folder) -> str:
    """Take fields of a seed all the way; gives "refused" where the package did so in one line."""
    rng = np.random.default_rng(seed)
    fields = laid_out(with_gaps(typed(drawn(rng), rng), rng), rng)
    name = ("minkowski", "boxcount", "fss", "csi")[seed % 4]
    try:
        levels = [0.2, 0.5, 0.8][: 1 + seed % 3]
        thresholds = quantile_thresholds(fields, levels)
        metric = emuloss.metric(name, thresholds=thresholds, levels=levels)
        if metric.arity == 1:
            plain = np.ma.filled(np.ma.asarray(fields).astype(float), np.nan).reshape(
                -1, *np.shape(fields)[-2:]
            )
            store = label(InMemory(plain), metric, folder / f"{seed}.h5", progress=False)
            assert np.isfinite(store.split("train")[1]).all()
        sample = torch.from_numpy(np.ma.filled(np.ma.asarray(fields).astype(np.float32), np.nan))
        sample = sample.reshape(-1, 1, *sample.shape[-2:])
        loss = emuloss.relax(metric, fields=fields).as_loss()
        known = sample.nan_to_num(float(np.mean(thresholds)))
        # Between the values of masks and steps, as predictions are.
        start = (0.6 * known + 0.4 * torch.roll(known, 1, 0)).requires_grad_()
        value = loss(start, sample)
        value.backward()
    except EmulossError as error:
        return "refused" if "\n" not in str(error) else f"refused at length: {error}"
    assert value.isfinite()
    assert start.grad.isfinite().all()
    assert not start.grad[sample.isnan()].any()
    exact = metric(*((start.detach().numpy(), sample.numpy())[: metric.arity]))
    # What differs in the exact metric is not a constant to the loss.
    if metric.arity == 1 and not np.array_equal(exact, metric(sample.numpy())):
        assert value > 0
        assert start.grad.any()
    return "taken"


def test_forty_fields_of_any_kind(tmp_path):
    ends = [go_through(seed, tmp_path) for seed in range(40)]
    assert set(ends) == {"taken", "refused"}
    assert ends.count("taken") > 20


@pytest.mark.slow
def test_two_thousand_fields_of_any_kind(tmp_path):
    ends = [go_through(seed, tmp_path) for seed in range(40, 2040)]
    assert set(ends) == {"taken", "refused"}
    assert ends.count("taken") > 1000
