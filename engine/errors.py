"""What can go wrong, and how the engine says so.

    CallgaugeError          an operating error: what, where, cause, hint; retryable or not
      UsageError            the command line, settings or register is wrong (exit code 2)
        SettingsError       settings or register, every problem listed at once
      SourceError           a log or a broker cannot be read (exit code 1)
      DeliveryError         a server of ours cannot start or a peer cannot be reached
      ExpectationError      a replay did not do what `--expect` says (exit code 3)

Bad data is never an exception: it is counted under a `LossReason`. A wrong programmer is an `assert`.
"""

from __future__ import annotations

from enum import IntEnum


class LossReason(IntEnum):
    """Why a row that was read is not in the state. The lower-case name is the metric label `reason`."""

    NOT_JSON = 0
    NOT_AN_OBJECT = 1
    FIELD_MISSING = 2
    FIELD_TYPE = 3
    FIELD_RANGE = 4
    TIME_MALFORMED = 5
    TIME_OUT_OF_RANGE = 6
    ROW_TOO_LONG = 7
    TYPE_UNKNOWN = 8
    DUPLICATE = 9
    LATE = 10
    TIME_AHEAD = 11
    HELD_ROWS_FULL = 12
    CALLS_FULL = 13
    REVOKED = 14  # held for a partition that another process reads now, and reads again


# Reasons that are `malformed` in the conservation law (ARCHITECTURE section 5, invariant 1).
MALFORMED_REASONS = tuple(LossReason(reason) for reason in range(LossReason.TYPE_UNKNOWN))


class CallgaugeError(Exception):
    """An operating error, worded for the person who has to mend it."""

    exit_code = 1
    retryable = False

    def __init__(self, what: str, *, where: str = "", cause: str = "", hint: str = "") -> None:
        """Keep the four parts; `where` names the file and place, `hint` the mend."""
        super().__init__(what)
        self.what = what
        self.where = where
        self.cause = cause
        self.hint = hint

    def __str__(self) -> str:
        """Say all parts on one to three lines."""
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.cause:
            text += f": {self.cause}"
        return f"{text}\n  hint: {self.hint}" if self.hint else text


class UsageError(CallgaugeError):
    """The user asked for something that cannot be."""

    exit_code = 2


class SettingsError(UsageError):
    """Settings or register are wrong; `problems` lists every one with its path and hint."""

    def __init__(self, what: str, *, where: str = "", problems: tuple[str, ...] = (), hint: str = "") -> None:
        """Join the problems into the message, one a line."""
        super().__init__(
            what, where=where, cause="".join(f"\n  - {problem}" for problem in problems), hint=hint
        )
        self.problems = problems


class SourceError(CallgaugeError):
    """A log or a broker cannot be read."""


class DeliveryError(CallgaugeError):
    """A server of ours cannot start, or nothing can be delivered."""


class ExpectationError(CallgaugeError):
    """A replay finished, but not with the alerts that were expected."""

    exit_code = 3
