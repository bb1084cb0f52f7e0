"""The processes of a run: one, or several that `accelerate launch` starts on devices and machines.

All of them run the same program. One, the main process, keeps the clock, writes files and speaks. They meet
at the same points of the program, however long one of them has to wait there; where one fails between two
meetings, all learn it at the next, and end with its error.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState
from torch import Tensor, distributed

from ..errors import DataError, EmulossError
from .interrupts import ENDED, interrupts_deferred

T = TypeVar("T")

_PATIENCE = timedelta(days=7)
"""Longest wait at a meeting: the main process may label for hours."""
_FAREWELL = timedelta(seconds=30)
"""Longest wait for the others at the end of the program."""
_PASSED_ON = (EmulossError, OSError, *ENDED)
"""Errors of one process that all raise; others are bugs, which show their traceback where they strike."""


@functools.cache
def processes() -> Processes:
    """The processes of this run; the first call connects them."""
    return Processes()


class Processes:
    """The processes of a run, seen from one of them; call `processes()` instead.

    Attributes:
        device: where this process computes.
        world_size: number of processes.
        rank: index of this process; the main one has 0.
        part: what falls to this process of anything that they share: every `world_size`-th item.
    """

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "OMP_NUM_THREADS")
            # Without CUDA on the CPU: Apple's GPUs lack the double precision that exact bounds need.
            state = PartialState(cpu=not torch.cuda.is_available())
        # accelerate numbers CPUs as well, and torch.load knows of no cpu:0.
        self.device = torch.device("cpu") if state.device.type == "cpu" else state.device
        self.world_size, self.rank = state.num_processes, state.process_index
        self.part = slice(self.rank, None, self.world_size) if self.world_size > 1 else slice(None)
        self._ended: BaseException | None = None
        if self.world_size > 1:
            # Connections of their own: those of devices break off after minutes, and wait for the device.
            meeting = distributed.new_group(backend="gloo", timeout=_PATIENCE)
            self._meeting = cast("distributed.ProcessGroup", meeting)
            atexit.register(self._leave)

    @property
    def main(self) -> bool:
        """Whether this is the process that keeps the clock, writes and speaks."""
        return self.rank == 0

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """A block that all processes leave together; what one of them raises in it, all raise.

        Raises:
            SystemExit: in the other processes, where it was a bug.
            DataError: a process was killed.
        """
        with self._telling():
            yield
        self.all_gather(None)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """A block whose error the others learn at the meeting that follows it."""
        try:
            yield
        except BaseException as error:
            if self.world_size > 1 and error is not self._ended:
                told = error if isinstance(error, _PASSED_ON) else SystemExit(1)
                with contextlib.suppress(DataError):  # nobody is left to tell
                    self._exchange(told, None)
                self._ended = error
            raise

    def all_gather(self, value: T) -> list[T]:
        """The value of each process, in the order of their ranks: a meeting.

        Raises:
            BaseException: that of a process that failed in `together`.
            DataError: a process was killed.
        """
        if self.world_size == 1:
            return [value]
        errors, values = zip(*self._exchange(None, value), strict=True)
        self._ended = next((error for error in errors if error is not None), None)
        if self._ended is not None:
            raise self._ended
        return list(values)

    def of_main(self, make: Callable[[], T]) -> T:
        """What the main process makes; the others wait for it: a meeting.

        Raises:
            BaseException: that of the main process.
            DataError: a process was killed.
        """
        with self._telling():
            made = make() if self.main else None
        return cast("T", self.all_gather(made)[0])

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one dtype by their sums over the processes, equal to the bit in all: a meeting.

        Gradients are summed here, and not by DistributedDataParallel, which knows neither parts of unequal
        weight nor the second derivatives of terms on gradients.

        Raises:
            BaseException: that of a process that failed in `together`.
            DataError: a process was killed.
        """
        if self.world_size == 1:
            return
        sums = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with self._undisturbed():
            self.all_gather(None)  # devices would wait in vain for one that failed
            distributed.all_reduce(sums)
        for tensor, total in zip(tensors, sums.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view(tensor.shape))

    def _exchange(self, error: BaseException | None, value: Any) -> list[tuple[BaseException | None, Any]]:
        """The error and the value of each process."""
        items: list[Any] = [None] * self.world_size
        with self._undisturbed():
            distributed.all_gather_object(items, (error, value), group=self._meeting)
        return items

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Let Ctrl-C and its like wait for the end of a meeting, which takes several messages."""
        with interrupts_deferred() as interrupted:
            try:
                yield
            except RuntimeError as error:
                raise DataError(
                    "another process of this run was killed; run the same command again"
                ) from error
        if number := interrupted():
            signal.raise_signal(number)

    def _leave(self) -> None:
        """Part when all have spoken: launchers kill the others as soon as one has ended with an error."""
        if distributed.is_initialized():
            with contextlib.suppress(RuntimeError):
                distributed.monitored_barrier(self._meeting, timeout=_FAREWELL)
            distributed.destroy_process_group()
