"""Engines: what labels the chunks of a source, here or elsewhere, and yields those that are finished.

An engine decides where the metric runs. It keeps nothing: its caller puts each chunk that it yields into a
part file of its own, so that whatever happens to an engine costs no more than the chunks in work.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from ...errors import ArgumentError
from ...foundation.registry import Registry
from .job import Engine
from .local import label_here

ENGINES: Registry[str, Callable[[str | None], Engine]] = Registry("engine")
"""Engines by name: each is had for the address of a scheduler, None where none is given."""


def engine_named(name: str, scheduler: str | None) -> Engine:
    """The engine of a name; nothing is connected yet.

    Args:
        name: One of `ENGINES`.
        scheduler: Address of the Dask scheduler, for "dask".

    Raises:
        ArgumentError: If the name is unknown, the address is missing or of no use, or Dask is not installed.
    """
    return ENGINES[name](scheduler)


@ENGINES.register("local")
def _local(scheduler: str | None) -> Engine:
    """The engine of this machine, which needs no scheduler."""
    if scheduler is not None:
        raise ArgumentError(f"`scheduler` (={scheduler!r}) goes with engine 'dask'; choose that, too.")
    return label_here


@ENGINES.register("dask")
def _dask(scheduler: str | None) -> Engine:
    """The engine of a cluster; Dask is imported only now, for it is optional and takes a second."""
    if find_spec("distributed") is None:
        raise ArgumentError("engine 'dask' needs Dask distributed; run: pip install 'emuloss[dask]'.")
    if scheduler is None:
        # A cluster of this machine alone could be started, but would do what the local engine does anyway.
        raise ArgumentError(
            "engine 'dask' needs `scheduler`, the address of a running scheduler such as 'tcp://HOST:8786'; "
            "for this machine alone, leave the engine out."
        )
    from .dask import label_on_cluster

    return partial(label_on_cluster, scheduler)
