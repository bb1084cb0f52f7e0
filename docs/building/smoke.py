"""Tries an installed wheel as a user would: smoke.py WHEEL WHEEL_OF_THE_SDIST, by `make dist-check`."""

import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile


def contents(wheel: str) -> dict[str, int]:
    """Checksums of its files by name."""
    with ZipFile(wheel) as archive:
        return {each.filename: each.CRC for each in archive.infolist()}


def command(*words: str) -> str:
    """What the command prints, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(sys.executable).with_name("emuloss")
        return subprocess.run(
            [program, *words], cwd=folder, check=True, capture_output=True, text=True
        ).stdout


def check(holds: bool, what: str) -> None:
    """Say what holds; end where it does not."""
    if not holds:
        sys.exit(f"not so: {what}")
    print(what)


def main(wheel: str, of_sdist: str) -> None:
    """All of it; ends with status 1 at the first fault."""
    import emuloss
    import torch

    root = Path(emuloss.__file__).parent
    check(contents(wheel) == contents(of_sdist), "the sdist makes the same wheel")
    check(root.parent.name == "site-packages", "what is imported is what was installed")
    check(version("emuloss") == emuloss.__version__, "the version is the package's")
    check((root / "py.typed").is_file(), "type checkers find its types")
    check("minkowski-opera" in command("list"), "emuloss list")
    check("train" in command("--help"), "emuloss --help")
    for name in emuloss.list_models():
        surrogate = emuloss.load(name)
        fields = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0)) * 8
        prediction = fields.clone().requires_grad_()
        surrogate.as_loss()(prediction, fields.flip(-1).roll(5, -1) * 2).backward()
        check(bool(prediction.grad.abs().sum() > 0), f"a loss with a gradient of {name}")
    check("gives what it gave" in command("verify", "minkowski-opera"), "emuloss verify")


if __name__ == "__main__":
    main(*sys.argv[1:])
