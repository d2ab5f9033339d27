"""One partition: its open slices, its calls, and what it has published of late.

All that observe keeps is kept here, by partition, so that a partition can restart or move on its own. A
slice is closed by sorting its rows and letting them take effect: first those that came late for earlier
slices, then what heals (a sweep, the platform's lists), then the slice's own. What late rows add to an
earlier slice is merged into the summary that was published, as its next revision; summaries are kept for
as long as rows may still amend them. Rejected: amending at once, which would let the state depend on how
far a batch had been read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.decode.events import EventType
from engine.memory import memory_of
from engine.observe.absorb import Ledgers, absorb_rows
from engine.observe.calls import (
    COLUMNS,
    DUE_NS,
    FLYING,
    TOTALS,
    USED,
    Calls,
    grown_calls,
    mark_known,
    must_grow,
    new_calls,
)  # fmt: skip
from engine.observe.heal import SWEEP_NS, heal_unlisted, next_sweep_ns, open_listed, sweep
from engine.observe.life import Desk
from engine.observe.lists import CallList, matching_series
from engine.observe.merge import Header, Names, is_empty, merge_summaries
from engine.observe.order import Ranks, Run, due_rows, find_runs, sort_rows
from engine.observe.outcomes import ROW_KEYS, Facts
from engine.observe.recent import new_recent
from engine.observe.sketches import emptied, grown_sketches, new_sketches
from engine.observe.slices import LATE, NO_NOTE, ON_TIME, ROWS, Book, let_go, new_held, shrunk_held
from engine.observe.tally import cleared, grown, keys_in, new_tally
from engine.observe.unload import unloaded
from engine.observe.watermark import new_clock, watermark_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from engine.decode.events import Note
    from engine.observe.calls import Terms
    from engine.observe.sketches import Sketches
    from engine.observe.summary import SliceSummary
    from engine.observe.unkeyed import Unmatched
    from engine.settings import EngineSettings

NO_SLICE = 1 << 62
NO_CALLS = np.zeros((0, COLUMNS), np.int64)


class Shared(NamedTuple):
    """What partitions share while a slice closes."""

    book: Book
    unmatched: Unmatched
    terms: Terms
    entries_max: int
    late_ns_max: int
    labels: tuple[str, ...]
    series: Sequence[tuple[str, ...]]
    names: Names
    ranks: Ranks
    others: tuple[Calls, ...]  # calls of the other partitions
    fails: NDArray[np.bool_]


class Partition:
    """State of one partition. Slices are closed by `prepare`, `next_slice` and `close`, `release`."""

    def __init__(self, topic: str, partition: int, settings: EngineSettings) -> None:
        """Start with nothing read."""
        self.topic, self.partition = topic, partition
        self.slice_ns, self.out_of_order_ns = settings.slice_ns, settings.out_of_order_ns
        self.clock = new_clock()
        self.held = new_held()
        self.calls = new_calls()
        self.recent = new_recent(settings.event_ids_max)
        self.notes: dict[int, Note] = {}  # by the number in Held.note_id
        self.notes_by_slice: dict[int, int] = {}
        self.declines_seen: dict[tuple[int, int, int], int] = {}  # first time by (slice, series, cause)
        self.closed_until_ns = -1
        self._next_note = 0
        self._published: dict[int, SliceSummary] = {}
        self._runs: list[Run] = []
        self._order = np.zeros(0, np.int64)
        self._lost = np.zeros(0, np.bool_)
        self._sketches = new_sketches()  # empty between slices
        self._flow = new_tally()  # the same
        self._keys = 0  # of the last slice: how much room the next one is likely to need
        self._rests_until_ns = -1  # nothing closes before the watermark gets there

    @property
    def watermark_ns(self) -> int:
        """How far this partition has come; -1 before its first row."""
        return watermark_of(self.clock, self.out_of_order_ns)

    @property
    def calls_in_flight(self) -> int:
        """How many calls take capacity."""
        return int(self.calls[TOTALS, FLYING])

    @property
    def entries(self) -> int:
        """How many calls and tombstones there are."""
        return int(self.calls[TOTALS, USED])

    def keep_note(self, note: Note) -> int:
        """Keep a note until its row takes effect; give its number."""
        number = self._next_note
        self._next_note = (number + 1) % (1 << 30)
        self.notes[number] = note
        return number

    def slice_of_note(self, number: int) -> int:
        """Give the start of the slice in which the row of a note takes effect."""
        rows = np.flatnonzero(self.held.note_id[: self.held.cells[ROWS]] == number)
        return int(self.held.slice_ns[rows[-1]])

    def drop_notes(self, numbers: Sequence[int]) -> None:
        """Drop notes together with their rows."""
        self._drop(np.isin(self.held.note_id[: self.held.cells[ROWS]], numbers))

    def drop_beyond(self, newest_ns: int) -> int:
        """Drop the rows after a time; give how many they were."""
        return self._drop(self.held.time_ns[: self.held.cells[ROWS]] > newest_ns)

    def _drop(self, is_dropped: NDArray[np.bool_]) -> int:
        count = int(is_dropped.sum())
        if count:
            rows = len(is_dropped)
            for number in self.held.note_id[:rows][is_dropped].tolist():
                self.notes.pop(number, None)
            self.held.slice_ns[:rows][is_dropped] = -self.slice_ns  # the slice before all others
            let_go(self.held, 0, self.slice_ns)
        return count

    def newest_slice_end(self) -> int:
        """Give the end of the newest slice that holds a row, or -1."""
        rows = int(self.held.cells[ROWS])
        return int(self.held.slice_ns[:rows].max()) + self.slice_ns if rows else -1

    def may_close(self, until_ns: int) -> bool:
        """Say whether the end of a slice was passed since all that was due was closed; lists come on top."""
        return until_ns >= self._rests_until_ns

    def prepare(self, until_ns: int, ranks: Callable[[], Ranks]) -> None:
        """Sort the rows of all slices that end at or before `until_ns`."""
        rows = int(self.held.cells[ROWS])
        self._runs = []
        if not rows or int(self.held.slice_ns[:rows].min()) + self.slice_ns > until_ns:
            return
        order, rough = np.empty(rows, np.int64), np.empty(rows, np.int64)
        order = order[: due_rows(self.held, until_ns, self.slice_ns, order, rough)]
        sort_rows(self.held, ranks(), rough, order, np.empty_like(order))
        self._order, self._lost = order, np.zeros(rows, np.bool_)
        runs = np.empty((len(order), len(Run._fields)), np.int64)
        many = find_runs(self.held, self.slice_ns, order, runs)
        self._runs = [Run(*run) for run in runs[:many][::-1].tolist()]

    def next_slice(self, until_ns: int, lists: Iterable[CallList]) -> int:
        """Give the start of the next slice that has something to do and ends by `until_ns`, or NO_SLICE."""
        due_ns = next_sweep_ns(int(self.calls[TOTALS, DUE_NS]))
        if due_ns < self.closed_until_ns:
            due_ns = -(-self.closed_until_ns // SWEEP_NS) * SWEEP_NS
        start_ns = min(
            self._runs[-1].open_ns if self._runs else NO_SLICE,
            due_ns,
            min((max(one.apply_ns, self.closed_until_ns) for one in lists), default=NO_SLICE),
        )
        return start_ns if start_ns + self.slice_ns <= until_ns else NO_SLICE

    def close(self, start_ns: int, lists: Iterable[CallList], shared: Shared) -> list[SliceSummary]:
        """Close the slice that starts at `start_ns`; give its summary and what it amends."""
        flow, amended, is_healed, notes = cleared(self._flow, self._keys), [], False, []
        while self._runs and self._runs[-1].open_ns == start_ns:
            run = self._runs.pop()
            if run.standing > LATE and not is_healed:
                flow, is_healed = self._heal(start_ns, flow, lists, shared), True
            is_late = run.standing == LATE
            facts, sketches = (new_tally(), new_sketches()) if is_late else (flow, self._sketches)
            facts, flow, sketches = self._take_rows(run, facts, flow, sketches, shared)
            found = self._take_notes(run)
            if is_late:
                amended.append(self._summary(run.own_ns, facts, sketches, found, shared))
            else:
                self._sketches = sketches
                notes += found
        if not is_healed:
            flow = self._heal(start_ns, flow, lists, shared)
        self._flow, self._keys = flow, keys_in(flow)
        published = [self._amend(one) for one in amended if not is_empty(one)]
        summary = self._summary(start_ns, flow, self._sketches, notes, shared)
        self._sketches = emptied(self._sketches)
        if not is_empty(summary):
            self._published[start_ns] = summary
            published.append(summary)
        self._forget(start_ns, shared.late_ns_max)
        return published

    def release(self, until_ns: int) -> None:
        """Let go of the rows that `prepare` took up: nothing that is due is left."""
        self._rests_until_ns = (until_ns // self.slice_ns + 1) * self.slice_ns
        if len(self._order):
            let_go(self.held, until_ns, self.slice_ns)
            self.held = shrunk_held(self.held)
            self._order = np.zeros(0, np.int64)

    def _desk(self, run: Run, facts: Facts, flow: Facts, shared: Shared) -> Desk:
        return Desk(self.calls, facts, flow, run.own_ns, run.open_ns, self.slice_ns, shared.entries_max)

    def _take_rows(
        self, run: Run, facts: Facts, flow: Facts, sketches: Sketches, shared: Shared
    ) -> tuple[Facts, Facts, Sketches]:
        is_late = facts is not flow
        at = run.first
        while True:
            ledgers = Ledgers(
                sketches, self._lost, shared.book, self.recent, shared.unmatched, self.partition, shared.fails
            )
            desk = self._desk(run, facts, flow, shared)
            at = absorb_rows(desk, self.held, self._order, ledgers, at, run.last)
            if at == run.last:
                return facts, flow, sketches
            del desk  # It holds the calls.
            self._grow_calls(shared)
            measures = int(self.held.measure_count[self._order[at]])
            sketches = grown_sketches(sketches, measures)
            flow = grown(flow, ROW_KEYS + measures)
            facts = grown(facts, ROW_KEYS + measures) if is_late else flow

    def _grow_calls(self, shared: Shared) -> None:
        if self.entries < shared.entries_max and must_grow(self.calls):
            memory, rows = memory_of(self.calls), len(self.calls)
            self.calls = NO_CALLS  # The memory may move: nothing may point to it.
            self.calls = grown_calls(memory, rows)

    def _take_notes(self, run: Run) -> list[Note]:
        """Collect the notes of rows that were taken; lists of calls go no further than this step."""
        if not self.notes:
            return []
        rows = self._order[run.first : run.last]
        rows = rows[self.held.note_id[rows] != NO_NOTE]
        found = []
        for row in rows.tolist():
            note = self.notes.pop(int(self.held.note_id[row]))
            if not self._lost[row] and note.type_id != EventType.CALLS_LISTED:
                found.append(note)
        return found

    def _heal(self, start_ns: int, flow: Facts, lists: Iterable[CallList], shared: Shared) -> Facts:
        if start_ns % SWEEP_NS == 0 and self.calls[TOTALS, DUE_NS] < start_ns:

            def step(desk: Desk, first: int) -> int:
                return sweep(desk, shared.terms, shared.book.counters, first)

            flow = self._resumed(step, len(self.calls) - 1, start_ns, flow, shared)
        for one in lists:
            if one.apply_ns <= start_ns:
                flow = self._apply_list(one, start_ns, flow, shared)
        return flow

    def _resumed(
        self, step: Callable[[Desk, int], int], end: int, start_ns: int, flow: Facts, shared: Shared, *,
        opens: bool = False,
    ) -> Facts:  # fmt: skip
        """Run a kernel that stops for want of room until it has come to its end.

        One that `opens` calls needs room for them; for one that goes by slots the table must stay as it is.
        """
        run = Run(start_ns, ON_TIME, start_ns, 0, 0)
        at = 0
        while True:
            if opens:
                self._grow_calls(shared)
            at = step(self._desk(run, flow, flow, shared), at)
            if at >= end:
                return flow
            flow = grown(flow, ROW_KEYS)

    def _apply_list(self, one: CallList, start_ns: int, flow: Facts, shared: Shared) -> Facts:
        is_meant = matching_series(one.labels, shared.labels, shared.series)
        before_ns = one.time_ns - self.out_of_order_ns

        def heal_step(desk: Desk, first: int) -> int:
            return heal_unlisted(desk, one.keys, is_meant, shared.book.counters, before_ns, first)

        flow = self._resumed(heal_step, len(self.calls) - 1, start_ns, flow, shared)
        if one.home != self.partition:
            return flow
        is_known = np.zeros(len(one.keys), np.bool_)
        # Ours under no other name: it would be held while it grows, and so be copied.
        mark_known(self.calls, one.keys, is_known)
        for calls in shared.others:
            mark_known(calls, one.keys, is_known)
        unknown = one.keys[~is_known]

        def open_step(desk: Desk, first: int) -> int:
            return open_listed(desk, unknown, one.series_id, first)

        return self._resumed(open_step, len(unknown), start_ns, flow, shared, opens=True)

    def _summary(
        self, start_ns: int, facts: Facts, sketches: Sketches, notes: list[Note], shared: Shared
    ) -> SliceSummary:
        header = Header(self.topic, self.partition, start_ns, self.slice_ns, 0, shared.labels)
        return unloaded(header, facts, sketches, shared.names, shared.ranks, tuple(notes))

    def _amend(self, late: SliceSummary) -> SliceSummary:
        before = self._published.get(late.start_ns)
        if before is not None:
            late = merge_summaries([before, late])._replace(revision=before.revision + 1)
        self._published[late.start_ns] = late
        return late

    def _forget(self, start_ns: int, late_ns_max: int) -> None:
        self.closed_until_ns = start_ns + self.slice_ns
        oldest_ns = start_ns - late_ns_max - self.slice_ns
        for old_ns in [one for one in self._published if one <= oldest_ns]:
            del self._published[old_ns]
        for old_ns in [one for one in self.notes_by_slice if one <= start_ns]:
            del self.notes_by_slice[old_ns]
        self.declines_seen = {one: at for one, at in self.declines_seen.items() if one[0] > start_ns}
