"""What `help` shows: the arguments of every metric, relaxation, source and loss stand where people look."""

import dataclasses
import inspect
import pydoc
import re
from collections.abc import Callable, Sequence

import emuloss
import numpy as np
import pytest
from emuloss import functional, losses, measures, plot
from emuloss.datasets import open_source
from emuloss.datasets.sources.opening import SOURCES
from emuloss.emulators import RELAXATIONS
from emuloss.foundation.docs import arguments_in, entry, takes_those_of
from emuloss.losses import SurrogateLoss
from emuloss.metrics import ExcursionMetric
from emuloss.metrics.registry import METRICS

OWN_METRICS = [kind for kind in METRICS.things() if kind.__module__.startswith("emuloss.")]
OWN_SOURCES = {name: kind for name, kind in SOURCES._things.items() if kind.__module__.startswith("emuloss.")}


def shown(thing: object) -> str:
    """The page of `help`, plain."""
    return pydoc.plain(pydoc.render_doc(thing))


def parameters(thing: object) -> list[str]:
    return list(inspect.signature(thing).parameters)


def told_in(text: str, name: str, indent: int) -> bool:
    """Whether there is an entry on an argument, with words on it."""
    return bool(re.search(rf"^ {{{indent}}}\**{name}: \S+", text, re.MULTILINE))


@pytest.mark.parametrize("kind", OWN_METRICS, ids=lambda kind: kind.name)
def test_help_on_metric_tells_each_argument_of_each_metric(kind: type) -> None:
    page = shown(emuloss.metric)
    section = page[page.index(f"\n        {kind.name}(") :].split("\n    \n")[0]
    assert kind.__doc__.split("\n")[0] in section.split("\n")[1]
    for name in parameters(kind):
        assert f"{name}=" in section.split("\n")[1] or name == "thresholds"
        assert told_in(section, name, 12), name


def test_help_on_metric_tells_what_functions_take() -> None:
    page = shown(emuloss.metric)
    assert all(told_in(page, name, 12) for name in ("arity", "bounds", "monotone", "lower_better"))


def test_help_on_metric_tells_of_metrics_that_others_register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "_things", dict(METRICS._things))

    @emuloss.register
    class Crests(ExcursionMetric):
        """Crests over each threshold.

        Args:
            thresholds: in the field's unit.
            steepness: least slope, in its unit a pixel.
        """

        name = "crests"

        def __init__(self, thresholds: Sequence[float], steepness: float = 0.5) -> None:
            super().__init__(thresholds, None, None, ["crests"])
            self.steepness = steepness

        def _compute(self, fields: np.ndarray) -> np.ndarray:
            return np.zeros((len(fields), 1, len(self.thresholds)))

    page = shown(emuloss.metric)
    assert "crests(thresholds, steepness=0.5): Crests over each threshold." in page
    assert told_in(page, "steepness", 12)


def test_help_on_relax_tells_each_argument() -> None:
    page = shown(emuloss.relax)
    assert all(told_in(page, name, 8) for name in ("metric", "temperature", "forward"))
    for kind in RELAXATIONS.things():
        if kind.__module__.startswith("emuloss."):
            first = "temperature=" if "temperature" in parameters(kind) else "forward="
            assert f"\n        {kind.__name__}(metric, {first}" in page
    assert told_in(page, "tail", 12)


def test_help_on_as_loss_tells_each_argument() -> None:
    page = shown(emuloss.Surrogate.as_loss)
    names = [name for name in parameters(SurrogateLoss) if name != "surrogate"]
    assert all(told_in(page, name, 8) for name in names)
    assert not told_in(page, "surrogate", 8)


@pytest.mark.parametrize("name", OWN_SOURCES)
def test_help_on_open_source_tells_each_option(name: str) -> None:
    page = shown(open_source)
    section = page[page.index(f"\n        {name}(") :].split("\n    \n")[0]
    assert all(told_in(section, option, 12) for option in parameters(OWN_SOURCES[name]))


@pytest.mark.parametrize("function", [emuloss.train, emuloss.label, emuloss.look])
def test_help_tells_each_option(function: Callable[..., object]) -> None:
    page = shown(function)
    assert all(told_in(page, name, 8) for name in parameters(function))


def is_error(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, Exception)


PUBLIC = {
    f"{module.__name__}.{name}": thing
    for module in (emuloss, functional, losses, measures, plot)
    for name in module.__all__
    if callable(thing := getattr(module, name)) and not is_error(thing)
}


@pytest.mark.parametrize("thing", PUBLIC.values(), ids=PUBLIC)
def test_help_tells_each_argument_of_what_is_public(thing: Callable[..., object]) -> None:
    """Real ones, and `*args` and `**kwargs` too, in the docstring of a class or of those above it."""
    kinds = thing.__mro__ if isinstance(thing, type) else [thing]
    told = "\n".join(arguments_in(kind) for kind in kinds)
    attributes = inspect.getdoc(thing) if dataclasses.is_dataclass(thing) else ""
    for name in parameters(thing):
        assert re.search(rf"^\**{name}: \S", told, re.MULTILINE) or f" {name}: " in attributes, name
    page = shown(thing)
    assert all(name in page for name in parameters(thing))


class Plain:
    """A class.

    Args:
        one: the first,
            in two lines.
        two: the second.

    Raises:
        ValueError: never.
    """

    def __init__(self, one: int, two: str = "b") -> None:
        pass


class Below(Plain):
    """Another, with the arguments of the one above."""


def test_entries_are_read_from_docstrings() -> None:
    assert arguments_in(Plain) == "one: the first,\n    in two lines.\ntwo: the second."
    assert arguments_in(Below) == arguments_in(Plain)
    assert arguments_in(len) == ""
    assert entry("plain", Plain).startswith(
        "plain(one, two='b'): A class.\n    one: the first,\n        in two"
    )


def test_a_function_gets_the_arguments_that_it_hands_on() -> None:
    @takes_those_of(Plain)
    def build(two: str) -> None:
        """Build one.

        Raises:
            ValueError: never.
        """

    assert inspect.getdoc(build) == (
        "Build one.\n\nArgs:\n    two: the second.\n\nRaises:\n    ValueError: never."
    )
