"""The slow, obvious twin of engine/observe: dicts, one event at a time, no bounds.

Methods carry the names of the kernels whose twins they are. Facts are one Counter whose keys say
everything, so that comparing and merging need no thought. Events are routed first and slices are closed
afterwards, one after the other, with a sweep at every full minute: what the engine does in steps has to
come to the same.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.decode.events import Cause
from engine.observe.summary import BIN_NS, Count, EndKind
from tests import oracle_course
from tests.observe_events import MINUTE, Event, Series, T
from tests.observe_facts import nonzero
from tests.oracle_clock import Clock, Rules
from tests.oracle_entry import Entry, beat, silent_ns
from tests.oracle_latency import bucket_number
from tests.oracle_order import comes_before

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.observe_facts import Key

NO_CAUSE = Cause(declined=True, outcome="", platform="", code=0, reason="", limit="")
COUNTED = {
    T.CALL_QUEUED: Count.QUEUED, T.AGENT_JOINED: Count.AGENTS_JOINED, T.TURN_COMPLETED: Count.TURNS,
    T.TRANSFER_ENDED: Count.TRANSFERS_ENDED, T.DEPENDENCY_CALLED: Count.DEPENDENCY_CALLS,
}  # fmt: skip
BY_STATE = {T.CALL_STARTED, T.CALL_ANSWERED, T.CALL_HEARTBEAT, T.CALL_ENDED, T.CALL_DECLINED}


@dataclass
class Twin:
    """One partition."""

    rules: Rules
    facts: Counter[Key] = field(default_factory=Counter)
    calls: dict[int, Entry] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    held: dict[int, list[tuple[int, Event]]] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    lost: Counter[str] = field(default_factory=Counter)
    healed: Counter[str] = field(default_factory=Counter)
    unmatched: list[int] = field(default_factory=list)
    own_ns: int = 0
    open_ns: int = 0

    def slice_of(self, time_ns: int) -> int:
        return time_ns // self.rules.slice_ns * self.rules.slice_ns

    def hold(self, event: Event) -> bool:
        """Route one event: on time into its slice, late into the oldest open one, too late nowhere: no."""
        watermark_ns = self.clock.watermark_ns(self.rules)
        start_ns, standing = self.slice_of(event.time_ns), 2
        if start_ns + self.rules.slice_ns <= watermark_ns:
            start_ns, standing = self.slice_of(watermark_ns), 1
            if watermark_ns - event.time_ns > self.rules.late_ns:
                self.lost["late"] += 1
                if event.type_id not in (T.CALL_ENDED, T.CALL_DECLINED):
                    return False
                standing = 0
        received_ns = event.received_ns if event.received_ns >= 0 else event.time_ns
        self.clock.move(min(event.time_ns, received_ns))
        self.keep(start_ns, standing, event)
        return True

    def drop_beyond(self) -> None:
        """Lose what is far ahead of the end of the log."""
        for start_ns, rows in list(self.held.items()):
            kept = [row for row in rows if row[1].time_ns <= self.clock.believable_ns()]
            self.lost["ahead"] += len(rows) - len(kept)
            self.held[start_ns] = kept

    def keep(self, start_ns: int, standing: int, event: Event) -> None:
        self.held.setdefault(start_ns, []).append((standing, event))

    def close(self, start_ns: int, lists: list[Event], others: list[Twin]) -> None:
        """Late rows, then what heals, then the slice's own rows."""
        rows = sorted(self.held.pop(start_ns, []), key=comes_before)
        self.open_ns = start_ns
        for is_own in (False, True):
            if is_own:
                self.own_ns = start_ns
                if start_ns % MINUTE == 0:
                    self.sweep()
                for one in lists:
                    self.heal_unlisted(one)
                    self.open_listed(one, others)
            for standing, event in rows:
                if (standing == 2) == is_own:
                    self.own_ns = self.slice_of(event.time_ns)
                    self.absorb_rows(standing, event)

    def absorb_rows(self, standing: int, event: Event) -> None:
        if standing == 0:
            self.take_out(event)
            return
        if not self.take(event):
            self.lost["duplicate"] += 1
            return
        if standing == 1:
            self.add_count(self.own_ns, event.series, Count.AMENDED)
        self.measure(event)

    def take(self, event: Event) -> bool:
        by_type = {
            T.CALL_STARTED: self.on_started, T.CALL_ANSWERED: self.on_answered, T.CALL_ENDED: self.on_ended,
            T.CALL_HEARTBEAT: self.on_heartbeat, T.CALL_DECLINED: self.on_declined,
        }  # fmt: skip
        if event.type_id in BY_STATE:
            return by_type[event.type_id](event)
        if event.event_id and event.event_id in self.seen:
            return False
        self.seen.add(event.event_id)
        if event.type_id == T.TURN_COMPLETED:
            self.living_slot(event)
        oracle_course.happen(self, event)
        if event.type_id in COUNTED:
            self.add_count(self.own_ns, event.series, COUNTED[event.type_id])
        return True

    def measure(self, event: Event) -> None:
        for stage, ms in event.latencies:
            if event.type_id == T.QUALITY_SCORED:
                oracle_course.score(self, event.series, stage, ms)
            elif not math.isnan(ms):
                self.add_latency(event.series, stage, ms)

    def add_latency(self, series: Series, stage: str, ms: float) -> None:
        self.facts["latency", self.own_ns, series, stage, bucket_number(ms / 1000)] += 1
        self.facts["sum", self.own_ns, series, stage] += round(min(ms, 4096e3) * 1000)

    def add_count(self, slice_ns: int, series: Series, column: Count, amount: int = 1) -> None:
        self.facts["count", slice_ns, series, column.name] += amount

    def add_to_bin(self, slice_ns: int, series: Series, bin_index: int, what: str, amount: int = 1) -> None:
        self.facts["bin", slice_ns, series, bin_index, what] += amount

    def add_end(self, slice_ns: int, series: Series, kind: EndKind, start_ns: int, answer_ns: int) -> None:
        self.facts["end", slice_ns, series, start_ns, answer_ns, kind.name] += 1

    def add_cause(self, series: Series, cause: Cause | None) -> None:
        if cause is not None:
            self.facts["cause", self.own_ns, series, cause] += 1

    def own_bin(self, time_ns: int) -> int:
        return (time_ns - self.own_ns) // BIN_NS

    def open_bin(self, time_ns: int) -> int:
        return max(time_ns - self.open_ns, 0) // BIN_NS

    def arrive(self, series: Series, time_ns: int) -> None:
        self.add_count(self.own_ns, series, Count.STARTED)
        self.add_to_bin(self.own_ns, series, self.own_bin(time_ns), "arrivals")

    def enter(self, call: int, series: Series, time_ns: int, *, unknown: bool, start_seen: bool) -> Entry:
        entry = Entry(time_ns, series, flying=True, start_seen=start_seen, age_unknown=unknown)
        self.calls[call] = entry
        self.add_to_bin(self.open_ns, series, self.open_bin(time_ns), "level")
        if unknown:
            self.add_count(self.open_ns, series, Count.OPENED_UNKNOWN)
        else:
            self.add_count(self.own_ns, series, Count.ADMITTED)
        return entry

    def leave(self, entry: Entry, time_ns: int, kind: EndKind) -> None:
        bin_index = self.open_bin(time_ns)
        self.add_to_bin(self.open_ns, entry.series, bin_index, "level", -1)
        start_ns = -1 if entry.age_unknown else self.slice_of(entry.since_ns)
        answer_ns = -1
        if entry.answer_ns is not None:
            self.add_to_bin(self.open_ns, entry.series, bin_index, "answered_level", -1)
            answer_ns = self.slice_of(entry.answer_ns)
        self.add_end(self.open_ns, entry.series, kind, start_ns, answer_ns)

    def was_never_in(self, entry: Entry) -> None:
        self.add_to_bin(self.open_ns, entry.series, self.open_bin(entry.since_ns), "level", -1)
        self.add_count(self.open_ns, entry.series, Count.ADMITTED, -1)
        if entry.answer_ns is not None:
            self.add_to_bin(self.open_ns, entry.series, self.open_bin(entry.answer_ns), "answers", -1)
            self.add_to_bin(self.open_ns, entry.series, self.open_bin(entry.answer_ns), "answered_level", -1)

    def bury(self, call: int, entry: Entry, time_ns: int, *, healed: bool = False) -> None:
        answered = entry.was_answered or entry.answer_ns is not None
        self.calls[call] = Entry(time_ns, entry.series, start_seen=entry.start_seen, healed=healed,
                                 was_answered=answered, beats=entry.beats)  # fmt: skip

    def bury_unknown(self, event: Event, *, start_seen: bool) -> None:
        self.unmatched.append(event.call)
        self.calls[event.call] = Entry(event.time_ns, event.series, start_seen=start_seen)

    def is_of_earlier_attempt(self, entry: Entry, time_ns: int) -> bool:
        return entry.flying and not entry.age_unknown and time_ns < entry.since_ns

    def on_started(self, event: Event) -> bool:
        entry = self.calls.get(event.call)
        if entry is not None and (entry.flying or event.time_ns <= entry.since_ns):
            if entry.start_seen:
                return False
            entry.start_seen = True
            self.arrive(entry.series, event.time_ns)
            return True
        self.arrive(event.series, event.time_ns)
        self.enter(event.call, event.series, event.time_ns, unknown=False, start_seen=True)
        return True

    def living_slot(self, event: Event) -> Entry | None:
        """Give the entry in flight, opened if need be; None: it has ended."""
        entry = self.calls.get(event.call)
        if entry is None:
            return self.enter(event.call, event.series, event.time_ns, unknown=True, start_seen=False)
        if entry.flying:
            return entry
        if not entry.healed or event.time_ns <= entry.since_ns:
            return None
        return self.revive(event.call, entry, event.time_ns)

    def revive(self, call: int, healed: Entry, time_ns: int) -> Entry:
        entry = self.enter(call, healed.series, time_ns, unknown=True, start_seen=healed.start_seen)
        entry.beats, entry.is_revived = healed.beats, True
        if healed.was_answered:
            self.count_answered(entry, time_ns)
        return entry

    def count_answered(self, entry: Entry, time_ns: int) -> None:
        entry.answer_ns = time_ns
        self.add_to_bin(self.own_ns, entry.series, self.own_bin(time_ns), "answers")
        self.add_to_bin(self.open_ns, entry.series, self.open_bin(time_ns), "answered_level")

    def on_answered(self, event: Event) -> bool:
        entry = self.living_slot(event)
        if entry is None:
            ended = self.calls[event.call]
            if ended.was_answered:
                return False
            ended.was_answered = True
            self.add_count(self.own_ns, ended.series, Count.ANSWERED)
            return True
        if entry.answer_ns is not None or self.is_of_earlier_attempt(entry, event.time_ns):
            return False
        self.add_count(self.own_ns, entry.series, Count.ANSWERED)
        self.count_answered(entry, event.time_ns)
        return True

    def on_heartbeat(self, event: Event) -> bool:
        entry = self.living_slot(event)
        if entry is not None and not self.is_of_earlier_attempt(entry, event.time_ns):
            beat(entry, event.time_ns)
        return True

    def count_end(self, series: Series, cause: Cause | None) -> None:
        self.add_count(self.own_ns, series, Count.ENDED)
        self.add_cause(series, cause)

    def on_ended(self, event: Event) -> bool:
        entry = self.calls.get(event.call)
        if entry is None:
            self.count_end(event.series, event.cause)
            self.add_count(self.own_ns, event.series, Count.ENDED_UNKNOWN)
            self.add_end(self.own_ns, event.series, EndKind.UNSEEN, self.age_by_duration(event), -1)
            self.bury_unknown(event, start_seen=False)
            return True
        if self.is_of_earlier_attempt(entry, event.time_ns) or not (entry.flying or entry.healed):
            return False
        oracle_course.tell(self, entry, event)
        if entry.flying:
            self.leave(entry, event.time_ns, EndKind.ENDED)
        self.count_end(entry.series, event.cause)
        self.bury(event.call, entry, event.time_ns)
        return True

    def age_by_duration(self, event: Event) -> int:
        """Give the slice in which a call began by its duration; -1: not known."""
        if math.isnan(event.duration_ms):
            return -1
        return self.slice_of(event.time_ns - int(event.duration_ms * 1_000_000))

    def on_declined(self, event: Event) -> bool:
        entry = self.calls.get(event.call)
        if entry is not None and (
            self.is_of_earlier_attempt(entry, event.time_ns) or not (entry.flying or entry.healed)
        ):
            return False
        series = event.series if entry is None else entry.series
        self.add_count(self.own_ns, series, Count.DECLINED)
        self.add_cause(series, event.cause)
        known = entry is not None and entry.flying and not entry.age_unknown
        began_now = entry is not None and known and entry.since_ns >= self.open_ns
        asked_ns = entry.since_ns if entry is not None and began_now else event.time_ns
        self.add_to_bin(self.own_ns, series, self.own_bin(asked_ns), "declines")
        if entry is None or not entry.start_seen:
            self.arrive(series, event.time_ns)
        if entry is None:
            self.bury_unknown(event, start_seen=True)
            return True
        if began_now:
            self.was_never_in(entry)
        elif entry.flying:
            self.leave(entry, event.time_ns, EndKind.DECLINED)
        entry.start_seen = True
        self.bury(event.call, entry, event.time_ns)
        return True

    def take_out(self, event: Event) -> None:
        entry = self.calls.get(event.call)
        if entry is None or not entry.flying or self.is_of_earlier_attempt(entry, event.time_ns):
            return
        self.leave(entry, self.open_ns, EndKind.HEALED)
        self.add_count(self.open_ns, entry.series, Count.HEALED_LATE)
        self.healed["late"] += 1
        self.bury(event.call, entry, event.time_ns)

    def expires_ns(self, entry: Entry) -> float:
        if not entry.flying:
            return entry.since_ns + self.rules.late_ns + self.rules.beyond_late_ns
        return min(entry.since_ns + self.rules.ttl_ns, silent_ns(entry, self.rules))

    def heal(self, call: int, entry: Entry, column: Count) -> None:
        self.leave(entry, self.open_ns, EndKind.HEALED)
        self.add_count(self.open_ns, entry.series, column)
        self.healed[column.name.removeprefix("HEALED_").lower()] += 1
        self.bury(call, entry, self.open_ns, healed=True)

    def sweep(self) -> None:
        for call, entry in list(self.calls.items()):
            if self.expires_ns(entry) >= self.open_ns:
                continue
            if not entry.flying:
                del self.calls[call]
            elif silent_ns(entry, self.rules) < self.open_ns:
                self.heal(call, entry, Count.HEALED_HEARTBEAT)
            else:
                self.heal(call, entry, Count.HEALED_TTL)

    def heal_unlisted(self, one: Event, names: tuple[str, ...] = ("tenant",)) -> None:
        wanted = {"tenant": "", **dict(one.labels)}
        for call, entry in list(self.calls.items()):
            has = dict(zip(names, entry.series, strict=True))
            is_meant = all(label in has and has[label] == value for label, value in wanted.items())
            if entry.since_ns >= one.time_ns - self.rules.out_of_order_ns:
                continue
            if entry.flying and is_meant and call not in one.listed:
                self.heal(call, entry, Count.HEALED_LISTED)
            elif entry.healed and call in one.listed:
                self.revive(call, entry, self.open_ns)

    def open_listed(self, one: Event, others: list[Twin]) -> None:
        for call in sorted(set(one.listed)) if one.partition >= 0 else ():
            if not any(call in twin.calls for twin in [self, *others]):
                self.enter(call, one.series, self.open_ns, unknown=True, start_seen=False)


