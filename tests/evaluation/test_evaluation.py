"""Evaluation: figures against hand-computed values and naive loops, descent, tables and pictures."""

from __future__ import annotations

import copy
import csv
import json
import math
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import rain_array
from emuloss import evaluation
from emuloss.emulators.distances import CurveDistance
from emuloss.emulators.relaxations.minkowski import RelaxedMinkowski
from emuloss.errors import ArgumentError, DataError
from emuloss.evaluation import (
    Evaluation,
    blurred,
    curve_distance,
    descend,
    descent,
    evaluate,
    exact_distance,
    fidelity,
    markdown_table,
    milliseconds_per_field,
    r_squared,
    summary_table,
)
from emuloss.evaluation.fidelity_panels import draw_shift, draw_violations
from emuloss.evaluation.gradient_panels import draw_gradients, draw_sizes
from emuloss.evaluation.report import write_report
from emuloss.losses import SurrogateLoss
from emuloss.metrics import Minkowski
from matplotlib.figure import Figure
from matplotlib.text import Text
from stand_ins import Bare

THRESHOLDS = (0.1, 0.3, 1.0, 3.0)


@pytest.fixture(scope="module")
def metric() -> Minkowski:
    return Minkowski(THRESHOLDS, pixel_size=2.0, length_unit="km", levels=(0.1, 0.3, 0.6, 0.9))


@pytest.fixture(scope="module")
def surrogate(metric: Minkowski) -> RelaxedMinkowski:
    return RelaxedMinkowski(metric, 0.05)


def rain(number: int = 8, rows: int = 32, columns: int = 40, seed: int = 0) -> np.ndarray:
    return rain_array(number, rows, columns, law="cells", seed=seed)


@pytest.fixture(scope="module")
def found(metric: Minkowski, surrogate: RelaxedMinkowski) -> Evaluation:
    fields = rain()
    return evaluate(
        surrogate,
        fields,
        metric(fields),
        batch_size=3,
        descent_fields=2,
        descent_steps=20,
        field_unit="mm/h",
        progress=False,
    )


def test_r_squared_by_hand() -> None:
    exact = np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1)
    emulated = np.array([1.0, 2.0, 4.0]).reshape(3, 1, 1)
    assert r_squared(exact, emulated) == pytest.approx(np.array([[0.5]]))


def test_r_squared_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(9, 3, 4))
    emulated = exact + 0.3 * rng.normal(size=exact.shape)
    r2 = r_squared(exact, emulated)
    for c in range(3):
        for q in range(4):
            x, e = exact[:, c, q], emulated[:, c, q]
            mean = sum(x) / len(x)
            error = sum((a - b) ** 2 for a, b in zip(x, e, strict=True))
            assert r2[c, q] == pytest.approx(1 - error / sum((a - mean) ** 2 for a in x))


def test_r_squared_of_perfect_is_one_and_of_the_mean_zero() -> None:
    exact = np.random.default_rng(1).normal(size=(6, 2, 3))
    np.testing.assert_array_equal(r_squared(exact, exact), 1.0)
    np.testing.assert_allclose(r_squared(exact, np.broadcast_to(exact.mean(0), exact.shape)), 0.0, atol=1e-12)


def test_r_squared_is_undefined_where_exact_values_are_constant() -> None:
    exact = np.full((5, 1, 2), 0.1)  # 0.1 + 0.1 + ... rounds: the sum of squares alone is not 0
    exact[:, 0, 1] = np.arange(5)
    r2 = r_squared(exact, exact + 1)
    assert np.isnan(r2[0, 0])
    assert np.isfinite(r2[0, 1])


def test_curve_distance_by_hand() -> None:
    # |slog| differences 1, 2, 0 over levels 0, 1, 3: 1.5 + 2 = 3.5.
    exact = np.expm1([[[1.0, 2.0, 3.0]]])
    emulated = np.expm1([[[2.0, 0.0, 3.0]]])
    np.testing.assert_allclose(curve_distance(exact, emulated, (0.0, 1.0, 3.0)), [[3.5]])


