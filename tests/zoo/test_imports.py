"""What is slow to import is imported where it is used."""

import subprocess
import sys

import pytest


def imported(code: str, cwd) -> set[str]:
    """The modules that a fresh process has after some code."""
    told = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint('\\n', *sys.modules)"],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return set(told.splitlines()[-1].split())


@pytest.mark.parametrize("name", ["minkowski-opera", "minkowski-opera-constrained"])
def test_a_surrogate_is_loaded_without_the_compiler(name, tmp_path):
    found = imported(f"import emuloss; emuloss.load({name!r}).as_loss()", tmp_path)
    assert "torch" in found
    assert "torch._dynamo" not in found
