"""The labelled store: content, refusals, and survival of interruptions."""

import errno
import importlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import emuloss
import h5py
import numpy as np
import pytest
from drawn import SUPPORT, read_all
from emuloss.datasets import FieldSource, LabelledFields, Rain, assign_splits, label, predictions_of
from emuloss.datasets.labels import assembly
from emuloss.datasets.labels.parts import read_part
from emuloss.datasets.labels.sealed import seal
from emuloss.errors import ArgumentError, DataError
from emuloss.metrics import CSI, FSS, Metric

LABELLING = importlib.import_module("emuloss.datasets.labels.label")  # whose function has its name


class WetArea(Metric):
    """A metric that says itself what its curves break."""

    name, outputs, units = "wet area", ("area", "missing"), ("1", "1")
    thresholds, levels = (0.105, 1.0), (0.25, 0.75)

    def __init__(self, factor=1.0):
        self.factor = factor

    def _compute(self, fields):
        area = np.stack([(fields >= u).sum(axis=(1, 2)) for u in self.thresholds], axis=1)
        missing = np.isnan(fields).sum(axis=(1, 2))[:, None].repeat(2, 1)
        return np.stack([area * self.factor, missing], axis=1).astype(np.float64)

    def check(self, curves, field_shape=None):
        return {
            "area >= 0": float((curves[:, 0] < 0).mean()),
            "area <= H W": float((curves[:, 0] > 256).mean()),
        }


class Slow(FieldSource):
    """Chunks of 0 to 4 fields that take a little while."""

    name, unit, pixel_size, chronological, quantum, field_shape = "slow", "mm/h", 2.0, True, 0.01, (16, 16)

    def __init__(self, chunks=24, delay=0.0):
        self.chunks, self.delay = chunks, delay

    def __len__(self):
        return self.chunks

    def read(self, k, role):
        time.sleep(self.delay)
        fields = np.random.default_rng(k).gamma(0.3, 2, (k % 5, 16, 16)).astype(np.float32)
        fields[:, 0, :k] = np.nan
        return fields if role == "train" else fields[::2]

    def config(self):
        return {"name": self.name, "chunks": self.chunks}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.h5"


def make(path, source=None, metric=None, **options):
    return label(source or Slow(), metric or WetArea(), path, **{"progress": False, "workers": 2, **options})


def test_content_equals_direct_computation(path):
    source, metric = Slow(), WetArea()
    store = make(path)
    roles = assign_splits(source)
    for name in ("train", "validation", "test"):
        fields, curves = store.split(name)
        expected = np.concatenate([source.read(k, name) for k, role in enumerate(roles) if role == name])
        np.testing.assert_array_equal(fields, expected)
        np.testing.assert_array_equal(curves, metric(expected))
        assert (fields.dtype, curves.dtype) == (np.float32, np.float64)
        assert store.counts[name] == len(fields)
    assert len(store) == sum(store.counts.values())
    assert not Path(f"{path}.parts").exists()


def test_the_store_describes_itself(path):
    make(path)
    store = LabelledFields(path)
    assert store.metric_config == WetArea().config()
    assert store.source_config == Slow().config()
    assert (store.outputs, store.units, store.thresholds) == (("area", "missing"), ("1", "1"), (0.105, 1.0))
    assert (store.unit, store.pixel_size, store.quantum, store.field_shape) == ("mm/h", 2.0, 0.01, (16, 16))
    assert store.violations == {"area >= 0": 0.0, "area <= H W": 0.0}
    with h5py.File(path) as file:
        chunks, split = file["chunk"][()], file["split"][()]
        names = np.array(json.loads(file["split"].attrs["roles"]))[split]
        roles = np.array(assign_splits(Slow()))
    np.testing.assert_array_equal(roles[chunks], names)
    assert "unused" not in names


def test_scattered_splits(path):
    roles = ["train", "test", "unused", "train", "validation", "test", "train", "train"]
    store = make(path, Slow(8), splits=roles)
    expected = np.concatenate([Slow().read(k, "train") for k in (0, 3, 6, 7)])
    np.testing.assert_array_equal(store.split("train")[0], expected)


def test_an_empty_split_is_empty(path):
    store = make(path, Slow(8), splits=["train"] * 8)
    fields, curves = store.split("test")
    assert (fields.shape, curves.shape) == ((0, 16, 16), (0, 2, 2))


def test_rain_with_one_or_many_workers(tmp_path):
    source = Rain(40, size=16)
    one, many = (make(tmp_path / f"{n}.h5", source, workers=n, progress=True) for n in (1, 4))
    assert one.path.read_bytes() == many.path.read_bytes()


