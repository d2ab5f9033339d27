"""The limits register: where the caps nobody owns get an owner.

Only the shape is here for a start; see config/limits.yaml for every field.
"""

from __future__ import annotations

import msgspec


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One declared cap, as in DESIGN section 5. Durations are parsed to `*_ns` (None: not given)."""

    name: str
    kind: str  # concurrency | rate | quota | timeout
    value: float | None = None
    per_ns: int | None = None  # rate and quota: the period
    resets: str | None = None
    values: dict[str, float] = {}
    history: tuple[tuple[int, float], ...] = ()  # (from_ns, value), ascending
    applies_to: dict[str, tuple[str, ...]] = {}  # label -> values that match
    split_by: tuple[str, ...] = ()
    counts_from: str = "started"
    counts: str = "calls"
    stage: str | None = None
    max_duration_ns: int | None = None
    expected_holding_ns: int | None = None
    expected_peak: float | None = None
    lives_in: str = ""
    set_by: str = ""
    owner: str = ""
    action: str = ""
    confirmed_on: str | None = None
    when_reached: str = "decline"
    runbook_url: str = ""

    def value_at(self, time_ns: int, split: tuple[str, ...] = ()) -> float | None:
        """Give the value in force at `time_ns` for one split instance; None: unknown."""
        chosen = self.values.get(",".join(split), self.value) if split else self.value
        for from_ns, value in self.history:
            if from_ns <= time_ns:
                chosen = value
        return chosen


class LimitInstance(msgspec.Struct, frozen=True):
    """A limit, or one value of a limit with `split_by`. `index` is its row in every LimitUse."""

    index: int
    limit: Limit
    split: tuple[tuple[str, str], ...] = ()  # (label, value)


class Guardrail(msgspec.Struct, frozen=True, kw_only=True):
    """A check of the user's own that may decide over a call."""

    name: str
    on_check_error: str  # open | closed
    because: str
    owner: str = ""


class Register(msgspec.Struct, frozen=True):
    """All limits and guardrails of one deployment."""

    limits: tuple[Limit, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
