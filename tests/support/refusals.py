"""How a refused command ends, for all tests of commands."""


def refusal(capsys, status: int) -> str:
    """The line that a refused command leaves, and nothing else."""
    captured = capsys.readouterr()
    assert status == 2, captured.err
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if not line.startswith("emuloss: ")]
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    return lines[0]
