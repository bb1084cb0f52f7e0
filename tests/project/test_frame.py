"""The frame of the project: one version, floors that look down only, a light import, a clean wheel."""

import os
import re
import shutil
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

import emuloss
import pytest
from frame import FLOORS, ROOT, RULES, ignores, packages, read_sources

SOURCES = read_sources()
PACKAGES = packages()
MOST_IGNORES = 8
HEAVY = ("matplotlib", "numba", "h5py", "skimage", "torchvision", "huggingface_hub")


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


def test_every_folder_is_packaged() -> None:
    folders = {Path(path).parent.as_posix() for path in SOURCES}
    assert folders | {"zoo/models"} == set(PACKAGES)  # which has the checkpoints, and no code


def test_everything_has_its_floor() -> None:
    assert {Path(path).parts[0].removesuffix(".py") for path in SOURCES} == set(FLOORS)


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps(rule: str) -> None:
    found = RULES[rule](SOURCES)
    assert not found, "\n".join(found)


def test_few_things_are_kept_from_the_type_checker() -> None:
    found = ignores(SOURCES)
    assert len(found) <= MOST_IGNORES, "\n".join(place for place, _ in found)


UPWARD = [
    ("metrics/a.py", "from ..datasets import FieldSource", "emuloss.datasets"),
    ("metrics/a.py", "from .. import zoo", "emuloss.zoo"),
    ("metrics/deep/a.py", "from ...zoo.hub import load", "emuloss.zoo.hub"),
    ("zoo/__init__.py", "def f():\n    from emuloss.cli import main", "emuloss.cli"),
    (
        "emulators/a.py",
        "if TYPE_CHECKING:\n    from ..losses.loss import SurrogateLoss",
        "emuloss.losses.loss",
    ),
    ("zoo/a.py", "import emuloss", "emuloss"),
    ("zoo/a.py", "import emuloss.pipeline.train", "emuloss.pipeline.train"),
    ("errors.py", "from .foundation import files", "emuloss.foundation"),
    ("pipeline/a.py", "from emuloss import load", "emuloss.load"),
    ("cli/a.py", "from ..train_surrogate import main", "emuloss.train_surrogate"),
    ("losses/a.py", "load = import_module('..zoo', __package__).load", "emuloss.zoo"),
]


@pytest.mark.parametrize(("path", "statement", "place"), UPWARD)
def test_every_form_of_import_is_seen(path: str, statement: str, place: str) -> None:
    assert RULES["upward"]({path: statement}) == [f"{path} imports {place}, which stands above it"]


