"""Archives with unreadable files, labelled by every engine: told in one line, or left out and counted."""

import json
import pickle
import subprocess
import sys
import time
from pathlib import Path

import emuloss
import h5py
import numpy as np
import pytest
from drawn import rain_array
from emuloss.cli.main import main
from emuloss.datasets import InMemory, LabelledFields, Opera, assign_splits, label
from emuloss.datasets.labels import assembly
from emuloss.datasets.labels import store as storing
from emuloss.errors import DataError

FRAMES, BAD = 24, (5, 11)
START = np.datetime64("2018-08-24T00:00")
FUNCTION = """
import time

def total(field):
    time.sleep({delay})
    return float(field[field > 0].sum())
"""


def write_day(folder, bad=BAD, unknown=()):
    """A day of hourly composites whose names are no guide to their times.

    The values of the `bad` ones are damaged, which shows when they are read; `unknown` are of another kind.
    """
    folder.mkdir()
    for k, rates in enumerate(rain_array(FRAMES, 16, 16)):
        path = folder / f"{(7 * k) % FRAMES:02d}.h5"
        with h5py.File(path, "w") as file:
            data = file.create_dataset("dataset1/data1/data", data=rates, chunks=(16, 16), compression="gzip")
            what = {"gain": 1.0, "offset": 0.0, "nodata": -1.0, "undetect": -2.0}
            file.create_group("dataset1/what").attrs.update(what)
            file["dataset1/what"].attrs["quantity"] = "DBZH" if k in unknown else "RATE"
            file.create_group("what").attrs.update({"date": "20180824", "time": f"{k:02d}0000"})
            file.create_group("where").attrs.update({"xscale": 2000.0, "yscale": 2000.0})
            place = data.id.get_chunk_info(0).byte_offset
        if k in bad:
            content = bytearray(path.read_bytes())
            content[place : place + 8] = bytes(8)
            path.write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    return write_day(tmp_path_factory.mktemp("archive") / "day")


def minkowski():
    return emuloss.metric("minkowski", thresholds=[0.5, 2.0], outputs=["area", "euler"])


@pytest.fixture(scope="module")
def total(tmp_path_factory):
    """A metric that is plain Python, and so runs in worker processes."""
    place = tmp_path_factory.mktemp("function") / "functions.py"
    place.write_text(FUNCTION.format(delay=0))
    return emuloss.metric(f"{place}:total")


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=":0", processes=False
    ) as there:
        yield there.scheduler_address


def source_of(folder, **options):
    return Opera(folder, **{"size": 16, "skip_unreadable": True, **options})


def make(path, source, metric=None, **options):
    return label(source, metric or minkowski(), path, **{"progress": False, "workers": 2, **options})


ENGINES = ["in threads", "in processes", "on a cluster"]


@pytest.fixture(params=ENGINES)
def engine(request):
    """The metric and the engine that runs it."""
    if request.param == "on a cluster":
        where = {"engine": "dask", "scheduler": request.getfixturevalue("cluster")}
        return {"metric": minkowski(), **where}
    return {"metric": request.getfixturevalue("total") if request.param == "in processes" else minkowski()}


def name_of(k):
    return f"{(7 * k) % FRAMES:02d}.h5"


def test_an_unreadable_file_in_the_middle_is_told_in_one_line(day, tmp_path, engine):
    with pytest.raises(DataError) as caught:
        make(tmp_path / "x.h5", source_of(day, skip_unreadable=False), **engine)
    shown = str(caught.value)
    assert str(day / name_of(5)) in shown
    assert shown.endswith("; repair or remove it, or give `skip_unreadable` to leave such files out.")
    assert "\n" not in shown
    assert not (tmp_path / "x.h5").exists()


def test_unreadable_files_are_left_out_and_counted(day, tmp_path, engine):
    store = make(tmp_path / "x.h5", source_of(day), **engine)
    assert (store.skipped_files, store.skipped) == (2, tuple(sorted(map(name_of, BAD))))
    roles = np.array(assign_splits(source_of(day)))
    rates = np.rint(rain_array(FRAMES, 16, 16).astype(float) * 100) / 100  # what is below 0.1 is dry
    rates = np.where(rates < 0.1 - 1e-9, 0, rates).astype(np.float32)
    for role in ("train", "validation", "test"):
        kept = [k for k in np.flatnonzero(roles == role) if k not in BAD]
        fields, curves = store.split(role)
        np.testing.assert_array_equal(fields, rates[kept])
        np.testing.assert_array_equal(curves, engine["metric"](rates[kept]))
        np.testing.assert_array_equal(store.times(role), [START + np.timedelta64(k, "h") for k in kept])
    with h5py.File(store.path) as file:
        assert file.attrs["skipped"] == 2
        assert file["time"].attrs["units"] == "milliseconds since 1970-01-01"


