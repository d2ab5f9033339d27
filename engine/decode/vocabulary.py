"""What the scanner knows: words, combinations of labels, causes, stages; learned from rows that were parsed.

Only what may be kept is learned: a label that is masked without a key (see `engine.decode.mask`), a reason
that is redacted, an outcome that is no word of ours never enters, so rows with them are parsed each time. Ids
come from the tables of the decoder and are final there, so what is learned never changes. Everything is
bounded; when full, the owner starts anew, which costs time and changes no result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engine.decode import scan_frame as f
from engine.decode.events import DEPENDENCY, FALLBACKS, LABELS, OUTCOMES, Cause
from engine.decode.fields import TYPE_RULES, EventFields, code_number, fallback_name
from engine.decode.identity import CALL, EVENT
from engine.decode.labels import REMEMBERED_PER_SERIES
from engine.decode.redaction import clean_label, redact_reason
from engine.decode.scan_words import add_pair, add_word, pair_at
from engine.decode.siphash import absorbed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.decode.fields import TypeRule
    from engine.decode.labels import RowLabels
    from engine.decode.mask import LabelMask
    from engine.settings import EngineSettings

WORDS_MAX = 1 << 16  # a word's number has sixteen bits
WORDS_BESIDE_LABELS = 2048  # names of fields and stages, reasons, limits, dependencies
COMBINATIONS_MAX = 1 << 16
SCRATCH_BYTES = 1 << 16

# Fields by the kind of their value; all others of `EventFields` are skipped.
KINDS = {
    "type": f.KIND_TYPE, "time": f.KIND_TIME, "call_id": f.KIND_CALL, "id": f.KIND_EVENT, "code": f.KIND_CODE,
    "latency_ms": f.KIND_LATENCY, "duration_ms": f.KIND_DURATION, "score": f.KIND_SCORE,
}  # fmt: skip
SLOTS = {
    "outcome": f.SLOT_OUTCOME, "reason": f.SLOT_REASON, "limit": f.SLOT_LIMIT,
    "dependency": f.SLOT_DEPENDENCY, "fallback": f.SLOT_FALLBACK, "metric": f.SLOT_METRIC,
}  # fmt: skip
WHOLE_SLOT = (1 << f.SLOT_BITS) - 1


def _power_of_two(at_least: int) -> int:
    return 1 << (at_least - 1).bit_length()


def _zeros(words: int) -> NDArray[np.int64]:
    return np.zeros(words, np.int64)


def _address(array: NDArray[np.int64]) -> int:
    return int(array.ctypes.data)


class Vocabulary:
    """Owns the memory that `scan_rows` works on. Not safe for use from two threads at once."""

    def __init__(
        self, settings: EngineSettings, label_names: tuple[str, ...], key: NDArray[np.uint64],
        mask: LabelMask, *, has_vectors: bool,
    ) -> None:  # fmt: skip
        """Know the names of fields, types, outcomes and fallbacks; `key` is that of identities."""
        assert len(label_names) <= f.LABELS_MAX, "a label has a slot of its own"
        labels_max = min(REMEMBERED_PER_SERIES * settings.series_max, COMBINATIONS_MAX)
        self.is_full = False
        self.slots = {label: slot for slot, label in enumerate(label_names)} | SLOTS  # of words, by field
        self._key = key
        self._mask = mask
        self._words_max = min(labels_max + WORDS_BESIDE_LABELS, WORDS_MAX)
        self._causes_max = min(REMEMBERED_PER_SERIES * settings.causes_max, COMBINATIONS_MAX)
        self._labels_max = labels_max
        self._numbers: dict[str, int] = {}
        self._label_count = self._cause_count = 0
        self.frame = _zeros(f.FRAME_WORDS)
        self.address = _address(self.frame)
        self._words = _zeros(self._words_max * f.WORD_BYTES // f.WORD)
        self._phrases = _zeros(self._words_max * f.PHRASE_BYTES // f.WORD)
        self._labels = _zeros(labels_max * f.LABEL_BYTES // f.WORD)
        self._rules = _zeros(len(TYPE_RULES) * f.RULE_BYTES // f.WORD)
        self._scratch = _zeros(SCRATCH_BYTES // f.WORD)
        self._queues = [_zeros(f.QUEUE_BYTES // f.WORD) for _ in range(2)]
        self._tables = [
            _zeros(2 * _power_of_two(count) * f.SLOT_BYTES // f.WORD)
            for count in (self._words_max, labels_max, self._causes_max)
        ]
        self._lay_out(settings, has_vectors=has_vectors)
        self._know_names(label_names)

    def _lay_out(self, settings: EngineSettings, *, has_vectors: bool) -> None:
        word_table, label_table, cause_table = self._tables
        for place, value in (
            (f.HAS_VECTORS, int(has_vectors)),
            (f.SEED, int(self._key.view(np.int64)[0])),
            (f.ROW_BYTES_MAX, settings.row_bytes_max),
            (f.MEASURES_MAX, settings.measures_max),
            (f.SCRATCH, _address(self._scratch)),
            (f.SCRATCH_BYTES, SCRATCH_BYTES),
            (f.WORDS, _address(self._words)),
            (f.PHRASES, _address(self._phrases)),
            (f.WORD_SLOTS, _address(word_table)),
            (f.WORD_MASK, len(word_table) * f.WORD // f.SLOT_BYTES - 1),
            (f.LABEL_SLOTS, _address(label_table)),
            (f.LABEL_MASK, len(label_table) * f.WORD // f.SLOT_BYTES - 1),
            (f.CAUSE_SLOTS, _address(cause_table)),
            (f.CAUSE_MASK, len(cause_table) * f.WORD // f.SLOT_BYTES - 1),
            (f.CALL_QUEUE, _address(self._queues[0])),
            (f.EVENT_QUEUE, _address(self._queues[1])),
            (f.RULES, _address(self._rules)),
        ):
            self.put(place, value)

    def put(self, place: int, value: int) -> None:
        """Write a number of the frame."""
        self.frame[place // f.WORD] = value

    def place(self, arrays: dict[int, NDArray[Any]]) -> None:
        """Write where arrays lie; the caller keeps them alive."""
        for place, array in arrays.items():
            self.put(place, int(array.ctypes.data))

    def take_admissions(self) -> list[int]:
        """Give how many rows were taken since the last time, by `Admission`."""
        counts = self.frame[f.ROWS_BY_ADMISSION // f.WORD :]
        rows: list[int] = counts.tolist()
        counts[:] = 0
        return rows

    def get(self, place: int) -> int:
        """Read a number of the frame."""
        return int(self.frame[place // f.WORD])

    def number_of(self, text: str) -> int:
        """Give the number of a word; 0: it is not known."""
        return self._numbers.get(text, 0)

    def word_address(self, text: str) -> int:
        """Give where a word stands; 0: it is not known."""
        number = self.number_of(text)
        return _address(self._words) + number * f.WORD_BYTES if number else 0

    def _know_names(self, label_names: tuple[str, ...]) -> None:
        # These words have no text: what comes after them is the first field or stage, or the one behind it.
        self._words_count = 4
        for number in range(4):
            self.put(f.FIRST_FIELD + number * f.WORD, _address(self._words) + number * f.WORD_BYTES)
        for bit, name in enumerate(EventFields.__struct_encode_fields__):
            slots = dict.fromkeys(LABELS, f.SLOT_UNWANTED) | self.slots
            slot = slots.get(name, 0)
            kind = f.KIND_WORD if name in slots else KINDS.get(name, f.KIND_SKIPPED)
            number = self._word(name)
            self._set(number, f.WORD_FIELD, kind | slot << f.KIND_BITS | 1 << bit + 2 * f.KIND_BITS)
        self.put(f.PLATFORM_SLOT, label_names.index("platform"))
        for name in (*OUTCOMES, *FALLBACKS):
            self._word(name)
        labels_missing = (1 << len(label_names)) - 1
        for name, rule in TYPE_RULES.items():
            if not rule.is_note:
                self._set(self._word(name), f.WORD_TYPE, rule.type_id + 1)
                self._know_rule(rule, labels_missing)
        self.put(f.LAST_TYPE, _address(self._words) + self._word("turn.completed") * f.WORD_BYTES)

    def _know_rule(self, rule: TypeRule, missing: int) -> None:
        flags = 0
        for is_so, flag in (
            (rule.needs_call, f.NEEDS_CALL),
            (rule.has_latency, f.HAS_LATENCY),
            (rule.has_cause, f.HAS_CAUSE),
            (rule.has_duration, f.HAS_DURATION),
            (rule.is_score, f.IS_SCORE),
            (bool(rule.duration_stage), f.MEASURES_DURATION),
        ):
            flags |= flag if is_so else 0
        cause = _cause_slots(rule)
        for slot in cause:
            missing |= 1 << slot
        missing |= 1 << f.SLOT_STAGE if rule.has_latency else 0
        missing |= 1 << f.SLOT_METRIC if rule.is_score else 0
        masks = [
            sum(WHOLE_SLOT << f.SLOT_BITS * (slot % 4) for slot in cause if slot // 4 == half)
            for half in (2, 3)
        ]
        place = rule.type_id * f.RULE_BYTES // f.WORD
        self._rules[place : place + 4].view(np.uint64)[:] = flags, missing, *masks

    def _set(self, number: int, place: int, value: int) -> None:
        self._words[(number * f.WORD_BYTES + place) // f.WORD] = value

    def _word(self, text: str) -> int:
        """Give the number of a word, which is learned if need be; 0: it is not taken."""
        number = self._numbers.get(text)
        if number is not None:
            return number
        raw = text.encode()
        if len(raw) > f.WORD_TEXT_MAX or '"' in text or "\\" in text:
            return 0
        if self._words_count == self._words_max:
            self.is_full = True
            return 0
        number = self._words_count
        first = number * f.WORD_BYTES
        entry = self._words[first // f.WORD : (first + f.WORD_BYTES) // f.WORD]
        entry.view(np.uint8)[: len(raw) + 1] = list(raw + b'"')
        entry[f.WORD_LENGTH // f.WORD] = len(raw)
        if not add_word(number, len(raw), self.address):
            entry[:] = 0
            return 0
        self._words_count += 1
        self._numbers[text] = number
        return number

    def learn_labels(self, values: tuple[str | None, ...], labels: RowLabels) -> bool:
        """Learn what a combination of labels comes to; False: it is not taken, or known."""
        if self._label_count == self._labels_max:
            self.is_full = True
            return False
        numbers = [0 if value is None else self._word(value) for value in values]
        if any(number == 0 and value is not None for number, value in zip(numbers, values, strict=True)):
            return False
        low, high = (
            sum(number << f.SLOT_BITS * place for place, number in enumerate(numbers[half : half + 4]))
            for half in (0, 4)
        )
        place = self._label_count * f.LABEL_BYTES // f.WORD
        entry = self._labels[place : place + f.LABEL_BYTES // f.WORD]
        found = _address(entry)
        if not self._add(f.LABEL_SLOTS, (low, high), found):
            return False
        self._label_count += 1
        entry[: f.LABEL_PREFIX_BYTES // f.WORD] = labels.series_id, labels.admission
        entry[f.LABEL_PREFIX_BYTES // f.WORD] = len(CALL + labels.prefix)
        for kind, where in ((CALL, f.LABEL_CALL), (EVENT, f.LABEL_EVENT)):
            state = absorbed(np.frombuffer(kind + labels.prefix, np.uint8), self._key)
            entry[where // f.WORD :][: f.SIP_WORDS] = state.view(np.int64)
        return True

    def learn_unwanted(self, name: str, value: object) -> None:
        """Learn the value of a label that nothing needs, if it may be kept: it may be part of a phrase."""
        text = clean_label(value)
        if text and self._mask.may_be_learned(name, text):
            self._word(text)

    def _add(self, slots: int, pair: tuple[int, int], found: int) -> bool:
        mask = slots + f.WORD  # stands behind the address of the slots
        one, other = np.array(pair, np.uint64).view(np.int64).tolist()
        table = self.get(f.SEED), self.get(slots), self.get(mask)
        return pair_at(one, other, *table) == 0 and add_pair(one, other, found, *table)

    def learn_cause(self, fields: EventFields, rule: TypeRule, cause_id: int) -> bool:
        """Learn the cause of a row, see `kept_cause`; False: it is not taken, or known."""
        if self._cause_count == self._causes_max:
            self.is_full = True
            return False
        halves = [0, 0]
        for slot, name in _cause_slots(rule).items():
            value = getattr(fields, name)
            number = 0 if value is None else self._word(value)
            if number == 0 and value is not None:
                return False
            halves[slot // 4 - 2] |= number << f.SLOT_BITS * (slot % 4)
        code = code_number(fields.code) or 0
        number = 0 if fields.platform is None else self._word(fields.platform)
        if number == 0 and fields.platform is not None:
            return False  # 0 is what rows without a platform have.
        halves[1] |= code << f.CODE_SHIFT | number << f.PLATFORM_SHIFT | rule.type_id << f.TYPE_SHIFT
        is_added = self._add(f.CAUSE_SLOTS, (halves[0], halves[1]), cause_id + 1)
        self._cause_count += is_added
        return is_added

    def learn_stage(self, name: str, stage_id: int, *, is_metric: bool = False) -> bool:
        """Learn the id of a stage or metric; False: it is not taken, or known."""
        number = self._word(name)
        place = (number * f.WORD_BYTES + (f.WORD_METRIC if is_metric else f.WORD_STAGE)) // f.WORD
        if number == 0 or self._words[place]:
            return False
        self._words[place] = stage_id + 1
        return True

    def learn_stage_of_type(self, type_id: int, stage_id: int) -> bool:
        """Learn the stage that the duration of a type of event is a measure of, or a score's usual metric."""
        place = (type_id * f.RULE_BYTES + f.RULE_STAGE) // f.WORD
        is_new = not self._rules[place]
        self._rules[place] = stage_id + 1
        return is_new


