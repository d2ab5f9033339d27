"""Bytes to columns: each row is parsed into a struct, checked, and appended to the columns of its batch.

What a row must have: an object in valid UTF-8 JSON, `type`, `time`, and for calls, turns, transfers and
quality a `call_id`. A row without is lost and counted by reason; so is a note of limits with a label that
cannot be used, for without it the note would be of other calls. Any other field that cannot be used is as if
it were not there, and counted by field: half of what a call tells is better than none. Nothing raises here,
whatever the bytes. `Decoder` is the seam for a faster scanner: bytes in, columns out, the same tables.
Rejected: `orjson`, as fast, but it gives a time as a double, which loses the nanoseconds.
"""

from __future__ import annotations

from collections import deque
from math import isnan, nan
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec
import numpy as np

from engine.decode.causes import CauseTable
from engine.decode.columns import Columns
from engine.decode.events import DEPENDENCY, LABELS, Cause, Note
from engine.decode.fields import (
    TYPE_RULES,
    EventFields,
    TypeRule,
    code_number,
    fallback_name,
    outcome_name,
    quantity,
    score_number,
)
from engine.decode.identity import CALL, EVENT, id_bytes
from engine.decode.labels import LabelReader, note_labels
from engine.decode.mask import PLAIN_MASK, LabelMask
from engine.decode.notes import OF_LIMITS, listed_calls, note_fields
from engine.decode.redaction import clean_label, redact_reason
from engine.decode.rejects import Rejects
from engine.decode.series import SeriesTable
from engine.decode.siphash import hash_key
from engine.decode.stages import METRIC, StageTable
from engine.decode.timestamp import OUT_OF_RANGE, event_time_ns
from engine.errors import LossReason
from engine.limits import OTHER, SHARED_WORDS
from engine.source.contract import PLAIN_LOG_RECEIVED_NS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engine.decode.events import EventBatch
    from engine.limits import LimitLabel
    from engine.settings import EngineSettings
    from engine.source.contract import RawBatch

SAMPLES_MAX = 32
DEFAULT_METRIC = "score"  # of a score that does not say what it measures


class Sample(NamedTuple):
    """Where a row lies that was not decoded, and why; never what is in it."""

    topic: str
    partition: int
    offset: int
    reason: LossReason


class Decoder(Protocol):
    """Step 2 of the line.

    Counts are cumulative; `rows_read` is the rows of all batches given plus the sum of `losses`.
    """

    losses: NDArray[np.int64]  # shape (len(LossReason),)
    fields_ignored: dict[str, int]  # by field: values that could not be used, in rows that were
    series: SeriesTable
    causes: CauseTable
    stages: StageTable
    mask: LabelMask
    rejects: Rejects

    @property
    def rows_read(self) -> int:
        """Rows of all batches given."""

    def decode(self, raw: RawBatch) -> EventBatch:
        """Give the columns of the rows that decode; never raises for what is in them."""

    def samples(self) -> tuple[Sample, ...]:
        """Give the most recent rows that were lost, oldest first, at most SAMPLES_MAX."""


