"""How a refused command ends, for all tests of commands."""


def refusal(capsys, status: int) -> str:
    """The line that a refused command leaves, and nothing else."""
    captured = capsys.readouterr()
    assert status == 2, captured.err
    assert captured.out == ""
    # A slow machine shows a bar, which is wiped away.
    shown = [line.split("\r")[-1] for line in captured.err.removesuffix("\n").split("\n")]
    lines = [line for line in shown if not line.startswith("emuloss: ")]
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    return lines[0]
