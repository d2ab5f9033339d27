"""What was worked out of something that rarely changes, kept until it does.

A detector is a pure function, and what its state holds is never written to. So whatever follows from a part
of it alone need not be worked out at every slice: as long as that part is the same object, so is the result.
What is put together anew at every slice, such as a tuple of the limits, is compared by value instead; that is
quick where its parts are the same objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Given = TypeVar("Given")
Result = TypeVar("Result")


class Remembered(Generic[Given, Result]):
    """A function that remembers its last argument, which nobody writes to, and what came of it."""

    def __init__(self, work: Callable[[Given], Result], *, by_value: bool = False) -> None:
        """Remember nothing yet."""
        self._work = work
        self._by_value = by_value
        self._last: tuple[Given, Result] | None = None

    def __call__(self, given: Given) -> Result:
        """Give the result for this object."""
        last = self._last
        if last is None or not (last[0] is given or (self._by_value and last[0] == given)):
            last = self._last = given, self._work(given)
        return last[1]
