"""Words for what turns calls away, whatever the register says: `cap`, `rate_cap`, `quota`, `move`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.decode.events import LABELS
from engine.scenario.statement import Statement
from engine.scenario.values import code, count, longer_than_nothing, one_of
from engine.scenario.zones import Reset, reset

if TYPE_CHECKING:
    from collections.abc import Mapping

CONCURRENCY, RATE, QUOTA = "cap", "rate_cap", "quota"
DECLINED, FAILED, SILENT, QUEUED = "declined", "failed", "silent", "queued"
CODES = {CONCURRENCY: 503, RATE: 429, QUOTA: 403}
REASONS = {CONCURRENCY: "Service Unavailable", RATE: "CPS limit exceeded", QUOTA: "daily limit reached"}


class Cap(NamedTuple):
    """One cap of the platform: what it counts, and what those see whom it turns away."""

    name: str
    kind: str
    value: int
    labels: Mapping[str, str]  # of the calls that it counts; {}: all
    split_by: str  # a label: one cap for each of its values; "": one for all
    shown_as: str
    code: int
    reason: str
    patience_s: float  # queued: who waits longer gives up
    period_s: float  # of a quota
    reset: Reset | None  # None: `period_s` from the start

    @staticmethod
    def read(s: Statement) -> Cap:
        """Read `cap`, `rate_cap` or `quota`."""
        name = s.name("a name of its own")
        if name in s.known.caps:
            s.wrong(f"there is a cap `{name}` already", f"`move {name} value=60 from=30m` changes it")
        ways = (DECLINED, FAILED, SILENT, QUEUED) if s.word == CONCURRENCY else (DECLINED, FAILED, SILENT)
        cap = Cap(
            name=name,
            kind=s.word,
            value=s.need("value", count, 0, "value=80"),
            labels={},
            split_by=s.get("split_by", one_of(LABELS), ""),
            shown_as=s.get("as", one_of(ways), DECLINED),
            code=s.get("code", code, CODES[s.word]),
            reason=s.get("reason", str, REASONS[s.word]),
            patience_s=s.get("patience", longer_than_nothing, 60.0),
            period_s=s.get("per", longer_than_nothing, 86_400.0),
            reset=s.get("resets", reset, None),
        )
        if s.word != QUOTA:
            for key in ("per", "resets"):
                if s.has(key):
                    s.wrong(f"`{key}=` is for `quota`", "for one cap a tenant write split_by=tenant")
        cap = cap._replace(labels=s.labels())
        s.close()
        return cap


class Move(NamedTuple):
    """A cap is another from some moment on."""

    cap: str
    value: int
    from_s: float

    @staticmethod
    def read(s: Statement) -> Move:
        """Read `move`."""
        read = Move(
            cap=s.one_of(s.known.caps, "the name of a cap above it"),
            value=s.need("value", count, 0, "value=60"),
            from_s=s.moment("from", 0.0),
        )
        s.close()
        return read