def test_curve_distance_is_that_of_the_loss(metric: Minkowski) -> None:
    first, second = metric(rain()), metric(rain(seed=1))
    loss = CurveDistance(metric.levels)(torch.from_numpy(first).float(), torch.from_numpy(second).float())
    np.testing.assert_allclose(curve_distance(first, second, metric.levels), loss.numpy(), rtol=1e-5)
    np.testing.assert_array_equal(
        exact_distance(metric, rain(), rain(seed=1)), curve_distance(first, second, metric.levels)
    )


@pytest.mark.parametrize("shape", [(0, 1, 1), (4, 2), (3, 2, 1)])
def test_curves_of_unequal_or_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="one shape"):
        r_squared(np.zeros(shape), np.zeros(shape[:2] if shape == (3, 2, 1) else shape))


def test_levels_must_fit() -> None:
    with pytest.raises(ArgumentError, match="levels must match the 2"):
        curve_distance(np.zeros((1, 1, 2)), np.zeros((1, 1, 2)), (0.1, 0.2, 0.3))


def test_fidelity_of_the_exact_curves(metric: Minkowski) -> None:
    fields = rain()
    exact = metric(fields)
    figures = fidelity(metric, exact, exact, fields.shape[1:])
    assert figures["fields"] == len(fields)
    assert figures["field_shape"] == [32, 40]
    assert figures["thresholds"] == list(THRESHOLDS)
    for name, unit in zip(metric.outputs, metric.units, strict=True):
        output = figures["outputs"][name]
        assert (output["unit"], output["r2_mean"], output["r2_worst"], output["distance"]) == (
            unit,
            1.0,
            1.0,
            0.0,
        )
    assert set(figures["violations"].values()) == {0.0}
    assert figures["textbook_isoperimetry"]["exact"] == figures["textbook_isoperimetry"]["emulated"]


def test_worst_threshold(metric: Minkowski) -> None:
    fields = rain()
    exact = metric(fields)
    emulated = exact.copy()
    emulated[0, 1, 2] += 50
    output = fidelity(metric, exact, emulated, fields.shape[1:])["outputs"]["perimeter"]
    assert output["r2_worst_threshold"] == THRESHOLDS[2]
    assert output["r2_worst"] == output["r2"][2] < 1
    assert output["r2_mean"] == pytest.approx((3 + output["r2"][2]) / 4)


def test_undefined_figures_are_none(metric: Minkowski) -> None:
    dry = metric(np.zeros((3, 8, 8)))
    figures = fidelity(metric, dry, dry, (8, 8))
    area = figures["outputs"]["area"]
    assert area["r2"] == [None] * 4
    assert area["r2_mean"] is area["r2_worst"] is area["r2_worst_threshold"] is None
    assert figures["textbook_isoperimetry"] == {"exact": None, "emulated": None}
    json.dumps(figures, allow_nan=False)


def test_curves_that_are_not_numbers_stay_json_able(metric: Minkowski) -> None:
    exact = metric(rain())
    emulated = np.full_like(exact, np.nan)
    figures = fidelity(metric, exact, emulated, (32, 40))
    assert figures["outputs"]["area"]["r2_mean"] is None
    assert figures["outputs"]["area"]["distance"] is None
    assert figures["violations"]["area >= 0"] == 100.0
    assert figures["textbook_isoperimetry"]["emulated"] == 100.0
    json.dumps(figures, allow_nan=False)


def test_violations_in_percent(metric: Minkowski) -> None:
    exact = metric(rain())
    emulated = exact.copy()
    emulated[:2, 0, 3] = -1.0
    violations = fidelity(metric, exact, emulated, (32, 40))["violations"]
    assert violations["area >= 0"] == pytest.approx(100 * 2 / (8 * 4))
    assert violations["area <= field"] == 0.0


