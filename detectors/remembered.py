"""What was worked out of something that rarely changes, kept until it does.

A detector is a pure function, and what its state holds is never written to. So whatever follows from a part
of it alone need not be worked out at every slice: as long as that part is the same object, so is the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Given = TypeVar("Given")
Result = TypeVar("Result")


class Remembered(Generic[Given, Result]):
    """A function that remembers its last argument, which nobody writes to, and what came of it."""

    def __init__(self, work: Callable[[Given], Result]) -> None:
        """Remember nothing yet."""
        self._work = work
        self._last: tuple[Given, Result] | None = None

    def __call__(self, given: Given) -> Result:
        """Give the result for this object."""
        if self._last is None or self._last[0] is not given:
            self._last = given, self._work(given)
        return self._last[1]
