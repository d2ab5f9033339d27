"""The kernel over the rows of a batch: JSON text to columns, for every row that it is sure of.

A row is taken if it is strict JSON, all of it; has what its type must have; and holds only words and
combinations that are known already, whose ids are final. Nothing of it is ignored, masked, collapsed or
new, so that counting it takes no thought. Every other row is marked, and the parser reads it.
A row near the end of the buffer is copied first: the scanner reads in blocks, and beyond the end of a row.
"""

from __future__ import annotations

import numpy as np

from engine.decode import scan_frame as f
from engine.decode.memory import load, load8, store, store8
from engine.decode.scan_identity import flush_ids, queue_id
from engine.decode.scan_row import read_row
from engine.decode.scan_text import READ_BEYOND_BYTES
from engine.decode.scan_words import pair_at
from engine.kernel import inlined_kernel, kernel

NAN_BITS, ONE_BITS = (int(bits) for bits in np.array([np.nan, 1.0]).view(np.int64))


@kernel
def scan_rows(frame: int, first: int, rows: int, new_max: int) -> int:
    """Scan rows from `first` on; stop behind the `new_max`-th row with something new. Give the next row.

    The frame names the arrays: places in the buffer (int64), the status of rows (uint8) and their columns,
    all with room for `rows`; they belong to the caller, who keeps them alive meanwhile.
    """
    new = 0
    starts, ends, status = load(frame + f.ROW_START), load(frame + f.ROW_END), load(frame + f.ROW_STATUS)
    for row in range(first, rows):
        start, end = load(starts + row * f.WORD), load(ends + row * f.WORD)
        at = row_address(start, end, frame)
        found = f.SLOW
        if at != 0:
            measures = load(frame + f.MEASURES)
            clear(frame)
            store(frame + f.ROW, row)
            if read_row(at, at + end - start, frame):
                found = finish(row, measures, frame)
            if found != f.TAKEN:
                store(frame + f.MEASURES, measures)
        store8(status + row, found)
        if found == f.NEW:
            new += 1
            if new == new_max:
                rows = row + 1
                break
    flush_ids(load(frame + f.CALL_QUEUE), load(frame + f.HAS_VECTORS))
    flush_ids(load(frame + f.EVENT_QUEUE), load(frame + f.HAS_VECTORS))
    return rows


@inlined_kernel
def row_address(start: int, end: int, frame: int) -> int:
    """Give where a row can be read with room behind it; 0: too long, or not in the buffer."""
    data, length = load(frame + f.DATA), end - start
    if start < 0 or length < 0 or length > load(frame + f.ROW_BYTES_MAX):
        return 0
    room = load(frame + f.DATA_BYTES) - end
    if room >= READ_BEYOND_BYTES:
        return int(data + start)
    if room < 0 or length > load(frame + f.SCRATCH_BYTES) - READ_BEYOND_BYTES:
        return 0
    scratch = load(frame + f.SCRATCH)
    for place in range(length):
        store8(scratch + place, load8(data + start + place))
    return int(scratch)


@inlined_kernel
def clear(frame: int) -> None:
    """Forget the row before."""
    for place in range(f.MISSING, f.MEASURES, f.WORD):
        store(frame + place, 0)
    store(frame + f.DURATION_MS, NAN_BITS)
    store(frame + f.SCORE, NAN_BITS)