def test_a_finished_store_is_returned_as_it_is(path, monkeypatch):
    make(path)
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(Slow, "read", None)
    assert len(make(path)) > 0
    assert path.stat().st_mtime_ns == before


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "difference"),
        [
            ({"metric": WetArea(0.5)}, r"metric\.arguments\.factor is 1\.0 there and 0\.5 here"),
            ({"source": Slow(25)}, r"source\.chunks is 24 there and 25 here"),
            ({"splits": ["train"] * 24}, "splits is"),
        ],
    )
    @pytest.mark.parametrize("finished", [True, False])
    def test_other_work(self, path, change, difference, finished, monkeypatch):
        if finished:
            make(path)
        else:
            with monkeypatch.context() as patch:
                patch.setattr(LABELLING, "assemble", interrupt)
                with pytest.raises(KeyboardInterrupt):
                    make(path)
        with pytest.raises(DataError, match=difference) as caught:
            make(path, **change)
        assert "choose another path or delete it" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(make(path)) > 0

    def test_wrong_labels(self, path):
        with pytest.raises(
            DataError,
            match=r"'wet area' breaks its own constraints in chunk 1 .*area >= 0 \(.* first in field 0\)",
        ):
            make(path, metric=WetArea(-1.0))
        assert not path.exists()

    def test_bad_arguments(self, path):
        with pytest.raises(ArgumentError, match="`splits` has 2 roles"):
            make(path, splits=["train", "test"])
        with pytest.raises(ArgumentError, match=r"^each of splits must be one of train, .*, got 'exam'$"):
            make(path, splits=["exam"] * 24)
        with pytest.raises(ArgumentError, match=r"^workers must be a whole number of at least 1, got 0$"):
            make(path, workers=0)
        with pytest.raises(ArgumentError, match=r"^name must be one of train, validation, test, got 'exam'$"):
            make(path).split("exam")

    def test_no_fields(self, path):
        with pytest.raises(DataError, match="no field to label"):
            make(path, Slow(1), splits=["train"])

    def test_source_of_another_shape(self, path, monkeypatch):
        monkeypatch.setattr(Slow, "field_shape", (8, 8))
        with pytest.raises(DataError, match=r"gave shape \(0, 16, 16\) for chunk 0"):
            make(path)

    def test_errors_of_the_source_pass_through(self, path, monkeypatch):
        def fail(self, k, role):
            raise DataError("chunk is bad")

        monkeypatch.setattr(Slow, "read", fail)
        with pytest.raises(DataError, match="chunk is bad"):
            make(path)

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
    def test_disk(self, path, monkeypatch, number):
        def fail(descriptor):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(DataError, match="is full" if number == errno.ENOSPC else "cannot be written"):
            make(path)
        monkeypatch.undo()
        assert len(make(path)) > 0

    def test_disk_full_while_joining(self, path, monkeypatch):
        def fail(*arguments):
            raise RuntimeError(
                "flush failed (file descriptor = 3, errno = 28, error message = 'No space left')"
            )

        monkeypatch.setattr(assembly, "read_part", fail)
        with pytest.raises(DataError, match="is full; free some space and run again to go on"):
            make(path)
        monkeypatch.undo()
        assert len(make(path)) > 0

    def test_unreadable_stores(self, path, tmp_path):
        with pytest.raises(DataError, match="is not a file"):
            LabelledFields(path)
        path.write_bytes(b"text")
        with pytest.raises(DataError, match="truncated or not a labelled store"):
            LabelledFields(path)
        with pytest.raises(DataError, match="truncated or not a labelled store"):
            make(path)
        path.unlink()
        with h5py.File(path, "w") as file:
            file["x"] = 1
        with pytest.raises(DataError, match="is not a labelled store"):
            LabelledFields(path)
        path.unlink()
        make(path)
        whole = path.read_bytes()
        for size in (len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:size])
            with pytest.raises(DataError, match="truncated"):
                LabelledFields(path)
        path.write_bytes(whole)
        with h5py.File(path, "a") as file:
            file.attrs["format_version"] = 99
        with path.open("rb+") as file:
            seal(file)
        with pytest.raises(DataError, match="has format version 99, and this emuloss reads 1"):
            LabelledFields(path)

    def test_damaged_part(self, path, monkeypatch, tmp_path):
        with monkeypatch.context() as patch:
            patch.setattr(LABELLING, "assemble", interrupt)
            with pytest.raises(KeyboardInterrupt):
                make(path)
        part = Path(f"{path}.parts") / "000007.part"
        part.write_bytes(part.read_bytes()[:100])
        with pytest.raises(DataError, match=r"000007\.part cannot be read .* run again to label it anew"):
            read_part(part, ["fields"], (16, 16))
        assert make(path).path.read_bytes() == make(tmp_path / "sound.h5").path.read_bytes()

    @pytest.mark.parametrize("size", [0, 100])
    def test_power_is_lost_while_labelling(self, path, monkeypatch, tmp_path, size):
        """Parts that were not on the disk yet may be empty or cut; the others are not labelled again."""
        with monkeypatch.context() as patch:
            patch.setattr(LABELLING, "assemble", interrupt)
            with pytest.raises(KeyboardInterrupt):
                make(path)
        for k in (3, 7):
            part = Path(f"{path}.parts") / f"{k:06}.part"
            part.write_bytes(part.read_bytes()[:size])
        read, original = [], Slow.read
        monkeypatch.setattr(Slow, "read", lambda self, k, role: read.append(k) or original(self, k, role))
        store = make(path)
        assert read == [3, 7]
        assert store.path.read_bytes() == make(tmp_path / "sound.h5").path.read_bytes()