def test_the_bar_counts_what_is_left_out(day, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("emuloss.foundation.bars._DELAY", 0.0)
    monkeypatch.setattr("emuloss.foundation.bars._RARELY", 0.0)
    make(tmp_path / "x.h5", source_of(day), progress=True)
    told = capsys.readouterr().err
    assert "22/22" in told
    assert "fields/s, 2 skipped" in told
    assert "joining" in told


def test_engines_make_the_same_store(day, tmp_path, cluster):
    here = make(tmp_path / "here.h5", source_of(day)).path.read_bytes()
    for name, options in {
        "one.h5": {"workers": 1},
        "there.h5": {"engine": "dask", "scheduler": cluster},
    }.items():
        assert make(tmp_path / name, source_of(day), **options).path.read_bytes() == here


def test_a_source_that_saw_a_bad_file_before_makes_the_same_store(day, tmp_path):
    roles = ["train"] * 12 + ["unused"] * 6 + ["validation"] * 3 + ["test"] * 3
    expected = make(tmp_path / "a.h5", source_of(day), splits=roles[::-1]).path.read_bytes()
    source = pickle.loads(pickle.dumps(source_of(day)))
    for k in range(len(source)):
        source.read(k, "unused")
    assert set(source.skipped) == set(map(name_of, BAD))
    assert make(tmp_path / "b.h5", source, splits=roles[::-1]).path.read_bytes() == expected
    assert LabelledFields(tmp_path / "b.h5").skipped == (name_of(5),)  # the other was not labelled


def test_what_is_of_another_kind_is_counted_as_well(tmp_path):
    folder = write_day(tmp_path / "day", bad=[3], unknown=[8, 9])
    with pytest.warns(UserWarning, match=r"left out 2 of 24 files"):
        source = source_of(folder)
    store = make(tmp_path / "x.h5", source)
    assert store.skipped == tuple(sorted(map(name_of, (3, 8, 9))))


def test_going_on_counts_what_was_left_out_before(day, tmp_path, monkeypatch):
    expected = make(tmp_path / "a.h5", source_of(day)).path.read_bytes()
    path = tmp_path / "b.h5"
    with monkeypatch.context() as patch:
        patch.setattr(assembly, "read_part", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make(path, source_of(day))
    (Path(f"{path}.parts") / "000011.part").unlink()
    source, read = source_of(day), []
    original = Opera.read
    monkeypatch.setattr(Opera, "read", lambda self, k, role: read.append(k) or original(self, k, role))
    make(path, source)
    assert read == [11]
    assert set(source.skipped) == {name_of(11)}
    assert path.read_bytes() == expected


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_killed_labelling_goes_on_to_the_same_bytes(day, tmp_path):
    place, out = tmp_path / "functions.py", tmp_path / "killed.h5"
    place.write_text(FUNCTION.format(delay=0.1))
    code = "import sys; from emuloss.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = ["label", f"--fields=opera:{day}", "--size=16", "--skip-unreadable", "--gap=3h"]
    words += [f"--metric={place}:total", "--source-option=quantum=0.01"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *words, f"--out={out}"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("killed.h5.parts/*.part"))) < 8 and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        process.kill()
        process.communicate()
    assert 8 <= len(list(tmp_path.glob("killed.h5.parts/*.part"))) < FRAMES
    assert not out.exists()
    assert main([*words, "--no-progress", f"--out={out}"]) == 0
    assert main([*words, "--no-progress", f"--out={tmp_path / 'whole.h5'}"]) == 0
    assert out.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert LabelledFields(out).skipped_files == 2


def test_the_command_says_what_it_left_out(day, tmp_path, capsys):
    words = ["label", f"--fields=opera:{day}", "--size=16", "--metric=minkowski", "--no-progress"]
    assert main([*words, "--skip-unreadable", "--gap=3h", f"--out={tmp_path / 'x.h5'}"]) == 0
    told = capsys.readouterr().err
    assert f"warning: files left out: 2, first {name_of(11)}: not a readable HDF5 file" in told
    splits = LabelledFields(tmp_path / "x.h5").definition["splits"]
    assert splits == ["train"] * 16 + ["validation"] * 2 + ["unused"] * 2 + ["test"] * 4
    assert main([*words, f"--out={tmp_path / 'y.h5'}"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "or give --skip-unreadable to leave such files out" in last


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--gap=3"], "--gap must be a duration, 0 or more, such as 3h, 90min, 45s or 2d, got '3'"),
        (["--gap=3h", "--gap-chunks=2"], "give either --gap or --gap-chunks, not both"),
        (["--gap=9d"], "or a shorter gap"),
        (["--skip-unreadable", "--source-option=skip_unreadable=false"], "by --skip-unreadable and by "),
    ],
)
def test_mistakes_cost_one_line(day, tmp_path, capsys, options, words):
    out = f"--out={tmp_path / 'x.h5'}"
    assert main(["label", f"--fields=opera:{day}", "--size=16", "--metric=minkowski", out, *options]) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert shown.count("\n") == 1


def test_an_archive_of_which_nothing_can_be_read(tmp_path):
    folder = write_day(tmp_path / "day", bad=range(FRAMES))
    with pytest.raises(DataError, match=r"no field to label, 22 of its files are left out, first 0\d\.h5; "):
        make(tmp_path / "x.h5", source_of(folder))


def test_many_names_are_cut(day, tmp_path, monkeypatch):
    monkeypatch.setattr(assembly, "NAMED", 1)
    store = make(tmp_path / "x.h5", source_of(day))
    assert (store.skipped_files, len(store.skipped)) == (2, 1)
    assert storing.NAMED == 100


def test_a_store_without_files_and_times_says_nothing_of_them(tmp_path):
    store = make(tmp_path / "x.h5", InMemory(rain_array(24, 8, 8)))
    assert (store.skipped_files, store.skipped, store.times("train")) == (0, (), None)
    with h5py.File(store.path) as file:
        assert set(file) == {"chunk", "curves", "definition", "fields", "split"}
        assert set(file.attrs) == {"about", "format", "format_version"}
        assert "times" not in json.loads(file.attrs["about"])


def test_times_that_do_not_fit_the_fields_are_damage(day, tmp_path):
    path = make(tmp_path / "x.h5", source_of(day)).path
    with h5py.File(path) as there, h5py.File(tmp_path / "y.h5", "w") as here:  # without a seal
        for name in set(there) - {"time"}:
            there.copy(name, here)
        here.attrs.update(there.attrs)
        here["time"] = there["time"][1:]
    with pytest.raises(DataError, match="is damaged"):
        LabelledFields(tmp_path / "y.h5")
