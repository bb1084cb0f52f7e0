"""The frame of the project: one version, floors that look down only, a light import, a clean wheel."""

import ast
import os
import re
import shutil
import statistics
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import emuloss
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("metrics", "datasets", "emulators", "evaluation", "zoo")
GROUND = ("errors",)
FLOORS = (*GROUND, *PACKAGES)
FACE = len(FLOORS)  # __init__.py, cli.py, train_surrogate.py: above every package
HEAVY = ("matplotlib", "numba", "h5py", "skimage", "torchvision", "huggingface_hub")


def floor(module: str) -> int:
    """The floor of a module of the package, given by its dotted name."""
    name = module.split(".")[1] if "." in module else ""
    return FLOORS.index(name) if name in FLOORS else FACE


def sources() -> list[Path]:
    return sorted([*ROOT.glob("*.py"), *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))])


def dotted(path: Path) -> str:
    parts = ("emuloss", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.Module, path: Path) -> Iterator[str]:
    """Dotted names of what a module imports, relative imports made absolute."""
    package = ("emuloss", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            # `from .. import zoo` names a floor only in its list of names.
            yield from (f"{module}.{alias.name}" if module == "emuloss" else module for alias in node.names)


def upward(source: str, path: Path) -> list[str]:
    """The imports by which a module reaches above its own floor; the version is free to all."""
    own = floor(dotted(path))
    names = [name for name in imports(ast.parse(source), path) if name.split(".")[0] == "emuloss"]
    return [name for name in names if floor(name) > own and name != "emuloss.__version__"]


def files() -> list[Path]:
    """The files that git holds or would take."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def field_of(name: str, pattern: str) -> str:
    match = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert match, f"{name} has no line like {pattern}"
    return match[1]


def test_version_has_one_value() -> None:
    assert field_of("pyproject.toml", r'^version = "(.+)"$') == emuloss.__version__
    assert field_of("CITATION.cff", r"^version: (.+)$") == emuloss.__version__
    assert f"## [{emuloss.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_floors_look_down_only(path: Path) -> None:
    assert upward(path.read_text(encoding="utf-8"), path) == []


@pytest.mark.parametrize(
    ("where", "statement", "found"),
    [
        ("metrics/a.py", "from ..datasets import FieldSource", ["emuloss.datasets"]),
        ("metrics/a.py", "from .. import zoo", ["emuloss.zoo"]),
        ("metrics/deep/a.py", "from ...zoo.hub import load", ["emuloss.zoo.hub"]),
        ("zoo/__init__.py", "def f():\n    from emuloss.cli import main", ["emuloss.cli"]),
        ("zoo/a.py", "import emuloss", ["emuloss"]),
        ("zoo/a.py", "from .. import __version__\nfrom ..errors import DataError\nfrom .b import c", []),
        ("cli.py", "from .zoo import load\nfrom . import metrics", []),
    ],
)
def test_floors_rule_sees_every_form_of_import(where: str, statement: str, found: list[str]) -> None:
    assert upward(statement, ROOT / where) == found


@pytest.mark.parametrize("path", sorted((ROOT / "metrics").rglob("*.py")), ids=lambda path: path.name)
def test_metrics_need_no_torch(path: Path) -> None:
    names = {name.split(".")[0] for name in imports(ast.parse(path.read_text(encoding="utf-8")), path)}
    assert "torch" not in names


def test_import_stays_light(tmp_path: Path) -> None:
    code = f"import sys, emuloss; print(*[name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs os.wait4 to read a child's CPU time")
def test_import_costs_little_more_than_torch(tmp_path: Path) -> None:
    def seconds(module: str) -> float:
        child = subprocess.Popen([sys.executable, "-c", f"import {module}"], cwd=tmp_path)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        return usage.ru_utime + usage.ru_stime

    # Taken in turn, so that a change of load on the machine meets both alike.
    pairs = [(seconds("emuloss"), seconds("torch")) for _ in range(5)]
    ours, torchs = (statistics.median(column) for column in zip(*pairs, strict=True))
    assert ours <= 1.3 * torchs


@pytest.mark.slow
def test_wheel_holds_the_package_alone(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    checkout = tmp_path / "checkout"  # a clean one: setuptools takes over what it finds in build/
    for path in files():
        target = checkout / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", str(tmp_path), str(checkout)],
        cwd=tmp_path, capture_output=True, check=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {dotted(path) for path in sources()} == {
        dotted(ROOT / Path(name).relative_to("emuloss")) for name in inside if name.endswith(".py")
    }
    tops = {name.split("/")[1] for name in inside if name.startswith("emuloss/") and name.count("/") > 1}
    assert tops == set(PACKAGES)
    loose = {name for name in inside if re.fullmatch(r"emuloss/[^/]+", name) and not name.endswith(".py")}
    assert loose == {"emuloss/py.typed"}


def test_no_file_names_a_path_of_one_machine() -> None:
    local = re.compile(rb"(?<![\w.~:/-])/(?:home|root|work)/\w")
    found = [path.relative_to(ROOT).as_posix() for path in files() if local.search(path.read_bytes())]
    assert found == []