def kept_cause(fields: EventFields, rule: TypeRule, platform: str, mask: LabelMask) -> Cause | None:
    """Give the cause of a row if it is kept as it was written, nothing ignored, masked or redacted."""
    outcome = "other" if fields.outcome is None else fields.outcome
    code = code_number(fields.code)
    texts = [_kept_label("limit", fields.limit, mask)]
    if rule.operation == DEPENDENCY:
        texts += [_kept_label("dependency", fields.dependency, mask), fallback_name(fields.fallback)]
    reason = "" if fields.reason is None else fields.reason
    if code is None or None in texts or not isinstance(reason, str) or redact_reason(reason) != reason:
        return None
    if not rule.is_declined and (not isinstance(outcome, str) or outcome not in OUTCOMES):
        return None
    limit, dependency, fallback = (*texts, "", "")[:3]
    operation = rule.operation + (dependency or "")
    outcome = "" if rule.is_declined else outcome
    return Cause(rule.is_declined, outcome, platform, code, reason, limit or "", operation, fallback or "")


def _kept_label(name: str, value: object, mask: LabelMask) -> str | None:
    text = clean_label(value)
    return text if text is not None and mask.shown(name, text) == text else None


def _cause_slots(rule: TypeRule) -> dict[int, str]:
    """Name the slots that make the cause of a type of event, and their fields."""
    if not rule.has_cause:
        return {}
    names = ["reason", "limit"]
    names += [] if rule.is_declined else ["outcome"]
    names += ["dependency", "fallback"] if rule.operation == DEPENDENCY else []
    return {SLOTS[name]: name for name in names}
