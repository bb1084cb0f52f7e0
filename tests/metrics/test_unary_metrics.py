"""Metrics of one field against SciPy, scikit-image, plain loops, closed forms and their own symmetries."""

import functools
import json
import math
import pickle

import numpy as np
import pytest
from drawn import read_all
from emuloss.datasets import Rain
from emuloss.errors import ArgumentError
from emuloss.metrics import WET_LEVELS, Metric, Minkowski
from emuloss.metrics.boxcount import BoxCount
from emuloss.metrics.clusters import Clusters
from emuloss.metrics.morphology import Morphology
from emuloss.metrics.percolation import Percolation
from emuloss.metrics.spectrum import Spectrum
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import label, regionprops

THRESHOLDS = (-1.0, 0.0, 0.5, 1.5)
SHAPES = [(1, 1), (1, 9), (9, 1), (2, 2), (5, 8), (17, 13), (40, 33)]
DENSITIES = (0.0, 0.02, 0.1, 0.3, 0.5, 0.593, 0.7, 0.9, 0.98, 1.0)
CONNECTIVITIES = (1, 2)
SPAN = ("left_right", "top_bottom", "spanning")
BOTH = ("power", "anisotropy")

OF_SETS = {
    "clusters": functools.partial(Clusters, sizes=(1, 3, 6, 20)),
    "percolation": functools.partial(Percolation, outputs=SPAN),
    "boxcount": functools.partial(BoxCount, scales=(1, 2, 6)),
    "morphology": functools.partial(Morphology, min_area=3),
}
"""Metrics of excursion sets, to be built with thresholds."""


def every_metric() -> list[Metric]:
    spectra = [Spectrum(bins=4), Spectrum(bins=4, outputs=BOTH)]
    return [build(THRESHOLDS) for build in OF_SETS.values()] + spectra


each_metric = pytest.mark.parametrize("metric", every_metric(), ids=lambda metric: metric.name)
each_of_sets = pytest.mark.parametrize("name", OF_SETS)
each_connectivity = pytest.mark.parametrize("connectivity", CONNECTIVITIES)
small_fields = hnp.arrays(
    np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 4)
)


def named(metric: Metric, fields: np.ndarray) -> dict[str, np.ndarray]:
    return metric.named(metric(fields))


def values(metric: Metric, field: np.ndarray) -> dict[str, float]:
    """The outputs of one field at the metric's only threshold."""
    return {name: curve.item() for name, curve in named(metric, np.asarray(field)[None]).items()}


