"""What a slice adds up to while its rows are absorbed: one tally of packed facts.

A key holds, from the lowest bit: the series, the group of the fact, and what else it says, so that one
int64 names a fact and one table holds all; latencies are apart (engine/observe/sketches.py). Ends are kept by
age in slices, not by time: that is what fits. Rejected: a table for every group, which makes kernels take
hundreds of arguments; one record per event sorted afterwards, which costs more than the whole kernel.
"""

from __future__ import annotations

from engine.kernel import kernel
from engine.observe.sketches import STAGE_BITS
from engine.observe.tally import Tally, add

Facts = Tally

SERIES_BITS = 20
GROUP_BITS = 4
REST_SHIFT = SERIES_BITS + GROUP_BITS
SERIES_MASK = (1 << SERIES_BITS) - 1
GROUP_MASK = (1 << GROUP_BITS) - 1
COUNTS, BINS, ENDS, CAUSES, SIDES, FAILURES, CALLERS, SCORES = (group << SERIES_BITS for group in range(8))
GROUPS = 8
COLUMN_BITS = 3  # of a bin
KIND_BITS = 3
START_AGE_BITS = 20
ANSWER_AGE_BITS = 16
CAUSE_BITS = 19
CAUSE_MASK = (1 << CAUSE_BITS) - 1
COLUMN_MASK, KIND_MASK = (1 << COLUMN_BITS) - 1, (1 << KIND_BITS) - 1
START_AGE_MASK = (1 << START_AGE_BITS) - 1
# Ages are stored one higher, 0 being unknown; what is older than fits is unknown.
START_AGES = (1 << START_AGE_BITS) - 2
ANSWER_AGES = (1 << ANSWER_AGE_BITS) - 2
ARRIVALS, LEVEL, ANSWERS, ANSWERED_LEVEL, DECLINES = range(5)
BIN_COLUMNS = 5
ROW_KEYS = 24  # no row, and no call that leaves, adds more keys than this, scores aside


@kernel
def add_count(facts: Facts, series: int, column: int, amount: int) -> None:
    """Add to a column of `Count`."""
    add(facts, (column << REST_SHIFT) | COUNTS | series, amount)


@kernel
def add_to_bin(facts: Facts, series: int, bin_index: int, column: int, amount: int) -> None:
    """Add to a column of a 100 ms bin."""
    add(facts, (((bin_index << COLUMN_BITS) | column) << REST_SHIFT) | BINS | series, amount)


@kernel
def add_end(facts: Facts, series: int, kind: int, start_age: int, answer_age: int) -> None:
    """Count a call that left flight, ages in slices before this one (-1: unknown)."""
    start = start_age + 1 if 0 <= start_age <= START_AGES else 0
    answer = answer_age + 1 if 0 <= answer_age <= ANSWER_AGES else 0
    rest = (((answer << START_AGE_BITS) | start) << KIND_BITS) | kind
    add(facts, (rest << REST_SHIFT) | ENDS | series, 1)


@kernel
def add_cause(facts: Facts, series: int, cause: int) -> None:
    """Count how an attempt ended; -1 is not counted."""
    if cause >= 0:
        add(facts, (cause << REST_SHIFT) | CAUSES | series, 1)


@kernel
def add_side(facts: Facts, series: int, cause: int) -> None:
    """Count how a transfer or a call of a dependency ended; -1 is not counted."""
    if cause >= 0:
        add(facts, (cause << REST_SHIFT) | SIDES | series, 1)


@kernel
def add_failure(facts: Facts, series: int, cause: int, answered: int, bin_index: int) -> None:
    """Count how long what did not go well had lasted; `answered` is 1 for an answered call, else 0."""
    rest = (((bin_index << 1) | answered) << CAUSE_BITS) | cause
    add(facts, (rest << REST_SHIFT) | FAILURES | series, 1)


@kernel
def add_caller(facts: Facts, series: int, cause: int, end: int) -> None:
    """Count how a call ended (`end`) that a dependency had failed (`cause`); both are causes."""
    if end >= 0:
        add(facts, (((end << CAUSE_BITS) | cause) << REST_SHIFT) | CALLERS | series, 1)


@kernel
def add_score(facts: Facts, series: int, metric: int, bin_index: int) -> None:
    """Count one score; the metric is a stage id."""
    add(facts, (((bin_index << STAGE_BITS) | metric) << REST_SHIFT) | SCORES | series, 1)
