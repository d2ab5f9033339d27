"""What the product has learned of the weeks before a stream, as it would have learned it from the stream.

Streams begin at different days of the week and run side by side on one clock that begins on a Monday; so the
weekdays of each row are turned until its own day stands there. Days stay whole: rows that run together begin
at the same time of day.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.corpus import Corpus
from bench.leadtime.history import SLOT_S, SLOTS
from bench.leadtime.traffic import DAY_S, STEP_S
from engine.judge.baseline import SLOT_NS, Baseline, day_and_slot, new_baseline, with_slots
from engine.settings import UTC_OFFSETS, UtcOffsets

NS = 1_000_000_000
MONDAY_S = 1_767_571_200  # 2026-01-05 in UTC: the first day of every row
DAY_STEPS = int(DAY_S / STEP_S)
DAYS = 7


def time_of_day_s(corpus: Corpus) -> NDArray[np.int64]:
    """Give when each stream begins, in seconds of its day."""
    first = np.array([stream.first_step for stream in corpus.streams])
    return np.asarray(first % DAY_STEPS * int(STEP_S))


def learned_before(corpus: Corpus) -> Baseline:
    """Give what the weeks before each stream have left, its own first day as Monday."""
    distinct: dict[int, int] = {}
    tables: list[NDArray[np.float64]] = []
    number = np.empty(len(corpus.counts), np.int64)
    for row, counts in enumerate(corpus.counts):
        key = id(counts)
        if key not in distinct:
            distinct[key] = len(tables)
            tables.append(counts)
        number[row] = distinct[key]
    weeks = np.stack(tables)
    from_ns = (MONDAY_S - weeks.shape[1] * DAYS * int(DAY_S)) * NS
    flat = weeks.reshape(len(weeks), -1)
    watched = np.where(np.isnan(flat), 0.0, float(SLOT_S))
    known = baseline_from_counts(np.nan_to_num(flat), from_ns, UTC_OFFSETS, watched)
    weekday = np.array([stream.first_step // DAY_STEPS for stream in corpus.streams])
    turned = (np.arange(DAYS) + weekday[:, None]) % DAYS
    rows = np.arange(len(number))[:, None]

    def turn(table: NDArray[np.float32]) -> NDArray[np.float32]:
        by_day = table[number].reshape(-1, DAYS, SLOTS // DAYS)
        return np.asarray(by_day[rows, turned].reshape(-1, SLOTS))

    return Baseline(turn(known.calls), turn(known.watched_s), known.day)


def baseline_from_counts(
    counts: NDArray[np.float64],
    from_ns: int,
    offsets: UtcOffsets,
    watched_s: NDArray[np.float64] | None = None,
) -> Baseline:
    """Give the baseline that a stream would have left, without the slices.

    `counts` (instances, n) are arrivals in consecutive slots of five minutes from `from_ns` on, a whole
    slot; `watched_s` (instances, n) is how much of each was watched, None: all. Old weeks fade.
    """
    many, length = counts.shape
    watched_s = np.full(counts.shape, float(SLOT_S)) if watched_s is None else watched_s
    places = [day_and_slot(from_ns + at * SLOT_NS, offsets) for at in range(length)]
    days, slots = np.array(places, np.int64).reshape(-1, 2).T
    baseline = new_baseline(many)
    for day in np.unique(days):
        at = days == day
        baseline = with_slots(baseline, int(day), slots[at], counts[:, at], watched_s[:, at])
    return baseline
