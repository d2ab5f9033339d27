"""Rows that came as columns, as a Parquet file has them, and what each of them would be as a line of JSON.

The line of JSON is the meaning: a row comes to just what its line would come to. So a decoder may take what
it is sure of straight from the columns, and parse the text of any other row. Null is absent. Not a number and
infinities are absent too: JSON has none of them, and they are how some writers say "not measured". In a list
or a map all of them are the `null` of JSON.
Fields have the names of the event contract; a stage of `latency_ms` is a column `latency_ms.<stage>` here,
whether the file has it so or in a struct.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

LATENCY = "latency_ms"
STAGE_OF = LATENCY + "."
# The fields of an event; other columns are not read.
FIELDS = (
    "time", "type", "call_id", "id", "tenant", "region", "platform", "provider", "trunk", "agent", "release",
    "direction", "outcome", "code", "reason", "limit", "duration_ms", "latency_ms", "score", "metric",
    "dependency", "fallback", "used", "max", "calls", "expected", "until", "what", "from", "to", "by",
)  # fmt: skip
ASCII_END = 0x80
SPARE_BYTES = 128  # behind the last text: kernels read in blocks
ABSENT = -1
NO_JSON = b"\xff"
UNUSABLE = False  # A value that no field takes: it is ignored and counted, as it is in JSON.

ENCODER = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


def raw_json(text: bytes) -> msgspec.Raw | bool:
    """Take text that goes into a line as it stands; UNUSABLE if it is no JSON, or more than one value."""
    try:
        return msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.MsgspecError:
        return UNUSABLE


class Texts(NamedTuple):
    """Row i is `data[start[i]:start[i] + length[i]]`, ABSENT by its length; int64, shape (rows,).

    `data` is uint8, with SPARE_BYTES behind the last text. `is_json`: they are values as JSON writes them.
    """

    data: NDArray[np.uint8]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    is_json: bool = False

    def is_plain(self) -> NDArray[np.bool_]:
        """Say of each row whether it is ASCII; what is not may be no text at all."""
        if not len(self.start):
            return np.empty(0, np.bool_)
        first, stop = int(self.start.min()), int((self.start + np.maximum(self.length, 0)).max())
        data = self.data[first:stop]
        if not (data >= ASCII_END).any():
            return np.ones(len(self.start), np.bool_)
        before = np.concatenate((np.zeros(1, np.int64), np.cumsum(data >= ASCII_END)))
        start = self.start - first
        return np.asarray(before[start + np.maximum(self.length, 0)] == before[start])

    def value(self, row: int) -> object:
        """Give what to encode, or None."""
        start, length = int(self.start[row]), int(self.length[row])
        if length < 0:
            return None
        text = self.data[start : start + length].tobytes()
        return raw_json(text) if self.is_json else text.decode()

    def part(self, first: int, stop: int) -> Texts:
        return self._replace(start=self.start[first:stop], length=self.length[first:stop])

    def taken(self, rows: NDArray[np.int64]) -> Texts:
        return self._replace(start=self.start[rows], length=self.length[rows])


class Words(NamedTuple):
    """Texts of which there are few: row i is `texts[code[i]]`; a code behind the last one: absent."""

    code: NDArray[np.int32]  # shape (rows,), 0 to len(texts)
    texts: tuple[bytes, ...]

    def value(self, row: int) -> object:
        """Give what to encode, or None."""
        code = int(self.code[row])
        return self.texts[code].decode() if code < len(self.texts) else None

    def part(self, first: int, stop: int) -> Words:
        return self._replace(code=self.code[first:stop])

    def taken(self, rows: NDArray[np.int64]) -> Words:
        return self._replace(code=self.code[rows])


class Numbers(NamedTuple):
    """Numbers, int64 or float64, shape (rows,); `is_null` says which are absent.

    Of floats, these are NaN and no others are; there are no infinities.
    """

    values: NDArray[np.int64] | NDArray[np.float64]
    is_null: NDArray[np.bool_]

    def value(self, row: int) -> object:
        """Give what to encode, or None."""
        return None if self.is_null[row] else self.values[row].item()

    def part(self, first: int, stop: int) -> Numbers:
        return Numbers(self.values[first:stop], self.is_null[first:stop])

    def taken(self, rows: NDArray[np.int64]) -> Numbers:
        return Numbers(self.values[rows], self.is_null[rows])


class Others(NamedTuple):
    """Values of any other type: lists, maps, decimals, truth values; `value_of` makes one when asked."""

    value_of: Callable[[int], object]
    is_null: NDArray[np.bool_]
    first: int = 0  # what `value_of` calls the first row

    def value(self, row: int) -> object:
        """Give what to encode, or None."""
        return None if self.is_null[row] else self.value_of(self.first + row)

    def part(self, first: int, stop: int) -> Others:
        return Others(self.value_of, self.is_null[first:stop], self.first + first)

    def taken(self, rows: NDArray[np.int64]) -> Others:
        return Others(lambda row: self.value_of(self.first + int(rows[row])), self.is_null[rows])


Column = Texts | Words | Numbers | Others


def is_there(column: Column) -> NDArray[np.bool_]:
    """Say which rows have a value."""
    if isinstance(column, Texts):
        return np.asarray(column.length >= 0)
    if isinstance(column, Words):
        return np.asarray(column.code < len(column.texts))
    return ~column.is_null


class RowColumns(NamedTuple):
    """The columns of consecutive rows, by field or `latency_ms.<stage>`, in the order of the file."""

    rows: int
    fields: dict[str, Column]

    def part(self, first: int, stop: int) -> RowColumns:
        """Give some of the rows; they share the memory."""
        stop = min(stop, self.rows)
        return RowColumns(
            stop - first, {name: column.part(first, stop) for name, column in self.fields.items()}
        )

    def taken(self, rows: NDArray[np.int64]) -> RowColumns:
        """Give the rows of some places, in the order of the places; texts share the memory."""
        return RowColumns(len(rows), {name: column.taken(rows) for name, column in self.fields.items()})

    def text(self, row: int) -> bytes:
        """Write a row as a line of JSON; what is no text in UTF-8 gives what is no JSON."""
        event: dict[str, Any] = {}
        try:
            for name, column in self.fields.items():
                value = column.value(row)
                if value is None:
                    continue
                if name.startswith(STAGE_OF):
                    event.setdefault(LATENCY, {})[name.removeprefix(STAGE_OF)] = value
                else:
                    event[name] = value
            return ENCODER.encode(event)
        except (ValueError, TypeError, msgspec.MsgspecError):
            return NO_JSON