def test_textbook_isoperimetry_by_hand() -> None:
    metric = Minkowski((0.5,), outputs=("perimeter", "area"))
    pixel, square = np.zeros((2, 12, 12))
    pixel[5, 5] = 1  # P^2/(4 pi A) = 0.57
    square[2:10, 2:10] = 1
    exact = metric(np.stack([pixel, square, np.zeros((12, 12))]))
    perimeter, area = exact[1, :, 0]
    assert perimeter**2 > 4 * math.pi * area
    emulated = exact.copy()
    emulated[1, 0] = 1.0
    shares = fidelity(metric, exact, emulated, (12, 12))["textbook_isoperimetry"]
    assert shares == {"exact": 50.0, "emulated": 100.0}


def test_textbook_isoperimetry_needs_area_and_perimeter() -> None:
    metric = Minkowski((0.5,), outputs=("area",))
    exact = metric(np.eye(4)[None])
    assert fidelity(metric, exact, exact, (4, 4))["textbook_isoperimetry"] is None


def test_milliseconds_per_field(surrogate: RelaxedMinkowski) -> None:
    figures = milliseconds_per_field(surrogate, rain(3), repeats=2)
    assert 0 < figures["forward"] < 100
    assert 0 < figures["gradient"] < 100
    assert figures["device"].startswith("CPU, ")
    with pytest.raises(ArgumentError, match="repeats"):
        milliseconds_per_field(surrogate, rain(3), repeats=0)
    with pytest.raises(ArgumentError, match="fields"):
        milliseconds_per_field(surrogate, rain(3)[:0])


@pytest.mark.parametrize("shape", [(32, 40), (13, 9), (5, 3), (1, 1)])
def test_blurred_keeps_the_mean(shape: tuple[int, int]) -> None:
    fields = rain(4, *shape) if min(shape) > 1 else np.full((4, 1, 1), 2.0)
    soft = blurred(fields)
    assert soft.shape == fields.shape
    np.testing.assert_allclose(soft.mean((1, 2)), fields.mean((1, 2)), rtol=1e-5)
    assert (soft >= 0).all()
    assert (soft.std((1, 2)) <= fields.std((1, 2)) + 1e-6).all()


def test_blurred_keeps_constants_signs_and_what_was_not_measured() -> None:
    fields = np.stack([np.full((20, 12), -3.5), rain(1, 20, 12)[0] - 1.0, np.full((20, 12), np.nan)])
    fields[:, :9, :9] = np.nan
    soft = blurred(fields)
    np.testing.assert_array_equal(np.isnan(soft), np.isnan(fields))
    np.testing.assert_allclose(soft[0][~np.isnan(soft[0])], -3.5)
    assert np.nanmean(soft[1]) == pytest.approx(np.nanmean(fields[1]), rel=1e-5)
    assert np.nanmin(soft[1]) >= np.nanmin(fields[1]) - 1e-6


def test_blurred_by_one_is_the_field() -> None:
    np.testing.assert_allclose(blurred(rain(2), factor=1), rain(2), rtol=1e-5)


@pytest.mark.parametrize("fields", [np.zeros((4, 4)), np.zeros((0, 4, 4)), np.zeros((1, 4, 4), complex)])
def test_blurred_refuses(fields: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="fields must be real numbers"):
        blurred(fields)


def test_dry_pixels_turn_wet_and_wet_ones_dry() -> None:
    target = torch.zeros(1, 2, 2)
    target[0, 0] = 2.0
    final, history = descend(torch.nn.MSELoss(), target.flip(1), target, learning_rate=0.1)
    torch.testing.assert_close(final, target, atol=0.05, rtol=0.05)
    assert (final >= 0).all()
    assert len(history) == 201
    assert history[-1] < 1e-3 * history[0]


def test_descend_keeps_what_was_not_measured_and_leaves_its_arguments() -> None:
    start, target = torch.ones(1, 3, 3), torch.full((1, 3, 3), 2.0)
    start[0, 0, 0] = target[0, 2, 2] = torch.nan
    copies = start.clone(), target.clone()
    final, history = descend(torch.nn.MSELoss(), start, target, steps=5)
    assert torch.isnan(final).nonzero().tolist() == [[0, 0, 0], [0, 2, 2]]
    assert all(map(math.isfinite, history))
    torch.testing.assert_close((start, target), copies, equal_nan=True)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"steps": 0}, "steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
    ],
)
def test_descend_refuses_numbers_out_of_range(arguments: dict[str, float], name: str) -> None:
    with pytest.raises(ArgumentError, match=name):
        descend(torch.nn.MSELoss(), torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), **arguments)


