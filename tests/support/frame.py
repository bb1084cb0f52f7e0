"""The rules of the house, measured on its source: each takes {path: text} and tells what breaks it."""

import ast
import io
import re
import tokenize
from collections import deque
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLOORS = (
    "errors", "foundation", "metrics", "datasets", "emulators", "training", "losses", "functional",
    "measures", "findings", "evaluation", "plot", "zoo", "pipeline", "__init__", "cli", "train_surrogate",
    "__main__",
)  # fmt: skip
"""From the ground up: folders, and files of the top folder."""
CHECKED_KINDS = {
    "Minkowski": (
        "metrics/minkowski.py",
        "emulators/relaxations/minkowski.py",
        "emulators/relaxations/excursion.py",
    ),
    "FunctionMetric": ("metrics/functions.py",),
}
"""Classes that code is not to ask for, and the files that define them or belong to them."""
PROBED = re.compile(r"(self\.)?_?(surrogate|module)\b")
UNPROBED = ("emulators", "training", "losses", "evaluation", "zoo", "pipeline")
LATE = ("lazily", "import_module")
"""Functions that import what their arguments name."""
EXPLAINED = re.compile(r"# type: ignore\[[a-z, -]+\]  # \S.*")

Sources = dict[str, str]
"""The text of each file of the package by its path in the top folder, such as "metrics/csi.py"."""


def packages(root: Path = ROOT) -> list[str]:
    """The folders of the package, "." among them, as pyproject.toml lists them for the wheel."""
    settings = (root / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^packages = \[$(.*?)^\]$", settings, re.MULTILINE | re.DOTALL)
    if not listed:
        raise ValueError("pyproject.toml lists no packages")
    names = re.findall(r'"(.+?)"', listed[1])
    return [name.removeprefix("emuloss").lstrip(".").replace(".", "/") or "." for name in names]


def read_sources(root: Path = ROOT) -> Sources:
    """The package as it is: the files of the top folder, and all below the folders of pyproject.toml."""
    tops = sorted({name.split("/")[0] for name in packages(root)} - {"."})
    paths = [*root.glob("*.py"), *(path for top in tops for path in (root / top).rglob("*.py"))]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in sorted(paths)}


# What a file imports


