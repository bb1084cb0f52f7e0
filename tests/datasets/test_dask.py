"""Labelling on a Dask cluster: the store of a serial run, whatever happens to workers and caller."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import emuloss
import numpy as np
import pytest
from emuloss.cli.main import main
from emuloss.datasets import FieldSource, LabelledFields, label
from emuloss.errors import ArgumentError, ClusterError, DataError
from emuloss.foundation import threads as kernel_threads
from emuloss.metrics import CSI, FSS, FunctionMetric, Minkowski
from tqdm import TMonitor

pytestmark = pytest.mark.skipif(os.name == "nt", reason="workers are killed by SIGKILL")

CHUNKS = 30
FUNCTIONS = """
import os, pathlib, signal, time

HERE = pathlib.Path(__file__).parent

def total(field):
    return float(field[field > 0].sum())

def steps_on_a_mine(field):
    \"\"\"Kills its process, the first time that it is called after a mine was laid.\"\"\"
    try:
        (HERE / "mine").unlink()
    except FileNotFoundError:
        return total(field)
    os.kill(os.getpid(), signal.SIGKILL)

def fails(field):
    if (field == 7).any():
        raise RuntimeError("seven is too much")
    return total(field)

def dies(field):
    if (field == 7).any():
        os._exit(7)
    return total(field)

def slow(field):
    time.sleep(0.1)
    return total(field)

def at_once(field):
    \"\"\"How many calls run at the same time in this process.\"\"\"
    global running
    running = globals().get("running", 0) + 1
    time.sleep(0.01)
    found, running = running, running - 1
    return found
"""


class Watched(FieldSource):
    """Chunks of 0 to 4 fields; `watch` is called with the number of each chunk that is read."""

    name, unit, pixel_size, chronological, quantum, field_shape = "watched", "mm/h", 2.0, True, 0.01, (16, 16)

    def __init__(self, watch=lambda k: None, seven=None, chunks=CHUNKS):
        self.watch, self.seven, self.chunks = watch, seven, chunks

    def __len__(self):
        return self.chunks

    def read(self, k, role):
        self.watch(k)
        fields = np.random.default_rng(k).gamma(0.3, 2, (k % 5, 16, 16)).astype(np.float32)
        fields[:, 0, :k] = np.nan
        if k == self.seven:
            fields[1, 8, 8] = 7
        return fields

    def config(self):
        return {"name": self.name, "seven": self.seven, "chunks": self.chunks}


@contextlib.contextmanager
def running(folder, workers=2, threads=1, **settings):
    """A cluster of processes on this machine: its address, and its processes."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {f"DASK_DISTRIBUTED__{name}": value for name, value in settings.items()}
    where = folder / "scheduler.json"
    with contextlib.ExitStack() as stack:

        def start(program, *options):
            log = stack.enter_context((folder / f"{program}{len(processes)}.log").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{program}", *options, "--no-dashboard"],
                cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            processes.append(process)
            stack.callback(end, process)
            return process

        processes = []
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(where))
        address = scheduler_address(where, processes[0])
        for _ in range(workers):
            start(
                "worker", address, "--host", "127.0.0.1", "--no-nanny", "--nthreads", str(threads),
                "--local-directory", str(folder),
            )  # fmt: skip
        yield SimpleNamespace(address=address, scheduler=processes[0], workers=processes[1:])