@pytest.mark.parametrize("loss", [lambda x, y: (x - y).sum() / 0.0, lambda x, y: (x * 0.0).sqrt().sum()])
def test_descend_refuses_a_loss_that_is_not_finite(loss: Callable[..., torch.Tensor]) -> None:
    with pytest.raises(ArgumentError, match="at step 0"):
        descend(loss, torch.ones(1, 2, 2), torch.zeros(1, 2, 2))


def test_descend_refuses_unequal_shapes() -> None:
    with pytest.raises(ArgumentError, match="one shape"):
        descend(torch.nn.MSELoss(), torch.zeros(1, 2, 2), torch.zeros(1, 2, 3))


def test_surrogate_distance(metric: Minkowski, surrogate: RelaxedMinkowski) -> None:
    loss = SurrogateLoss(surrogate)
    first, second = (
        torch.from_numpy(rain(3)).requires_grad_(),
        torch.from_numpy(rain(3, seed=1)).requires_grad_(),
    )
    value = loss(first, second)
    distances = CurveDistance(metric.levels)(surrogate(first), surrogate(second))
    torch.testing.assert_close(value, distances.sum(-1).mean())
    value.backward()
    assert first.grad is not None
    assert first.grad.abs().sum() > 0
    assert second.grad is None
    assert loss(first, first).item() == 0.0


def test_descent_lowers_the_exact_distance(metric: Minkowski, surrogate: RelaxedMinkowski) -> None:
    fields = rain(3)
    fields[0, :4] = np.nan
    result = descent(SurrogateLoss(surrogate), metric, fields, steps=60)
    figures = result.figures
    np.testing.assert_array_equal(result.start, blurred(fields))
    np.testing.assert_array_equal(result.before, exact_distance(metric, result.start, fields))
    np.testing.assert_array_equal(result.after, exact_distance(metric, result.final, fields))
    np.testing.assert_array_equal(np.isnan(result.final), np.isnan(fields))
    assert figures["removed"] > 70
    assert figures["removed"] == pytest.approx(100 * (1 - result.after.sum() / result.before.sum()))
    for c, name in enumerate(metric.outputs):
        assert figures["outputs"][name]["before"] == pytest.approx(result.before[:, c].mean())
        assert figures["outputs"][name]["after"] < 0.5 * figures["outputs"][name]["before"]
    squares = ((result.start - fields) ** 2)[~np.isnan(fields)]
    assert figures["rmse_before"] == pytest.approx(math.sqrt(squares.mean()), rel=1e-5)
    assert result.history[-1] < 0.3 * result.history[0]


def test_descent_is_deterministic(metric: Minkowski, surrogate: RelaxedMinkowski) -> None:
    runs = [descent(SurrogateLoss(surrogate), metric, rain(2), steps=15) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].final, runs[1].final)
    assert runs[0].history == runs[1].history


def test_descent_of_dry_fields_has_no_share(metric: Minkowski, surrogate: RelaxedMinkowski) -> None:
    figures = descent(SurrogateLoss(surrogate), metric, np.zeros((1, 8, 8)), steps=2).figures
    assert figures["removed"] is None
    assert figures["rmse_after"] == 0.0
    json.dumps(figures, allow_nan=False)


def test_evaluation(metric: Minkowski, surrogate: RelaxedMinkowski, found: Evaluation) -> None:
    fields = rain()
    assert set(found.figures) == {
        "fidelity", "classes", "timing", "gradients", "descent", "descent_noisy", "certificate",
        "field_unit", "reached", "verdict",
    }  # fmt: skip
    assert json.loads(json.dumps(found.figures, allow_nan=False)) == found.figures
    np.testing.assert_allclose(
        found.emulated, surrogate(torch.from_numpy(fields)).numpy(), rtol=1e-5, atol=1e-5
    )
    assert found.figures["fidelity"] == fidelity(metric, metric(fields), found.emulated, fields.shape[1:])
    # Two fields are descended: the two that make the fullest quarter of 8.
    fullest = np.argsort(-(fields >= THRESHOLDS[0]).mean((1, 2)), kind="stable")[:2]
    np.testing.assert_array_equal(found.descent.truth, fields[fullest])
    np.testing.assert_array_equal(found.descent_noisy.truth, fields[fullest])
    np.testing.assert_array_equal(found.gradients.truth, fields[fullest])
    assert found.figures["gradients"]["sizes"]["fields"] == 8
    assert found.inversion is None


