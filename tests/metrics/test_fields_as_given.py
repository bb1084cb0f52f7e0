"""Fields as callers have them: shapes, types and layouts that are taken; one line for those that are not."""

import re

import numpy as np
import pytest
import torch
from emuloss import ArgumentError, metric
from emuloss.metrics import Metric

FIELDS = np.random.default_rng(21).integers(0, 5, (3, 10, 12))
OF_ONE = metric("minkowski", thresholds=[0.5, 2.0, 3.5])
OF_TWO = metric("csi", thresholds=[0.5, 2.0])
EXACT = OF_ONE(FIELDS.astype(np.float64))


def test_channel_axes_are_dropped() -> None:
    np.testing.assert_array_equal(OF_ONE(FIELDS[:, None]), EXACT)
    others = FIELDS[::-1]
    exact = OF_TWO(FIELDS, others)
    np.testing.assert_array_equal(OF_TWO(FIELDS[:, None], others[:, None]), exact)
    np.testing.assert_array_equal(OF_TWO(FIELDS[:, None], others), exact)


@pytest.mark.parametrize("dtype", ["i1", "u1", ">i2", "u2", "i4", "u8", "f2", "f4", ">f4", "f8", ">f8", "g"])
def test_every_type_of_number_serves(dtype: str) -> None:
    np.testing.assert_array_equal(OF_ONE(FIELDS.astype(dtype)), EXACT)


def test_booleans_are_0_and_1() -> None:
    wet = FIELDS > 2
    np.testing.assert_array_equal(OF_ONE(wet), OF_ONE(wet.astype(float)))


@pytest.mark.parametrize(
    "hold",
    [
        np.asfortranarray,
        list,
        np.ndarray.tolist,
        torch.from_numpy,
        lambda fields: torch.from_numpy(fields)[:, None],
        lambda fields: np.repeat(fields, 2, 2)[:, :, ::2],
        lambda fields: np.ascontiguousarray(fields[::-1])[::-1],
    ],
)
def test_every_layout_serves(hold) -> None:
    np.testing.assert_array_equal(OF_ONE(hold(FIELDS)), EXACT)


@pytest.mark.parametrize("metric", [OF_ONE, OF_TWO])
def test_a_batch_may_be_empty(metric: Metric) -> None:
    curves = metric(*[FIELDS[:0]] * metric.arity)
    assert curves.shape == (0, len(metric.outputs), len(metric.levels))
    assert set(metric.check(curves, (10, 12)).values()) <= {0.0}


PLAIN = FIELDS.astype(np.float32)
WITH_GRADIENT = torch.rand(2, 8, 8, requires_grad=True)
REFUSED = {
    "one field": (PLAIN[0], "pass one field as field[None]"),
    "channels": (np.repeat(PLAIN[:, None], 3, 1), "pass one channel as fields[:, k]"),
    "a row": (PLAIN[0, 0], "got (12,)"),
    "five axes": (PLAIN[None, None], "got (1, 1, 3, 10, 12)"),
    "no rows": (PLAIN[:, :0], "H, W >= 1, got (3, 0, 12)"),
    "a number": (1.0, "got ()"),
    "nothing": (None, "dtype object"),
    "text": ("rain", "dtype <U4"),
    "bytes": (b"rain", "dtype |S4"),
    "objects": (PLAIN.astype(object), "dtype object; convert them, such as by .astype(float)"),
    "complex": (PLAIN.astype(complex), "dtype complex128"),
    "times": (PLAIN.astype("M8[s]"), "dtype datetime64[s]"),
    "records": (np.zeros((1, 4, 4), [("rain", "f4")]), "dtype [('rain', '<f4')]"),
    "ragged": ([[1.0, 2.0], [3.0]], "got list: ValueError"),
    "gradient": (WITH_GRADIENT, "pass x.detach().cpu().float()"),
    "half of a float32": (torch.rand(1, 8, 8).bfloat16(), "pass x.detach().cpu().float()"),
    "another device": (torch.rand(1, 8, 8, device="meta"), "pass x.detach().cpu().float()"),
}


@pytest.mark.parametrize(("fields", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_batch_of_fields_is_refused(fields, words: str) -> None:
    with pytest.raises(ArgumentError, match=f"^fields must [^\n]*{re.escape(words)}[^\n]*$"):
        OF_ONE(fields)
    with pytest.raises(ArgumentError, match=f"^observations must [^\n]*{re.escape(words)}[^\n]*$"):
        OF_TWO(PLAIN, fields)
    with pytest.raises(ArgumentError, match=f"^predictions must [^\n]*{re.escape(words)}[^\n]*$"):
        OF_TWO.check_pairs(fields, PLAIN)


COUNTS = {
    "two of one": (OF_ONE, (PLAIN, PLAIN), "takes one array of fields, got 2 arrays; call it for one batch"),
    "none of one": (OF_ONE, (), "takes one array of fields, got 0 arrays"),
    "one of two": (OF_TWO, (PLAIN,), "got 1 arrays; pass two arrays, such as pairs[:, 0], pairs[:, 1]"),
    "three of two": (OF_TWO, (PLAIN,) * 3, "takes predictions and observations, got 3 arrays"),
    "lengths": (OF_TWO, (PLAIN, PLAIN[:1]), "one shape, got (3, 10, 12) and (1, 10, 12)"),
    "sides": (OF_TWO, (PLAIN, PLAIN[:, :, :5]), "one shape, got (3, 10, 12) and (3, 10, 5)"),
}  # fmt: skip


@pytest.mark.parametrize(("metric", "given", "words"), COUNTS.values(), ids=COUNTS)
def test_another_number_of_arrays_is_refused(metric: Metric, given: tuple, words: str) -> None:
    with pytest.raises(ArgumentError, match=f"^[^\n]*{re.escape(words)}[^\n]*$"):
        metric(*given)


CHECKED = {
    "text": ("curves", None, "curves must be real numbers"),
    "another shape": (EXACT[:, :2], None, r"curves must have shape \(N, 3, 3\), got \(3, 2, 3\)"),
    "a shape that is text": (EXACT, "10 x 12", "field_shape must be"),
    "a shape of three": (EXACT, (3, 10, 12), "field_shape must be"),
    "a shape of nothing": (EXACT, (0, 12), "field_shape must be a whole number of at least 1"),
    "a shape that is no whole number": (EXACT, (10.0, 12), "field_shape must be a whole number"),
}  # fmt: skip


@pytest.mark.parametrize(("curves", "shape", "words"), CHECKED.values(), ids=CHECKED)
def test_what_check_cannot_work_with_is_refused(curves, shape, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        OF_ONE.check(curves, shape)


def test_check_takes_what_a_surrogate_gives() -> None:
    assert OF_ONE.check(torch.from_numpy(EXACT), torch.Size((10, 12))) == OF_ONE.check(EXACT, (10, 12))
