"""Commands that only tell something start at once: what is slow to import is imported where it is needed."""

import subprocess
import sys

import pytest
from emuloss.cli import main
from emuloss.zoo.names import MODELS

SLOW = {"numpy", "torch", "numba", "h5py", "scipy", "matplotlib", "huggingface_hub", "pydantic"}


def modules_after(*words: str, cwd) -> set[str]:
    """What a fresh process has imported at the end of a command."""
    code = f"""
import sys
from emuloss.cli.main import main
code = main({list(words)!r})
print("imported:", *sys.modules)
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("imported:")[2].split())


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--help",),
        ("--version",),
        ("list",),
        ("list", "*opera*"),
        ("show", "minkowski-opera-constrained"),
    ],
    ids=" ".join,
)
def test_what_tells_something_is_light(words, tmp_path):
    found = modules_after(*words, cwd=tmp_path)
    assert "emuloss.cli.main" in found
    assert not found & SLOW


def test_a_checkpoint_of_ones_own_is_shown_without_torch(tmp_path):
    (tmp_path / "mine").symlink_to(MODELS / "clusters-opera")
    assert not modules_after("show", "mine", cwd=tmp_path) & SLOW


def test_the_list_of_commands_says_what_their_help_says(capsys):
    for name, begins in main.BEGINS.items():
        assert main.main([name, "--help"]) == 0
        said = " ".join(capsys.readouterr().out.partition("\n\n")[2].split())
        assert said.startswith(begins), name


def test_every_command_is_listed(capsys):
    assert main.main(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == list(main.BEGINS)


def test_a_command_that_is_not_there(capsys):
    assert main.main(["lst"]) == 2
    assert "No such command 'lst'. Did you mean 'list'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show"], "Missing argument 'SOURCE'"),
        (["show", "a", "b"], "unexpected extra argument"),
        (["list", "--metrics=1"], "does not take a value"),
        (["--nosuch"], "No such option"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(words, said, capsys):
    assert main.main(words) == 2
    assert said.lower() in capsys.readouterr().err.lower()