def test_a_quick_evaluation_says_what_it_left_out(
    tmp_path: Path, metric: Minkowski, surrogate: RelaxedMinkowski
) -> None:
    fields = rain()
    quick = evaluate(surrogate, fields, metric(fields), quick=True, progress=False)
    assert not {"descent", "descent_noisy", "gradients"} & quick.figures.keys()
    assert quick.descent is quick.descent_noisy is quick.gradients is None
    text = summary_table(quick.figures)
    assert "descended" not in text
    assert "training, from smooth predictions" in text[text.index("\nunmeasured") :]
    write_report(tmp_path / "report.png", surrogate, quick, fields, metric(fields))
    size_of_png(tmp_path / "report.png")
    with pytest.raises(ArgumentError, match="quick and thorough"):
        evaluate(surrogate, fields, metric(fields), quick=True, thorough=True)


@pytest.fixture(scope="module")
def thorough(metric: Minkowski, surrogate: RelaxedMinkowski) -> Evaluation:
    fields = rain()
    return evaluate(
        surrogate, fields, metric(fields), descent_fields=1, descent_steps=5, thorough=True, progress=False
    )


def test_thorough_evaluation(metric: Minkowski, thorough: Evaluation) -> None:
    figures = thorough.figures
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert thorough.inversion is not None
    assert figures["inversion"] == thorough.inversion.figures
    assert figures["shift"]["unshifted"]["fields"] == 8
    for table in (summary_table(figures), markdown_table(figures)):
        for name in (*figures["shift"], *figures["inversion"]["targets"]):
            assert name in table
    assert max(map(len, summary_table(figures).splitlines())) < 100


class Shaky(Bare):
    """A surrogate whose answer depends on its mode."""

    def __init__(self, metric: Minkowski) -> None:
        super().__init__()
        self.metric = metric
        self.relaxed = RelaxedMinkowski(metric)
        self.gain = torch.nn.Parameter(torch.ones(()))

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        return self.gain * self.relaxed(fields) * (math.nan if self.training else 1.0)


def test_evaluate_leaves_the_surrogate_as_it_was(metric: Minkowski) -> None:
    shaky = Shaky(metric).train()
    result = evaluate(shaky, rain(2), metric(rain(2)), descent_fields=5, descent_steps=2, progress=False)
    assert np.isfinite(result.emulated).all()
    assert shaky.training
    assert shaky.gain.grad is None
    assert len(result.descent.truth) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"descent_fields": 0}, "descent_fields"),
        ({"curves": 3}, "positive number"),
    ],
)
def test_evaluate_refuses(
    metric: Minkowski, surrogate: RelaxedMinkowski, arguments: dict[str, int], message: str
) -> None:
    count = arguments.pop("curves", 2)
    with pytest.raises(ArgumentError, match=message):
        evaluate(surrogate, rain(2), metric(rain(count)), **arguments)


def test_summary_table(found: Evaluation) -> None:
    text = summary_table(found.figures)
    lines = text.splitlines()
    assert max(map(len, lines)) < 100
    assert all(line == line.rstrip() for line in lines)
    assert "8 fields of 32 x 40 pixels, 4 thresholds" in lines[0]
    area = found.figures["fidelity"]["outputs"]["area"]
    row = next(line.split() for line in lines if line.startswith("area "))
    assert row[1:4] == ["km^2", f"{area['r2_mean']:.4f}", f"{area['r2_worst']:.4f}"]
    for label in found.figures["fidelity"]["violations"]:
        assert any(line.startswith(label) for line in lines)
    assert "ms forward" in text
    assert "mm/h" in text