class JsonDecoder:
    """The decoder over msgspec. Not safe for use from two threads at once."""

    def __init__(self, settings: EngineSettings, call_hash_key: bytes,
                 limit_labels: Mapping[str, LimitLabel],
                 mask: LabelMask = PLAIN_MASK) -> None:  # fmt: skip
        """Make empty tables. `call_hash_key` has 16 bytes; `limit_labels` is as in engine.decode.series."""
        self.losses: NDArray[np.int64] = np.zeros(len(LossReason), np.int64)
        self.rows_read = 0
        self.fields_ignored: dict[str, int] = dict.fromkeys(EventFields.__struct_encode_fields__, 0)
        self.series = SeriesTable(settings.series_labels, limit_labels, settings.series_max)
        self.causes = CauseTable(settings.causes_max)
        self.stages = StageTable(settings.stages_max)
        self._settings = settings
        self.key = hash_key(call_hash_key)
        self.mask = mask
        self.rejects = Rejects()
        self.labels = LabelReader(self.series, settings.series_max, self._ignore, mask)
        self.parser = msgspec.json.Decoder(EventFields)
        self._samples: deque[Sample] = deque(maxlen=SAMPLES_MAX)
        self._plain_log_ns: dict[tuple[str, int], int] = {}  # newest event time, by topic and partition

    def decode(self, raw: RawBatch) -> EventBatch:
        """Give the columns of the rows that decode; never raises for what is in them."""
        self.rows_read += raw.rows
        columns = Columns()
        # ASCII, the usual case, is known for the whole batch at once.
        is_ascii = raw.columns is None and raw.data.isascii()
        for text, offset in zip(raw.texts(), raw.offset.tolist(), strict=True):
            self.take_row(raw, text, offset, columns, is_ascii=is_ascii)
        batch = columns.batch(raw.topic, raw.partition, self.key)
        return batch._replace(received_ns=self.received_ns(raw, batch.time_ns))

    def samples(self) -> tuple[Sample, ...]:
        """Give the most recent rows that were lost, oldest first, at most SAMPLES_MAX."""
        return tuple(self._samples)

    def take_row(
        self, raw: RawBatch, text: bytes, offset: int, columns: Columns, *, is_ascii: bool
    ) -> bool:  # fmt: skip
        """Append a row of a batch to the columns, or count it as lost; say whether it was appended."""
        # Only a line is long: in a row that came as columns, everything has a bound of its own.
        if raw.columns is None and len(text) > self._settings.row_bytes_max:
            reason: LossReason | None = LossReason.ROW_TOO_LONG
        else:
            reason = self._decode_row(text, offset, columns, is_ascii=is_ascii)
        if reason is not None:
            sample = Sample(raw.topic, raw.partition, offset, reason)
            self.losses[reason] += 1
            self._samples.append(sample)
            self.rejects.add(sample, text)
        return reason is None

    def _decode_row(
        self, text: bytes, offset: int, columns: Columns, *, is_ascii: bool
    ) -> LossReason | None:  # fmt: skip
        """Append one row to the columns, or say why not; nothing is appended then."""
        try:
            if not is_ascii:
                text.decode()  # The parser does not look at the encoding of what it skips.
            fields = self.parser.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return why_unreadable(text)
        if type(fields.type) is not str:
            return LossReason.FIELD_MISSING if fields.type is None else LossReason.FIELD_TYPE
        rule = TYPE_RULES.get(fields.type)
        if rule is None:
            return LossReason.TYPE_UNKNOWN
        time_text = bytes(fields.time)
        if not time_text:
            return LossReason.FIELD_MISSING
        time_ns = event_time_ns(time_text)
        if time_ns < 0:
            return LossReason.TIME_OUT_OF_RANGE if time_ns == OUT_OF_RANGE else LossReason.TIME_MALFORMED
        call_id = id_bytes(fields.call_id)
        if rule.needs_call and not call_id:
            return _why_unusable(fields.call_id, str)
        if rule.is_list:
            reason = _why_no_listing(fields.calls, self._settings.calls_listed_max)
            if reason is not None:
                return reason
        if rule.type_id in OF_LIMITS and (reason := _why_of_no_limit(fields)) is not None:
            return reason
        self._append(fields, rule, (time_ns, offset), call_id, columns)
        return None

    def _append(self, fields: EventFields, rule: TypeRule, when: tuple[int, int], call_id: bytes,
                columns: Columns) -> None:  # fmt: skip
        """Append a row that has all it must have; `when` is its event time and its offset."""
        labels = self.labels.read(fields, is_of_call=bool(call_id))
        prefix = labels.prefix
        if not call_id and fields.call_id is not None:
            self._ignore("call_id")
        event_id = b""
        if fields.id is not None:
            event_id = id_bytes(fields.id)
            if not event_id:
                self._ignore("id")
        duration_ms = nan
        if rule.has_duration and fields.duration_ms is not None:
            duration_ms = quantity(fields.duration_ms)
            if isnan(duration_ms):
                self._ignore("duration_ms")
            elif rule.duration_stage:
                columns.add_measure(self.stages.id_of(rule.duration_stage), duration_ms)
        if rule.is_score:
            self._add_score(fields, columns)
        if rule.has_latency and fields.latency_ms is not None:
            self._add_latencies(fields.latency_ms, columns)
        if rule.is_note:
            columns.add_note(self._note(fields, rule, when[0], prefix))
        columns.rows.append((
            *when,
            rule.type_id,
            CALL + prefix + call_id if call_id else b"",
            EVENT + prefix + event_id if event_id else b"",
            labels.series_id,
            self._cause_id(fields, labels.platform, rule) if rule.has_cause else -1,
            duration_ms,
        ))  # fmt: skip

    def _add_latencies(self, latency_ms: object, columns: Columns) -> None:
        if not isinstance(latency_ms, dict):
            self._ignore("latency_ms")
            return
        left = self._settings.measures_max
        for name, values in latency_ms.items():
            for value in values if isinstance(values, list) else (values,):
                number = quantity(value)
                if isnan(number):
                    # Negative is how a platform says "not measured"; anything else is a fault of the event.
                    if not (type(value) in (int, float) and value < 0):
                        self._ignore("latency_ms")
                elif left == 0:
                    self._ignore("latency_ms")
                    return
                else:
                    left -= 1
                    columns.add_measure(self.stages.id_of(name), number)

    def _add_score(self, fields: EventFields, columns: Columns) -> None:
        score = score_number(fields.score)
        if isnan(score):
            self._ignore("score")
            return
        metric = fields.metric if isinstance(fields.metric, str) else ""
        if not metric and fields.metric is not None:
            self._ignore("metric")
        columns.add_measure(self.stages.id_of(metric or DEFAULT_METRIC, METRIC), score)

    def _operation(self, fields: EventFields, rule: TypeRule) -> str:
        if rule.operation != DEPENDENCY:
            return rule.operation
        name = clean_label(fields.dependency)
        if name is None:
            self._ignore("dependency")
        return DEPENDENCY + (self.mask.shown("dependency", name) if name else "")

    def _cause_id(self, fields: EventFields, platform: str, rule: TypeRule) -> int:
        outcome = "" if rule.is_declined else outcome_name(fields.outcome)
        if outcome == "other" and fields.outcome is not None and fields.outcome != "other":
            self._ignore("outcome")
        code = code_number(fields.code)
        if code is None:
            self._ignore("code")
        reason = ""
        if isinstance(fields.reason, str):
            reason = redact_reason(fields.reason)
        elif fields.reason is not None:
            self._ignore("reason")
        limit = clean_label(fields.limit)
        if limit is None:
            self._ignore("limit")
        limit = self.mask.shown("limit", limit) if limit else ""
        fallback = fallback_name(fields.fallback) if rule.operation == DEPENDENCY else ""
        if fallback is None:
            self._ignore("fallback")
        operation = self._operation(fields, rule)
        return self.causes.id_of(
            Cause(rule.is_declined, outcome, platform, code or 0, reason, limit, operation, fallback or "")
        )

    def _note(self, fields: EventFields, rule: TypeRule, time_ns: int, prefix: bytes) -> Note:
        pairs = note_fields(fields, rule.type_id, self._ignore, self.mask)
        labels = note_labels(fields, self.mask)
        if rule.is_list:
            given = {label for label, _ in labels}
            # Calls may be of a platform, and the list names none: then its keys are of other calls.
            other = self.series.identities_unkept - given
            if not other:
                pairs += (("call_keys", listed_calls(fields.calls, prefix, self.key)),)
            shared = {label for label, value in labels if value in SHARED_WORDS}
            for label in sorted(other | shared | given - set(self.series.labels)):
                self._ignore(label)
            # One that cannot be used narrows the list too, and nobody knows to which calls.
            unusable = (label for label in LABELS if clean_label(getattr(fields, label)) is None)
            labels += tuple((label, OTHER) for label in unusable)
        return Note(time_ns, rule.type_id, labels, pairs)

    def received_ns(self, raw: RawBatch, time_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give when each row of a batch was received, in order; for a plain log, remember the newest."""
        if raw.received_ns != PLAIN_LOG_RECEIVED_NS:
            return np.full(len(time_ns), raw.received_ns, np.int64)
        log = (raw.topic, raw.partition)
        newest_ns = np.maximum.accumulate(np.maximum(time_ns, self._plain_log_ns.get(log, 0)))
        if len(newest_ns):
            self._plain_log_ns[log] = int(newest_ns[-1])
        return newest_ns

    def _ignore(self, field: str) -> None:
        """Count a value that could not be used."""
        self.fields_ignored[field] += 1


def _why_unusable(value: object, wanted: type) -> LossReason:
    """Say what is wrong with a field that must be there: absent, not of the type `wanted`, or its length."""
    if value is None:
        return LossReason.FIELD_MISSING
    return LossReason.FIELD_RANGE if isinstance(value, wanted) else LossReason.FIELD_TYPE


def _why_no_listing(calls: object, calls_max: int) -> LossReason | None:
    """Say what is wrong with a list of live calls, or with its first entry that is no call id."""
    if not isinstance(calls, list) or len(calls) > calls_max:
        return _why_unusable(calls, list)
    for call in calls:
        if not id_bytes(call):
            return LossReason.FIELD_RANGE if isinstance(call, str) else LossReason.FIELD_TYPE
    return None


def _why_of_no_limit(fields: EventFields) -> LossReason | None:
    """Say what is wrong with the first of what says which calls a note of limits is about."""
    for value in (getattr(fields, name) for name in (*LABELS, "limit")):
        if clean_label(value) is None:
            return _why_unusable(value, str)
    return None


def why_unreadable(text: bytes) -> LossReason:
    """Say why the parser refused a row.

    It is no JSON or nested too deep to read, or no object, or a field has a number that no double holds.
    """
    try:
        text.decode()
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return LossReason.NOT_JSON
    return LossReason.FIELD_RANGE if text.lstrip().startswith(b"{") else LossReason.NOT_AN_OBJECT
