"""Runs programs that wait for each other in Triton's interpreter, which runs the programs of a launch one by one.

Each program gets a thread, and one of them runs at a time: at every atomic operation, which is all that they wait with,
it is the next one's turn.
"""

from __future__ import annotations

import contextvars
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

#: Turns without any program changing a counter after which they wait for ever: more than any order of turns takes.
PATIENCE = 1000


class WaitError(RuntimeError):
    """Programs that wait for each other for ever."""


def run_in_turns(kernel: Any, grid: tuple[int, ...], arguments: list[Any], options: dict[str, Any]) -> None:
    """Launch an interpreted kernel, all of whose programs run at the same time.

    Args:
        kernel: the function, as Triton's interpreter wraps it.
        grid: how many programs.
        arguments: its arguments.
        options: of the launch.

    Raises:
        WaitError: if all programs wait and none of them goes on.
    """
    from triton.runtime.interpreter import GridExecutor

    programs = _Programs(kernel.rewrite(), (*grid, 1, 1)[:3])
    GridExecutor(programs, kernel.arg_names, (1, 1, 1))(*arguments, **options)


class _Programs:
    """All programs of a launch as one function, with what the interpreter asks of a function."""

    def __init__(self, fn: Any, grid: tuple[int, ...]) -> None:
        self.fn, self.grid = fn, grid
        self.__name__, self.__globals__, self.__annotations__ = fn.__name__, fn.__globals__, fn.__annotations__
        self.__signature__ = inspect.signature(fn)

    def __call__(self, **arguments: Any) -> None:
        from triton.runtime.interpreter import interpreter_builder as builder

        builder.set_grid_dim(*self.grid)
        turns = Turns(list(product(*(range(n) for n in self.grid))), builder.set_grid_idx)
        with _switching(builder, turns):
            turns.run(lambda: self.fn(**arguments))


class Turns:
    """Programs of which one runs at a time.

    Attributes:
        current: the place of the program that runs.

    Args:
        places: one for each program.
        enter: called with a place when its turn begins.
    """

    #: Which of some waiting programs comes next, after a place; tests replace it.
    following: Callable[[Any, list[Any]], Any] = staticmethod(lambda now, waiting: waiting[0])

    def __init__(self, places: list[Any], enter: Callable[..., None]) -> None:
        self.current: Any = None
        self._waiting = list(places)
        self._enter = enter
        self._go = {place: threading.Event() for place in places}
        self._failed: BaseException | None = None
        self._idle = 0
        self._done = threading.Event()

    def run(self, program: Callable[[], None]) -> None:
        """Run ``program`` in every place, to the end; raises what the first of them raised."""
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(self._one, place, program), daemon=True)
            for place in self._waiting
        ]
        for thread in threads:
            thread.start()
        if threads:
            self._give_turn()
            self._done.wait()
        for thread in threads:
            thread.join()
        if self._failed is not None:
            raise self._failed

    def switch(self, progress: bool = True) -> None:
        """End the turn of the program that calls it; ``progress``: whether it did something others may wait for."""
        place = self.current
        self._idle = 0 if progress else self._idle + 1
        if self._idle > PATIENCE * len(self._go) and self._failed is None:
            self._failed = WaitError("programs wait for each other, and none of them goes on")
        self._waiting.append(place)
        self._go[place].clear()
        self._give_turn()
        self._go[place].wait()
        if self._failed is not None:
            raise self._failed

    def _give_turn(self) -> None:
        if not self._waiting:
            self._done.set()
            return
        self.current = self.following(self.current, self._waiting)
        self._waiting.remove(self.current)
        self._enter(*self.current)
        self._go[self.current].set()

    def _one(self, place: Any, program: Callable[[], None]) -> None:
        self._go[place].wait()
        try:
            if self._failed is None:
                program()
        except BaseException as err:  # handed on to the thread that waits for all of them
            self._failed = self._failed or err
        self._idle = 0
        self._give_turn()


@contextmanager
def _switching(builder: Any, turns: Turns) -> Iterator[None]:
    """Have every atomic operation end a program's turn."""
    original = builder.create_atomic_rmw

    def create_atomic_rmw(op: Any, ptr: Any, value: Any, mask: Any, sem: Any, scope: Any) -> Any:
        found = original(op, ptr, value, mask, sem, scope)
        turns.switch(progress=bool(value.data.any()))
        return found

    builder.create_atomic_rmw = create_atomic_rmw
    try:
        yield
    finally:
        del builder.create_atomic_rmw
