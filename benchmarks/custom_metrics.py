"""The examples of docs/custom_metrics.md, run as a user would.

    python benchmarks/custom_metrics.py [--only NAME ...]

The package is built into a wheel and installed into an empty folder, functions and commands are taken from
the page, and each command is run in another empty folder. What it printed, its times and its picture are
written to the page, between its markers.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "custom_metrics.md"
PICTURES = ROOT / "docs" / "custom_metrics"
_CODE = re.compile(r"```python (\S+\.py)\n(.*?)```", re.DOTALL)
_EXAMPLE = re.compile(r"```bash\n(emuloss train.*?)```\n\n(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_NO_SOURCE = (".venv", ".git", "runs", "build", "*.egg-info", "__pycache__", ".*_cache")
_WIDTH = 1000
"""Pixels that a picture on the page is wide."""


def installed(folder: Path) -> tuple[Path, dict[str, str]]:
    """Build the wheel and install it alone into a folder; gives the command, and where it finds itself."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    # A copy, since builds leave files behind that the next one would take in.
    source = shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*_NO_SOURCE))
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder / "wheel", source], check=True)
    (wheel,) = (folder / "wheel").glob("emuloss-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder / "site" / "bin" / "emuloss", os.environ | {"PYTHONPATH": str(folder / "site")}


def run(emuloss: Path, command: str, folder: Path, environment: dict[str, str]) -> tuple[str, float, float]:
    """What a command prints, and its minutes by the clock and of CPU."""
    words = shlex.split(command.replace("\\\n", " "))
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [emuloss, *words[1:]],
        cwd=folder,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, (time.monotonic() - began) / 60, cpu / 60


def put_picture(report: Path, name: str) -> str:
    """Put a report, made smaller, beside the page; gives its place in Markdown."""
    picture = Image.open(report).convert("RGB")
    picture = picture.resize(
        (_WIDTH, round(_WIDTH * picture.height / picture.width)), Image.Resampling.LANCZOS
    )
    PICTURES.mkdir(exist_ok=True)
    picture.quantize(64).save(PICTURES / f"{name}.png", optimize=True)
    return f"![{name}: exact and emulated values, training, descent]({PICTURES.name}/{name}.png)"


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the examples of docs/custom_metrics.md.")
    text = PAGE.read_text()
    names = [found[3] for found in _EXAMPLE.finditer(text)]
    parser.add_argument("--only", nargs="+", choices=names, help="examples to run; default: all")
    chosen = parser.parse_args().only or names
    with tempfile.TemporaryDirectory() as folder:
        emuloss, environment = installed(Path(folder))
        outside = Path(folder, "outside")
        outside.mkdir()
        for file, code in _CODE.findall(text):
            (outside / file).write_text(code)
        for found in _EXAMPLE.finditer(text):
            command, opening, name, closing = found.groups()
            if name not in chosen:
                continue
            printed, clock, cpu = run(emuloss, command, outside, environment)
            shown = (
                f"{clock:.1f} minutes by the clock, {cpu:.1f} of CPU:\n\n```text\n{printed.rstrip()}\n```\n\n"
            )
            shown += put_picture(outside / name / "report.png", name)
            whole = f"```bash\n{command}```\n\n{opening}{shown}\n{closing}"
            PAGE.write_text(PAGE.read_text().replace(found[0], whole))


if __name__ == "__main__":
    main()