def observe(events: Iterable[Event], rules: Rules | None = None) -> tuple[Counter[Key], dict[int, Twin]]:
    """Route all events, close all slices in order of time; give the facts of all partitions together."""
    rules = rules or Rules()
    twins: dict[int, Twin] = {}
    lists = []
    for event in events:
        twin = twins.setdefault(event.partition, Twin(rules, clock=Clock(jump_ns=rules.jump_ns)))
        if twin.hold(event) and event.type_id == T.CALLS_LISTED:
            at_ns = -(-(event.time_ns + rules.list_delay_ns) // rules.slice_ns) * rules.slice_ns
            lists.append((event.time_ns, event.partition, at_ns, event))
    for twin in twins.values():
        twin.drop_beyond()
    lists.sort(key=lambda one: one[:2])
    slices = {start for twin in twins.values() for start, rows in twin.held.items() if rows}
    if slices:
        for start_ns in range(min(slices), max(slices) + 1, rules.slice_ns):
            for number, twin in sorted(twins.items()):
                due = [one._replace(partition=0 if home == number else -1)
                       for _, home, at_ns, one in lists if at_ns == start_ns]  # fmt: skip
                twin.close(start_ns, due, [other for other in twins.values() if other is not twin])
    facts: Counter[Key] = Counter()
    for twin in twins.values():
        facts.update(twin.facts)
    return nonzero(facts), twins
