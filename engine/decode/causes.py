"""How attempts ended, as dense ids: outcome, platform, code, redacted reason, limit.

Reasons are free text, so they fill the table first, and names of dependencies next. Three quarters of it
take causes as they are. Half of what is left takes them without their reason, half of the rest without the
name of the dependency too, and the last part how they ended, of what, limit and code: what a limit is blamed
by. A row for "declined" and for each outcome always exists, so that declines and errors are counted exactly
whatever a platform sends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.decode.events import DEPENDENCY, OUTCOMES, Cause
from engine.limits import OTHER

if TYPE_CHECKING:
    from collections.abc import Iterator

CAUSES_MIN = 1 + len(OUTCOMES)  # a bound below this is taken as this


class CauseTable:
    """Dense ids for causes; ids are never taken back."""

    def __init__(self, causes_max: int) -> None:
        """Make the rows that always exist: declined, then every outcome."""
        always = [Cause(True, "", "", 0, "", "")]
        always += [Cause(False, name, "", 0, "", "") for name in OUTCOMES]
        self.causes: list[Cause] = always
        self.rows_collapsed = 0
        self._ids = {cause: cause_id for cause_id, cause in enumerate(self.causes)}
        # How far the table may fill with causes as they are, and with each of what `_remains` gives.
        self._ends = tuple(
            causes_max - share for share in (causes_max // 4, causes_max // 8, causes_max // 16, 0)
        )

    def __len__(self) -> int:
        """How many causes there are."""
        return len(self.causes)

    def id_of(self, cause: Cause) -> int:
        """Give the id of a cause, or of what is left of it when the table is full, and count that."""
        cause_id = self._admit(cause, self._ends[0])
        if cause_id is not None:
            return cause_id
        for left, end in zip(_remains(cause), self._ends[1:], strict=True):
            cause_id = self._admit(left, end)
            if cause_id is not None:
                self.rows_collapsed += left != cause
                return cause_id
        self.rows_collapsed += 1
        return self._ids[Cause(cause.declined, cause.outcome, "", 0, "", "")]

    def known(self, cause: Cause) -> int | None:
        """Give the id of a cause that has one of its own; counts nothing."""
        return self._ids.get(cause)

    def _admit(self, cause: Cause, end: int) -> int | None:
        cause_id = self._ids.get(cause)
        if cause_id is None and len(self.causes) < end:
            cause_id = self._ids[cause] = len(self.causes)
            self.causes.append(cause)
        return cause_id


def _remains(cause: Cause) -> Iterator[Cause]:
    """Give what is left of a cause, step by step: each knows less than the one before."""
    yield (left := cause._replace(reason=""))
    if left.operation.startswith(DEPENDENCY):
        left = left._replace(operation=DEPENDENCY + OTHER)
    yield left
    yield left._replace(platform="", fallback="")
