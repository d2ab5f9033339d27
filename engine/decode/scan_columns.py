"""The kernel over rows that came as columns: what it is sure of, as `engine.decode.scan` does with text.

A row comes to the same state of the frame as its line of JSON would, and the same `finish` looks up what that
comes to. Texts of labels and causes are numbers of words already, by their code in their dictionary;
-1 is absent, 0 a text that is no known word. What does not fit its field was marked before, in MUST_PARSE.
The table of columns is an int64 array that belongs to `engine.decode.column_rows`; 0: no such column.
"""

from __future__ import annotations

from engine.decode import scan_frame as f
from engine.decode.memory import float_from_bits, load, load8, load32, load64, store, store8, store_float
from engine.decode.scan import clear, finish
from engine.decode.scan_identity import flush_ids
from engine.decode.scan_numbers import UNSURE, time_number_at, time_text_at
from engine.decode.scan_words import address_of
from engine.decode.timestamp import END_NS, FIRST_NS
from engine.kernel import inlined_kernel, kernel

CODE_BYTES = 4  # of a place in a dictionary
# How times come: whole numbers of any magnitude, RFC 3339, numbers written out.
NO_TIME, TIME_INTEGERS, TIME_TEXTS, TIME_NUMBERS = range(4)

TABLE_WORDS = 20
(
    MUST_PARSE,  # uint8: rows that are not for the kernel
    TIME_KIND, TIME_VALUES, TIME_DATA, TIME_START, TIME_LENGTH,
    TYPE_CODES, TYPE_WORDS,  # int32 by row; the number of the word, by code
    CALL_DATA, CALL_START, CALL_LENGTH, EVENT_DATA, EVENT_START, EVENT_LENGTH,
    CODES, DURATIONS, SCORES,
    WORD_COLUMNS,  # address of (codes, numbers of words, slot) for each column; then for each stage
    STAGE_COLUMNS,  # (values, address of the word of its name)
    COUNTS,  # how many columns of words; above 32 bits, how many of stages
) = range(0, f.WORD * TABLE_WORDS, f.WORD)  # fmt: skip
WORD_COLUMN_WORDS, STAGE_COLUMN_WORDS = 3, 2


@kernel
def scan_columns(table: int, frame: int, first: int, rows: int, new_max: int) -> int:
    """Take rows from `first` on; stop behind the `new_max`-th row with something new. Give the next row.

    Everything that the addresses lead to belongs to the caller, with room for `rows`, who keeps it alive.
    """
    new = 0
    status = load(frame + f.ROW_STATUS)
    for row in range(first, rows):
        measures = load(frame + f.MEASURES)
        found = f.SLOW
        if load8(load(table + MUST_PARSE) + row) == 0:
            clear(frame)
            store(frame + f.ROW, row)
            if read_columns(row, table, frame):
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
def read_columns(row: int, table: int, frame: int) -> bool:
    """Read a row into the frame; False: unsure."""
    word = word_in(load(table + TYPE_CODES), load(table + TYPE_WORDS), row)
    if word <= 0:
        return False
    event_type = address_of(word, frame)
    type_id = load(event_type + f.WORD_TYPE) - 1
    time_ns = time_in(row, table)
    if type_id < 0 or time_ns == 0:
        return False
    store(frame + f.TYPE_WORD, event_type)
    store(frame + f.TIME_NS, time_ns)
    words_in(row, table, frame)
    id_in(row, table + CALL_DATA, frame + f.CALL_AT)
    id_in(row, table + EVENT_DATA, frame + f.EVENT_AT)
    number_in(row, load(table + CODES), frame + f.CODE)
    quantity_in(row, load(table + DURATIONS), frame + f.DURATION_MS)
    quantity_in(row, load(table + SCORES), frame + f.SCORE)
    flags = load(load(frame + f.RULES) + type_id * f.RULE_BYTES + f.RULE_FLAGS)
    if flags & f.HAS_LATENCY:
        latencies_in(row, table, frame)
    return True


@inlined_kernel
def word_in(codes: int, words: int, row: int) -> int:
    """Give the number of the word of a row; 0: no known word, -1: absent."""
    if codes == 0:
        return -1
    return int(load(words + load32(codes + row * CODE_BYTES) * f.WORD))