def imported(path: str, text: str) -> Iterator[tuple[str, str]]:
    """(module, name) of each import of the package, at any depth of the code, absolute; name may be ""."""
    folder = ("emuloss", *path.split("/")[:-1])
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = resolved(folder, "." * node.level + (node.module or ""))
            found = [(module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in LATE:
            found = [(resolved(folder, name), "") for name in _relative_names(node)]
        else:
            continue
        # The version is free to all.
        yield from (
            (module, name)
            for module, name in found
            if module.split(".")[0] == "emuloss" and (module, name) != ("emuloss", "__version__")
        )


def resolved(folder: tuple[str, ...], name: str) -> str:
    """The absolute name of a module that code in a folder calls by a relative or an absolute one."""
    plain = name.lstrip(".")
    level = len(name) - len(plain)
    return ".".join((*folder[: len(folder) + 1 - level], *filter(None, [plain]))) if level else plain


def _relative_names(call: ast.Call) -> list[str]:
    """Texts like ".loading" among the arguments of a call."""
    texts = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
    return [text for text in texts if isinstance(text, str) and re.fullmatch(r"\.+\w[\w.]*", text)]


def target(module: str, name: str, sources: Sources) -> str | None:
    """The file that an import runs for the sake of a name; None if the package has no such file."""
    place = "/".join(module.split(".")[1:])
    face = f"{place}/__init__.py".lstrip("/")
    inner = [f"{place}/{name}.py".lstrip("/"), f"{place}/{name}/__init__.py".lstrip("/")]
    own = [] if name in _names_of(sources.get(face, "")) else inner
    return next((file for file in (*own, f"{place}.py", face) if file in sources), None)


def _names_of(face: str) -> set[str]:
    """Names that a package's face binds to something else than its own files."""
    names = set()
    for node in ast.parse(face).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {each.id for each in node.targets if isinstance(each, ast.Name)}
    return names


def import_graph(sources: Sources) -> dict[str, set[str]]:
    """The files that each file imports."""
    found = {
        path: {target(module, name, sources) for module, name in imported(path, text)}
        for path, text in sources.items()
    }
    return {path: {file for file in files if file} for path, files in found.items()}


# Rules of imports


def floor(place: str) -> int:
    """The number of a floor, of a path or of a dotted name; what only the face offers is the face's."""
    first = re.split(r"[/.]", place.removeprefix("emuloss."))[0]
    return FLOORS.index(first if first in FLOORS else "__init__")


def upward(sources: Sources) -> list[str]:
    """Imports that reach above the floor of their file."""
    found = []
    for path, text in sources.items():
        for module, name in imported(path, text):
            place = f"emuloss.{name}".rstrip(".") if module == "emuloss" else module
            if floor(place) > floor(path):
                found.append(f"{path} imports {place}, which stands above it")
    return found


def circles(sources: Sources) -> list[str]:
    """Circles of imports: through each file that is in one and in none of those told before, the shortest."""
    graph = import_graph(sources)
    found: list[list[str]] = []
    for path in sorted(graph):
        if not any(path in circle for circle in found) and (circle := _way_back(graph, path)):
            found.append(circle)
    return [" -> ".join(circle) for circle in found]


def _way_back(graph: dict[str, set[str]], start: str) -> list[str]:
    """The shortest way along imports from a file to itself; empty if there is none."""
    ways, seen = deque([[start]]), set()
    while ways:
        way = ways.popleft()
        for following in sorted(graph[way[-1]]):
            if following == start:
                return [*way, start]
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return []


def private_files(sources: Sources) -> list[str]:
    """Files whose name begins with an underscore, imported from another folder."""
    return [
        f"{path} imports the private {file}"
        for path, files in import_graph(sources).items()
        for file in sorted(files)
        if Path(file).name.startswith("_")
        and Path(file).name != "__init__.py"
        and Path(file).parent != Path(path).parent
    ]


def private_names(sources: Sources) -> list[str]:
    """Names that begin with an underscore, imported from another file."""
    return [
        f"{path} imports the private {module}.{name}"
        for path, text in sources.items()
        for module, name in imported(path, text)
        if name.startswith("_") and Path(target(module, name, sources) or "").stem != name  # that is a file
    ]


def torch_in_metrics(sources: Sources) -> list[str]:
    """Files that import torch among those of metrics/, and among those that these lead to."""
    graph = import_graph(sources)
    reached = {path for path in sources if path.startswith("metrics/")}
    waiting = [*reached]
    while waiting:
        news = graph[waiting.pop()] - reached
        reached |= news
        waiting += news
    return [f"{path} imports torch" for path in sorted(reached) if _imports_torch(sources[path])]


def _imports_torch(text: str) -> bool:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "torch" for alias in node.names):
            return True
        if (
            isinstance(node, ast.ImportFrom)
            and not node.level
            and (node.module or "").split(".")[0] == "torch"
        ):
            return True
    return False


# Rules of what a file says


def ignores(sources: Sources) -> list[tuple[str, str]]:
    """(place, comment) of each `# type: ignore`, with all that follows in its line."""
    return [
        (f"{path}:{token.start[0]}", token.string)
        for path, text in sources.items()
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and "type: ignore" in token.string
    ]


def unexplained_ignores(sources: Sources) -> list[str]:
    """Those without a code, or without a reason after it."""
    return [f"{place}: {comment}" for place, comment in ignores(sources) if not EXPLAINED.fullmatch(comment)]


def checked_kinds(sources: Sources) -> list[str]:
    """Questions for a class of metrics, where its own declarations should answer."""
    return [
        f"{path}:{call.lineno}: {ast.unparse(call)}"
        for path, text in sources.items()
        for call in _calls(text, ("isinstance", "issubclass"))
        if any(path not in CHECKED_KINDS[name] for name in _classes_of(call) & set(CHECKED_KINDS))
    ]


def probes(sources: Sources) -> list[str]:
    """Attributes of surrogates and modules sought by name, where the contract declares them."""
    return [
        f"{path}:{call.lineno}: {ast.unparse(call)}"
        for path, text in sources.items()
        if path.split("/")[0].removesuffix(".py") in UNPROBED
        for call in _calls(text, ("hasattr", "getattr"))
        if call.args and PROBED.match(ast.unparse(call.args[0]))
    ]


def _calls(text: str, names: tuple[str, ...]) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield node


def _classes_of(call: ast.Call) -> set[str]:
    """The classes that `isinstance` is asked for: a class, a tuple or a union; with or without its module."""
    nodes = [node for argument in call.args[1:] for node in ast.walk(argument)]
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        node.attr for node in nodes if isinstance(node, ast.Attribute)
    }


RULES = {
    rule.__name__: rule
    for rule in (
        upward, circles, private_files, private_names, torch_in_metrics, unexplained_ignores, checked_kinds,
        probes,
    )
}  # fmt: skip
