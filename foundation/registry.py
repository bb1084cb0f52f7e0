"""Things with a key: registered, listed, looked up, and offered by other packages."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from ..errors import ArgumentError, one_line
from .near import did_you_mean

K = TypeVar("K")
T = TypeVar("T")
V = TypeVar("V")


class Registry(Generic[K, T]):
    """What is known under a key: a name, or the class of what it is meant for.

    Args:
        what: what its things are called in messages.
        group: entry points under which other packages offer more of them, by name; "" for none.
        usable: what is wrong with a thing that another package offers under a name; "" if nothing is.
        hint: what messages about an unknown name say besides the known ones.
    """

    def __init__(
        self,
        what: str,
        *,
        group: str = "",
        usable: Callable[[str, Any], str] = lambda name, thing: "",
        hint: str = "",
    ) -> None:
        self.what, self.group, self.usable, self.hint = what, group, usable, hint
        self._things: dict[K, T] = {}

    def register(self, *keys: K) -> Callable[[V], V]:
        """A decorator that puts a thing under its keys, and returns it as it is.

        A thing defined anew, as a notebook does when a cell runs again, takes its own place.

        Raises:
            ArgumentError: when it decorates: another thing has the key.
        """

        def put(thing: Any) -> Any:
            for key in keys:
                known = self._things.get(key, thing)
                if known is not thing and place_of(known) != place_of(thing):
                    raise ArgumentError(
                        f"{self.what} name {key!r} of {place_of(thing)} is taken by {place_of(known)}; "
                        "choose another name"
                    )
                self._things[key] = thing
            return thing

        return put

    def __getitem__(self, key: K) -> T:
        """The thing under a key; packages that offer it are looked at where it is not known otherwise.

        Raises:
            ArgumentError: unknown, offered by two packages, or by one in vain.
        """
        if not isinstance(key, Hashable):
            raise self._unknown(key)
        if key not in self._things:
            self._things[key] = self._offered(key)
        return self._things[key]

    def of(self, instance: object) -> T | None:
        """The thing under the class of an instance, or the nearest class above it; None where none is."""
        things: dict[Any, T] = self._things
        for kind in type(instance).__mro__:
            if kind in things:
                return things[kind]
        return None

    def things(self) -> list[T]:
        """What was registered, or looked up, so far."""
        return list(self._things.values())

    def __contains__(self, key: object) -> bool:
        return key in self._things or key in {point.name for point in self._points()}

    def __iter__(self) -> Iterator[K]:
        """Keys, in order of registration; then the names that other packages offer."""
        offered: list[Any] = [point.name for point in self._points()]
        yield from dict.fromkeys([*self._things, *offered])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _points(self) -> list[EntryPoint]:
        return list(entry_points(group=self.group)) if self.group else []

    def _offered(self, key: K) -> Any:
        points = [point for point in self._points() if point.name == key]
        if not points:
            raise self._unknown(key)
        if len({point.value for point in points}) > 1:
            packages = " and ".join(f"{_package(point)} ({point.value})" for point in points)
            raise ArgumentError(f"{self.what} {key!r} is offered by {packages}; uninstall all but one")
        whose = f"{self.what} {key!r} of package {_package(points[0])} ({points[0].value})"
        try:
            thing = points[0].load()
        except Exception as error:
            raise ArgumentError(
                f"{whose} cannot be loaded: {one_line(error)}; repair or uninstall the package"
            ) from error
        problem = self.usable(points[0].name, thing)
        if problem:
            raise ArgumentError(f"{whose} {problem}; repair the package")
        return thing

    def _unknown(self, key: object) -> ArgumentError:
        known = ", ".join(map(str, sorted(self, key=str)))
        meant = did_you_mean(key, self)
        return ArgumentError(f"unknown {self.what} {key!r}{meant}; available: {known}{self.hint}")


def place_of(thing: Any) -> str:
    """Where a class or function is defined; of anything else, its class."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"


def _package(point: EntryPoint) -> str:
    return repr(point.dist.name) if point.dist is not None else "unknown"