@inlined_kernel
def words_in(row: int, table: int, frame: int) -> None:
    """Put the words of a row into their slots, or mark a slot as missing."""
    column = load(table + WORD_COLUMNS)
    for _ in range(load(table + COUNTS) & 0xFFFF_FFFF):
        word = word_in(load(column), load(column + f.WORD), row)
        slot = load(column + 2 * f.WORD)
        if word == 0:
            store(frame + f.MISSING, load(frame + f.MISSING) | (1 << slot))
        elif word > 0:
            keys = frame + f.KEYS + (slot >> 2) * f.WORD
            store(keys, load(keys) | (word << ((slot & 3) * f.SLOT_BITS)))
        column += WORD_COLUMN_WORDS * f.WORD


@inlined_kernel
def id_in(row: int, column: int, where: int) -> None:
    """Say where an id stands, and behind that how long it is; 0: absent."""
    if load(column) != 0:
        store(where, load(column) + load(load(column + f.WORD) + row * f.WORD))
        store(where + f.WORD, load(load(column + 2 * f.WORD) + row * f.WORD))


@inlined_kernel
def number_in(row: int, values: int, where: int) -> None:
    """Copy a whole number."""
    if values != 0:
        store(where, load(values + row * f.WORD))


@inlined_kernel
def quantity_in(row: int, values: int, where: int) -> None:
    """Copy a number that is there; NaN is absent, and may have any bits."""
    if values != 0:
        value = float_from_bits(load64(values + row * f.WORD))
        if value >= 0.0:
            store_float(where, value + 0.0)  # No negative zero.


@inlined_kernel
def latencies_in(row: int, table: int, frame: int) -> None:
    """Read the stages of a row; negative is how a platform says "not measured", NaN is absent."""
    column, count = load(table + STAGE_COLUMNS), load(frame + f.MEASURES)
    for _ in range(load(table + COUNTS) >> 32):
        value = float_from_bits(load64(load(column) + row * f.WORD))
        if value >= 0.0:
            word = load(column + f.WORD)
            stage = load(word + f.WORD_STAGE) - 1 if word != 0 else -1
            if stage < 0:
                store(frame + f.MISSING, load(frame + f.MISSING) | (1 << f.SLOT_STAGE))
            store(load(frame + f.MEASURE_ROW) + count * f.WORD, row)
            store(load(frame + f.MEASURE_STAGE) + count * f.WORD, stage)
            store_float(load(frame + f.MEASURE_MS) + count * f.WORD, value + 0.0)
            count += 1
        column += STAGE_COLUMN_WORDS * f.WORD
    store(frame + f.MEASURES, count)


@inlined_kernel
def time_in(row: int, table: int) -> int:
    """Give the time of a row in nanoseconds since 1970; 0: unsure."""
    kind = load(table + TIME_KIND)
    if kind == TIME_INTEGERS:
        return magnified(load(load(table + TIME_VALUES) + row * f.WORD))
    if kind == NO_TIME:
        return 0
    return written_time(row, kind, table)


@kernel
def written_time(row: int, kind: int, table: int) -> int:
    """Do what `time_in` does, for texts."""
    length = load(load(table + TIME_LENGTH) + row * f.WORD)
    if length <= 0:
        return 0
    at = load(table + TIME_DATA) + load(load(table + TIME_START) + row * f.WORD)
    end, time_ns = time_text_at(at) if kind == TIME_TEXTS else time_number_at(at)
    return time_ns if end != UNSURE and end == at + length else 0


@inlined_kernel
def magnified(value: int) -> int:
    """Give the nanoseconds that a whole number says, by its magnitude; 0: out of range."""
    if value < 0 or value >= END_NS:
        return 0
    unit_ns = 1
    if value < 100_000_000_000:  # noqa: PLR2004 (the magnitudes of engine.decode.timestamp)
        unit_ns = 1_000_000_000
    elif value < 100_000_000_000_000:  # noqa: PLR2004
        unit_ns = 1_000_000
    elif value < 100_000_000_000_000_000:  # noqa: PLR2004
        unit_ns = 1_000
    # A product beyond int64 would come back into range.
    if value > END_NS // unit_ns:
        return 0
    time_ns = value * unit_ns
    return time_ns if FIRST_NS <= time_ns < END_NS else 0
