"""The page on speed: its tables are what the script writes between its markers."""

import importlib.util
import re
import sys

import numpy as np
import pytest
import torch
from emuloss.metrics import Minkowski
from frame import ROOT

PAGE = ROOT / "docs" / "speed.md"


@pytest.fixture(scope="module")
def scaling():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        spec = importlib.util.spec_from_file_location("scaling", ROOT / "benchmarks" / "scaling.py")
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


def numbers(row):
    """Nanoseconds and bytes in the cells of a row, (works, 2)."""
    cells = re.findall(r"([\d.,]+) ns, (\d+) B", row)
    return np.array([[float(number.replace(",", "")) for number in cell] for cell in cells])


def test_the_page_has_what_the_script_measures(scaling):
    text = PAGE.read_text(encoding="utf-8")
    assert (PAGE.with_suffix("") / "scaling.png").exists()
    for kind, rows in scaling.cases(scaling.SIDES, scaling.COUNTS, scaling.BATCHES).items():
        table = text.partition(f"<!-- {kind} -->\n")[2].partition("<!-- end -->")[0].splitlines()
        assert all(name in table[0] for name in scaling.WORKS)
        assert len(table) == 2 + len(rows)
        assert all((numbers(row)[:, 0] > 0).all() and len(numbers(row)) == 5 for row in table[2:])


@pytest.mark.slow
def test_a_run_of_small_fields(scaling, tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "SECONDS", 0.0)
    monkeypatch.setattr(scaling, "BATCH", 2)
    monkeypatch.setattr(scaling, "QUICK", ((16,), (2,), (2,)))
    monkeypatch.setattr(scaling, "SIDE", 32)
    monkeypatch.setattr(scaling, "PIXELS", 2048)
    page = tmp_path / "speed.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    scaling.main(["--quick", "--page", str(page)])
    text = page.read_text(encoding="utf-8")
    assert "| 8 x 16 x 16 |" in text
    assert (tmp_path / "speed" / "scaling.png").stat().st_size > 10_000
    kept = re.compile(r"(<!-- \w+ -->\n).*?(<!-- end -->)", re.DOTALL)
    assert kept.sub("", text) == kept.sub("", PAGE.read_text(encoding="utf-8"))


def test_the_peak_is_what_a_call_allocates(scaling):
    def call():
        np.ones(2**22).sum()  # 32 MiB

    found = scaling.peak(call)
    assert np.isnan(found) or 0.9 * 2**25 < found < 1.3 * 2**25


def test_a_page_without_markers_is_refused(scaling, tmp_path):
    (tmp_path / "page.md").write_text("nothing\n")
    with pytest.raises(RuntimeError, match="no place marked <!-- side -->"):
        scaling.put(tmp_path / "page.md", "side", "table")


# Other packages


def test_what_is_not_installed_is_left_out(scaling, monkeypatch):
    import _peers

    for name in ("gudhi", "topolosses", "torch_topological"):
        monkeypatch.setitem(sys.modules, name, None)
    found = dict(_peers.peers([0.1, 1.0], [1.0, 1.0], 0.05))
    assert {name.split(":")[0].split(",")[0] for name in found} == {
        "gudhi",
        "topolosses",
        "torch-topological",
    }
    assert not any(found.values())


def test_components_and_holes_of_gudhi_are_the_exact_ones(scaling):
    pytest.importorskip("gudhi")
    import _peers

    fields = np.random.default_rng(0).gamma(0.5, 2.0, (3, 24, 31))
    thresholds = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)
    exact = Minkowski(thresholds.tolist(), outputs=("components", "holes"))(fields)
    sharp = torch.full_like(thresholds, 1e-9)
    for field, curves in zip(torch.from_numpy(fields), exact, strict=True):
        np.testing.assert_allclose(_peers.gudhi_counts(field, thresholds, sharp), curves, atol=1e-6)