PLANTED = {
    "two files": (
        "circles",
        {"zoo/a.py": "from . import b", "zoo/b.py": "from .a import f"},
        ["zoo/a.py -> zoo/b.py -> zoo/a.py"],
    ),
    "for types, and in a function": (
        "circles",
        {
            "zoo/a.py": "if TYPE_CHECKING:\n    from .b import B",
            "zoo/b.py": "def f():\n    from ..losses.c import C",
            "losses/c.py": "from emuloss.zoo.a import A",
        },
        ["losses/c.py -> zoo/a.py -> zoo/b.py -> losses/c.py"],
    ),
    "through a face": (
        "circles",
        {
            "zoo/__init__.py": "from .a import f",
            "zoo/a.py": "from ..losses import c",
            "losses/c.py": "import emuloss.zoo",
        },
        ["losses/c.py -> zoo/__init__.py -> zoo/a.py -> losses/c.py"],
    ),
    "through a face that offers the name of a file": (
        "circles",
        {
            "metrics/__init__.py": "from .registry import metric",
            "metrics/registry.py": "from . import metric",
            "metrics/metric.py": "",
        },
        ["metrics/__init__.py -> metrics/registry.py -> metrics/__init__.py"],
    ),
    "through a face that imports when asked": (
        "circles",
        {
            "zoo/__init__.py": "__getattr__ = lazily(__name__, dict.fromkeys(('load', 'info'), '.loading'))",
            "zoo/loading.py": "from . import info",
        },
        ["zoo/__init__.py -> zoo/loading.py -> zoo/__init__.py"],
    ),
    "a file that imports itself": ("circles", {"zoo/a.py": "from .a import f"}, ["zoo/a.py -> zoo/a.py"]),
    "a private file": (
        "private_files",
        {"metrics/_a.py": "", "zoo/b.py": "def f():\n    from ..metrics import _a"},
        ["zoo/b.py imports the private metrics/_a.py"],
    ),
    "a private file of the folder above": (
        "private_files",
        {"metrics/_a.py": "", "metrics/kernels/b.py": "from .._a import f"},
        ["metrics/kernels/b.py imports the private metrics/_a.py"],
    ),
    "a private name": (
        "private_names",
        {"metrics/a.py": "", "metrics/b.py": "from .a import _f"},
        ["metrics/b.py imports the private emuloss.metrics.a._f"],
    ),
    "torch": (
        "torch_in_metrics",
        {"metrics/kernels/a.py": "import torch.nn"},
        ["metrics/kernels/a.py imports torch"],
    ),
    "torch below": (
        "torch_in_metrics",
        {
            "metrics/a.py": "from ..foundation import b",
            "foundation/b.py": "def f():\n    from torch import nn",
        },
        ["foundation/b.py imports torch"],
    ),
    "no reason": (
        "unexplained_ignores",
        {"a.py": "x = 1\ny = x  # type: ignore[misc]"},
        ["a.py:2: # type: ignore[misc]"],
    ),
    "no code": (
        "unexplained_ignores",
        {"a.py": "x = 1  # type: ignore  # so"},
        ["a.py:1: # type: ignore  # so"],
    ),
    "a kind": (
        "checked_kinds",
        {"losses/a.py": "f = isinstance(metric, (Clusters, metrics.Minkowski))"},
        ["losses/a.py:1: isinstance(metric, (Clusters, metrics.Minkowski))"],
    ),
    "a union of kinds": (
        "checked_kinds",
        {"metrics/a.py": "f = isinstance(x, int | FunctionMetric)"},
        ["metrics/a.py:1: isinstance(x, int | FunctionMetric)"],
    ),
    "a surrogate probed": (
        "probes",
        {"evaluation/a.py": "f = hasattr(surrogate, 'temperature')"},
        ["evaluation/a.py:1: hasattr(surrogate, 'temperature')"],
    ),
    "a module probed": (
        "probes",
        {"pipeline.py": "f = getattr(self.surrogate.module, name, None)"},
        ["pipeline.py:1: getattr(self.surrogate.module, name, None)"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "sources", "found"), PLANTED.values(), ids=PLANTED)
def test_what_breaks_a_rule_is_found(rule: str, sources: dict[str, str], found: list[str]) -> None:
    assert RULES[rule](sources) == found


def test_every_rule_has_been_broken() -> None:
    assert {rule for rule, _, _ in PLANTED.values()} | {"upward"} == set(RULES)


ALLOWED = {
    "metrics/kernels/a.py": "import numpy",
    "metrics/_a.py": "from ..errors import DataError\nfrom .kernels import a",
    "metrics/b.py": "from . import _a\nfrom ._a import f",
    "metrics/functions.py": "f = isinstance(metric, FunctionMetric)",
    "metrics/found.py": "f = getattr(module, name)",
    "emulators/a.py": "import torch\nfrom ..metrics import Minkowski\nx = f  # type: ignore[misc]  # a gap",
    "emulators/relaxations/minkowski.py": "f = isinstance(metric, Minkowski)",
    "zoo/a.py": "from .. import __version__\nfrom .b import c\nf = getattr(error, 'response', None)",
    "zoo/b.py": "",
    "__init__.py": "from .zoo import a",
    "cli/a.py": "import emuloss\nfrom .. import metrics\nf = getattr(module, name)",
    "train_surrogate.py": "from emuloss.cli import a",
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_what_is_allowed_breaks_no_rule(rule: str) -> None:
    assert RULES[rule](ALLOWED) == []


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
    assert {f"emuloss/{path}" for path in SOURCES} == {name for name in inside if name.endswith(".py")}
    tops = {name.split("/")[1] for name in inside if name.startswith("emuloss/") and name.count("/") > 1}
    assert tops == {name.split("/")[0] for name in PACKAGES} - {"."}
    loose = {name for name in inside if re.fullmatch(r"emuloss/[^/]+", name) and not name.endswith(".py")}
    assert loose == {"emuloss/py.typed"}
    assert "emuloss/pipeline/__init__.pyi" in inside


def test_no_file_names_a_path_of_one_machine() -> None:
    local = re.compile(rb"(?<![\w.~:/-])/(?:home|root|work)/\w")
    found = [path.relative_to(ROOT).as_posix() for path in files() if local.search(path.read_bytes())]
    assert found == []
