"""What the commands say of themselves, help without a command, choices and defaults, and how they end."""

import os
import signal
import subprocess
import sys
import typing

import emuloss
import pytest
from emuloss.cli import main as command
from emuloss.cli import options, train
from emuloss.cli.main import main
from emuloss.datasets.labels.engines import ENGINES
from emuloss.datasets.sources.opening import SOURCES
from emuloss.emulators import ARCHITECTURES
from emuloss.foundation.interrupts import Terminated
from emuloss.foundation.options import options_of
from emuloss.pipeline.settings import Data, Labelling, Looking, Network, Run, Teacher
from emuloss.training import Training
from emuloss.training.penalties import PENALTIES
from refusals import refusal


def helped(capsys, *words):
    """A help, in one line."""
    assert main([*words, "--help"]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_no_command_gives_help(capsys):
    assert main([]) == 0
    alone = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert alone == capsys.readouterr().out
    assert "Commands:" in alone


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"emuloss {emuloss.__version__}\n"


def test_as_a_module(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "emuloss", "--version"],
        cwd=tmp_path, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"emuloss {emuloss.__version__}\n"), done.stderr


def test_choices_are_listed_in_help(capsys):
    text = helped(capsys, "train")
    for known in (
        emuloss.list_metrics(),
        ARCHITECTURES,
        PENALTIES,
        ("none", "power", "exact"),
        ("textbook",),
    ):
        for name in known:
            assert name in text
    for scheme in SOURCES:
        assert f"{scheme}:" in text or f"{scheme} |" in text
    assert all(name in helped(capsys, "label") for name in ENGINES)


@pytest.mark.parametrize("kind", [Data, Teacher, Network, Training, Run, Labelling, Looking])
def test_defaults_are_told_in_help(kind):
    for option in options_of(kind):
        said = options._said(option, option.described())
        assert option.required or "default" in said, option.flag
        assert "None" not in said


def test_what_python_offers_the_command_line_offers(capsys):
    text = helped(capsys, "train")
    for kind in (Data, Teacher, Network, Run):
        shown = {option.field for option in options_of(kind)}
        assert shown == set(typing.get_type_hints(kind)), "a setting that no command takes"
        assert all(option.flag in text for option in options_of(kind))


def test_what_python_documents_is_what_help_lists():
    documented = emuloss.train.__doc__
    assert "hybrid | certified | excursion" in documented
    assert "two-sided | jacobian" in documented
    assert "training: `Training` in place of its options above." in documented


def ending(monkeypatch, error):
    def end(**_):
        raise error

    monkeypatch.setattr("emuloss.pipeline.run.train", end)
    return train.main(["--fields=rain", "--out=nowhere", "--thresholds=1"])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to go on"),
        (Terminated(signal.SIGTERM), 143, "interrupted; run the same command again to go on"),
        (
            MemoryError("Unable to allocate 9 EiB"),
            2,
            "error: the memory is too small (MemoryError: Unable to",
        ),
        (OSError(28, "No space left on device", "a/b"), 2, "error: No space left on device: a/b"),
        (emuloss.DataError("of two\nlines"), 2, "error: of two lines"),
    ],
)
def test_a_command_ends_in_one_line(error, code, line, capsys, monkeypatch):
    assert ending(monkeypatch, error) == code
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1


def test_what_keeps_nothing_promises_nothing(capsys, monkeypatch):
    def end(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("emuloss.zoo.info", end)
    assert main(["show", "minkowski-opera"]) == 130
    assert capsys.readouterr().err.strip().splitlines()[-1] == "interrupted"


@pytest.mark.skipif(os.name == "nt", reason="pipes are others there")
def test_nobody_reads_any_more(tmp_path):
    code = "import sys; from emuloss.cli.main import main; sys.exit(main(['list']))"
    program = f'{sys.executable} -c "{code}" | true'
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {program}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr


ODD = {
    "evaluate": [["nowhere"], ["minkowski-opera", "--fields=no.npy"], ["minkowski-opera", "--count=x"],
                 ["minkowski-opera", "--source-option=sizes=1"], ["minkowski-opera", "--quick", "--thorough"],
                 ["minkowski-opera", "--metric=gone.py:f"], ["minkowski-opera", "--out=file/below"],
                 ["minkowski-opera", "--source-option=x"], ["minkowski-opera", "--source-option=size=-3"],
                 ["minkowski-opera", "--source-option=size=[1]"]],
    "certify": [["nowhere"], ["minkowski-opera", "--fields=opera:nowhere"], ["minkowski-opera", "--count=0"]],
    "show": [["file"], [""], ["a/b/c/d"]],
    "list": [["nothing-like-it"], ["--metrics", "nothing-like-it"]],
    "publish": [["nowhere", "org/repo"], ["file", "org/repo"], [".", "org/repo"]],
    "verify": [["nowhere"], ["file"]],
    "label": [["--fields=rain", "--out="], ["--fields=", "--out=x.h5"], ["--fields=:", "--out=x.h5"],
              ["--fields=rain", "--out=x.h5", "--engine=spark"], ["--fields=rain", "--out=file/x.h5"],
              ["--fields=rain", "--out=x.h5", "--size=99999999999"],
              ["--fields=rain", "--out=x.h5", "--source-option=regimes=3"],
              ["--fields=rain", "--out=x.h5", "--metric-option=levels={}"],
              ["--fields=file", "--out=x.h5"], ["--fields=rain", "--out=x.h5", "--metric=file.py:"]],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "words"), [(name, words) for name, lines in ODD.items() for words in lines], ids=str
)
def test_no_traceback_for_odd_words(name, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "file").write_text("mine")
    refusal(capsys, command.main([name, *words]))
    assert (tmp_path / "file").read_text() == "mine"
    assert not list(tmp_path.glob("x.h5*"))
