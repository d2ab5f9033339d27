"""The decoder that scans: a kernel takes the rows it is sure of, the parser reads the others.

Whatever the input, results are those of `JsonDecoder`: columns, tables and their ids, losses, ignored fields,
samples and notes. Ids are given in order of first appearance, and everything new is new to the kernel as
well: such rows go to the parser in their order, and what they brought is learned before the scan goes on.
A row that brings something which may not be kept teaches nothing; so learning is tried for only some rows of
a batch, fewer after a batch in which it was in vain.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import numba
import numpy as np

from engine.decode import scan_frame as f
from engine.decode.column_rows import ColumnRows, WordNumbers
from engine.decode.columns import Columns
from engine.decode.decoder import DEFAULT_METRIC, Decoder, JsonDecoder, Sample
from engine.decode.events import LABELS, EventBatch
from engine.decode.fields import TYPE_RULES
from engine.decode.mask import PLAIN_MASK, LabelMask
from engine.decode.scan import scan_rows
from engine.decode.stages import METRIC
from engine.decode.vocabulary import Vocabulary, kept_cause
from engine.kernel import FAST_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engine.decode.causes import CauseTable
    from engine.decode.series import SeriesTable
    from engine.decode.stages import StageTable
    from engine.limits import LimitLabel
    from engine.settings import EngineSettings
    from engine.source.contract import RawBatch

LEARNED_AT_ONCE = 8  # rows that the scan passes before what is new in them is learned
LESSONS_MAX, LESSONS_MIN = 256, 4  # rows of a batch from which something is learned
# The scanner reads words of eight bytes, the lowest first, and takes addresses, which plain Python cannot.
CAN_SCAN = FAST_PATH and np.dtype("<i8").isnative and not numba.config.DISABLE_JIT
HAS_VECTORS = platform.machine() in ("x86_64", "AMD64")
MEASURES_SPARE = 64
PER_ROW = (
    "time_ns", "offset", "type_id", "call_key", "event_key", "series_id", "cause_id", "duration_ms",
)  # fmt: skip


def new_decoder(
    settings: EngineSettings, call_hash_key: bytes, limit_labels: Mapping[str, LimitLabel],
    mask: LabelMask = PLAIN_MASK,
) -> Decoder:  # fmt: skip
    """Make the decoder that settings and machine allow; arguments are those of `JsonDecoder`."""
    if settings.scan_rows and CAN_SCAN:
        return FastDecoder(settings, call_hash_key, limit_labels, mask)
    return JsonDecoder(settings, call_hash_key, limit_labels, mask)


class TextRows:
    """The rows of a batch for `scan_rows`; keeps alive what the kernel reads."""

    def __init__(self, raw: RawBatch, vocabulary: Vocabulary) -> None:
        """Say where the rows lie."""
        self._data = np.frombuffer(raw.data, np.uint8)
        self._start, self._end = (
            np.ascontiguousarray(each, np.int64) for each in (raw.row_start, raw.row_end)
        )
        self._vocabulary = vocabulary
        vocabulary.place({f.DATA: self._data, f.ROW_START: self._start, f.ROW_END: self._end})
        vocabulary.put(f.DATA_BYTES, len(self._data))

    @property
    def measures_max(self) -> int:
        """How many measures the rows have at most.

        Rows may share bytes, so it is their lengths that count. A measure takes two bytes at least.
        """
        return int(np.maximum(self._end - self._start, 0).sum()) // 2 + len(self._start)

    def scan(self, first: int, new_max: int) -> int:
        """Take rows from `first` on, see `scan_rows`."""
        return scan_rows(self._vocabulary.address, first, len(self._start), new_max)

    def renew(self, row: int) -> None:
        """Look nothing up again: the kernel looks up every word."""


class FastDecoder:
    """The decoder over the scanner. Not safe for use from two threads at once."""

    def __init__(
        self, settings: EngineSettings, call_hash_key: bytes,
        limit_labels: Mapping[str, LimitLabel], mask: LabelMask = PLAIN_MASK, *,
        has_vectors: bool = HAS_VECTORS,
    ) -> None:  # fmt: skip
        """Make empty tables, as `JsonDecoder` does. `has_vectors`: see engine.decode.memory."""
        self.parsing = JsonDecoder(settings, call_hash_key, limit_labels, mask)
        self.mask = mask
        self.rejects = self.parsing.rejects
        self.losses = self.parsing.losses
        self.fields_ignored = self.parsing.fields_ignored
        self.series: SeriesTable = self.parsing.series
        self.causes: CauseTable = self.parsing.causes
        self.stages: StageTable = self.parsing.stages
        self.rows_scanned = 0
        self._settings = settings
        self._unwanted = tuple(name for name in LABELS if name not in self.parsing.labels.names)
        self._has_vectors = has_vectors
        self._lessons_max = LESSONS_MAX
        # What the kernel fills, used again and again: to say where an array lies takes longer than a copy.
        self._status: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._columns: NDArray[np.int64] = np.empty((f.COLUMNS_COUNT, 0), np.int64)
        self._measure_row: NDArray[np.int64] = np.empty(0, np.int64)
        self._measure_stage: NDArray[np.int64] = np.empty(0, np.int64)
        self._measure_ms: NDArray[np.float64] = np.empty(0, np.float64)
        self._start_vocabulary()

    @property
    def rows_read(self) -> int:
        """Rows of all batches given."""
        return self.parsing.rows_read

    def samples(self) -> tuple[Sample, ...]:
        """Give the most recent rows that were lost, oldest first."""
        return self.parsing.samples()

    def decode(self, raw: RawBatch) -> EventBatch:
        """Give the columns of the rows that decode; never raises for what is in them."""
        if not raw.rows or not (len(raw.data) or raw.columns):
            return self.parsing.decode(raw)
        self.parsing.rows_read += raw.rows
        if self._vocabulary.is_full:
            self._start_vocabulary()
        parsed, parsed_rows, missed = self._scan(raw)
        self.rows_scanned += raw.rows - missed
        batch = self._scanned(raw)
        if missed:
            rest = parsed.batch(raw.topic, raw.partition, self.parsing.key)
            rows = np.array(parsed_rows, np.int64)
            kept = self._status[: raw.rows] == f.TAKEN
            kept[rows] = True
            batch = _joined(batch, rest, rows, kept)
        return batch._replace(received_ns=self.parsing.received_ns(raw, batch.time_ns))

    def _start_vocabulary(self) -> None:
        """Know only what every vocabulary knows."""
        names = self.parsing.labels.names
        mask = self.parsing.mask
        self._vocabulary = Vocabulary(
            self._settings, names, self.parsing.key, mask, has_vectors=self._has_vectors
        )
        self._numbers = WordNumbers(self._vocabulary)
        self._place_room()

    def _scan(self, raw: RawBatch) -> tuple[Columns, list[int], int]:
        """Scan, parse the rows that were not taken, and learn from them, all in order of rows.

        Give what was parsed, the rows that it is of, and how many rows were not taken.
        """
        vocabulary = self._vocabulary
        rows: TextRows | ColumnRows
        if raw.columns is not None:
            rows = ColumnRows(raw.columns, self._numbers)
        else:
            rows = TextRows(raw, vocabulary)
        self._make_room(raw.rows, rows.measures_max + MEASURES_SPARE)
        vocabulary.put(f.MEASURES, 0)
        parsed, parsed_rows, missed = Columns(), [], 0
        lessons, learned = self._lessons_max, 0
        first = 0
        while first < raw.rows:
            stop_after = min(LEARNED_AT_ONCE, lessons) or raw.rows
            following = rows.scan(first, stop_after)
            status = self._status[first:following]
            not_taken = np.flatnonzero(status != f.TAKEN).tolist()
            missed += len(not_taken)
            for row in (first + place for place in not_taken):
                text = raw.text(row)
                if self.parsing.take_row(raw, text, int(raw.offset[row]), parsed, is_ascii=False):
                    parsed_rows.append(row)
                    if self._status[row] == f.NEW and lessons:
                        lessons -= 1
                        learned += self._learn(text)
                        rows.renew(row)
            first = following
        if lessons < self._lessons_max:
            self._lessons_max = LESSONS_MAX if learned else max(self._lessons_max // 2, LESSONS_MIN)
        for admission, taken in enumerate(vocabulary.take_admissions()):
            self.series.rows_by_admission[admission] += taken
        return parsed, parsed_rows, missed

    def _make_room(self, rows: int, measures_max: int) -> None:
        """Have room for so many rows and measures."""
        if len(self._status) >= rows and len(self._measure_ms) >= measures_max:
            return
        if len(self._status) < rows:
            self._status = np.empty(rows, np.uint8)
            self._columns = np.empty((f.COLUMNS_COUNT, rows), np.int64)
        if len(self._measure_ms) < measures_max:
            self._measure_row = np.empty(measures_max, np.int64)
            self._measure_stage = np.empty(measures_max, np.int64)
            self._measure_ms = np.empty(measures_max, np.float64)
        self._place_room()

    def _place_room(self) -> None:
        """Tell the kernel where the room lies."""
        self._vocabulary.place(
            {
                f.ROW_STATUS: self._status, f.COLUMNS: self._columns, f.MEASURE_ROW: self._measure_row,
                f.MEASURE_STAGE: self._measure_stage, f.MEASURE_MS: self._measure_ms,
            }
        )  # fmt: skip
        self._vocabulary.put(f.COLUMN_BYTES, len(self._status) * f.WORD)

    def _learn(self, text: bytes) -> bool:
        """Learn from a row that was just parsed; say whether there was something to learn."""
        fields = self.parsing.parser.decode(text)
        rule = TYPE_RULES[fields.type]
        values = self.parsing.labels.values_of(fields)
        vocabulary = self._vocabulary
        try:
            labels = self.parsing.labels.remembered(values)
        except TypeError:  # A list or an object where a label should be.
            labels = None
        if labels is None or rule.is_note:
            return False
        is_new = vocabulary.learn_labels(values, labels)
        for name in self._unwanted:
            vocabulary.learn_unwanted(name, getattr(fields, name))
        if rule.has_cause:
            cause = kept_cause(fields, rule, labels.platform, self.parsing.mask)
            cause_id = self.causes.known(cause) if cause else None
            if cause_id is not None:
                is_new |= vocabulary.learn_cause(fields, rule, cause_id)
        if rule.has_latency and isinstance(fields.latency_ms, dict):
            for name in fields.latency_ms:
                stage_id = self.stages.known(name)
                if stage_id is not None:
                    is_new |= vocabulary.learn_stage(name, stage_id)
        if rule.is_score and isinstance(fields.metric, str):
            metric_id = self.stages.known(fields.metric, METRIC)
            if metric_id is not None:
                is_new |= vocabulary.learn_stage(fields.metric, metric_id, is_metric=True)
        usual = (DEFAULT_METRIC, METRIC) if rule.is_score else (rule.duration_stage, "")
        stage_id = self.stages.known(*usual)
        if stage_id is not None:
            is_new |= vocabulary.learn_stage_of_type(rule.type_id, stage_id)
        return is_new

    def _scanned(self, raw: RawBatch) -> EventBatch:
        """Make a batch of all rows, of which some may still lack their values; `received_ns` is not set."""
        measures = self._vocabulary.get(f.MEASURES)
        filled = self._columns[:, : raw.rows]
        columns = filled[: f.COLUMN_TYPE].copy()
        return EventBatch(
            topic=raw.topic,
            partition=raw.partition,
            time_ns=columns[f.COLUMN_TIME],
            received_ns=raw.offset,
            offset=raw.offset.astype(np.int64),
            type_id=filled[f.COLUMN_TYPE].astype(np.uint8),
            call_key=columns[f.COLUMN_CALL].view(np.uint64),
            event_key=columns[f.COLUMN_EVENT].view(np.uint64),
            series_id=filled[f.COLUMN_SERIES].astype(np.int32),
            cause_id=filled[f.COLUMN_CAUSE].astype(np.int32),
            duration_ms=columns[f.COLUMN_DURATION].view(np.float64),
            measure_row=self._measure_row[:measures].astype(np.int32),
            measure_stage=self._measure_stage[:measures].astype(np.int16),
            measure_ms=self._measure_ms[:measures].copy(),
            note_row=(),
            notes=(),
        )


def _joined(
    batch: EventBatch, rest: EventBatch, rows: NDArray[np.int64], kept: NDArray[np.bool_]
) -> EventBatch:
    """Put `rest`, whose rows have the places `rows`, into a batch, and keep only the rows that are `kept`."""
    for name in PER_ROW:
        getattr(batch, name)[rows] = getattr(rest, name)
    measure_row = np.concatenate((batch.measure_row, rows[rest.measure_row].astype(np.int32)))
    order = np.argsort(measure_row, kind="stable")
    place = (np.cumsum(kept) - 1).astype(np.int32)
    columns = {name: getattr(batch, name)[kept] for name in PER_ROW}
    return batch._replace(
        **columns,
        measure_row=place[measure_row[order]],
        measure_stage=np.concatenate((batch.measure_stage, rest.measure_stage))[order],
        measure_ms=np.concatenate((batch.measure_ms, rest.measure_ms))[order],
        note_row=tuple(place[rows[list(rest.note_row)]].tolist()),
        notes=rest.notes,
    )