def interrupt(*arguments, **options):
    raise KeyboardInterrupt


@pytest.mark.parametrize("before", [True, False])
def test_survives_a_crash_at_every_renaming(tmp_path, monkeypatch, before):
    reference = make(tmp_path / "reference.h5", Slow(6), splits=["train"] * 5 + ["test"]).path.read_bytes()
    replace = os.replace
    for moment in range(8):  # the definition, six parts, the finished file
        path = tmp_path / f"{moment}.h5"
        calls = iter(range(100))

        def crash(old, new, calls=calls, moment=moment):
            now = next(calls)
            if now == moment and before:
                raise KeyboardInterrupt
            replace(old, new)
            if now == moment:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", crash)
            with pytest.raises(KeyboardInterrupt):
                make(path, Slow(6), splits=["train"] * 5 + ["test"])
        make(path, Slow(6), splits=["train"] * 5 + ["test"])
        assert path.read_bytes() == reference
        assert not Path(f"{path}.parts").exists()


def test_resuming_reads_only_what_is_missing(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(LABELLING, "assemble", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make(path)
    (Path(f"{path}.parts") / "000003.part").unlink()
    read = []
    original = Slow.read
    monkeypatch.setattr(Slow, "read", lambda self, k, role: read.append(k) or original(self, k, role))
    make(path)
    assert read == [3]


# Pairs of fields


def test_pairs_have_the_labels_of_direct_computation(path):
    metric = FSS([0.1, 1.0], windows=(1, 3))
    store = make(path, metric=metric)
    fields, curves = store.split("train")
    assert store.pairs
    assert fields.shape == (len(fields), 2, 16, 16)
    assert curves.shape == (len(fields), 2, 2)
    np.testing.assert_array_equal(curves, metric(fields[:, 0], fields[:, 1]))
    roles = assign_splits(Slow())
    observed = np.concatenate([Slow().read(k, "train") for k, role in enumerate(roles) if role == "train"])
    np.testing.assert_array_equal(fields[:, 1], observed)
    assert np.ptp(curves[:, 1]) > 0.5
    assert store.definition["pairs"] == {"seed": 0}


def test_pairs_hang_on_the_seed(tmp_path):
    first, again, other = (
        make(tmp_path / f"{n}.h5", metric=CSI([0.1]), seed=seed) for n, seed in enumerate((0, 0, 1))
    )
    assert first.path.read_bytes() == again.path.read_bytes()
    assert (first.split("test")[0] != other.split("test")[0]).any()
    with pytest.raises(DataError, match=r"pairs\.seed is 0 there and 1 here"):
        make(first.path, metric=CSI([0.1]), seed=1)
    with pytest.raises(ArgumentError, match=r"^seed must be a whole number, 0 or more, got -1$"):
        make(tmp_path / "none.h5", seed=-1)


def test_predictions_range_from_perfect_to_unrelated():
    source = Rain(96, size=32)
    rain = read_all(source)
    rain[0, :4] = np.nan
    found = predictions_of(rain, np.random.default_rng(0))
    assert found.shape == rain.shape
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, predictions_of(rain, np.random.default_rng(0)))
    scores = FSS([0.5], windows=(3,))(found, rain)[:, 0, 0]
    assert scores.min() < 0.3
    assert scores.max() == 1.0
    assert 0.3 < np.median(scores) < 0.98
    for size in (1, 2, 3):
        assert np.isfinite(predictions_of(rain[:, :size, :size], np.random.default_rng(1))[1:]).all()
    with pytest.raises(ArgumentError, match="`fields` must have shape"):
        predictions_of(rain[0], np.random.default_rng(0))


def test_wrong_values_at_identity_are_found(path):
    metric = CSI([0.1], outputs=("pod",))
    metric.identity = 0.5
    with pytest.raises(DataError, match=r"in chunk 0 .* m\(x, x\) = 0\.5 \(in the first 2 pairs\)"):
        make(path, Rain(64, size=16), metric=metric)


# Metrics that are plain Python


FUNCTIONS = """
import os
import time

def mean(field):
    print("a function may print")
    return float(field[field > 0].sum())

def fails(field):
    if (field == 0).all():
        raise RuntimeError("all is dry")
    return field.max()

def dies(field):
    os._exit(7)

def sleeps(field):
    time.sleep(100)

def constant(field):
    return 3
"""


@pytest.fixture
def functions(tmp_path):
    place = tmp_path / "functions.py"
    place.write_text(FUNCTIONS)
    return lambda name, **arguments: emuloss.metric(f"{place}:{name}", **arguments)


def test_a_function_labels_in_processes(path, functions):
    metric = functions("mean")
    store = make(path, Rain(70, size=16), metric)
    fields, curves = store.split("train")
    np.testing.assert_array_equal(curves, metric(fields))
    assert store.constant_outputs() == ()


def dry_at(k, n):
    class Drying(Slow):
        def read(self, chunk, role):
            fields = np.nan_to_num(super().read(chunk, role)) + 1
            if chunk == k:
                fields[n] = 0
            return fields

    return Drying()


def test_a_function_that_fails_is_named_with_its_field(path, functions):
    metric = functions("fails")
    message = r"field 2 of chunk 14 of source 'slow': functions\.py:fails raised RuntimeError: all is dry"
    with pytest.raises(DataError, match=f"^{message}$"):
        make(path, dry_at(14, 2), metric)
    assert len(list(Path(f"{path}.parts").glob("*.part"))) == 14  # nothing made before it is lost
    assert len(make(path, dry_at(-1, 0), metric))


def test_a_function_that_kills_its_process(path, functions):
    with pytest.raises(DataError, match=r"labelled field 0 with metric .* died \(exit code 7\)"):
        make(path, metric=functions("dies"))


def test_declared_bounds_are_checked(path, functions):
    with pytest.raises(DataError, match=r"in chunk 1 .*mean <= 1 \(100\.00% of the labels, first in field 0"):
        make(path, metric=functions("mean", bounds={"mean": (0, 1)}))


def test_constant_outputs(path, functions):
    assert make(path, metric=functions("constant")).constant_outputs() == ("constant",)


def test_a_class_that_no_process_can_import(path):
    class Here(CSI):
        parallel = "processes"

    with pytest.raises(ArgumentError, match=r"cannot be sent to worker processes .*define it in a module"):
        make(path, metric=Here([1.0]))


INTERRUPTED = """
import emuloss, sys, threading, os, signal, time
from emuloss.datasets import Rain, label
threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
print("ready", flush=True)
label(Rain(64, size=16), emuloss.metric(sys.argv[1]), sys.argv[2], workers=2, progress=False)
"""


def test_an_interruption_ends_slow_functions(tmp_path, functions):
    """A script without a __main__ guard; its processes go with it."""
    functions("sleeps")  # writes the file
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, f"{tmp_path / 'functions.py'}:sleeps", str(tmp_path / "x.h5")],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "KeyboardInterrupt" in done.stderr
    assert done.returncode in (1, 130, -2)
    assert time.monotonic() - began < 30


