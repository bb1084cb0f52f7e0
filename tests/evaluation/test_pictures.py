"""Pictures: what a reader would stumble over is looked for in the drawn figure itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from drawn import pairs_of_rain, rain_array
from emuloss.emulators import relaxation
from emuloss.emulators.spaces import Values
from emuloss.evaluation import axes as house
from emuloss.evaluation import evaluate, inversion, shift
from emuloss.evaluation.axes import field_colours, mark_of, threshold_axis, value_axis
from emuloss.evaluation.pixels import waves
from emuloss.evaluation.report import write_report
from emuloss.metrics import FSS, Metric, Minkowski
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from skimage.color import rgb2lab

LOG = [
    {"fields": 64 * k, "train_loss": 3 / k, "validation_loss": 3.2 / k, "validation_area": 1 / k}
    for k in range(1, 20)
]
RAIN = rain_array(16, 32, 32, law="cells")
KELVIN = (285 + 8 * waves(8, (12, 12), 3.0, seed=1)).astype(np.float32)
OUTPUTS = ("area", "perimeter", "euler", "components", "holes")


def quantiles(fields: NDArray[Any], count: int) -> list[float]:
    return [float(u) for u in np.quantile(fields[fields > fields.min()], np.linspace(0.03, 0.97, count))]


CASES: dict[str, Callable[[], tuple[Metric, NDArray[Any], str]]] = {
    "many thresholds": lambda: (Minkowski(quantiles(RAIN, 21), outputs=OUTPUTS), RAIN, "mm/h"),
    "one threshold": lambda: (Minkowski([0.5], outputs=("area", "euler")), RAIN, "mm/h"),
    "kelvin": lambda: (Minkowski(quantiles(KELVIN, 12), outputs=OUTPUTS[:2]), KELVIN, "K"),
    "pairs": lambda: (FSS((0.1, 1.0, 2.0), windows=(1, 3)), pairs_of_rain(12), "mm/h"),
    "quick": lambda: (Minkowski((0.1, 1.0, 2.0), outputs=("area",)), RAIN, ""),
}


@pytest.fixture(scope="module", params=CASES)
def picture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Figure]:
    """A report as it was drawn."""
    metric, fields, unit = CASES[request.param]()
    surrogate, curves = relaxation(metric), metric(*metric.parts(fields))
    few: dict[str, Any] = {"descent_fields": 1, "descent_steps": 3, "progress": False}
    quick = request.param == "quick"
    found = evaluate(surrogate, fields, curves, field_unit=unit, quick=quick, **few)
    if request.param == "kelvin":  # what only a thorough one has, after few steps
        found.figures["shift"] = shift(surrogate, metric, fields, count=2)
        found = replace(found, inversion=inversion(surrogate, metric, fields[:1], steps=2))
    log = None if quick else LOG
    drawn: list[Figure] = []
    with pytest.MonkeyPatch.context() as patch:
        save = Figure.savefig

        def kept(figure: Figure, *arguments: Any, **options: Any) -> None:
            drawn.append(figure)
            save(figure, *arguments, **options)

        patch.setattr(Figure, "savefig", kept)
        write_report(tmp_path_factory.mktemp("out") / "report.png", surrogate, found, fields, curves, log)
    return request.param, drawn[0]


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.findobj(Axes) if isinstance(axes, Axes) and axes.get_visible()]


def labels_of_ticks(axes: Axes) -> Iterator[list[Bbox]]:
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        yield [
            tick.label1.get_window_extent()
            for tick in axis.get_major_ticks()
            if tick.label1.get_visible() and tick.label1.get_text() and low <= tick.get_loc() <= high
        ]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def test_ticks_do_not_collide(picture: tuple[str, Figure]) -> None:
    for axes in panels(picture[1]):
        for boxes in labels_of_ticks(axes):
            for one, other in itertools.combinations(boxes, 2):
                assert not one.overlaps(other), (axes.get_title(loc="left"), one, other)


def test_legends_lie_over_no_curve(picture: tuple[str, Figure]) -> None:
    figure = picture[1]
    legends = [legend for legend in figure.findobj(Legend) if isinstance(legend, Legend)]
    assert legends
    for legend, axes in itertools.product(legends, panels(figure)):
        if axes.get_title(loc="left") != "gradient norm":  # which has room beside its one bar
            box = legend.get_window_extent()
            assert not box.shrunk(0.98, 0.98).overlaps(axes.get_window_extent()), axes.get_title(loc="left")


def test_every_panel_has_something_to_show(picture: tuple[str, Figure]) -> None:
    name, figure = picture
    for axes in panels(figure):
        assert axes.has_data(), axes.get_title(loc="left")
        curves = [line for line in axes.get_lines() if line.get_linestyle() not in ("None", "none")]
        if "R^2" in axes.get_title(loc="left"):
            assert all(len(line.get_xdata()) > 1 for line in curves), name
    drawn = words(figure)
    assert ("Values of all fields: emulated over exact" in drawn) == (name == "one threshold")
    assert any("gradient" in word for word in drawn) != (name == "quick")


def test_images_have_a_colour_bar(picture: tuple[str, Figure]) -> None:
    figure = picture[1]
    for part in figure.subfigs:
        shown = [axes for axes in part.axes if axes.images]
        bars = [axes for axes in part.axes if axes.get_label() == "<colorbar>"]
        assert bool(shown) == bool(bars), part.get_suptitle()


def test_colours_of_temperatures_span_their_range() -> None:
    metric = Minkowski(quantiles(KELVIN, 5))
    _, norm = field_colours(metric.thresholds[0], Values.of(KELVIN), KELVIN)
    assert KELVIN.min() <= norm.vmin < norm.vmax <= KELVIN.max()


@pytest.mark.parametrize(("a", "b"), [(1.0, 273.15), (100.0, -30.0)])
@pytest.mark.parametrize("fields", [RAIN, 5 * RAIN**3, waves(4, (32, 32), 3.0, seed=1)])
def test_colours_move_with_the_unit(fields: NDArray[Any], a: float, b: float) -> None:
    fields = fields.astype(np.float64)

    def drawn(x: NDArray[Any]) -> NDArray[Any]:
        colours, norm = field_colours(quantiles(x, 5)[0], Values.of(x), x)
        return colours(norm(x.ravel()))

    off = np.abs(drawn(a * fields + b) - drawn(fields)) > 0.02
    assert off.mean() < 1e-3  # but a pixel at the lowest threshold, which rounding moves


def places(metric: Metric, inches: float) -> NDArray[np.float64]:
    """Where the thresholds stand along the axis, in shares of it."""
    axes = Figure(figsize=(inches, 2)).subplots()
    threshold_axis(axes, metric, "", inches)
    points = np.column_stack([metric.thresholds, np.ones(len(metric.thresholds))])
    return axes.transAxes.inverted().transform(axes.transData.transform(points))[:, 0]


@pytest.mark.parametrize(
    "thresholds", [(0.1, 0.3, 1.0, 3.0, 30.0), (1.0, 2.0, 3.0), (-2.0, -0.1, 0.0, 0.1, 5.0)]
)
def test_thresholds_stand_alike_in_every_unit(thresholds: tuple[float, ...]) -> None:
    known = places(Minkowski(thresholds), 3.0)
    assert (np.diff(known) > 0.05).all()
    found = places(Minkowski([10 * u + 273 for u in thresholds]), 3.0)
    np.testing.assert_allclose(found, known, atol=1e-6)


@pytest.mark.parametrize("values", [(50.0, 60.0), (0.0, 1e4), (-300.0, 2.0), (1e-4, 3e-4), (7.0, 7.0)])
@pytest.mark.parametrize("size", [1.0, 1e-4, 1e4])
def test_value_axes_have_ticks_that_stand_apart(values: tuple[float, float], size: float) -> None:
    figure = Figure(figsize=(2, 3))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    value_axis(axes, np.array(values), size)
    figure.draw_without_rendering()
    _, boxes = labels_of_ticks(axes)
    assert len(boxes) >= 2
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_outputs_of_one_colour_have_another_mark() -> None:
    assert len({mark_of(c) for c in (0, 8, 16, 24)}) == 4


DEFICIENT = {
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
"""Linear RGB as it is seen: Machado, Oliveira and Fernandes (2009), severity 1."""


@pytest.mark.parametrize("sight", DEFICIENT)
def test_colours_are_told_apart_by_the_colour_blind(sight: str) -> None:
    """By their distance in CIELAB, of which about 2 is just seen side by side."""
    encoded = np.array([to_rgb(colour) for colour in house.COLOURS])
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = (linear @ np.array(DEFICIENT[sight]).T).clip(0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055))
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(len(lab), 1)]
    assert apart.min() > 15