def test_tables_of_undefined_figures(metric: Minkowski, surrogate: RelaxedMinkowski) -> None:
    dry = np.zeros((2, 8, 8), np.float32)
    figures = evaluate(surrogate, dry, metric(dry), descent_steps=1, progress=False).figures
    for table in (summary_table(figures), markdown_table(figures)):
        assert "None" not in table
        assert "nan" not in table
    assert summary_table(figures).splitlines()[3].split()[2:5] == ["-", "-", "-"]


def test_tables_stay_narrow_whatever_the_figures(found: Evaluation) -> None:
    figures = json.loads(json.dumps(found.figures))
    for each in (figures["fidelity"], *figures["classes"].values()):
        each["outputs"]["area"] |= {"r2_mean": -1e9, "r2_worst": -1e9}
    text = summary_table(figures)
    assert "< -9" in text
    assert max(map(len, text.splitlines())) < 100


def test_markdown_table(found: Evaluation) -> None:
    rows = [line for line in markdown_table(found.figures).splitlines() if line.startswith("|")]
    fidelity_rows = rows[: 2 + 3]
    assert len({row.count("|") for row in fidelity_rows}) == 1
    classes = sum(each["fields"] > 0 for each in found.figures["classes"].values())
    class_rows = rows[5 : 5 + 2 + classes]
    assert len({row.count("|") for row in class_rows}) == 1
    violation_rows = rows[5 + len(class_rows) :]
    assert len({row.count("|") for row in violation_rows}) == 1
    assert len(violation_rows) == 2 + len(found.figures["fidelity"]["violations"]) + 1


def size_of_png(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:])


def test_report(tmp_path: Path, metric: Minkowski, surrogate: RelaxedMinkowski, found: Evaluation) -> None:
    log = tmp_path / "log.csv"
    with log.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "fields", "seconds", "train_loss", "validation_loss", "validation_area"])
        writer.writerows(
            [[1, 64, 0.5, 2.0, "", ""], [2, 128, 1.0, 1.0, 1.5, 0.4], [3, 192, 1.5, 0.7, 1.0, 0.3]]
        )
    fields = rain()
    write_report(tmp_path / "report.png", surrogate, found, fields, metric(fields), log)
    width, height = size_of_png(tmp_path / "report.png")
    assert 1400 <= width <= 2000
    assert 1000 <= height <= 2900
    assert (tmp_path / "report.png").stat().st_size > 50_000


def test_report_of_a_thorough_evaluation(
    tmp_path: Path, metric: Minkowski, surrogate: RelaxedMinkowski, thorough: Evaluation
) -> None:
    fields = rain()
    write_report(tmp_path / "report.png", surrogate, thorough, fields, metric(fields))
    assert size_of_png(tmp_path / "report.png")[1] > 3600  # two rows more than test_report's


def drawn(draw: Callable[..., None], *arguments: object) -> list[str]:
    """Words of one row or panel of the report."""
    figure = Figure()
    panel = figure.subplots() if draw in (draw_sizes, draw_violations) else figure.subfigures()
    draw(panel, *arguments)
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_shift_is_drawn_whatever_was_refused_or_undefined(metric: Minkowski, thorough: Evaluation) -> None:
    found = copy.deepcopy(thorough.figures["shift"])
    words = drawn(draw_shift, metric, found)
    for name, each in found.items():
        assert f"{name}\n{each['fields']} of {each['field_shape'][0]} x {each['field_shape'][1]}" in words
    assert set(metric.outputs) <= set(words)
    assert "refused" not in words
    del found["smaller"]["outputs"]
    found["smaller"]["refused"] = "fields must be larger"
    found["unshifted"]["outputs"]["area"]["r2_mean"] = None
    assert drawn(draw_shift, metric, found).count("refused") == 1


def test_sizes_of_gradients_are_drawn() -> None:
    sizes = {"fields": 3, "near_zero": 41.4, "norm": {"q05": 0.0, "q50": 0.2, "q95": 1.0, "max": 2.0}}
    assert "near zero: 41.4 %\nof the pixels" in drawn(draw_sizes, sizes)
    nothing = {"fields": 1, "near_zero": None, "norm": dict.fromkeys(("q05", "q50", "q95", "max"), 0.0)}
    words = drawn(draw_sizes, nothing)
    assert "0 everywhere" in words
    assert "near zero: undefined\nof the pixels" in words