SCRIPT = """
import importlib.util, sys
sys.path.append(sys.argv[3])
spec = importlib.util.spec_from_file_location("stand_ins", sys.argv[1])
stand_ins = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stand_ins)
print("ready", flush=True)
stand_ins.label(stand_ins.Slow(delay=0.02), stand_ins.WetArea(), sys.argv[2], workers=2, progress=False)
"""


def test_survives_sigkill_at_random_moments(tmp_path):
    """A script without a __main__ guard, killed again and again, ends in the file of an undisturbed run."""
    reference = make(tmp_path / "reference.h5").path.read_bytes()
    path = tmp_path / "killed.h5"
    moments = random.Random(0)
    kills, partial = 0, False
    while True:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, __file__, str(path), SUPPORT], cwd=tmp_path, stdout=subprocess.PIPE
        )
        with process:
            assert process.stdout.readline() == b"ready\n"
            if kills < 4:
                parts = Path(f"{path}.parts")
                while not kills and not list(parts.glob("*.part")):
                    time.sleep(0.005)  # the first kill meets a finished part, however slow the machine
                time.sleep(moments.uniform(0.0, 0.12))
                process.kill()
        if process.returncode == 0:
            break
        kills += 1
        parts = len(list(Path(f"{path}.parts").glob("*.part")))
        partial = partial or 0 < parts < 20
        assert not path.exists() or path.read_bytes() == reference
    assert kills >= 2
    assert partial
    assert path.read_bytes() == reference
    assert not Path(f"{path}.parts").exists()
