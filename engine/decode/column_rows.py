"""Rows that came as columns, made ready for the kernel: addresses, and which rows the parser must read.

What each text of a dictionary is to the scanner is looked up once, not once for each row, and again where the
parser just read something new. What does not fit its field (a number as a label, a negative duration, an
id that is empty, too long or not ASCII) is marked; the parser then reads the row as the line of JSON it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engine.decode import scan_columns as c
from engine.decode import scan_frame as f
from engine.decode.fields import code_number
from engine.decode.identity import ID_BYTES_MAX
from engine.decode.scan_columns import scan_columns
from engine.source.columns import STAGE_OF, Column, Numbers, RowColumns, Texts, Words, is_there

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.decode.vocabulary import Vocabulary

CODE_END = 10**6
UNUSABLE = -1
UNKNOWN, ABSENT = 0, -1


class WordNumbers:
    """What the texts of dictionaries are to one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Know no dictionary."""
        self.vocabulary = vocabulary
        self._known: dict[str, tuple[tuple[bytes, ...], NDArray[np.int64]]] = {}

    def of(self, field: str, words: Words) -> NDArray[np.int64]:
        """Give the number of the word of each code; UNKNOWN, or ABSENT for the last code."""
        texts, numbers = self._known.get(field, ((), None))
        if numbers is None or texts is not words.texts:
            numbers = np.array([*map(self._number, words.texts), ABSENT], np.int64)
            self._known[field] = (words.texts, numbers)
        return numbers

    def renew(self, field: str, words: Words, row: int) -> None:
        """Look the word of a row up again."""
        code = int(words.code[row])
        if code < len(words.texts):
            self.of(field, words)[code] = self._number(words.texts[code])

    def codes(self, words: Words) -> NDArray[np.int64]:
        """Give the number that each text is as the code of a call; UNUSABLE if it is none."""
        texts, numbers = self._known.get("code", ((), None))
        if numbers is None or texts is not words.texts:
            numbers = np.array([*map(_code, words.texts), 0], np.int64)
            self._known["code"] = (words.texts, numbers)
        return numbers

    def _number(self, text: bytes) -> int:
        try:
            return self.vocabulary.number_of(text.decode())
        except UnicodeDecodeError:
            return UNKNOWN


def _code(text: bytes) -> int:
    try:
        number = code_number(text.decode())
    except UnicodeDecodeError:
        number = None
    return UNUSABLE if number is None else number


class ColumnRows:
    """The rows of a batch for `scan_columns`; keeps alive what the kernel reads."""

    def __init__(self, columns: RowColumns, numbers: WordNumbers) -> None:
        """Look at every column that the scanner knows."""
        self._columns = columns
        self._numbers = numbers
        self._vocabulary = numbers.vocabulary
        self._must_parse = np.zeros(columns.rows, np.bool_)
        self._kept: list[NDArray[Any]] = [self._must_parse]
        self._table = np.zeros(c.TABLE_WORDS, np.int64)
        self._words: list[tuple[str, Words]] = []
        self._stages: list[str] = []
        words: list[int] = []
        stages: list[int] = []
        self._put(c.MUST_PARSE, self._must_parse)
        for name, column in columns.fields.items():
            if name.startswith(STAGE_OF):
                self._stages.append(name.removeprefix(STAGE_OF))
                stages += (self._address(self._quantities(column, negative_is_absent=True)), 0)
            elif name in self._vocabulary.slots:
                self._take_word(name, column, words)
            else:
                self._take(name, column)
        self._word_columns, self._stage_columns = np.array(words, np.int64), np.array(stages, np.int64)
        self._put(c.WORD_COLUMNS, self._word_columns)
        self._put(c.STAGE_COLUMNS, self._stage_columns)
        count = len(words) // c.WORD_COLUMN_WORDS
        self._table[c.COUNTS // f.WORD] = count | len(self._stages) << 32
        self._find_stages()

    @property
    def measures_max(self) -> int:
        """How many measures the rows have at most, those of the row in hand included."""
        return self._columns.rows * (len(self._stages) + 1)

    def scan(self, first: int, new_max: int) -> int:
        """Take rows from `first` on, see `scan_columns`."""
        address = int(self._table.ctypes.data)
        return scan_columns(address, self._vocabulary.address, first, self._columns.rows, new_max)

    def renew(self, row: int) -> None:
        """Look up again what a row holds: something of it may have been learned."""
        for name, words in self._words:
            self._numbers.renew(name, words, row)
        self._find_stages()

    def _find_stages(self) -> None:
        for place, stage in enumerate(self._stages):
            word = self._vocabulary.word_address(stage)
            self._stage_columns[place * c.STAGE_COLUMN_WORDS + 1] = word

    def _address(self, array: NDArray[Any]) -> int:
        self._kept.append(array)
        return int(array.ctypes.data)

    def _put(self, place: int, array: NDArray[Any]) -> None:
        self._table[place // f.WORD] = self._address(array)

    def _take_word(self, name: str, column: Column, words: list[int]) -> None:
        if isinstance(column, Words):
            self._words.append((name, column))
            codes = self._address(np.ascontiguousarray(column.code))
            words += (codes, self._address(self._numbers.of(name, column)), self._vocabulary.slots[name])
        else:
            self._must_parse |= is_there(column)

    def _take(self, name: str, column: Column) -> None:
        if name == "time":
            self._take_time(column)
        elif name == "type" and isinstance(column, Words):
            self._put(c.TYPE_CODES, np.ascontiguousarray(column.code))
            self._put(c.TYPE_WORDS, self._numbers.of(name, column))
        elif name in ("call_id", "id"):
            self._take_ids(column, c.CALL_DATA if name == "call_id" else c.EVENT_DATA)
        elif name == "code":
            self._put(c.CODES, self._codes(column))
        elif name in ("duration_ms", "score"):
            place = c.DURATIONS if name == "duration_ms" else c.SCORES
            self._put(place, self._quantities(column, negative_is_absent=False))
        elif name in ("latency_ms", "type"):
            self._must_parse |= is_there(column)

    def _take_time(self, column: Column) -> None:
        """Give the times to the kernel; of another type the parser says what is wrong with them."""
        kind = c.NO_TIME
        if isinstance(column, Numbers) and column.values.dtype == np.int64:
            kind = c.TIME_INTEGERS
            self._put(c.TIME_VALUES, np.where(column.is_null, 0, column.values))
        elif isinstance(column, Texts):
            kind = c.TIME_NUMBERS if column.is_json else c.TIME_TEXTS
            self._put_texts(column, c.TIME_DATA)
        self._table[c.TIME_KIND // f.WORD] = kind

    def _take_ids(self, column: Column, place: int) -> None:
        if not isinstance(column, Texts) or column.is_json:
            self._must_parse |= is_there(column)
            return
        self._must_parse |= (column.length == 0) | (column.length > ID_BYTES_MAX) | ~column.is_plain()
        self._put_texts(column, place)

    def _put_texts(self, column: Texts, place: int) -> None:
        self._put(place, column.data)
        self._put(place + f.WORD, np.ascontiguousarray(column.start))
        self._put(place + 2 * f.WORD, np.maximum(column.length, 0))

    def _codes(self, column: Column) -> NDArray[np.int64]:
        """Give the codes, 0 where absent, and leave to the parser what is none."""
        if isinstance(column, Words):
            codes = self._numbers.codes(column)[column.code]
        elif isinstance(column, Numbers):
            codes = np.where(column.is_null, 0, column.values)
            is_code = (codes >= 0) & (codes < CODE_END)
            if codes.dtype != np.int64:
                is_code &= codes == np.floor(codes)
            codes = np.where(is_code, codes, UNUSABLE).astype(np.int64, copy=False)
        else:
            codes = np.where(is_there(column), UNUSABLE, 0)
        self._must_parse |= codes == UNUSABLE
        return codes

    def _quantities(self, column: Column, *, negative_is_absent: bool) -> NDArray[np.float64]:
        """Give numbers, NaN where absent."""
        if not isinstance(column, Numbers):
            self._must_parse |= is_there(column)
            return np.full(self._columns.rows, np.nan)
        values = column.values.astype(np.float64, copy=False)
        if column.values.dtype != np.float64:
            values = np.where(column.is_null, np.nan, values)
        if not negative_is_absent:
            self._must_parse |= values < 0
        return values