def end(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def scheduler_address(where, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, ValueError):  # not yet there, or not yet whole
            return json.loads(where.read_text())["address"]
        time.sleep(0.02)
    raise AssertionError("the scheduler did not start")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two workers that no test kills."""
    with running(tmp_path_factory.mktemp("cluster")) as there:
        yield there


@pytest.fixture
def own_cluster(tmp_path):
    """Two workers that a test may kill; a chunk may cost one of them."""
    with running(tmp_path / "cluster", SCHEDULER__ALLOWED_FAILURES="1") as there:
        yield there


@pytest.fixture
def functions(tmp_path):
    place = tmp_path / "functions.py"
    place.write_text(FUNCTIONS)
    return lambda name, **arguments: emuloss.metric(f"{place}:{name}", **arguments)


@pytest.fixture(autouse=True)
def _no_thread_remains():
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        new = set(threading.enumerate()) - before
        left = [thread.name for thread in new if not isinstance(thread, TMonitor)]
        # All progress bars of a process share a thread, all clients of Dask one for large messages, and all
        # kernels theirs.
        if not [name for name in left if not name.startswith(("Dask-Offload_0", "emuloss-kernel"))]:
            return
        time.sleep(0.01)
    raise AssertionError(left)


def minkowski():
    outputs = ("area", "perimeter", "euler", "components", "holes")
    return Minkowski(thresholds=(0.1, 1.0, 3.0), pixel_size=2.0, outputs=outputs)


def make(path, source, metric, cluster=None, **options):
    """Label on a cluster, or serially on this machine."""
    where = {} if cluster is None else {"engine": "dask", "scheduler": cluster.address}
    return label(source, metric, path, workers=1 + bool(cluster), progress=False, **where, **options)


def bytes_of(path, source, metric, cluster=None, **options):
    return make(path, source, metric, cluster, **options).path.read_bytes()


def parts(path):
    return len(list(Path(f"{path}.parts").glob("0*.part")))


def message(error, *arguments, **options):
    """The line in which labelling ends."""
    with pytest.raises(error) as caught:
        make(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The same store


@pytest.mark.parametrize("name", ["minkowski", "total", "fss"])
def test_the_store_is_that_of_a_serial_run(name, cluster, functions, tmp_path):
    metrics = {"minkowski": minkowski, "total": lambda: functions("total"), "fss": lambda: FSS([0.1, 1.0])}
    metric = metrics[name]()
    here = bytes_of(tmp_path / "here.h5", Watched(), metric)
    assert bytes_of(tmp_path / "there.h5", Watched(), metric, cluster) == here
    assert not Path(f"{tmp_path / 'there.h5'}.parts").exists()


@pytest.mark.slow
def test_a_worker_is_killed_midway(own_cluster, tmp_path):
    path, found = tmp_path / "there.h5", []

    def kill(k):
        if k == 20:
            found.append(parts(path))
            own_cluster.workers[0].kill()

    here = bytes_of(tmp_path / "here.h5", Watched(), minkowski())
    assert bytes_of(path, Watched(kill), minkowski(), own_cluster) == here
    assert 0 < found[0] < CHUNKS / 2
    assert own_cluster.workers[0].wait(10) == -signal.SIGKILL
    assert own_cluster.workers[1].poll() is None


def test_a_worker_is_killed_within_a_field(own_cluster, functions, tmp_path):
    def lay_mine(k):
        if k == 20:
            (tmp_path / "mine").touch()

    metric = functions("steps_on_a_mine")
    here = bytes_of(tmp_path / "here.h5", Watched(), metric)
    assert bytes_of(tmp_path / "there.h5", Watched(lay_mine), metric, own_cluster) == here
    assert not (tmp_path / "mine").exists()
    deadline = time.monotonic() + 10
    while all(worker.poll() is None for worker in own_cluster.workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(str(worker.poll()) for worker in own_cluster.workers) == [str(-signal.SIGKILL), "None"]


def test_few_chunks_are_in_work_at_once(cluster, functions, tmp_path):
    path, ahead = tmp_path / "there.h5", []
    make(path, Watched(lambda k: ahead.append(k - parts(path))), functions("slow"), cluster)
    on_the_cluster, read, in_reading = 2 + 4, 2 * 2 + 1, 2
    assert 6 < max(ahead) <= on_the_cluster + read + in_reading


def test_large_chunks(cluster, tmp_path):
    """Of such a size that Dask warns, and warnings are errors here."""

    class Large(Watched):
        field_shape = (1700, 1700)

        def read(self, k, role):
            return np.full((1, *self.field_shape), k, np.float32)

    store = make(tmp_path / "x.h5", Large(chunks=2), CSI([0.5]), cluster, splits=["train", "test"])
    assert store.counts == {"train": 1, "validation": 0, "test": 1}


def test_plain_python_runs_one_field_at_a_time(functions, tmp_path):
    with running(tmp_path / "cluster", workers=1, threads=3) as there:
        curves = make(tmp_path / "there.h5", Watched(), functions("at_once"), there).split("train")[1]
    assert set(curves.ravel()) == {1}


def test_kernels_keep_to_one_thread_where_they_are_told(monkeypatch):
    fields = np.random.default_rng(0).gamma(0.3, 2, (16, 128, 128)).astype(np.float32)
    expected = minkowski()(fields)
    monkeypatch.setattr(kernel_threads, "_helpers", None)
    with kernel_threads.one_thread():
        np.testing.assert_array_equal(minkowski()(fields), expected)


# Going on


@pytest.mark.parametrize("first", ["here", "there"])
def test_either_engine_goes_on_with_what_the_other_left(first, cluster, tmp_path):
    engines = {"here": None, "there": cluster}

    def stop(k):
        if k == 20:
            raise DataError("enough")

    path = tmp_path / "both.h5"
    assert message(DataError, path, Watched(stop), minkowski(), engines.pop(first)) == "enough"
    kept, read = parts(path), []
    assert 0 < kept <= 20
    (other,) = engines.values()
    there = bytes_of(path, Watched(read.append), minkowski(), other)
    assert len(read) == len(Watched()) - 2 - kept  # two chunks are the gap before the test
    assert there == bytes_of(tmp_path / "here.h5", Watched(), minkowski())


def test_a_finished_store_needs_no_cluster(tmp_path):
    nowhere = SimpleNamespace(address="tcp://127.0.0.1:1")
    here = bytes_of(tmp_path / "here.h5", Watched(), minkowski())
    assert bytes_of(tmp_path / "here.h5", Watched(), minkowski(), nowhere) == here


def command(out, metric, cluster, *options):
    where = () if cluster is None else ("--engine=dask", f"--scheduler={cluster.address}")
    return [
        "label", "--fields=rain", "--count=200", "--size=16", f"--metric={metric}", f"--out={out}",
        *where, *options,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_command_goes_on(number, cluster, functions, tmp_path, capsys):
    functions("slow")  # writes the file
    metric, out = f"{tmp_path / 'functions.py'}:slow", tmp_path / "there.h5"
    code = "import sys; from emuloss.cli.main import main; sys.exit(main(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, *command(out, metric, cluster)],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 60
        while not parts(out) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        shown = process.communicate(timeout=60)[1]
    assert "Traceback" not in shown
    assert "chunk" in shown  # the progress bar
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number, shown
        assert "run the same command again to go on" in shown
    assert 0 < parts(out) < 13
    assert not out.exists()
    assert main(command(out, metric, cluster, "--no-progress")) == 0
    assert main(command(tmp_path / "here.h5", metric, None, "--no-progress")) == 0
    assert out.read_bytes() == (tmp_path / "here.h5").read_bytes()


# Errors


@pytest.mark.parametrize("engine", ["here", "there"])
def test_a_field_that_fails_is_named(engine, cluster, functions, tmp_path):
    source, where = Watched(seven=14), {"here": None, "there": cluster}[engine]
    shown = message(DataError, tmp_path / "x.h5", source, functions("fails"), where)
    assert shown == (
        "field 1 of chunk 14 of source 'watched': functions.py:fails raised RuntimeError: seven is too much"
    )
    assert parts(tmp_path / "x.h5") >= 8


def test_what_a_metric_declares_is_checked(cluster, functions, tmp_path):
    metric = functions("total", bounds={"total": (0, 1)})
    shown = message(DataError, tmp_path / "x.h5", Watched(chunks=12), metric, cluster)
    assert "breaks its own constraints in chunk" in shown
    assert "total <= 1 (100.00% of the labels, first in field 0)" in shown


def test_a_chunk_that_kills_every_worker_is_named(own_cluster, functions, tmp_path):
    shown = message(ClusterError, tmp_path / "x.h5", Watched(seven=14), functions("dies"), own_cluster)
    found = re.fullmatch(
        r"(chunk|one of the chunks) ([\d, ]+) of source 'watched' costs worker after worker: 2 of them died "
        r"while they had it, the last at tcp://127\.0\.0\.1:\d+; .*",
        shown,
    )
    assert "14" in found[2].split(", ")
    assert parts(tmp_path / "x.h5") > 4


@pytest.mark.slow
def test_the_scheduler_is_lost(own_cluster, tmp_path):
    def kill(k):
        if k == 20:
            own_cluster.scheduler.kill()

    path = tmp_path / "x.h5"
    began = time.monotonic()
    shown = message(ClusterError, path, Watched(kill), minkowski(), own_cluster)
    assert f"the scheduler at {own_cluster.address} was lost" in shown
    assert time.monotonic() - began < 60
    assert bytes_of(path, Watched(), minkowski()) == bytes_of(tmp_path / "h.h5", Watched(), minkowski())


def test_a_cluster_without_workers(tmp_path, monkeypatch):
    monkeypatch.setattr("emuloss.datasets.labels.dask._WORKERS_IN", 0.5)
    with running(tmp_path / "cluster", workers=0) as there:
        shown = message(ClusterError, tmp_path / "x.h5", Watched(), minkowski(), there)
    assert shown.startswith(f"the cluster at {there.address} has had no workers for 0.5 seconds; start some")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "silent", "nowhere", "bad://x:1"])
def test_no_scheduler_at_an_address(address, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("emuloss.datasets.labels.dask._REACHED_IN", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections, and says nothing
        address = f"127.0.0.1:{server.getsockname()[1]}" if address == "silent" else address
        there = SimpleNamespace(address=address)
        assert main(command(tmp_path / "x.h5", "csi", there, "--thresholds=1")) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: no Dask scheduler answers at {address!r} (")
    assert last.endswith("give the address that `dask scheduler` prints, such as tcp://HOST:8786")


def test_a_metric_that_workers_cannot_import(cluster, functions, tmp_path):
    metric = functions("total")
    (tmp_path / "functions.py").unlink()
    shown = message(ArgumentError, tmp_path / "x.h5", Watched(), metric, cluster)
    assert shown.startswith("worker tcp://127.0.0.1:")
    assert "functions.py does not exist" in shown

    class Here(CSI):
        pass

    shown = message(ArgumentError, tmp_path / "y.h5", Watched(), Here([1.0]), cluster)
    assert "cannot be sent to worker processes" in shown


def test_other_code_on_the_workers(cluster, functions, tmp_path, monkeypatch):
    metric = functions("total")
    monkeypatch.setattr(FunctionMetric, "code", "0123456789abcdef")
    shown = message(ArgumentError, tmp_path / "x.h5", Watched(), metric, cluster)
    assert "has other code of metric 'functions.py:total' than the caller" in shown


def test_a_module_that_changed_since_a_worker_imported_it(tmp_path, monkeypatch):
    place = tmp_path / "of_mine.py"
    place.write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    metric = emuloss.metric("of_mine:total")
    with running(tmp_path / "cluster", workers=1) as there:
        make(tmp_path / "before.h5", Watched(), metric, there)
        place.write_text(FUNCTIONS.replace("field > 0", "field > 1"))
        shown = message(ArgumentError, tmp_path / "after.h5", Watched(), metric, there)
    assert "restart the worker if it has imported the old one" in shown


def test_another_version_on_the_workers(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("emuloss.datasets.labels.dask.version", lambda name: "9.9")
    shown = message(ArgumentError, tmp_path / "x.h5", Watched(), minkowski(), cluster)
    assert f"has emuloss {emuloss.__version__}, and the caller 9.9; install the same version there" in shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--engine=spark"], "unknown engine 'spark'; available: dask, local"),
        (["--scheduler=tcp://127.0.0.1:1"], "--scheduler (='tcp://127.0.0.1:1') goes with engine 'dask'"),
        (["--engine=dask"], "engine 'dask' needs --scheduler, the address of a running scheduler"),
    ],
)
def test_mistakes_cost_one_line(options, words, tmp_path, capsys):
    assert main(command(tmp_path / "x.h5", "csi", None, "--thresholds=1", *options)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {words}")
    assert captured.err.count("\n") == 1


def test_dask_is_not_installed(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    there = SimpleNamespace(address="tcp://127.0.0.1:1")
    assert main(command(tmp_path / "x.h5", "csi", there, "--thresholds=1")) == 2
    assert capsys.readouterr().err == (
        "error: engine 'dask' needs Dask distributed; run: pip install 'emuloss[dask]'.\n"
    )


def test_the_local_engine_imports_no_dask(tmp_path):
    code = (
        "import sys, emuloss; from emuloss.datasets import Rain, label\n"
        "label(Rain(64, size=16), emuloss.metric('csi', thresholds=[1.0]), sys.argv[1], progress=False)\n"
        "print(*[name for name in ('dask', 'distributed') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.h5")],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == []
    assert len(LabelledFields(tmp_path / "x.h5")) == 64
