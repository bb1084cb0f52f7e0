"""`emuloss fields`: what it says about a file, and how its mistakes and interruptions end."""

import os
import subprocess
import sys

import numpy as np
import pytest
from emuloss.cli.main import main
from refusals import refusal


@pytest.fixture
def file(tmp_path):
    """Rain and temperatures in one file."""
    rng = np.random.default_rng(0)
    rain = np.round(np.maximum(rng.normal(0, 2, (24, 16, 16)), 0), 1).astype(np.float32)
    np.savez(tmp_path / "two.npz", rain=rain, temperature=280 + rain)
    return tmp_path / "two.npz"


def test_a_file(file, capsys):
    given = ["--source-option=variable=rain", "--unit=mm/h", "--pixel-size=2", "--size=8", "--test-chunks=6"]
    picture = file.parent / "pictures" / "fields.png"
    assert main(["fields", str(file), *given, f"--picture={picture}"]) == 0
    said = capsys.readouterr()
    rain = np.load(file)["rain"]
    assert f"source     {file}" in said.out
    assert "fields     96, 8 x 8 pixels of 2 pixel" in said.out
    assert "steps      0.1 mm/h" in said.out
    assert f"range      0 to {rain.max():.6g} mm/h" in said.out
    assert f"above 0    {100 * (rain > 0).mean():.3g} % of the measured pixels" in said.out
    assert "6 test" in said.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert said.err == f"emuloss: some fields are drawn in {picture}\n"


def test_advice_names_flags(file, capsys):
    assert main(["fields", str(file), "--source-option=variable=rain"]) == 0
    assert "unit       not told; give --unit\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Missing argument"),
        (["two.npz"], "--source-option variable must choose one of rain, temperature in two.npz"),
        (["none.npy"], "none.npy does not exist"),
        (["rain", "--picture=fields.gif"], "--picture (='fields.gif') must end in .png"),
        (["rain", "--chunks=0"], "--chunks must be a whole number of at least 1, got 0"),
        (["rainy"], "unknown source of fields 'rainy'"),
        (["."], "error: FIELDS (='.') must tell what reads them: xarray:. (NetCDF, Zarr, GRIB, GeoTIFF)"),
        (["*.nc"], "must tell what reads them: xarray:*.nc"),
    ],
)
def test_mistakes_cost_one_line(words, said, file, capsys, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert said in refusal(capsys, main(["fields", *words]))


def test_an_interruption_promises_nothing(capsys, monkeypatch):
    def end(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr("emuloss.pipeline.looking.look", end)
    assert main(["fields", "rain"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


def test_warnings_are_told_in_one_line(tmp_path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("netCDF4")
    along = {"lat": ("lat", np.arange(8.0), {"units": "degrees_north"}), "lon": ("lon", np.arange(9.0))}
    along["lon"] = ("lon", np.arange(9.0), {"units": "degrees_east"})
    values = np.random.default_rng(0).random((24, 8, 9), np.float32)
    xarray.Dataset({"pr": (("time", "lat", "lon"), values)}, along).to_netcdf(tmp_path / "pr.nc")
    done = subprocess.run(
        [sys.executable, "-m", "emuloss", "fields", "pr.nc"],
        cwd=tmp_path, capture_output=True, text=True, timeout=200, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("emuloss: warning: pr.nc")
    assert "in degrees_north" in line
