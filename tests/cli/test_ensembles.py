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


def write_packed_h5(attributes, **arrays):
    with h5py.File(write_h5(**arrays), "a") as file:
        for name in arrays:
            file[name].attrs.update(attributes)
    return "drawn.h5"


def write_packed_nc(attributes, **arrays):
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(write_nc(**arrays)) as data:
        data = data.load()
    rest = {name: value for name, value in attributes.items() if name != "_FillValue"}
    for name in arrays:
        data[name].attrs.update(rest)
    data.to_netcdf("packed.nc", encoding={name: {"_FillValue": attributes["_FillValue"]} for name in arrays})
    return "packed.nc"


PACKED = {"scale_factor": 0.01, "_FillValue": np.int16(-1), "units": "mm h-1"}


@pytest.mark.parametrize("write", [write_packed_h5, write_packed_nc])
def test_packed_numbers_are_scored_as_what_they_mean(write, words, tmp_path, capsys):
    numbers = {"members": np.rint(100 * MEMBERS), "observed": np.rint(100 * OBSERVED)}
    values = {name: (0.01 * each).astype(np.float32) for name, each in numbers.items()}
    numbers["observed"][:, 2:5, 3:9], values["observed"][:, 2:5, 3:9] = -1, np.nan
    found = []
    packed = {name: each.astype(np.int16) for name, each in numbers.items()}
    for file in (write_npz(**values), write(PACKED, **packed)):
        assert main([*words, f"--members={file}"]) == 0
        found.append(capsys.readouterr().out)
    assert found[0] == found[1] == f"{ensemble_scores(METRIC, *values.values())}\n"


def test_another_unit_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    surrogate = emuloss.relax(METRIC)
    surrogate.provenance.unit = "mm/h"
    surrogate.save_pretrained(tmp_path / "relaxed")
    file = write_packed_h5(PACKED | {"units": "m s-1"}, members=MEMBERS, observed=OBSERVED)
    words = ["evaluate", "relaxed", "--no-progress", f"--members={file}"]
    assert "drawn.h5, members" in (message := refusal(capsys, main(words)))
    assert "multiply them by 3600000" in message


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
    ],
)
def test_mistakes(arrays, options, message, words, capsys):
    assert message in refusal(capsys, main([*words, f"--members={write_npz(**arrays)}", *options]))


@pytest.mark.parametrize(
    "option",
    ["--fields=rain", "--source-option=size=8", "--count=3", "--whole", "--quick", "--no-thorough", "--save"],
)
def test_options_without_use_beside_members_are_refused(option, words, capsys):
    file = write_npz(members=MEMBERS, observed=OBSERVED)
    flag = option.split("=")[0].replace("--no-", "--")
    told = refusal(capsys, main([*words, f"--members={file}", option]))
    assert told == f"error: {flag} is not for --members; leave one of them out"


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