@kernel
def finish(row: int, measures: int, frame: int) -> int:
    """Look up what a row that was read comes to, and write it; `measures` is how many there were before it.

    Give TAKEN; SLOW if it lacks what it must have; NEW if a word or a combination is not known.
    """
    event_type, time_ns = load(frame + f.TYPE_WORD), load(frame + f.TIME_NS)
    if event_type == 0 or time_ns == 0:
        return f.SLOW
    type_id = load(event_type + f.WORD_TYPE) - 1
    rule = load(frame + f.RULES) + type_id * f.RULE_BYTES
    flags = load(rule + f.RULE_FLAGS)
    if flags & f.NEEDS_CALL and load(frame + f.CALL_BYTES) == 0:
        return f.SLOW
    if load(frame + f.MISSING) & load(rule + f.RULE_MISSING):
        return f.NEW
    seed = load(frame + f.SEED)
    low, high = load(frame + f.KEYS), load(frame + f.KEYS + f.WORD)
    labels = pair_at(low, high, seed, load(frame + f.LABEL_SLOTS), load(frame + f.LABEL_MASK))
    if labels == 0:
        return f.NEW
    cause_id = -1
    if flags & f.HAS_CAUSE:
        cause_id = cause_of(type_id, rule, frame) - 1
        if cause_id < 0:
            return f.NEW
    found = measure(flags, rule, measures, frame)
    if found != f.TAKEN:
        return found
    column, wide = load(frame + f.COLUMNS) + row * f.WORD, load(frame + f.COLUMN_BYTES)
    store(column + f.COLUMN_TIME * wide, time_ns)
    queue_ids(labels, column + f.COLUMN_CALL * wide, column + f.COLUMN_EVENT * wide, frame)
    duration = load(frame + f.DURATION_MS) if flags & f.HAS_DURATION else NAN_BITS
    store(column + f.COLUMN_DURATION * wide, duration)
    store(column + f.COLUMN_TYPE * wide, type_id)
    store(column + f.COLUMN_SERIES * wide, load(labels + f.LABEL_SERIES))
    store(column + f.COLUMN_CAUSE * wide, cause_id)
    admitted = frame + f.ROWS_BY_ADMISSION + load(labels + f.LABEL_ADMISSION) * f.WORD
    store(admitted, load(admitted) + 1)
    return f.TAKEN


@kernel
def cause_of(type_id: int, rule: int, frame: int) -> int:
    """Give the id of the row's cause, and 1; 0: not known."""
    platform = load(frame + f.PLATFORM_SLOT)
    keys = load(frame + f.KEYS + (platform >> 2) * f.WORD)
    platform = (keys >> ((platform & 3) * f.SLOT_BITS)) & 0xFFFF
    low = load(frame + f.KEYS + 2 * f.WORD) & load(rule + f.RULE_CAUSE_LOW)
    high = load(frame + f.KEYS + 3 * f.WORD) & load(rule + f.RULE_CAUSE_HIGH)
    high |= (load(frame + f.CODE) << f.CODE_SHIFT) | (platform << f.PLATFORM_SHIFT)
    high |= type_id << f.TYPE_SHIFT
    seed = load(frame + f.SEED)
    return pair_at(low, high, seed, load(frame + f.CAUSE_SLOTS), load(frame + f.CAUSE_MASK))


@kernel
def measure(flags: int, rule: int, before: int, frame: int) -> int:
    """Keep the measures that the row's type has: its latencies, its duration, its score."""
    if flags & f.HAS_LATENCY:
        few = load(frame + f.MEASURES) - before <= load(frame + f.MEASURES_MAX)
        return f.TAKEN if few else f.SLOW
    store(frame + f.MEASURES, before)
    value, stage = frame + f.DURATION_MS, load(rule + f.RULE_STAGE)
    if flags & f.IS_SCORE:
        value = frame + f.SCORE
        metric = (load(frame + f.KEYS + 3 * f.WORD) >> f.SLOT_BITS) & 0xFFFF
        if metric != 0:
            stage = load(load(frame + f.WORDS) + metric * f.WORD_BYTES + f.WORD_METRIC)
    elif not flags & f.MEASURES_DURATION or load(value) == NAN_BITS:
        return f.TAKEN
    number = load(value)
    if number == NAN_BITS or (flags & f.IS_SCORE and number > ONE_BITS):
        return f.SLOW
    if stage == 0:
        return f.NEW
    store(load(frame + f.MEASURE_ROW) + before * f.WORD, load(frame + f.ROW))
    store(load(frame + f.MEASURE_STAGE) + before * f.WORD, stage - 1)
    store(load(frame + f.MEASURE_MS) + before * f.WORD, number)
    store(frame + f.MEASURES, before + 1)
    return f.TAKEN


@inlined_kernel
def queue_ids(labels: int, call_key: int, event_key: int, frame: int) -> None:
    """Queue the ids of the row; their keys will be at the two addresses."""
    has_vectors = load(frame + f.HAS_VECTORS)
    at, length = load(frame + f.CALL_AT), load(frame + f.CALL_BYTES)
    queue_id(load(frame + f.CALL_QUEUE), labels, labels + f.LABEL_CALL, at, length, call_key, has_vectors)
    at, length = load(frame + f.EVENT_AT), load(frame + f.EVENT_BYTES)
    queue_id(load(frame + f.EVENT_QUEUE), labels, labels + f.LABEL_EVENT, at, length, event_key, has_vectors)
