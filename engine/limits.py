"""The limits register: where the caps nobody owns get an owner.

A `Limit` is one declared cap: what it counts, what it applies to, where it lives and who can raise it.
Every limit that matches a call counts it. A limit with `split_by` is one cap per value of these labels, and
a call that lacks the label counts under "". The value is looked up at the time of the slice, so that an old
log replays against the limit of its day. Reading the file is `engine/register.py`; config/limits.yaml
explains every field. Pure.
"""

from __future__ import annotations

import bisect
import functools
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

CONCURRENCY, RATE, QUOTA, TIMEOUT = "concurrency", "rate", "quota", "timeout"
INFERRED_PREFIX = "inferred:"  # of names that no register may give
NS_PER_S = 1_000_000_000
DAY_NS = 86_400 * NS_PER_S
FAR_NS = 1 << 62
# What stands in a label for many values: those without room, and numbers and addresses without a key.
OTHER, NUMBER_MASK, ADDRESS_MASK = "__other__", "__number__", "__address__"
SHARED_WORDS = (OTHER, NUMBER_MASK, ADDRESS_MASK)
KINDS = (CONCURRENCY, RATE, QUOTA, TIMEOUT)


class Limit(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One declared cap, as the register gives it. Durations are parsed to `*_ns` (None: not given)."""

    name: str
    kind: str  # concurrency | rate | quota | timeout
    value: float | None = None
    per_ns: int | None = None  # rate and quota: the period
    resets: str | None = None
    resets_at_ns: int = 0  # the same: since local midnight ...
    # ... of a zone given as (from_ns, offset_ns), looked up when the register is loaded (engine/zones.py).
    utc_offsets: tuple[tuple[int, int], ...] = ((0, 0),)
    values: dict[str, float] = {}  # by split values, joined by commas
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
    confirmed_ns: int | None = None  # the same as a time
    when_reached: str = "decline"
    runbook_url: str = ""

    @functools.cached_property
    def counted(self) -> str:
        """Name what the limit counts: two limits with the same name here have the same level."""
        counts = (self.name, self.kind, sorted(self.applies_to.items()), self.split_by, self.counts_from)
        return repr((*counts, self.counts, self.per_ns, self.resets))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether a call with these labels counts; a missing label is ""."""
        return all(labels.get(label, "") in values for label, values in self.applies_to.items())

    def names(self, split: tuple[tuple[str, str], ...]) -> bool:
        """Say whether `values` names the instance of these (label, value)."""
        return ",".join(value for _, value in split) in self.values

    def value_at(self, time_ns: int, split: tuple[str, ...] = ()) -> float | None:
        """Give the value in force at `time_ns` for one split instance; None: unknown.

        `split` are the values of `split_by`, in its order. A value of `values` has no history. `value` is
        in force since `confirmed_on`, or since the newest entry of the history if that says the same;
        before the oldest entry, the oldest entry is the best guess.
        """
        own = self.values.get(",".join(split)) if split else None
        if own is not None:
            return own
        if not self.history:
            return self.value
        newest_ns, newest = self.history[-1]
        in_force_ns = newest_ns if newest == self.value else self.confirmed_ns
        if in_force_ns is not None and time_ns >= in_force_ns:
            return self.value
        chosen = self.history[0][1]
        for from_ns, value in self.history:
            if from_ns <= time_ns:
                chosen = value
        return chosen

    @property
    def is_implicit(self) -> bool:
        """Say whether this is in no register, and watched for a cap that nobody wrote down."""
        return self.name.startswith(INFERRED_PREFIX)

    def period_at(self, time_ns: int) -> tuple[int, int]:
        """Give the period [start_ns, end_ns) of a quota that `time_ns` lies in, by its local time of reset.

        Periods of days begin with the reset of a day, shorter ones are laid out from it; a day on which the
        clock is changed has 23 or 25 hours.
        """
        assert self.per_ns is not None
        if self.per_ns >= DAY_NS:
            return self._days_at(time_ns, self.per_ns)
        # An hour that the clock shows twice is two periods, so these go by true time within the day.
        day_ns, next_day_ns = self._days_at(time_ns, DAY_NS)
        start_ns = day_ns + (time_ns - day_ns) // self.per_ns * self.per_ns
        return start_ns, min(start_ns + self.per_ns, next_day_ns)

    def _days_at(self, time_ns: int, span_ns: int) -> tuple[int, int]:
        local_ns = time_ns + self.offset_at(time_ns) - self.resets_at_ns
        start_ns = local_ns // span_ns * span_ns + self.resets_at_ns
        # The day of a local time is not that of its moment where the clock is changed at the reset.
        while self._to_utc(start_ns) > time_ns:
            start_ns -= span_ns
        while self._to_utc(start_ns + span_ns) <= time_ns:
            start_ns += span_ns
        return self._to_utc(start_ns), self._to_utc(start_ns + span_ns)

    def offset_at(self, time_ns: int) -> int:
        """Give the offset of local time to UTC in ns."""
        place = bisect.bisect_right(self.utc_offsets, (time_ns, FAR_NS)) - 1
        return self.utc_offsets[max(place, 0)][1]

    def _to_utc(self, local_ns: int) -> int:
        """Give the moment of a local time: the first one if it comes twice, that of the change if never."""
        # No two changes are within two days, so one of these offsets is in force.
        offsets = {self.offset_at(local_ns - DAY_NS), self.offset_at(local_ns + DAY_NS)}
        moments = sorted(local_ns - offset_ns for offset_ns in offsets)
        for time_ns in moments:
            if time_ns + self.offset_at(time_ns) == local_ns:
                return time_ns
        return self.utc_offsets[bisect.bisect_right(self.utc_offsets, (moments[0], FAR_NS))][0]

    @property
    def is_measured(self) -> bool:
        """Say whether use is counted: calls at a time, and calls per second; nothing else yet."""
        return self.kind == CONCURRENCY or (self.kind == RATE and self.per_ns == NS_PER_S)

    @property
    def expected_holding_s(self) -> float:
        """The prior for the mean holding time in seconds; NaN: none."""
        return float("nan") if self.expected_holding_ns is None else self.expected_holding_ns / 1e9


class LimitInstance(msgspec.Struct, frozen=True):
    """A limit, or one value of a limit with `split_by`. `index` is its row in every LimitUse."""

    index: int
    limit: Limit
    split: tuple[tuple[str, str], ...] = ()  # (label, value), in the order of `split_by`
    is_retired: bool = False  # its limit is in the register no more, and will not come back as this one

    @property
    def name(self) -> str:
        """What alerts and metrics call the limit; one that is in no register is called by what it covers."""
        if not self.limit.is_implicit:
            return self.limit.name
        return "=".join((self.limit.name, *(value for _, value in self.split)))

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """What identifies the instance in alerts and metrics."""
        return (("limit", self.name), *self.split)

    @property
    def is_shared(self) -> bool:
        """Say whether calls of many values count here under one name, each of which has a cap of its own."""
        return any(value in SHARED_WORDS for _, value in self.split)

    def value_at(self, time_ns: int) -> float | None:
        """Give the value in force at `time_ns`; None: unknown, as for calls of many values under one name."""
        split = tuple(value for _, value in self.split)
        return None if self.is_shared else self.limit.value_at(time_ns, split)


class LimitLabel(NamedTuple):
    """What limits need of a label."""

    named: frozenset[str] = frozenset()  # values that they name
    is_split: bool = False  # one of them has an instance for every value


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

    def limit_labels(self) -> dict[str, LimitLabel]:
        """Give the labels that limits look at, and which values of them matter.

        The series table admits these first, so that a limit's totals stay exact when it is full.
        """
        splits = {label for limit in self.limits for label in limit.split_by}
        labels = splits | {label for limit in self.limits for label in limit.applies_to}
        named = self.named_values()
        return {
            label: LimitLabel(frozenset(value for name, value in named if name == label), label in splits)
            for label in sorted(labels)
        }

    def named_values(self) -> frozenset[tuple[str, str]]:
        """Give every (label, value) that a limit names, its own name among them."""
        named = {
            (label, value)
            for limit in self.limits
            for label, values in limit.applies_to.items()
            for value in values
        }
        for limit in self.limits:
            named.add(("limit", limit.name))
            for key in limit.values:
                named.update(zip(limit.split_by, key.split(",", len(limit.split_by) - 1), strict=False))
        return frozenset(named)

    def named(self, name: str) -> Limit | None:
        """Give the limit of this name, or None."""
        return next((limit for limit in self.limits if limit.name == name), None)
