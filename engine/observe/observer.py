"""Steps 3 and 4 of the line: event columns in, summaries of closed slices out.

`absorb` holds the rows of a batch in their slices; `close` closes the slices that watermarks have passed,
slice by slice over all partitions. Who reads the result knows from `watermark_ns` up to where it is
complete. Pure: time comes in with the batches. Every row given to `absorb` is at any moment held,
absorbed or lost: rows given == rows_absorbed + rows_held + losses.sum(). Rejected: closing on the clock
of the machine, which would make a replay differ from the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engine.errors import LossReason
from engine.limits import FAR_NS
from engine.observe.lists import CallList, Reach, Waiting, call_list, given_up, level_ns
from engine.observe.partition import NO_SLICE, Partition, Shared
from engine.observe.slices import (
    ABSORBED,
    AMENDED,
    CLOCK_AHEAD,
    COUNTERS,
    DECLINED,
    HEALED_HEARTBEAT,
    HEALED_LATE,
    HEALED_LISTED,
    HEALED_TTL,
    HELD,
    LOST,
    MEASURES,
    NO_NOTE,
    ROWS,
    TOO_LATE_ROWS,
    UNKEYED,
    Book,
    Bounds,
    Columns,
    grown_held,
    hold,
)  # fmt: skip
from engine.observe.summary import FirstDecline
from engine.observe.tables import TOMBSTONE_BEYOND_LATE_NS, CauseNames, SeriesNames, StageNames, Tables
from engine.observe.unkeyed import END_KEY, count_unkeyed, forget_ends, new_unmatched
from engine.observe.watermark import (
    FLOOR_NS,
    NONE_NS,
    Idleness,
    after,
    believable_ns,
    engine_watermark,
    idle_partitions,
    jump_ns_of,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from engine.decode.events import EventBatch, Note
    from engine.observe.calls import Calls
    from engine.observe.summary import SliceSummary
    from engine.settings import EngineSettings
    from engine.source.contract import RawBatch

LISTS_SHARE_MAX = 4  # a quarter of held_rows_max may be held while a list of calls waits
MEASURES_PER_ROW = 4  # held latencies are bounded by this many per row of held_rows_max


class Observer:
    """All partitions that this process reads."""

    def __init__(
        self,
        settings: EngineSettings,
        series: SeriesNames,
        causes: CauseNames,
        stages: StageNames,
        ttl_ns_of: Callable[[tuple[str, ...]], int] | None = None,
    ) -> None:
        """Start with no partition.

        `ttl_ns_of` may give another time-to-live for calls with some label values (in the order of
        `series.labels`); it is asked once for every series.
        """
        self.settings = settings
        self.watermark_ns = NONE_NS
        self.first_ns = FAR_NS  # the earliest of all rows that were not lost
        self._tables = Tables(settings, series, causes, stages, ttl_ns_of)
        self._book = Book(np.zeros(len(LossReason), np.int64), np.zeros(COUNTERS, np.int64))
        self._unmatched = new_unmatched()
        self._partitions: dict[int, Partition] = {}
        self._idleness = Idleness()
        self._lists: list[Waiting] = []
        self._lists_apart = 0  # how many opened nothing, because partitions were too far apart
        self._no_notes = np.zeros(0, np.int32)
        self._has_closed = True  # or taken or lost a partition, since ends without a start were looked at
        self._has_unmatched = False

    @property
    def losses(self) -> NDArray[np.int64]:
        """Give the rows lost so far by `LossReason`; a copy."""
        return self._book.losses.copy()

    @property
    def rows_absorbed(self) -> int:
        """How many rows have taken effect."""
        return int(self._book.counters[ABSORBED])

    @property
    def rows_held(self) -> int:
        """How many rows wait for their slice to close."""
        cells = [one.held.cells.tolist() for one in self._partitions.values()]
        return sum(one[ROWS] - one[TOO_LATE_ROWS] for one in cells)

    @property
    def rows_amended(self) -> int:
        """How many of the absorbed rows came late."""
        return int(self._book.counters[AMENDED])

    @property
    def rows_clock_ahead(self) -> int:
        """How many rows lay ahead of their receipt (or their log), those refused for it included."""
        return int(self._book.counters[CLOCK_AHEAD])

    @property
    def unkeyed_calls(self) -> int:
        """How many ends came in another partition than their start."""
        return int(self._book.counters[UNKEYED])

    @property
    def calls_in_flight(self) -> int:
        """How many calls take capacity, as of the newest closed slices."""
        return sum(one.calls_in_flight for one in self._partitions.values())

    @property
    def bounds_met(self) -> tuple[tuple[str, int], ...]:
        """How often something had to make room, by bound; what goes elsewhere takes its count along."""
        ids = sum(int(one.recent.forgotten[0]) for one in self._partitions.values())
        ends = int(self._unmatched.forgotten[0])
        return ("event_ids_max", ids), ("unmatched_ends_max", ends), ("lists_apart_max", self._lists_apart)

    @property
    def healed(self) -> dict[str, int]:
        """How many calls were taken out of flight without an end that counted, by cause."""
        counters = self._book.counters
        return {
            "heartbeat": int(counters[HEALED_HEARTBEAT]),
            "ttl": int(counters[HEALED_TTL]),
            "listed": int(counters[HEALED_LISTED]),
            "late": int(counters[HEALED_LATE]),
        }

    @property
    def partition_watermarks(self) -> dict[int, int]:
        """Give how far each partition has come, -1 before its first row."""
        return {number: one.watermark_ns for number, one in sorted(self._partitions.items())}

    def absorb(self, raw: RawBatch, events: EventBatch) -> tuple[FirstDecline, ...]:
        """Hold the rows of one batch (or take note of a tick).

        Gives the declines that are the first of their series and cause in a slice that is still open.
        """
        self._assign(raw)
        busy = raw.partition if raw.rows else -1
        self._idleness = after(self._idleness, raw.received_ns, raw.caught_up, busy)
        declines = self._hold(raw, events) if events.rows else ()
        self._advance()
        return declines

    def close(self) -> list[SliceSummary]:
        """Close every slice that its partition's watermark has passed.

        Gives them in the order of closing: by slice, then partition, each after the revisions that its
        late rows made. So the sequence of a partition does not depend on batches.
        """
        return self._close({number: one.watermark_ns for number, one in self._partitions.items()})

    def finish(self) -> list[SliceSummary]:
        """Close every slice that holds a row: the log has ended. The watermark follows.

        Rows that other rows have proved to be far ahead are lost: their time has not come.
        """
        for one in self._partitions.values():
            newest_ns = believable_ns(one.clock, self.settings.clock_ahead_ns)
            self._book.losses[LossReason.TIME_AHEAD] += one.drop_beyond(newest_ns)
        end_ns = max((one.newest_slice_end() for one in self._partitions.values()), default=NONE_NS)
        end_ns = max(end_ns, self.watermark_ns, *self.partition_watermarks.values(), NONE_NS)
        for one in self._partitions.values():
            one.clock[FLOOR_NS] = max(one.clock[FLOOR_NS], end_ns)
        self.watermark_ns = end_ns
        return self._close(dict.fromkeys(self._partitions, end_ns))

    def _assign(self, raw: RawBatch) -> None:
        """Drop partitions that are read elsewhere now, with their state; start new ones empty."""
        assigned = {*raw.assigned, raw.partition} if raw.rows else set(raw.assigned)
        if assigned == self._partitions.keys():
            return
        self._has_closed = True
        for number in [one for one in self._partitions if one not in assigned]:
            gone = self._partitions.pop(number)
            self._book.losses[LossReason.REVOKED] += int(
                gone.held.cells[ROWS] - gone.held.cells[TOO_LATE_ROWS]
            )
            forget_ends(self._unmatched, NONE_NS, number)
            self._lists = [(one, done - {number}) for one, done in self._lists if one.home != number]
        for number in sorted(assigned):
            if number not in self._partitions:
                self._partitions[number] = Partition(raw.topic, number, self.settings)

    def _advance(self) -> None:
        """Move the engine's watermark on, and idle partitions with it."""
        idle = idle_partitions(self._idleness, self.settings.idle_ns)
        all_idle_ns = self._idleness.received_ns - self.settings.idle_ns - self.settings.out_of_order_ns
        watermarks = {number: one.watermark_ns for number, one in self._partitions.items()}
        self.watermark_ns = engine_watermark(watermarks, idle, all_idle_ns, self.watermark_ns)
        for number in idle & self._partitions.keys():
            clock = self._partitions[number].clock
            clock[FLOOR_NS] = max(clock[FLOOR_NS], self.watermark_ns)

    def _hold(self, raw: RawBatch, events: EventBatch) -> tuple[FirstDecline, ...]:
        partition = self._partitions[events.partition]
        bounds = self._bounds(partition, jump_ns_of(self.settings, raw.received_ns))
        rows, measures = events.rows, len(events.measure_row)
        partition.held = grown_held(partition.held, rows, measures)
        if len(self._no_notes) < rows:
            self._no_notes = np.full(2 * rows, NO_NOTE, np.int32)
        note_ids = self._no_notes[:rows]
        if events.notes:
            note_ids = note_ids.copy()
        for row, note in zip(events.note_row, events.notes, strict=True):
            note_ids[row] = partition.keep_note(note)
        batch = Columns(
            events.time_ns, events.received_ns, events.offset, events.type_id,
            events.call_key.view(np.int64), events.event_key.view(np.int64), events.series_id,
            events.cause_id, events.duration_ms, events.measure_row, events.measure_stage,
            events.measure_ms, note_ids,
        )  # fmt: skip
        fate = np.zeros(rows, np.uint8)
        hold(batch, partition.held, partition.clock, self._book, bounds, fate)
        self._take_notes(partition, events, note_ids, fate)
        self.first_ns = int(events.time_ns.min(initial=self.first_ns, where=fate != LOST))
        return self._first_declines(partition, events, fate)

    def _bounds(self, partition: Partition, jump_ns: int) -> Bounds:
        """Give what bounds a batch: what other partitions hold leaves less room for this one."""
        others = [one.held.cells.tolist() for one in self._partitions.values() if one is not partition]
        rows_max = self.settings.held_rows_max - sum(one[ROWS] for one in others)
        measures_max = MEASURES_PER_ROW * self.settings.held_rows_max - sum(one[MEASURES] for one in others)
        return Bounds(
            self.settings.slice_ns, self.settings.out_of_order_ns, self.settings.clock_ahead_ns,
            jump_ns, rows_max, measures_max, self._tables.late_ns(), self._tables.stage_digests(),
        )  # fmt: skip

    def _take_notes(
        self, partition: Partition, events: EventBatch, note_ids: NDArray[np.int32], fate: NDArray[np.uint8]
    ) -> None:
        """Forget the notes of rows that were lost; lose those for which there is no room.

        After `hold`, so that only rows that were held take up room or take effect.
        """
        refused = []
        for row, note in zip(events.note_row, events.notes, strict=True):
            number = int(note_ids[row])
            if fate[row] == LOST:
                del partition.notes[number]
            elif not self._take_note(partition, number, note, int(events.series_id[row])):
                refused.append(number)
                fate[row] = LOST
        if refused:
            partition.drop_notes(refused)
            self._book.losses[LossReason.HELD_ROWS_FULL] += len(refused)

    def _take_note(self, partition: Partition, number: int, note: Note, series_id: int) -> bool:
        """Count a note, and keep the list of calls that it may be; say False when there is no room for it."""
        start_ns = note.time_ns // self.settings.slice_ns * self.settings.slice_ns
        held = partition.notes_by_slice.get(start_ns, 0)
        if held >= self.settings.notes_max:
            return False
        delay_ns = self.settings.out_of_order_ns + self.settings.idle_ns
        found = call_list(note, partition.partition, series_id, delay_ns, self.settings.slice_ns)
        if found is not None:
            waiting = sum(len(one.keys) for one, _ in self._lists) + len(found.keys)
            if len(self._lists) >= self.settings.notes_max or waiting > self.settings.calls_max:
                return False
            # What has been passed when it comes follows from the rows before it, not from what is closed.
            apply_ns = max(found.apply_ns, partition.slice_of_note(number))
            self._lists.append((found._replace(apply_ns=apply_ns), set()))
            # The calls of a list are kept once, as an array.
            partition.notes[number] = note._replace(fields=())
        partition.notes_by_slice[start_ns] = held + 1
        return True

    def _first_declines(
        self, partition: Partition, events: EventBatch, fate: NDArray[np.uint8]
    ) -> tuple[FirstDecline, ...]:
        rows = np.flatnonzero(events.type_id == DECLINED)
        rows = rows[fate[rows] == HELD]
        slice_ns, series = self.settings.slice_ns, self._tables.series
        columns = (events.time_ns, events.series_id, events.cause_id)
        declines = []
        for time_ns, series_id, cause_id in zip(*(one[rows].tolist() for one in columns), strict=True):
            start_ns = time_ns // slice_ns * slice_ns
            seen = (start_ns, series_id, cause_id)
            if time_ns >= partition.declines_seen.get(seen, FAR_NS):
                continue
            partition.declines_seen[seen] = time_ns
            values, cause = series.values[series_id], self._tables.cause(cause_id)
            declines.append(FirstDecline(time_ns, start_ns + slice_ns, series.labels, values, cause))
        return tuple(declines)

    def _close(self, until_ns: Mapping[int, int]) -> list[SliceSummary]:
        """Close slice by slice, over all partitions, up to each one's limit."""
        until_ns = self._level(until_ns)
        due = {
            number: one
            for number, one in self._partitions.items()
            if self._lists or one.may_close(until_ns[number])
        }
        for number, one in due.items():
            one.prepare(until_ns[number], self._tables.ranks)
        entries = sum(one.entries for one in self._partitions.values()) if due else 0
        published: list[SliceSummary] = []
        shared = self._shared()
        while True:
            waiting = [
                (one.next_slice(until_ns[number], self._lists_for(number)), number)
                for number, one in due.items()
            ]
            start_ns, number = min(waiting, default=(NO_SLICE, -1))
            if start_ns == NO_SLICE:
                break
            partition = self._partitions[number]
            entries -= partition.entries
            shared = shared._replace(
                entries_max=self.settings.calls_max - entries, others=self._others(partition)
            )
            published += partition.close(start_ns, self._lists_for(number), shared)
            entries += partition.entries
            self._tick_off(start_ns, number)
            self._has_closed = True
        for number, one in due.items():
            one.release(until_ns[number])
        self._look_for_unkeyed()
        return published

    def _level(self, until_ns: Mapping[int, int]) -> Mapping[int, int]:
        """Give each one's limit while lists wait for partitions that are behind."""
        if not (self._lists and until_ns):
            return until_ns
        cells = [one.held.cells.tolist() for one in self._partitions.values()]
        rows = sum(max(one[ROWS], one[MEASURES] // MEASURES_PER_ROW) for one in cells)
        closed_ns = max(one.closed_until_ns for one in self._partitions.values())
        limits, is_full = until_ns.values(), rows > self.settings.held_rows_max // LISTS_SHARE_MAX
        reach = Reach(min(limits), max(limits), closed_ns, is_full)
        known_ns = self._tables.late_ns_max + TOMBSTONE_BEYOND_LATE_NS - self.settings.out_of_order_ns
        self._lists, apart = given_up(self._lists, reach, known_ns, self.settings.slice_ns)
        self._lists_apart += apart
        level = level_ns(self._lists, reach, self.settings.slice_ns)
        return {number: min(one, level) for number, one in until_ns.items()}

    def _shared(self) -> Shared:
        """Give what partitions share, but for what others hold."""
        series = self._tables.series
        return Shared(
            self._book, self._unmatched, self._tables.terms(), 0, self._tables.late_ns_max,
            series.labels, series.values, self._tables.names, self._tables.ranks(), (),
            self._tables.fails(),
        )  # fmt: skip

    def _others(self, partition: Partition) -> tuple[Calls, ...]:
        """Give the calls of the other partitions, if there are lists to look for them in."""
        return tuple(one.calls for one in self._partitions.values() if self._lists and one is not partition)

    def _lists_for(self, number: int) -> list[CallList]:
        """Give the lists that have not taken effect in a partition yet, oldest first."""
        waiting = [one for one, done in self._lists if number not in done]
        return sorted(waiting, key=lambda one: (one.time_ns, one.home, one.keys.tobytes()))

    def _tick_off(self, start_ns: int, number: int) -> None:
        for one, done in self._lists:
            if one.apply_ns <= start_ns:
                done.add(number)
        everybody = self._partitions.keys()
        self._lists = [(one, done) for one, done in self._lists if not done >= everybody]

    def _look_for_unkeyed(self) -> None:
        """Look for the calls of ends without a start in other partitions."""
        has_closed, self._has_closed = self._has_closed, False
        if has_closed:
            self._has_unmatched = bool(self._unmatched.ends[:, END_KEY].any())
        if not self._has_unmatched:
            return
        if has_closed and len(self._partitions) > 1:
            for number, one in self._partitions.items():
                self._book.counters[UNKEYED] += count_unkeyed(self._unmatched, one.calls, number)
        oldest_ns = self.watermark_ns - self._tables.late_ns_max - TOMBSTONE_BEYOND_LATE_NS
        forget_ends(self._unmatched, oldest_ns, NONE_NS)