def test_gradients_that_nothing_can_be_compared_with(metric: Minkowski, thorough: Evaluation) -> None:
    assert thorough.gradients is not None
    sizes = thorough.figures["gradients"]["sizes"]
    beside = drawn(draw_gradients, metric, thorough.gradients, sizes)
    assert "cosine with the exact gradient" in beside
    undefined = {"cosine": None, "cosine_smoothed": None, "ceiling": None}
    figures = thorough.gradients.figures | {"total": undefined}
    alone = drawn(draw_gradients, metric, thorough.gradients._replace(figures=figures), sizes)
    assert "cosine with the exact gradient" not in alone
    assert any(word.startswith("There is no exact gradient") for word in alone)
    assert "gradient norm" in alone


def test_the_constraints_broken_most_are_drawn_however_many_there_are(found: Evaluation) -> None:
    shares = {f"constraint {k}": 0.0 for k in range(30)} | {"a <= b": 3.21, "long " * 20: 0.5}

    def words() -> list[str]:
        figures = found.figures | {"fidelity": {"violations": shares}}
        return drawn(draw_violations, replace(found, figures=figures))

    assert [word for word in words() if word.endswith("%") and "of" not in word] == ["3.21 %", "0.5 %"]
    assert "a ≤ b" in words()
    assert "Constraints broken; 30 hold" in words()
    assert max(map(len, words())) < 40
    shares |= {f"constraint {k}": 0.25 for k in range(12)}
    assert "each of 4 others" in words()
    assert "≤ 0.25 %" in words()


def test_report_of_a_single_field(tmp_path: Path, metric: Minkowski, surrogate: RelaxedMinkowski) -> None:
    """Its R2 is undefined throughout."""
    fields = rain(1)
    result = evaluate(surrogate, fields, metric(fields), descent_steps=1, progress=False)
    write_report(tmp_path / "report.png", surrogate, result, fields, metric(fields))
    size_of_png(tmp_path / "report.png")


def test_report_of_dry_fields_and_other_outputs(tmp_path: Path) -> None:
    metric = Minkowski((-1.0, 2.0), outputs=("euler",))
    surrogate = RelaxedMinkowski(metric)
    fields = np.zeros((2, 8, 8), np.float32)
    fields[0, 0] = np.nan
    result = evaluate(surrogate, fields, metric(fields), descent_steps=1, progress=False)
    rows = [{"fields": 1, "train_loss": 1.0}, {"fields": 2, "train_loss": None}]
    write_report(tmp_path / "report.png", surrogate, result, fields, metric(fields), rows)
    size_of_png(tmp_path / "report.png")


def test_report_refuses(
    tmp_path: Path, metric: Minkowski, surrogate: RelaxedMinkowski, found: Evaluation
) -> None:
    fields = rain()
    curves = metric(fields)
    with pytest.raises(ArgumentError, match="same fields"):
        write_report(tmp_path / "report.png", surrogate, found, fields[:3], curves[:3])
    with pytest.raises(DataError, match="cannot read the training log"):
        write_report(tmp_path / "report.png", surrogate, found, fields, curves, tmp_path / "none.csv")
    with pytest.raises(DataError, match="column 'fields'"):
        write_report(tmp_path / "report.png", surrogate, found, fields, curves, [{"step": 1}])
    with pytest.raises(DataError, match=r"report\.png cannot be written"):
        write_report(tmp_path / "none" / "report.png", surrogate, found, fields, curves)


def test_matplotlib_is_imported_only_to_draw() -> None:
    code = (
        "import sys, emuloss.evaluation as e; assert 'matplotlib' not in sys.modules; "
        "e.write_report; assert 'matplotlib' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names() -> None:
    for name in evaluation.__all__:
        assert callable(getattr(evaluation, name))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        evaluation.nothing  # noqa: B018
