"""What a process said, without what its libraries add."""


def said(output: str) -> str:
    """Output without the lines in which torch before 2.10 tells of the processes that it connects."""
    return "".join(line for line in output.splitlines(keepends=True) if not line.startswith("[Gloo] Rank"))
