"""The ablation's page: tables of made-up figures between its markers, and the text around them as it was."""

import importlib.util
import re
import sys
from pathlib import Path

import emuloss
import pytest
from emuloss import train_surrogate

ROOT = Path(train_surrogate.__file__).resolve().parent
SCRIPT, PAGE = ROOT / "benchmarks" / "ablation.py", ROOT / "docs" / "ablation.md"
TABLES = ("fidelity", "gradients", "inversion", "classes", "shift", "learning", "costs")
ALL_TABLES = (*TABLES, "longer")
BETWEEN_MARKERS = re.compile(r"(<!-- (?!end)[a-z]+ -->\n).*?(<!-- end -->)", re.DOTALL)


@pytest.fixture(scope="module")
def ablation():
    spec = importlib.util.spec_from_file_location("ablation", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)  # where dataclasses look for it
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def page(ablation, tmp_path, monkeypatch):
    """A copy of the page, which the script then writes."""
    copy = tmp_path / "ablation.md"
    copy.write_text(PAGE.read_text())
    monkeypatch.setattr(ablation, "PAGE", copy)
    return copy


def made_up(outputs, classes, *, bound, r2, thresholds):
    """Figures of a variant, as the script keeps them."""
    scores = {name: {"r2_mean": r2, "r2_worst": r2, "distance": 0.25} for name in outputs}
    removed = {"removed": 12.5, "rmse_after": 0.5, "outputs": {name: {"removed": 7.5} for name in outputs}}
    shift = {"unshifted": {"outputs": scores}, "smaller": {"refused": "fields are too small"}}
    return {
        "training": {"weights": 123456, "fields_seen": 9600, "seconds": 90},
        "certificate": {"bound": bound, "reason": "", "largest_slope": 4.5},
        "learning": None if thresholds else [0.5, 0.25, 0.125, 0.0625],
        "fidelity": {
            "outputs": scores,
            "violations": {"area >= 0": 0.0, "holes >= 0": 1.25},
            "textbook_isoperimetry": {"exact": 8.0, "emulated": 6.5},
        },
        "classes": {name: {"outputs": scores} for name in classes},
        "timing": {"forward": 1.5, "gradient": 3.0},
        "gradients": {"total": {"cosine": 0.875}, "sizes": {"near_zero": 30.0}},
        "descent": removed,
        "descent_noisy": removed,
        "inversion": {"targets": {"large storm": {"rmse": 1.125}, "dry": {"rmse": None}}},
        "shift": shift | ({"thresholds": {"outputs": scores}} if thresholds else {}),
    }


@pytest.fixture
def figures(ablation):
    given = ablation.OUTPUTS, ablation.CLASSES
    return {
        "baseline": made_up(*given, bound=1234.5, r2=0.96875, thresholds=False),
        "excursion": made_up(*given, bound=None, r2=-3.0, thresholds=True) | {"training": {}},
    }


def rows_of(text: str, table: str) -> list[list[str]]:
    """Cells of the rows between a table's markers."""
    (found,) = re.findall(f"<!-- {table} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines()]


def test_tables_land_between_their_markers(ablation, page, figures):
    ablation.write_page(figures)
    text = page.read_text()
    for table in TABLES:
        header, rule, *rows = rows_of(text, table)
        assert header[0] == ""
        assert rule == ["---", *["---:"] * (len(header) - 1)]
        assert [row[0] for row in rows] == ["baseline", "excursion"]
        assert all(len(row) == len(header) for row in rows)


def test_cells(ablation, page, figures):
    ablation.write_page(figures)
    cells = {}
    for table in TABLES:
        header, _, *rows = rows_of(page.read_text(), table)
        cells |= {(table, row[0], name): cell for row in rows for name, cell in zip(header, row, strict=True)}
    for place, text in {
        ("fidelity", "baseline", "R2 area"): "0.9688 / 0.969",
        ("fidelity", "excursion", "R2 area"): "< -1 / < -1",
        ("fidelity", "baseline", "distance"): "1.000",
        ("fidelity", "baseline", "violations, %"): "1.25",
        ("gradients", "baseline", "bound"): "1.23e+03",
        ("gradients", "excursion", "bound"): "-",
        ("gradients", "baseline", "of components"): "7.5",
        ("inversion", "baseline", "large storm"): "1.12",
        ("inversion", "baseline", "dry"): "-",
        ("classes", "baseline", "dry"): "0.969 / 1.000",
        ("shift", "baseline", "smaller"): "-",
        ("shift", "baseline", "thresholds"): "-",
        ("shift", "excursion", "thresholds"): "< -1",
        ("costs", "baseline", "weights"): "123,456",
        ("costs", "excursion", "weights"): "-",
        ("costs", "baseline", "training, min"): "1.5",
    }.items():
        assert cells[place] == text, place


def test_bundled_surrogates_are_what_longer_training_gives(ablation, page, figures):
    ablation.write_page(figures)
    header, _, *rows = rows_of(page.read_text(), "longer")
    assert [row[0] for row in rows] == emuloss.list_models("minkowski-opera*")
    assert float(rows[0][header.index("R2 area")].split(" / ")[0]) > 0.9999
    assert rows[0][header.index("fields seen")] == "-"  # nothing was trained


def test_text_around_the_tables_stays_and_writing_again_changes_nothing(ablation, page, figures):
    before = page.read_text()
    ablation.write_page(figures)
    once = page.read_text()
    assert BETWEEN_MARKERS.sub(r"\1\2", once) == BETWEEN_MARKERS.sub(r"\1\2", before)
    ablation.write_page(figures)
    assert page.read_text() == once


def test_part_of_the_variants_replace_their_rows_alone(ablation, page, figures):
    ablation.write_page(figures)
    before = page.read_text()
    again = dict(
        figures["excursion"], inversion={"targets": {"large storm": {"rmse": 0.25}, "dry": {"rmse": 0}}}
    )
    ablation.write_page({"excursion": again, "hybrid": again}, partly=True)
    text = page.read_text()
    for table in TABLES:
        old, new = rows_of(before, table), rows_of(text, table)
        assert [row[0] for row in new[2:]] == ["baseline", "hybrid", "excursion"]
        assert new[:3] == old[:3]
    assert rows_of(text, "inversion")[4] == ["excursion", "0.25", "0.00"]


def test_rows_of_other_columns_are_refused(ablation, page, figures):
    ablation.write_page(figures)
    text = page.read_text()
    with pytest.raises(RuntimeError, match="run all variants"):
        ablation.write_page({"baseline": figures["baseline"]}, partly=True)  # without the shift of thresholds
    assert page.read_text() == text


@pytest.mark.parametrize("table", ALL_TABLES)
def test_a_missing_marker_is_an_error_and_leaves_the_page(ablation, page, figures, table):
    text = page.read_text().replace(f"<!-- {table} -->", "")
    page.write_text(text)
    with pytest.raises(RuntimeError, match=f"no place marked <!-- {table} -->"):
        ablation.write_page(figures)
    assert page.read_text() == text


def test_every_variant_can_be_built(ablation):
    metric = ablation.Minkowski(ablation.THRESHOLDS, outputs=ablation.OUTPUTS)
    for variant in ablation.VARIANTS.values():
        assert ablation.ARCHITECTURES[variant.arch](metric, **variant.arguments).metric is metric
        ablation.Training(minutes=None, fields=1, **variant.training)
