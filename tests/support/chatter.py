"""What a process said, without what its libraries add."""


def said(output: str) -> str:
    """Output without the lines in which torch 2.8 and 2.9 tell of the processes that it connects."""
    return "".join(line for line in output.splitlines(keepends=True) if not line.startswith("[Gloo] Rank"))