def noise(shape: tuple[int, ...] = (6, 20, 31), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def smooth(shape: tuple[int, int] = (32, 32), number: int = 5) -> np.ndarray:
    return np.stack([2.5 * ndimage.gaussian_filter(noise(shape, seed), 1.2) for seed in range(number)])


def masks(shape: tuple[int, int]) -> np.ndarray:
    """One random mask of each density."""
    rng = np.random.default_rng(shape)
    return np.array([rng.random(shape) < density for density in DENSITIES])


def grid(*rows: str) -> np.ndarray:
    return np.array([[mark == "#" for mark in row] for row in rows])


def drawn() -> dict[str, np.ndarray]:
    y, x = np.indices((48, 48)) - 23.5
    radius = np.hypot(y, x)
    spiral = np.sin(np.arctan2(y, x) - radius / 2) > 0.3
    return {
        "disk": radius < 20,
        "annulus": (radius < 20) & (radius > 15),
        "two disks": (np.hypot(y, x - 12) < 9) | (np.hypot(y, x + 12) < 6),
        "ellipse": (y / 8) ** 2 + ((x + y / 2) / 20) ** 2 < 1,
        "spiral": spiral,
        "cross": (abs(y) < 3) | (abs(x) < 2),
        "diagonal": y == x,
        "checkerboard": (y + x) % 2 == 0,
        "ell": np.pad(np.tri(24, dtype=bool) & ~np.tri(24, k=-3, dtype=bool), 12),
        "frame": np.maximum(abs(y), abs(x)) > 21,
    }


def rain(count: int) -> np.ndarray:
    return read_all(Rain(count=count, regimes=["mixed", "showers", "widespread", "all-wet"]))


RAIN_THRESHOLDS = tuple(0.1 * 1.25**q - 0.005 for q in range(len(WET_LEVELS)))


# Oracles


def labelled(mask: np.ndarray, connectivity: int) -> np.ndarray:
    return ndimage.label(mask, ndimage.generate_binary_structure(2, connectivity))[0]


def reference_clusters(mask: np.ndarray, connectivity: int, sizes: tuple[int, ...]) -> dict[str, float]:
    pixels = np.bincount(label(mask, connectivity=connectivity).ravel())[1:]
    result = {"largest": pixels.max(initial=0), "mean": pixels.mean() if len(pixels) else 0.0}
    return result | {f"count_{size}": (pixels >= size).sum() for size in sizes}


def reference_percolation(mask: np.ndarray, connectivity: int) -> dict[str, float]:
    labels = labelled(mask, connectivity)
    across = set(labels[:, 0]) & set(labels[:, -1]) - {0}
    down = set(labels[0]) & set(labels[-1]) - {0}
    largest = max([(labels == each).sum() for each in across | down], default=0)
    return {"left_right": bool(across), "top_bottom": bool(down), "spanning": largest / mask.size}


def reference_boxes(mask: np.ndarray, scale: int) -> int:
    corners = ((i, j) for i in range(0, mask.shape[0], scale) for j in range(0, mask.shape[1], scale))
    return sum(mask[i : i + scale, j : j + scale].any() for i, j in corners)


def reference_boxcount(mask: np.ndarray, scales: tuple[int, ...]) -> dict[str, float]:
    counts = [reference_boxes(mask, scale) for scale in scales]
    slope = np.polyfit(-np.log(scales), np.log(counts), 1)[0] if mask.any() else 0.0
    return {f"boxes_{s}": n for s, n in zip(scales, counts, strict=True)} | {"dimension": slope}


def reference_morphology(mask: np.ndarray, connectivity: int, min_area: int) -> dict[str, float]:
    objects = [r for r in regionprops(label(mask, connectivity=connectivity)) if r.area >= min_area]
    return {
        "eccentricity": np.mean([r.eccentricity for r in objects]) if objects else 0.0,
        "solidity": np.mean([r.solidity for r in objects]) if objects else 0.0,
        "count": len(objects),
    }


def reference_spectrum(field: np.ndarray, bins: int, floor: float) -> tuple[list[float], list[float]]:
    """Power and anisotropy by the definition: a sum over pixels for every wavenumber."""
    rows, columns = field.shape
    i, j = np.indices(field.shape)
    window = np.sin(np.pi * (i + 0.5) / rows) ** 2 * np.sin(np.pi * (j + 0.5) / columns) ** 2
    y = window * (field - (window * field).sum() / window.sum())
    n, m = max(rows, 2 * bins), max(columns, 2 * bins)
    rings = [[] for _ in range(bins)]
    for k in range(-((n - 1) // 2), n // 2 + 1):
        for l in range(-((m - 1) // 2), m // 2 + 1):
            # In whole numbers: 0 < (2 |f|)^2 <= 1, and the ring is the ceiling of 2 |f| bins.
            squared = 4 * bins**2 * ((k * m) ** 2 + (l * n) ** 2)
            if 0 < squared <= (bins * n * m) ** 2:
                ring = math.isqrt((squared - 1) // (n * m) ** 2)
                wave = (y * np.exp(-2j * np.pi * (k * i / n + l * j / m))).sum()
                power = abs(wave) ** 2 / (window**2).sum()
                rings[ring].append((power, power * np.exp(2j * math.atan2(k / n, l / m))))
    means = [np.mean(ring, axis=0) for ring in rings]
    powers = [max(power.real, floor) for power, _ in means]
    return [math.log10(p) for p in powers], [abs(v) / p for p, (_, v) in zip(powers, means, strict=True)]


def assert_agrees(metric: Metric, fields: np.ndarray, reference) -> None:
    """The metric's curves of fields are those of a reference(mask) at every threshold."""
    ours = named(metric, fields)
    for q, threshold in enumerate(metric.thresholds):
        theirs = [reference(field >= threshold) for field in fields]
        assert set(theirs[0]) == set(ours)
        for name, curve in ours.items():
            expected = [each[name] for each in theirs]
            np.testing.assert_allclose(curve[:, q], expected, rtol=1e-9, atol=1e-7, err_msg=name)


REFERENCES = {
    "clusters": lambda c: functools.partial(reference_clusters, connectivity=c, sizes=(1, 3, 6, 20)),
    "percolation": lambda c: functools.partial(reference_percolation, connectivity=c),
    "boxcount": lambda c: functools.partial(reference_boxcount, scales=(1, 2, 6)),
    "morphology": lambda c: functools.partial(reference_morphology, connectivity=c, min_area=3),
}


def build(name: str, thresholds: tuple[float, ...] = (0.5,), connectivity: int = 1) -> Metric:
    extra = {} if name == "boxcount" else {"connectivity": connectivity}
    return OF_SETS[name](thresholds, **extra)


@each_connectivity
@each_of_sets
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_random_masks_agree_with_references(name: str, shape: tuple[int, int], connectivity: int) -> None:
    assert_agrees(build(name, connectivity=connectivity), masks(shape), REFERENCES[name](connectivity))


@each_connectivity
@each_of_sets
def test_drawn_shapes_agree_with_references(name: str, connectivity: int) -> None:
    shapes = np.stack(list(drawn().values()))
    assert_agrees(build(name, connectivity=connectivity), shapes, REFERENCES[name](connectivity))


@each_connectivity
@each_of_sets
def test_curves_agree_with_references_at_every_threshold(name: str, connectivity: int) -> None:
    thresholds = (-2.0, -1.0, -0.5, 0.0, 0.1, 0.3, 0.8, 1.5, 9.0)
    fields = np.concatenate([noise((3, 32, 32)), smooth(number=3)])
    assert_agrees(build(name, thresholds, connectivity), fields, REFERENCES[name](connectivity))


@each_of_sets
def test_rain_agrees_with_references(name: str) -> None:
    assert_agrees(build(name, (0.095, 0.495, 1.995)), rain(6)[:, :96, :80], REFERENCES[name](1))


@each_of_sets
@settings(deadline=None, max_examples=60)
@given(field=small_fields, connectivity=st.sampled_from(CONNECTIVITIES))
def test_any_field_agrees_with_references(name: str, field: np.ndarray, connectivity: int) -> None:
    metric = build(name, (0.5, 1.5, 2.5, 3.5), connectivity)
    assert_agrees(metric, field[None], REFERENCES[name](connectivity))


# Known values


def test_clusters_of_a_drawn_field() -> None:
    field = grid("##...", "##..#", "....#", "#....")
    metric = Clusters((0.5,), sizes=(1, 2, 3, 5), pixel_size=2.0, length_unit="km")
    assert metric.units == ("km^2", "km^2", "1", "1", "1", "1")
    expected = {"largest": 16.0, "mean": 28 / 3, "count_1": 3, "count_2": 2, "count_3": 1, "count_5": 0}
    assert values(metric, field) == expected


@pytest.mark.parametrize(("connectivity", "expected"), [(1, (1.0, 1.0, 5)), (2, (5.0, 5.0, 1))])
def test_a_diagonal_is_one_cluster_or_many(connectivity: int, expected: tuple) -> None:
    metric = Clusters((0.5,), sizes=(1,), connectivity=connectivity)
    assert tuple(values(metric, np.eye(5)).values()) == expected


@pytest.mark.parametrize(
    ("rows", "connectivity", "expected"),
    [
        (("...", "###", "..#"), 1, (1, 0, 4 / 9)),
        (("##.", ".##", "..."), 1, (1, 0, 4 / 9)),
        (("#..", ".#.", "..#"), 1, (0, 0, 0)),
        (("#..", ".#.", "..#"), 2, (1, 1, 1 / 3)),
        (("#.#", "#.#", "..#"), 1, (0, 1, 1 / 3)),
        (("##.", "...", "###"), 1, (1, 0, 1 / 3)),
        (("#.#", ".#.", "..."), 1, (0, 0, 0)),
        (("...", "...", "..."), 1, (0, 0, 0)),
        (("###", "###", "###"), 1, (1, 1, 1)),
        (("..#..", "..#.."), 1, (0, 1, 1 / 5)),
        (("#",), 1, (1, 1, 1)),
        ((".#",), 1, (0, 1, 1 / 2)),
    ],
)
def test_percolation_of_drawn_fields(rows: tuple[str, ...], connectivity: int, expected: tuple) -> None:
    metric = Percolation((0.5,), outputs=SPAN, connectivity=connectivity)
    assert tuple(values(metric, grid(*rows)).values()) == expected


def test_the_largest_spanning_cluster_need_not_be_the_largest() -> None:
    field = grid("#....", "#.###", "#.###", "#.###")
    assert values(Percolation((0.5,), outputs=SPAN), field)["spanning"] == 4 / 20


def test_turning_a_field_swaps_the_directions_of_percolation() -> None:
    metric = Percolation(THRESHOLDS, outputs=SPAN)
    fields = np.concatenate([smooth((20, 31)), noise((5, 20, 31), 3)])
    turned = metric(np.rot90(fields, axes=(1, 2)))
    np.testing.assert_array_equal(metric(fields)[:, [1, 0, 2]], turned)
    assert metric(fields)[:, :2].any()


def test_box_counts_of_a_drawn_field() -> None:
    field = grid("#....", ".....", "....#", ".....", "...##")
    metric = BoxCount((0.5,), scales=(1, 2, 4), outputs=("boxes_4", "boxes_1", "boxes_2"))
    # The boxes that stick out on the right and below count.
    assert values(metric, field) == {"boxes_4": 4, "boxes_1": 4, "boxes_2": 4}


@pytest.mark.parametrize("scales", [(1, 2, 4, 8), (2, 8), (1, 3, 9)])
def test_dimension_of_a_point_a_line_and_a_plane(scales: tuple[int, ...]) -> None:
    side = 2 * scales[-1]
    point, line, plane = np.zeros((3, side, side))
    point[3, 2], line[5], plane[:] = 1, 1, 1
    found = named(BoxCount((0.5,), scales=scales), np.stack([point, line, plane, 0 * plane]))
    np.testing.assert_allclose(found["dimension"][:, 0], [0, 1, 2, 0], atol=1e-12)


def test_dimension_of_the_sierpinski_carpet() -> None:
    carpet = np.ones((1, 1))
    cell = np.ones((3, 3))
    cell[1, 1] = 0
    for _ in range(4):
        carpet = np.kron(carpet, cell)
    found = values(BoxCount((0.5,), scales=(1, 3, 9, 27)), carpet)
    assert found["boxes_9"] == 8**2
    assert found["dimension"] == pytest.approx(math.log(8) / math.log(3), rel=1e-12)


@pytest.mark.parametrize(
    ("rows", "eccentricity", "solidity"),
    [
        (("#",), 0.0, 1.0),
        (("####",), 1.0, 1.0),
        (("##", "##"), 0.0, 1.0),
        (("###", "###"), math.sqrt(1 - (1 / 4) / (2 / 3)), 1.0),
        ((".#.", "###", ".#."), 0.0, 1.0),
        (("###", "###", "#.."), None, 7 / 8),  # a centre on the border of the hull counts
        (("#..", "#..", "###"), None, 5 / 6),
        (("###", "#.#", "###"), 0.0, 8 / 9),
        (("#.#", "#.#", "###"), None, 7 / 9),
    ],
)
def test_morphology_of_drawn_objects(rows: tuple[str, ...], eccentricity, solidity: float) -> None:
    found = values(Morphology((0.5,), min_area=1), grid(*rows))
    assert found["count"] == 1
    assert found["solidity"] == pytest.approx(solidity, rel=1e-12)
    if eccentricity is not None:
        assert found["eccentricity"] == pytest.approx(eccentricity, rel=1e-12)


def test_small_objects_are_left_out() -> None:
    field = grid("####..", "......", "#...##", "....##")
    found = named(Morphology((0.5,), min_area=4), field[None])
    assert {name: curve.item() for name, curve in found.items()} == {
        "eccentricity": 0.5,
        "solidity": 1.0,
        "count": 2,
    }
    assert not Morphology((0.5,), min_area=5)(field[None]).any()


def test_shapes_hardly_depend_on_place_in_a_large_field() -> None:
    disk = drawn()["ellipse"]
    field = np.zeros((700, 900))
    field[640:688, 840:888] = disk
    metric = Morphology((0.5,))
    np.testing.assert_allclose(metric(field[None]), metric(disk[None]), rtol=1e-12)


# The spectrum


@pytest.mark.parametrize("bins", [1, 3, 5])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (4, 4), (5, 8), (12, 9), (10, 10)], ids=str)
def test_spectrum_agrees_with_its_definition(shape: tuple[int, int], bins: int) -> None:
    metric = Spectrum(bins=bins, floor=1e-9, outputs=BOTH)
    fields = 3 + 2 * noise((2, *shape))
    expected = [reference_spectrum(field, bins, 1e-9) for field in fields]
    np.testing.assert_allclose(metric(fields), expected, rtol=1e-9, atol=1e-9)


def test_the_last_column_of_98_counts_once() -> None:
    """Half a cycle per pixel stands for itself alone, although 49 times 1/98 is rounded to less."""
    metric = Spectrum(bins=49, floor=1e-9, outputs=BOTH)
    field = noise((1, 3, 98)) * (-1) ** np.arange(98)  # most of its power is there
    np.testing.assert_allclose(metric(field)[0], reference_spectrum(field[0], 49, 1e-9), rtol=1e-9, atol=1e-9)


def test_power_in_one_direction_is_anisotropic() -> None:
    metric = Spectrum(bins=8, outputs=["anisotropy"])
    y, x = np.indices((64, 64))
    waves = np.array([np.sin(0.35 * np.pi * along) for along in (y, x, (y + x) / math.sqrt(2))])
    crossing = waves[0] + waves[1]
    white = noise((40, 64, 64))
    assert (metric(waves)[:, 0, 2] > 0.99).all()
    assert metric(crossing[None])[0, 0, 2] < 0.01
    assert metric(white)[:, 0, 3:].mean() < 0.15  # by chance
    drawn_out = white + np.roll(white, 1, 2) + np.roll(white, 2, 2)
    assert metric(drawn_out)[:, 0, 3:].mean() > 0.3


def test_anisotropy_does_not_know_scale_and_offset_and_ends_at_the_floor() -> None:
    metric = Spectrum(bins=8, floor=1e-12, outputs=["anisotropy"])
    np.testing.assert_allclose(metric(1e3 * noise() + 7), metric(noise()), rtol=1e-9, atol=1e-9)
    shares = [metric(size * noise())[0, 0].max() for size in (1.0, 1e-7, 1e-9, 0.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0
    assert shares[-2] < 1e-3


def test_the_default_outputs_go_by_the_name_they_had() -> None:
    """Labels and runs of power alone are told by the same definition as before there was anisotropy."""
    assert Spectrum().arguments() == {"bins": 32, "floor": 1e-6, "field_unit": "unit"}
    assert Spectrum(outputs=["power"]) == Spectrum() != Spectrum(outputs=BOTH)
    assert Spectrum(outputs=BOTH).arguments()["outputs"] == list(BOTH)
    assert Spectrum(outputs=BOTH[::-1], field_unit="K").units == ("1", "log10 (K)^2")


@pytest.mark.parametrize("shape", [(16, 16), (48, 64), (100, 30)], ids=str)
def test_white_noise_has_the_power_of_its_variance(shape: tuple[int, int]) -> None:
    power = 10 ** Spectrum(bins=8)(5 + 2 * noise((400, *shape)))
    # The lowest ring loses what is taken off as the mean.
    np.testing.assert_allclose(power.mean(0)[0, 2:], 4.0, rtol=0.1)


def test_a_wave_stands_in_its_ring() -> None:
    metric = Spectrum(bins=16)
    y, x = np.indices((64, 64))
    for ring in (3, 7, 12):
        frequency = metric.levels[ring] / 2
        waves = [np.sin(2 * np.pi * frequency * axis) for axis in (y, x, (y + x) / math.sqrt(2))]
        assert (metric(np.array(waves))[:, 0].argmax(1) == ring).all()


def test_scaling_a_field_shifts_its_spectrum() -> None:
    metric = Spectrum(bins=8, floor=1e-12)
    np.testing.assert_allclose(metric(10 * noise()), metric(noise()) + 2, rtol=1e-9)
    np.testing.assert_allclose(metric(noise() + 7), metric(noise()), atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (128, 128)], ids=str)
def test_fields_without_contrast_have_the_floor(shape: tuple[int, int]) -> None:
    metric = Spectrum(bins=8, floor=1e-4)
    fields = np.stack([np.zeros(shape), np.full(shape, 0.7), np.full(shape, np.nan)])
    np.testing.assert_array_equal(metric(fields), np.full((3, 1, 8), -4.0))


def test_the_spectrum_has_one_axis_for_any_field() -> None:
    metric = Spectrum(bins=8, field_unit="mm/h")
    assert metric.units == ("log10 (mm/h)^2",)
    assert metric.thresholds == ()
    np.testing.assert_allclose(metric.levels, (np.arange(8) + 0.5) / 8)
    assert metric(noise((2, 200, 3))).shape == metric(noise((2, 9, 9))).shape == (2, 1, 8)


def test_a_spectrum_refuses_infinity() -> None:
    with pytest.raises(ArgumentError, match="finite"):
        Spectrum()(np.full((1, 3, 3), np.inf))


# What all of them share


@each_metric
def test_arguments_build_the_metric_again(metric: Metric) -> None:
    arguments = json.loads(json.dumps(metric.arguments()))
    again = type(metric)(**arguments)
    assert again == metric == pickle.loads(pickle.dumps(metric))
    assert hash(again) == hash(metric)
    assert again.levels == metric.levels
    np.testing.assert_array_equal(again(noise()), metric(noise()))
    assert metric.config() == {"name": metric.name, "arguments": arguments}
    assert metric.arity == 1
    assert metric.lower_better is None
    assert len(metric.units) == len(metric.outputs)


@pytest.mark.parametrize("name", OF_SETS)
def test_outputs_are_chosen_and_ordered(name: str) -> None:
    metric = OF_SETS[name](THRESHOLDS)
    chosen = metric.outputs[::-2]
    fewer = type(metric)(**metric.arguments() | {"outputs": chosen})
    assert fewer.outputs == chosen
    np.testing.assert_array_equal(fewer(noise()), metric(noise())[:, ::-2])
    assert all({c.output} <= set(chosen) for c in fewer.constraints)


@each_metric
@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4", "float16", "int32", "uint8", "bool"])
def test_any_type_of_number_serves(metric: Metric, dtype: str) -> None:
    fields = np.abs(np.round(noise())).astype(dtype)
    np.testing.assert_array_equal(metric(fields), metric(fields.astype(np.float64)))


@each_metric
def test_any_layout_serves_and_fields_stay_as_they_are(metric: Metric) -> None:
    fields = noise((4, 20, 31))
    fields[0, 3:5] = np.nan
    before = fields.copy()
    expected = metric(fields)
    assert expected.dtype == np.float64
    np.testing.assert_array_equal(fields, before)
    spread = np.repeat(np.repeat(fields, 2, axis=1), 2, axis=2)[:, ::2, ::2]
    for same in (
        np.asfortranarray(fields),
        spread,
        fields[:, ::-1][:, ::-1],
        np.moveaxis(fields, 0, 2).copy(),
    ):
        same = np.moveaxis(same, 2, 0) if same.shape != fields.shape else same
        np.testing.assert_array_equal(metric(same), expected)
    fields.flags.writeable = False
    np.testing.assert_array_equal(metric(fields), expected)


@each_metric
def test_an_empty_batch_gives_no_curves(metric: Metric) -> None:
    curves = metric(np.zeros((0, 5, 6)))
    assert curves.shape == (0, len(metric.outputs), len(metric.levels))
    assert set(metric.check(curves, (5, 6)).values()) <= {0.0}


@each_metric
def test_a_batch_is_its_fields(metric: Metric) -> None:
    # Large enough to be shared among threads.
    fields = noise((12, 128, 128))
    np.testing.assert_array_equal(metric(fields), np.concatenate([metric(field[None]) for field in fields]))


@each_metric
def test_not_measured_is_dry(metric: Metric) -> None:
    fields = np.abs(noise())
    gaps = noise(seed=1) > 0.5
    positive = type(metric)(
        **metric.arguments() | ({"thresholds": [0.2, 0.5, 1, 2]} if metric.thresholds else {})
    )
    np.testing.assert_array_equal(
        positive(np.where(gaps, np.nan, fields)), positive(np.where(gaps, 0.0, fields))
    )


@each_of_sets
def test_not_measured_is_dry_below_any_threshold_and_infinity_is_wet(name: str) -> None:
    metric = OF_SETS[name]((-1e300, -1.0, 1e300))
    fields = np.stack([np.full((4, 5), value) for value in (np.nan, -np.inf, np.inf)])
    curves = metric(fields)
    assert not curves[:2].any()
    np.testing.assert_array_equal(curves[2], metric(np.full((1, 4, 5), 1e301))[0])
    assert curves[2, 0].all() or name == "morphology"  # whose first output is an eccentricity


@each_of_sets
def test_thresholds_may_be_many(name: str) -> None:
    # More than a byte counts.
    thresholds = np.linspace(-3, 3, 301)
    few = OF_SETS[name](thresholds[::50])
    np.testing.assert_array_equal(OF_SETS[name](thresholds)(noise())[..., ::50], few(noise()))


@each_of_sets
def test_values_are_compared_in_double_precision(name: str) -> None:
    field = np.float32([[[0.1, 0.7]] * 4])  # rounded up, rounded down
    found = [OF_SETS[name]((u,))(field) for u in (0.1, 0.7)]
    masks = np.array([[[[True, True]] * 4], [[[False, False]] * 4]])
    for curves, mask in zip(found, masks, strict=True):
        np.testing.assert_array_equal(curves, OF_SETS[name]((0.5,))(mask))


def turned(fields: np.ndarray) -> list[np.ndarray]:
    """The 8 images of fields under turning and mirroring."""
    quarter = [np.rot90(fields, k, axes=(1, 2)) for k in range(4)]
    return quarter + [each[:, ::-1] for each in quarter]


@each_metric
def test_invariance_is_as_declared(metric: Metric) -> None:
    bar = np.zeros((1, 20, 31))
    bar[0, 3] = 9.0
    fields = np.concatenate([smooth((20, 31)), noise((5, 20, 31), 3), bar])
    expected = metric(fields)
    same = [np.allclose(metric(each), expected, rtol=1e-9, atol=1e-9) for each in turned(fields)]
    assert all(same) == metric.invariant


def test_box_counts_are_invariant_where_boxes_fit() -> None:
    metric = BoxCount(THRESHOLDS, scales=(1, 2, 4))
    for each in turned(smooth((32, 20))):
        np.testing.assert_allclose(metric(each), metric(smooth((32, 20))), rtol=1e-12)


def test_clusters_agree_with_minkowski() -> None:
    fields = np.concatenate([noise(), smooth((20, 31))])
    found = named(Clusters(THRESHOLDS, sizes=(1,), pixel_size=0.5), fields)
    known = named(Minkowski(THRESHOLDS, outputs=("area", "components"), pixel_size=0.5), fields)
    np.testing.assert_array_equal(found["count_1"], known["components"])
    np.testing.assert_allclose(found["mean"] * found["count_1"], known["area"], rtol=1e-12)


@each_of_sets
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thresholds": ()}, "thresholds"),
        ({"thresholds": (1.0, 0.5)}, "thresholds"),
        ({"levels": (0.5,)}, "levels"),
        ({"levels": (0.9, 0.5, 0.3, 0.1)}, "levels"),
        ({"outputs": ()}, "outputs"),
        ({"outputs": "count"}, "outputs"),
        ({"outputs": ("left",)}, "outputs"),
        ({"outputs": 3}, "outputs"),
    ],
)
def test_shared_arguments_are_refused(name: str, changes: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        OF_SETS[name](**{"thresholds": THRESHOLDS} | changes)


@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        (Clusters, {"sizes": ()}),
        (Clusters, {"sizes": (4, 1)}),
        (Clusters, {"sizes": (0, 1)}),
        (Clusters, {"sizes": (1.5,)}),
        (Clusters, {"sizes": (True,)}),
        (Clusters, {"sizes": 3}),
        (Clusters, {"pixel_size": 0.0}),
        (Clusters, {"pixel_size": math.inf}),
        (Clusters, {"pixel_size": "2"}),
        (Clusters, {"connectivity": 4}),
        (Clusters, {"length_unit": 1}),
        (Percolation, {"connectivity": 8}),
        (BoxCount, {"scales": (2, 3)}),
        (BoxCount, {"scales": (1, 1)}),
        (BoxCount, {"scales": (-1,)}),
        (BoxCount, {"scales": (1,), "outputs": ("dimension",)}),
        (Morphology, {"min_area": 0}),
        (Morphology, {"min_area": 2.0}),
        (Morphology, {"connectivity": 0}),
        (Spectrum, {"bins": 0}),
        (Spectrum, {"floor": 0.0}),
        (Spectrum, {"floor": math.nan}),
        (Spectrum, {"field_unit": None}),
        (Spectrum, {"outputs": ("direction",)}),
    ],
)
def test_own_arguments_are_refused(build: type[Metric], arguments: dict) -> None:
    first = {} if build is Spectrum else {"thresholds": THRESHOLDS}
    with pytest.raises(ArgumentError, match=next(reversed(arguments))):
        build(**first, **arguments)


# Constraints


def violations(metric: Metric, fields: np.ndarray) -> dict[str, float]:
    """Shares of violations in the exact curves of fields; those above zero."""
    shares = metric.check(metric(fields), fields.shape[1:])
    assert len(shares) == len(metric.constraints)
    return {label: share for label, share in shares.items() if share}


def variants(thresholds: tuple[float, ...]) -> list[Metric]:
    """Every metric of sets, with both connectivities and several arguments of its own, and the spectrum."""
    built: list[Metric] = [Spectrum(bins=4, outputs=("power", "anisotropy"))]
    for connectivity in CONNECTIVITIES:
        built += [OF_SETS["percolation"](thresholds, connectivity=connectivity)]
        for sizes, pixel_size in (((1, 3, 6, 20), 2.0), ((2,), 1.0), ((1, 2), 1e-2)):
            built += [Clusters(thresholds, sizes, pixel_size, connectivity=connectivity)]
        built += [Morphology(thresholds, least, connectivity=connectivity) for least in (1, 3, 30)]
    built += [BoxCount(thresholds, scales) for scales in ((1, 2, 4, 8), (3, 6), (1, 3, 9), (64,))]
    return built


def some_fields() -> dict[str, np.ndarray]:
    board = np.indices((24, 31)).sum(0) % 2
    lattice = np.indices((24, 31)) % 2
    return {
        "noise": noise((10, 24, 31)),
        "smooth": smooth((24, 31), 10),
        "checkerboards": np.array([board, 1 - board]),
        "lattices": np.array([lattice.min(0), lattice.max(0), 1 - lattice.min(0)]),
        "drawn": np.stack(list(drawn().values())).astype(float),
        "dry and wet": np.stack([np.full((24, 31), -9.0), np.full((24, 31), 9.0)]),
        "not measured": np.full((1, 3, 4), np.nan),
        "one row": noise((20, 1, 31)),
        "one column": noise((20, 24, 1)),
        "one pixel": noise((20, 1, 1)),
    }


@pytest.mark.parametrize("name", some_fields())
def test_exact_curves_break_no_constraint(name: str) -> None:
    for metric in variants((-1.5, -0.5, 0.0, 0.5, 1.0, 2.0)):
        assert violations(metric, some_fields()[name]) == {}, metric


@pytest.mark.parametrize("shape", [*SHAPES, (2, 3), (3, 3)], ids=str)
def test_masks_of_any_density_break_no_constraint(shape: tuple[int, int]) -> None:
    for metric in variants((0.5,)):
        assert violations(metric, masks(shape)) == {}, metric


def test_all_3x4_images_break_no_constraint() -> None:
    images = (np.arange(2**12)[:, None] >> np.arange(12) & 1).astype(bool).reshape(-1, 3, 4)
    for metric in variants((0.5,)):
        assert violations(metric, images) == {}, metric


@settings(deadline=None, max_examples=60)
@given(small_fields)
def test_any_field_breaks_no_constraint(field: np.ndarray) -> None:
    for metric in variants((0.5, 1.5, 2.5, 3.5)):
        assert violations(metric, field[None]) == {}, metric


@pytest.mark.parametrize(
    "count", [pytest.param(100, id="100"), pytest.param(2000, marks=pytest.mark.slow, id="2000")]
)
def test_rain_breaks_no_constraint(count: int) -> None:
    fields = rain(count)
    for build_one in OF_SETS.values():
        assert violations(build_one(RAIN_THRESHOLDS), fields) == {}
    assert violations(Spectrum(), fields) == {}


def honest() -> dict[str, tuple[Metric, np.ndarray]]:
    """Metrics, and the exact curves of a field with a bar across, a block, and a peak in each."""
    field = np.zeros((16, 20))
    field[3:5], field[4, :12], field[8:14, 4:9], field[9:11, 5:7] = 1.0, 2.0, 2.0, 3.0
    thresholds = (0.5, 1.5, 2.5)
    metrics: list[Metric] = [
        Clusters(thresholds, sizes=(1, 8), pixel_size=2.0),
        Percolation(thresholds, outputs=SPAN),
        BoxCount(thresholds, scales=(1, 2, 4)),
        Morphology(thresholds, min_area=4),
        Spectrum(bins=3, outputs=("power", "anisotropy")),
    ]
    return {metric.name: (metric, metric(field[None])) for metric in metrics}


BROKEN = [
    ("clusters", "largest non-increasing", {"largest": (1, 400.0)}),
    ("clusters", "largest >= 0", {"largest": (2, -1.0)}),
    ("clusters", "largest <= field", {"largest": (0, 1281.0)}),
    ("clusters", "mean >= 0", {"mean": (2, -1.0)}),
    ("clusters", "mean <= largest", {"mean": (2, 17.0)}),
    ("clusters", "mean >= min(largest, pixel)", {"mean": (2, 3.0)}),
    ("clusters", "mean >= (largest + (count_1 - 1) pixel) / count_1", {"mean": (0, 81.0)}),
    ("clusters", "mean <= field / count_1", {"count_1": (0, 17.0)}),
    ("clusters", "count_1 >= 0", {"count_1": (2, -1.0)}),
    ("clusters", "count_8 >= 0", {"count_8": (2, -1.0)}),
    ("clusters", "count_1 <= field / 1 pixels", {"count_1": (0, 321.0)}),
    ("clusters", "count_8 <= field / 8 pixels", {"count_8": (0, 41.0)}),
    ("clusters", "count_1 >= 1 where n >= 1", {"count_1": (2, 0.0)}),
    ("clusters", "count_8 >= 1 where n >= 8", {"count_8": (0, 0.0)}),
    (
        "clusters",
        "count_1 <= 1 + (field - largest) / 1 pixels, 0 where n < 1",
        {"count_1": (0, 282.0)},
    ),
    (
        "clusters",
        "count_8 <= 1 + (field - largest) / 8 pixels, 0 where n < 8",
        {"count_8": (2, 1.0)},
    ),
    ("clusters", "count_8 <= count_1", {"count_8": (0, 3.0)}),
    ("percolation", "left_right non-increasing", {"left_right": (1, 1.1)}),
    ("percolation", "left_right >= 0", {"left_right": (2, -0.1)}),
    ("percolation", "left_right <= 1", {"left_right": (0, 1.1)}),
    ("percolation", "top_bottom non-increasing", {"top_bottom": (1, 1.0)}),
    ("percolation", "top_bottom >= 0", {"top_bottom": (2, -0.1)}),
    ("percolation", "top_bottom <= 1", {"top_bottom": (0, 1.1)}),
    ("percolation", "spanning non-increasing", {"spanning": (1, 0.5)}),
    ("percolation", "spanning >= 0", {"spanning": (2, -0.1)}),
    ("percolation", "spanning <= 1", {"spanning": (0, 1.1)}),
    ("percolation", "spanning = 0 where none spans", {"spanning": (2, 0.1)}),
    ("percolation", "spanning >= a pixel where one spans", {"spanning": (0, 0.9 / 320)}),
    ("boxcount", "boxes_1 non-increasing", {"boxes_1": (1, 71.0)}),
    ("boxcount", "boxes_2 non-increasing", {"boxes_2": (1, 40.0)}),
    ("boxcount", "boxes_4 non-increasing", {"boxes_4": (1, 40.0)}),
    ("boxcount", "boxes_1 >= 0", {"boxes_1": (2, -1.0)}),
    ("boxcount", "boxes_2 >= 0", {"boxes_2": (2, -1.0)}),
    ("boxcount", "boxes_4 >= 0", {"boxes_4": (2, -1.0)}),
    ("boxcount", "boxes_1 <= pixels of the field", {"boxes_1": (0, 321.0)}),
    ("boxcount", "boxes_2 <= pixels of the field", {"boxes_2": (0, 321.0)}),
    ("boxcount", "boxes_4 <= pixels of the field", {"boxes_4": (0, 321.0)}),
    ("boxcount", "boxes_1 >= boxes_2", {"boxes_1": (2, 3.0)}),
    ("boxcount", "boxes_1 <= 4 boxes_2", {"boxes_1": (2, 17.0)}),
    ("boxcount", "boxes_2 >= boxes_4", {"boxes_2": (2, 0.0)}),
    ("boxcount", "boxes_2 <= 4 boxes_4", {"boxes_2": (2, 17.0)}),
    ("boxcount", "dimension >= 0", {"dimension": (0, -0.1)}),
    ("boxcount", "dimension <= 2", {"dimension": (0, 2.1)}),
    ("boxcount", "dimension = slope of log boxes", {"dimension": (0, 1.0)}),
    ("morphology", "count >= 0", {"count": (2, -1.0)}),
    ("morphology", "count <= field / 4", {"count": (0, 81.0)}),
    ("morphology", "eccentricity >= 0", {"eccentricity": (2, -0.1)}),
    ("morphology", "eccentricity <= 1", {"eccentricity": (0, 1.1)}),
    ("morphology", "eccentricity = 0 without objects", {"eccentricity": (0, 0.5), "count": (0, 0.0)}),
    ("morphology", "solidity >= 0", {"solidity": (2, -0.1)}),
    ("morphology", "solidity <= 1", {"solidity": (0, 1.1)}),
    ("morphology", "solidity = 0 without objects", {"solidity": (0, 0.5), "count": (0, 0.0)}),
    ("morphology", "solidity >= 4 / field where there are objects", {"solidity": (0, 0.01)}),
    ("spectrum", "power >= floor", {"power": (0, -6.1)}),
    ("spectrum", "anisotropy >= 0", {"anisotropy": (1, -0.1)}),
    ("spectrum", "anisotropy <= 1", {"anisotropy": (2, 1.1)}),
]


@pytest.mark.parametrize(("name", "broken", "changes"), BROKEN, ids=[each[1] for each in BROKEN])
def test_each_constraint_fires(name: str, broken: str, changes: dict) -> None:
    metric, curves = honest()[name]
    assert set(metric.check(curves, (16, 20)).values()) == {0.0}
    for output, (q, value) in changes.items():
        curves[0, metric.outputs.index(output), q] = value
    assert metric.check(curves, (16, 20))[broken] > 0


@pytest.mark.parametrize("name", honest())
def test_no_constraint_is_left_without_a_test(name: str) -> None:
    metric, _ = honest()[name]
    assert [c.label for c in metric.constraints if (name, c.label) not in {each[:2] for each in BROKEN}] == []
