"""Words for what goes wrong: `fail`, `timeout`, `leak`, `lose`, `clock`, `slow`."""

from __future__ import annotations

from typing import NamedTuple

from engine.decode.events import OUTCOMES, EventType
from engine.scenario.statement import Change, Statement
from engine.scenario.values import (
    code,
    counted_from_one,
    duration,
    flag,
    longer_than_nothing,
    one_of,
    positive,
    ratio,
)

SETUP, TRANSFER = "setup", "transfer"
JITTER_S = 0.02
CALL_OUTCOMES = OUTCOMES[: OUTCOMES.index("transferred") + 1]


class Phase(NamedTuple):
    """The first moments of every so long: the beginning of every minute, say."""

    every_s: float  # 0: at any time
    for_s: float
    phase_s: float


class Failure(NamedTuple):
    """Some calls end otherwise than they should."""

    group: str
    ratio: float
    outcome: str
    code: int  # 0: none
    reason: str
    after_s: float  # 0: as long as it would have taken
    jitter_s: float
    is_answered: bool  # they fail after the answer, not before it
    phase: Phase
    change: Change

    @staticmethod
    def read(s: Statement) -> Failure:
        """Read `fail`."""
        read = Failure(
            group=s.target(),
            ratio=s.need("ratio", ratio, 0.0, "ratio=5%"),
            outcome=s.get("outcome", one_of(CALL_OUTCOMES), "failed"),
            code=s.get("code", code, 0),
            reason=s.get("reason", str, ""),
            after_s=s.get("after", longer_than_nothing, 0.0),
            jitter_s=s.get("jitter", duration, JITTER_S),
            is_answered=s.get("answered", flag, False),
            phase=Phase(
                every_s=s.get("every", longer_than_nothing, 0.0),
                for_s=s.get("for", longer_than_nothing, 1.0),
                phase_s=s.get("phase", duration, 0.0),
            ),
            change=s.change(),
        )
        if s.has("for") and not s.has("every"):
            s.wrong("`for=` says how long of every so long", "add every=1m")
        s.close()
        return read


class Timeout(NamedTuple):
    """What would take longer is cut, at exactly so long and a little."""

    group: str
    stage: str  # setup or transfer
    after_s: float
    jitter_s: float
    outcome: str
    code: int
    reason: str
    change: Change

    @staticmethod
    def read(s: Statement) -> Timeout:
        """Read `timeout`."""
        read = Timeout(
            group=s.target(),
            stage=s.get("stage", one_of((SETUP, TRANSFER)), SETUP),
            after_s=s.need("after", longer_than_nothing, 15.0, "after=15s"),
            jitter_s=s.get("jitter", duration, JITTER_S),
            outcome=s.get("outcome", one_of(CALL_OUTCOMES), "timeout"),
            code=s.get("code", code, 0),
            reason=s.get("reason", str, ""),
            change=s.change(),
        )
        s.close()
        return read


class Leak(NamedTuple):
    """Some calls never end, and hold their place for ever."""

    group: str
    ratio: float
    change: Change

    @staticmethod
    def read(s: Statement) -> Leak:
        """Read `leak`."""
        read = Leak(s.target(), s.need("ratio", ratio, 0.0, "ratio=10%"), s.change())
        s.close()
        return read


class Loss(NamedTuple):
    """Some events are never sent."""

    group: str
    event: str
    ratio: float
    change: Change

    @staticmethod
    def read(s: Statement) -> Loss:
        """Read `lose`."""
        read = Loss(
            group=s.target(),
            event=s.need("event", one_of(tuple(kind.wire for kind in EventType)), "", "event=call.ended"),
            ratio=s.get("ratio", ratio, 1.0),
            change=s.change(),
        )
        s.close()
        return read


class Clock(NamedTuple):
    """The times of events run ahead of their arrival."""

    group: str
    ahead_s: float
    change: Change

    @staticmethod
    def read(s: Statement) -> Clock:
        """Read `clock`."""
        read = Clock(s.target(), s.need("ahead", longer_than_nothing, 0.0, "ahead=30s"), s.change())
        s.close()
        return read


class Slow(NamedTuple):
    """A stage of turns, or the set-up, a transfer or a dependency takes longer."""

    group: str
    stage: str
    factor: float
    to_s: float  # the mean; 0: by `factor`
    tail_ratio: float  # of those that are slow
    in_flight: int  # the factor is reached at so many calls in flight; 0: whatever there are
    change: Change

    @staticmethod
    def read(s: Statement) -> Slow:
        """Read `slow`."""
        group = s.target()
        if s.has("factor") == s.has("to"):
            s.wrong("`slow` needs one of `factor=1.5` and `to=13s`")
        read = Slow(
            group=group,
            stage=s.need("stage", str, "", "stage=llm"),
            factor=s.get("factor", positive, 1.0),
            to_s=s.get("to", longer_than_nothing, 0.0),
            tail_ratio=s.get("tail", ratio, 1.0),
            in_flight=s.get("in_flight", counted_from_one, 0),
            change=s.change(),
        )
        if read.stage == SETUP and read.in_flight:
            s.wrong(
                "`in_flight=` is not for the set-up", "`cap ... as=queued` makes set-up wait when it is full"
            )
        s.close()
        return read
