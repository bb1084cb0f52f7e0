"""The command that scores the ensembles of a file."""

import json

import emuloss
import h5py
import numpy as np
import pytest
from drawn import rain_array
from emuloss.cli.main import main
from emuloss.evaluation import ensemble_scores
from refusals import refusal

MEMBERS = rain_array(12, 16, 20).reshape(3, 4, 16, 20)
OBSERVED = rain_array(3, 16, 20, seed=1)
METRIC = emuloss.metric("minkowski", thresholds=[0.5, 2.0])


@pytest.fixture
def words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    emuloss.relax(METRIC).save_pretrained(tmp_path / "relaxed")
    return ["evaluate", "relaxed", "--no-progress"]


def write_npz(**arrays):
    np.savez("drawn.npz", **arrays)
    return "drawn.npz"


def write_h5(**arrays):
    with h5py.File("drawn.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return "drawn.h5"


def write_nc(**arrays):
    xarray = pytest.importorskip("xarray")
    dims = ("time", "member", "y", "x")
    named = {name: (dims[: 1 + (array.ndim > 3)] + dims[2:], array) for name, array in arrays.items()}
    xarray.Dataset(named).to_netcdf("drawn.nc")
    return "drawn.nc"


@pytest.mark.parametrize("write", [write_npz, write_h5, write_nc])
def test_members_of_a_file(write, words, tmp_path, capsys):
    observed = OBSERVED.copy()
    observed[:, :3, :5] = np.nan
    file = write(members=MEMBERS, observed=observed)
    assert main([*words, f"--members={file}", "--out=scored", "--seed=3"]) == 0
    expected = ensemble_scores(METRIC, MEMBERS, observed, seed=3)
    assert capsys.readouterr().out == f"{expected}\n"
    assert json.loads((tmp_path / "scored" / "ensembles.json").read_text()) == expected.as_dict()
    assert (tmp_path / "scored" / "ensembles.png").read_bytes().startswith(b"\x89PNG")


def test_table(words, capsys):
    file = write_npz(members=MEMBERS, observed=OBSERVED)
    assert main([*words, f"--members={file}"]) == 0
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert title == "3 fields, 4 members of each, exact curves"
    assert header.split()[:2] == ["output", "unit"]
    assert [row.split()[0] for row in rows] == list(METRIC.outputs)
    assert len({len(line) for line in (header, *rows)}) == 1


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"members": MEMBERS[:, :1], "observed": OBSERVED}, [], "error: --members must hold at least 2"),
        ({"member": MEMBERS, "observed": OBSERVED}, [], "no 'members' among member, observed (did you mean"),
        ({"members": MEMBERS, "observed": OBSERVED[:2]}, [], "--members must have shape (N, M, H, W)"),
        ({"members": MEMBERS, "observed": OBSERVED}, ["--quick"], "--members are not for --save, --quick"),
    ],
)
def test_mistakes(arrays, options, message, words, capsys):
    assert message in refusal(capsys, main([*words, f"--members={write_npz(**arrays)}", *options]))


def test_no_file_of_arrays(words, tmp_path, capsys):
    assert "gone.npz is no file of arrays" in refusal(capsys, main([*words, "--members=gone.npz"]))
    np.save("one.npy", MEMBERS)
    assert "one.npy is no file of arrays" in refusal(capsys, main([*words, "--members=one.npy"]))
    (tmp_path / "text.npz").write_text("mine")
    assert "text.npz cannot be read" in refusal(capsys, main([*words, "--members=text.npz"]))


def test_pairwise_metrics_score_no_ensembles(words, tmp_path, capsys):
    metric = emuloss.metric("fss", thresholds=[0.1, 1.0], windows=[1, 3])
    emuloss.relax(metric).save_pretrained(tmp_path / "relaxed")
    file = write_npz(members=MEMBERS, observed=OBSERVED)
    assert "'fss' compares two fields" in refusal(capsys, main([*words, f"--members={file}"]))
