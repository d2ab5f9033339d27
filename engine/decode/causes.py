"""How attempts ended, as dense ids: outcome, platform, code, redacted reason, limit.

Reasons are free text, so they fill the table first. Three quarters of it take causes as they are; the rest
takes causes without their reason; and a row for "declined" and for each outcome always exists, so that
declines and errors are counted exactly whatever a platform sends.
"""

from __future__ import annotations

from engine.decode.events import OUTCOMES, Cause

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
        self._causes_max = causes_max
        self._whole_end = causes_max - causes_max // 4

    def __len__(self) -> int:
        """How many causes there are."""
        return len(self.causes)

    def id_of(self, cause: Cause) -> int:
        """Give the id of a cause, or of what is left of it when the table is full, and count that."""
        cause_id = self._ids.get(cause)
        if cause_id is None:
            cause_id = self._admit(cause, self._whole_end)
        if cause_id is not None:
            return cause_id
        without_reason = cause._replace(reason="")
        cause_id = self._admit(without_reason, self._causes_max)
        if without_reason != cause or cause_id is None:
            self.rows_collapsed += 1
        if cause_id is None:
            return self._ids[Cause(cause.declined, cause.outcome, "", 0, "", "")]
        return cause_id

    def known(self, cause: Cause) -> int | None:
        """Give the id of a cause that has one of its own; counts nothing."""
        return self._ids.get(cause)

    def _admit(self, cause: Cause, end: int) -> int | None:
        cause_id = self._ids.get(cause)
        if cause_id is None and len(self.causes) < end:
            cause_id = self._ids[cause] = len(self.causes)
            self.causes.append(cause)
        return cause_id
