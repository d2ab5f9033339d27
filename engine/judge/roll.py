"""Step 5, roll: summaries are merged over partitions, matched to limits and rolled into windows.

A slice is judged once, when the engine's watermark has passed its end. A summary that comes, or is
republished, afterwards amends what is additive (windows, ages) and never what was already judged; a level
change that it still carries takes effect in the slice that is judged next, as does what somebody is told.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.judge.attribution import Declines, Heard, attribute, declines_of, fullness
from engine.judge.fact_rows import FactRows, Slice
from engine.judge.implicit import LearnedValues, implicit_limits
from engine.judge.late import Late, late_flow, late_told, with_late
from engine.judge.measures import Measures
from engine.judge.occupancy import Flow, LimitUse, Occupancy, SliceUse, add_to_instances, flows_of
from engine.judge.reports import Reports
from engine.judge.series import SeriesIndex
from engine.judge.silence import Silence
from engine.judge.sparse import scatter_add
from engine.judge.usage import used_peak
from engine.judge.windows import HOUR, WINDOWS_NS, StreamUse, WindowSummary
from engine.observe.merge import difference, merge_summaries
from engine.observe.summary import Count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from engine.decode.events import Cause, Note
    from engine.judge.declines import Classifier
    from engine.limits import Register
    from engine.observe.summary import FirstDecline, SliceSummary
    from engine.settings import EngineSettings

PartitionKey = tuple[str, int]
NS_PER_S = 1_000_000_000
ATTACH_NS = 60 * NS_PER_S  # calls of unknown age in this time: the platform was busy before we came
RECENT_NS = 60 * NS_PER_S  # limits are about as full now as they were then
PARTIAL_NS_MAX = 3600 * NS_PER_S
# Fields of StreamUse that are a count over all series.
STREAM_COUNTS: dict[str, int] = {
    "started": Count.STARTED, "answered": Count.ANSWERED, "ended": Count.ENDED, "turns": Count.TURNS,
    "agents_joined": Count.AGENTS_JOINED, "opened_unknown": Count.OPENED_UNKNOWN,
    "ended_unknown": Count.ENDED_UNKNOWN, "healed_heartbeat": Count.HEALED_HEARTBEAT,
    "healed_ttl": Count.HEALED_TTL, "healed_listed": Count.HEALED_LISTED, "healed_late": Count.HEALED_LATE,
    "ended_answered": Count.ENDED_ANSWERED, "ended_without_turn": Count.ENDED_WITHOUT_TURN,
    "ended_without_agent": Count.ENDED_WITHOUT_AGENT,
}  # fmt: skip
GAP_NS_MAX = 24 * 3600 * NS_PER_S  # a longer silence is stepped over, not judged slice by slice


class StreamCounters(NamedTuple):
    """Cumulative counters of observe that detectors see as differences between slices."""

    clock_ahead: int = 0
    unkeyed_calls: int = 0


class Rolled(NamedTuple):
    """One judged slice: what detectors see, and what pages add to it."""

    summary: WindowSummary
    declines: Declines


class Roller:
    """Everything between summaries and detectors. Owned by judge; no clock, no I/O."""

    def __init__(self, settings: EngineSettings, register: Register, classifier: Classifier) -> None:
        """Start with an empty platform."""
        self.settings = settings
        self.classifier = classifier
        implicit = implicit_limits(settings.hidden_cap_labels, settings.hidden_cap_instances_max)
        bounds = settings.limit_instances_max, settings.window_rows_max
        self.index = SeriesIndex(register, *bounds, implicit)
        self.learned = LearnedValues()
        self.occupancy = Occupancy(settings.slice_ns)
        self.measures = Measures(settings.slice_ns, self.index, classifier)
        self.facts = FactRows(self.index)
        self.reports = Reports()
        self.reports.know(register)
        # Calls in flight by series, from their start and from their answer.
        self.series_level: NDArray[np.int64] = np.zeros(0, np.int64)
        self.series_answered: NDArray[np.int64] = np.zeros(0, np.int64)
        self.declined_total: NDArray[np.int64] = np.zeros(0, np.int64)
        self.next_ns = -1  # start of the slice that is judged next; -1: nothing seen yet
        self.first_ns = -1
        self.slices_closed = 0
        self._late_ns_max = max(settings.late_ns, *settings.late_by_platform_ns.values(), 0)
        self._waiting: dict[int, dict[PartitionKey, SliceSummary]] = {}
        self._judged: dict[int, dict[PartitionKey, SliceSummary]] = {}
        self._late: list[tuple[SliceSummary, SliceSummary | None]] = []  # new, and what it replaces
        # By the start of a slice that is not judged yet: when its first declines came, by series and cause.
        self._heard: dict[int, dict[tuple[tuple[str, ...], Cause], int]] = {}
        self._first_ns_by_instance: NDArray[np.int64] = np.zeros(0, np.int64)
        self._counters = StreamCounters()
        self._amended = 0
        self._was_busy = False
        self.silence = Silence()

    def reload(self, register: Register, classifier: Classifier) -> None:
        """Take a new register and new rules.

        A limit that is new, or comes back, starts with the calls in flight, of unknown age; one that is gone
        holds none.
        """
        self.classifier = self.measures.classifier = classifier
        before = self.index.counting()
        self.index.reload(register)
        self._grow()
        self.reports.know(register)
        levels = np.zeros(len(self.index.instances), np.int64)
        for members, level in (
            (self.index.by_start.arrays(), self.series_level),
            (self.index.by_answer.arrays(), self.series_answered),
        ):
            add_to_instances(members, np.arange(len(level), dtype=np.int32), level, levels)
        for instance in before ^ self.index.counting():
            self.occupancy.restart(instance, int(levels[instance]))

    def hear(self, declines: tuple[FirstDecline, ...]) -> None:
        """Take note of when declines came; whom they are put down to is known once their slice is judged."""
        for one in declines:
            heard = self._heard.setdefault(one.slice_end_ns - self.settings.slice_ns, {})
            key = (one.values, one.cause)
            heard[key] = min(one.time_ns, heard.get(key, one.time_ns))

    def take(self, summaries: list[SliceSummary]) -> None:
        """Take published summaries; a higher revision replaces a lower one, no other is counted again."""
        for summary in summaries:
            key = (summary.topic, summary.partition)
            is_open = not self.slices_closed or summary.start_ns >= self.next_ns
            known = (self._waiting if is_open else self._judged).setdefault(summary.start_ns, {})
            before = known.get(key)
            if before is not None and before.revision >= summary.revision:
                continue
            known[key] = summary
            if not is_open:
                self._late.append((summary, before))

    def close_until(self, watermark_ns: int, counters: StreamCounters) -> Iterator[Rolled]:
        """Judge every slice that ends at or before the watermark, empty ones included, in order of time."""
        slice_ns = self.settings.slice_ns
        if self.next_ns < 0:
            if not self._waiting:
                return
            self.next_ns = self.first_ns = min(self._waiting)
        if not self.slices_closed and self._waiting:
            self.next_ns = self.first_ns = min(self.next_ns, *self._waiting)
        while self.next_ns + slice_ns <= watermark_ns:
            start_ns = self._step_over_gap(watermark_ns)
            self.next_ns += slice_ns
            waiting = self._waiting.pop(start_ns, {})
            self._judged[start_ns] = waiting
            forget_ns = start_ns - self._late_ns_max - slice_ns
            for old_ns in [one for one in self._judged if one < forget_ns]:
                del self._judged[old_ns]
            self.slices_closed += 1
            ordered = [waiting[key] for key in sorted(waiting)]
            yield self._judge(start_ns, merge_summaries(ordered) if ordered else None, counters)

    def _step_over_gap(self, watermark_ns: int) -> int:
        """Give the start of the next slice to judge.

        The next one, or after a gap the next one with events.
        """
        until_ns = min(min(self._waiting, default=watermark_ns), watermark_ns) - self.settings.slice_ns
        if until_ns - self.next_ns > GAP_NS_MAX:
            self.next_ns += (until_ns - self.next_ns) // self.settings.slice_ns * self.settings.slice_ns
        return self.next_ns

    def _judge(self, start_ns: int, merged: SliceSummary | None, counters: StreamCounters) -> Rolled:
        end_ns = start_ns + self.settings.slice_ns
        ids = self._ids(merged)
        late = self._take_late(start_ns)
        notes = late.notes + (merged.notes if merged else ())
        self.index.take_announced(notes)
        self._grow()
        self.reports.take(notes)
        flows = [*late.flows, self._flows(merged, ids)] if merged else late.flows
        use = self.occupancy.advance(start_ns, tuple(itertools.chain(*flows)))
        if merged and start_ns - self.first_ns < ATTACH_NS:
            self._was_busy |= bool(merged.counts[:, (Count.OPENED_UNKNOWN, Count.ENDED_UNKNOWN)].any())
        for by_start, by_answer in flows:
            scatter_add(self.series_level, by_start.bin_series, by_start.level, 1)
            scatter_add(self.series_answered, by_answer.bin_series, by_answer.level, 1)
        limits = self._limit_use(end_ns, use)
        told = with_late(merged, [summary for summary, _ in late.told])
        told_ids = ids if told is merged else self._ids(told)
        declines = self._declines(start_ns, merged, ids, late.told, self.fullness(limits))
        limits.declined[:] = declines.by_instance
        self.declined_total += declines.by_instance
        windows, newest = self.measures.advance(start_ns, end_ns, merged, ids)
        stream = self._stream(merged, counters, declines)
        seen_s = min(end_ns - self.first_ns, WINDOWS_NS[HOUR]) / NS_PER_S
        self.silence.take(start_ns, end_ns, stream.events, float(windows.arrivals[0, HOUR]) / seen_s)
        facts = self.facts.gather(Slice(merged, ids), Slice(told, told_ids), newest, self.classifier)
        is_partial = self._is_partial(start_ns)
        return Rolled(
            WindowSummary(start_ns, end_ns, self.first_ns, is_partial, limits, windows, stream, facts, notes),
            declines,
        )

    def _grow(self) -> None:
        """Follow the index: new series and instances start empty."""
        instances, series = len(self.index.instances), len(self.index.series)
        if (instances, series) == (len(self.declined_total), len(self.series_level)):
            return
        self.occupancy.grow(instances)
        self.declined_total = _longer(self.declined_total, instances, 0)
        self._first_ns_by_instance = _longer(self._first_ns_by_instance, instances, -1)
        self.series_level = _longer(self.series_level, series, 0)
        self.series_answered = _longer(self.series_answered, series, 0)

    def _ids(self, summary: SliceSummary | None) -> NDArray[np.int32]:
        return self.index.ids(summary.labels, summary.series) if summary else np.zeros(0, np.int32)

    def _flows(self, summary: SliceSummary, ids: NDArray[np.int32]) -> tuple[Flow, Flow]:
        return flows_of(summary, ids, self.index.by_start.arrays(), self.index.by_answer.arrays())

    def _take_late(self, start_ns: int) -> Late:
        """Fold in what came after its slice was judged: windows at once, the rest into this slice."""
        flows: list[tuple[Flow, Flow]] = []
        notes: list[Note] = []
        told: list[tuple[SliceSummary, int]] = []
        late, self._late = self._late, []
        for new, old in sorted(
            late, key=lambda pair: (pair[0].start_ns, pair[0].topic, pair[0].partition, pair[0].revision)
        ):
            change = new if old is None else difference(new, old)
            notes += change.notes
            ids = self._ids(change)
            self._grow()
            self.measures.amend(change, ids, start_ns)
            self._amended += int(change.counts[:, Count.AMENDED].sum())
            by_start, by_answer = self._flows(change, ids)
            slices = (start_ns - change.start_ns) // self.settings.slice_ns - 1
            for flow in (by_start, by_answer):
                self.occupancy.amend(slices, flow.members, flow.entered_series, flow.entered)
            flows.append((late_flow(by_start), late_flow(by_answer)))
            if (now_told := late_told(change, start_ns)) is not None:
                told.append((now_told, change.start_ns))
        return Late(flows, tuple(notes), told)

    def _limit_use(self, end_ns: int, use: SliceUse) -> LimitUse:
        state, terms = self.occupancy.state, self.index.terms()
        declared = terms.value_at(end_ns)
        value, reported, unseen = declared.copy(), np.full(len(declared), np.nan), np.zeros(len(declared))
        if self.learned.values:
            for row in np.flatnonzero(np.isnan(value)).tolist():
                known = self.learned.value_of(self.index.instances[row])
                value[row] = np.nan if known is None else known
        is_settled = end_ns - self.first_ns > ATTACH_NS and not self._is_partial(end_ns)
        for key, report in self.reports.fresh(end_ns).items():
            row = terms.row_of.get(key, -1)
            if row < 0:
                continue
            reported[row] = report.used
            if not math.isnan(report.max):
                value[row] = report.max
            if terms.is_concurrency[row] and not math.isnan(report.used):
                unseen[row] = self.reports.unseen(key, int(state.level[row]), is_settled=is_settled)
        first = self._first_ns_by_instance
        first[(first < 0) & (use.arrivals > 0)] = end_ns
        return LimitUse(
            value=value,
            declared=declared,
            first_ns=first.copy(),
            level=state.level.copy(),
            level_peak=use.level_peak,
            arrivals=use.arrivals,
            arrivals_per_bin=use.arrivals_per_bin,
            level_per_bin=use.level_per_bin,
            declines_per_bin=use.declines_per_bin,
            rate_peak=use.rate_peak,
            ended=use.ended,
            ended_by_age=use.ended_by_age,
            healed_by_age=use.healed_by_age,
            alive=state.alive.copy(),
            age_unknown=state.age_unknown.copy(),
            declined=np.zeros(len(declared), np.int64),
            unseen_use=unseen,
            reported_use=reported,
            expected_holding_s=terms.expected_holding_s.copy(),
            is_concurrency=terms.is_concurrency.copy(),
        )

    def _declines(
        self,
        start_ns: int,
        merged: SliceSummary | None,
        ids: NDArray[np.int32],
        late: list[tuple[SliceSummary, int]],
        full: NDArray[np.float64],
    ) -> Declines:
        """Put declines down to limits; how full these were at a time long past is not known any more."""
        unknown = np.full(len(full), np.nan)
        parts = [
            (one, self._ids(one), full if start_ns - of_ns <= RECENT_NS else unknown, self._heard_of(of_ns))
            for one, of_ns in late
        ]
        told = [attribute(self.index, self.classifier, *part) for part in parts]
        heard = self._heard_of(start_ns)
        own = [attribute(self.index, self.classifier, merged, ids, full, heard)] if merged else []
        self._heard = {begun_ns: one for begun_ns, one in self._heard.items() if begun_ns > start_ns}
        told_late = sum(many for one in told for _, _, many in one.causes)
        return declines_of([*own, *told], len(self.index.instances))._replace(late=told_late)

    def _heard_of(self, start_ns: int) -> Heard:
        return Heard(start_ns, self._heard.get(start_ns, {}))

    def fullness(self, limits: LimitUse) -> NDArray[np.float64]:
        """Say how full each instance is; NaN where the use or the value is unknown."""
        return fullness(used_peak(limits, self.index.instances), limits.value)

    def _stream(self, merged: SliceSummary | None, counters: StreamCounters, declines: Declines) -> StreamUse:
        before, self._counters = self._counters, counters
        amended, self._amended = self._amended, 0
        total = [0] * len(Count) if merged is None else merged.counts.sum(axis=0).tolist()
        notes = 0 if merged is None else len(merged.notes)
        return StreamUse(
            events=notes + sum(total[: Count.OPENED_UNKNOWN]),
            arrivals=total[Count.STARTED],
            amended=amended,
            clock_ahead=counters.clock_ahead - before.clock_ahead,
            unkeyed_calls=counters.unkeyed_calls - before.unkeyed_calls,
            declined_unattributed=declines.unattributed,
            declined_late=declines.late,
            in_flight=int(self.series_level.sum()),
            **{name: total[column] for name, column in STREAM_COUNTS.items()},
        )

    def _is_partial(self, start_ns: int) -> bool:
        """Say whether calls that were up before the stream began may still be missing from the levels."""
        age_ns = start_ns - self.first_ns
        if not self._was_busy or age_ns > PARTIAL_NS_MAX:
            return False
        return age_ns < ATTACH_NS or bool((self.occupancy.state.age_unknown > 0).any())


def _longer(array: NDArray[np.int64], length: int, fill: int) -> NDArray[np.int64]:
    missing = length - len(array)
    return np.concatenate([array, np.full(missing, fill, np.int64)]) if missing > 0 else array
