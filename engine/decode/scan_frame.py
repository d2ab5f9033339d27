"""Where the scanner's tables and the state of the row in hand lie: places in memory, in bytes.

The frame is one int64 array that belongs to `engine.decode.vocabulary` and is read and written by address: a
kernel takes it as one argument, whatever it needs of it. Beside it stand words (texts that are known: names
of fields and stages, values of labels and causes), combinations of labels, and what types of events carry.
"""

from __future__ import annotations

from engine.decode.identity import ID_BYTES_MAX

WORD = 8  # bytes of every number here


def _places(count: int) -> range:
    return range(0, WORD * count, WORD)


FRAME_WORDS = 69
# The frame. First what the row in hand came to so far ...
(
    MISSING,  # bits of the slots whose text is no known word
    TIME_NS, TYPE_WORD, CALL_AT, CALL_BYTES, EVENT_AT, EVENT_BYTES,
    KEYS,  # four numbers of four words each: the slots, sixteen bits each, 0: absent
    _, _, _,
    CODE, DURATION_MS, SCORE,
    VALUE_WORD,  # the number of the word that the last value was, 0: none
    NOTED,  # the phrase that is being noted, 0: none; see engine.decode.scan_phrases
    MEASURES,  # how many measures of the batch were written
    # ... then where things lie, and bounds.
    HAS_VECTORS, SEED, DATA, DATA_BYTES, ROW_START, ROW_END, ROW_STATUS, ROW_BYTES_MAX,
    SCRATCH, SCRATCH_BYTES,
    NOTE_BEGIN, NOTE_END, NOTE_LIMIT, NOTE_KEY, SEEN_BEFORE, KEYS_BEFORE, _, _, _,
    SEEN_AFTER, KEYS_AFTER, _, _, _,
    WORDS, PHRASES, WORD_SLOTS, WORD_MASK, LABEL_SLOTS, LABEL_MASK, CAUSE_SLOTS, CAUSE_MASK,
    FIRST_FIELD, _, FIRST_STAGE, _,  # words before the first key, and behind a first key that is not known
    RULES, LAST_TYPE, PLATFORM_SLOT, MEASURES_MAX, MEASURE_ROW, MEASURE_STAGE, MEASURE_MS, ROW,
    COLUMNS, COLUMN_BYTES, CALL_QUEUE, EVENT_QUEUE,
    ROWS_BY_ADMISSION,  # four numbers: rows taken, by `engine.decode.series.Admission`
    _, _, _,
) = _places(FRAME_WORDS)  # fmt: skip

# A word: its text with the quote behind it; twice, what came behind its value, as text and as the word of the
# key in it, the last one first; and what the word is: a field, a stage, a metric, a type.
WORD_TEXT_MAX = 63
NEXT_TEXT_MAX = 40
NEXT_LENGTH, NEXT_WORD, NEXT_BYTES = NEXT_TEXT_MAX, NEXT_TEXT_MAX + WORD, NEXT_TEXT_MAX + 2 * WORD
WORD_NEXT, WORD_FIELD, WORD_OTHER, WORD_LENGTH, WORD_STAGE, WORD_METRIC, WORD_TYPE, WORD_MISSES = (
    64, 120, 128, 184, 192, 200, 208, 216,
)  # fmt: skip
REMEMBERED_OF = 4  # one miss of so many is remembered: where keys come in any order, nothing is gained by it
WORD_BYTES = 256

# A phrase: what followed a value last time, up to the end of its last value, and what it came to.
PHRASE_TEXT_MAX = 128
PHRASE_BYTES = 256
PHRASE_LENGTH, PHRASE_SEEN, PHRASE_KEYS, _, _, _, PHRASE_LAST, PHRASE_MISSES, PHRASE_PATIENCE, _ = _places(10)
PHRASE_TEXT = WORD * 10

# A slot of a table of words or of pairs: two numbers to compare, the length of a word, what was found
# (0: free; of a word its number, of a pair whatever was learned).
SLOT_ONE, SLOT_OTHER, SLOT_LENGTH, SLOT_FOUND = _places(4)
SLOT_BYTES = 32
PROBES_MAX = 16  # a word or pair that would stand further from its place is not taken

# A combination of labels: its series, and two states of SipHash behind the framing of identities.
LABEL_SERIES, LABEL_ADMISSION, LABEL_PREFIX_BYTES, _, LABEL_CALL, LABEL_EVENT = (
    0, 8, 16, 24, 32, 72,
)  # fmt: skip
SIP_WORDS = 5  # the four words of the state, and the bytes behind the last full word
LABEL_BYTES = 128

# A queue of ids that wait for their keys, by lane: the state of SipHash, how many words of the message are in
# use, where the key goes, the key, and the words themselves, of ids of at most ID_BYTES_MAX bytes.
LANES = 8
LANE_BYTES = WORD * LANES
QUEUE_WAITING = 0
QUEUE_STATE, _, _, _, QUEUE_WORDS, QUEUE_TARGET, QUEUE_KEY, QUEUE_MESSAGE = range(
    LANE_BYTES, 9 * LANE_BYTES, LANE_BYTES
)
MESSAGE_WORDS_MAX = (ID_BYTES_MAX + WORD) // WORD + 1
QUEUE_BYTES = QUEUE_MESSAGE + MESSAGE_WORDS_MAX * LANE_BYTES

# What a type of event carries.
(
    RULE_FLAGS,
    RULE_MISSING,  # slots without which the row is not complete
    RULE_CAUSE_LOW, RULE_CAUSE_HIGH,  # which slots make the cause
    RULE_STAGE,  # the stage its duration is a measure of, and 1; 0: not in the table yet
) = _places(5)  # fmt: skip
RULE_BYTES = 64
NEEDS_CALL, HAS_LATENCY, HAS_CAUSE, HAS_DURATION, IS_SCORE, MEASURES_DURATION = (1 << bit for bit in range(6))

# Slots: labels first, then these.
LABELS_MAX = 8
SLOT_OUTCOME, SLOT_REASON, SLOT_LIMIT, SLOT_DEPENDENCY, SLOT_FALLBACK, SLOT_METRIC = range(8, 14)
SLOT_STAGE = 14  # only as a bit of what is missing
SLOT_UNWANTED = 15  # of labels that neither series nor identities need
SLOT_BITS = 16
CODE_SHIFT, PLATFORM_SHIFT, TYPE_SHIFT = 16, 36, 52  # in the upper half of a cause, above `fallback`

# Kinds of fields: kind, slot and the bit of SEEN in one number.
KIND_SKIPPED, KIND_WORD, KIND_TYPE, KIND_TIME, KIND_CALL, KIND_EVENT, KIND_LATENCY, KIND_CODE = range(1, 9)
KIND_DURATION, KIND_SCORE = range(9, 11)
KIND_BITS = 8

# Columns of what the kernel takes, all of eight bytes.
(
    COLUMN_TIME, COLUMN_CALL, COLUMN_EVENT, COLUMN_DURATION, COLUMN_TYPE, COLUMN_SERIES, COLUMN_CAUSE,
) = range(7)  # fmt: skip
COLUMNS_COUNT = 7

# What became of a row.
TAKEN, SLOW, NEW = 0, 1, 2  # taken; to be parsed; to be parsed, and its words and combinations learned
