"""Pieces of logs side by side: rows of lines, or of columns where all of them came as such.

Columns of several files are one block of columns if their fields come in an order that suits all, which is
so of files that one writer made. Texts are not copied to put rows in order, only where they stand; labels
share one dictionary. A field that differs in type from piece to piece is read row by row. What does not
suit, and a piece of lines beside one of columns, is turned into lines of JSON: the same rows, only slower.
"""

from __future__ import annotations

from itertools import starmap
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.source.columns import (
    ABSENT,
    SPARE_BYTES,
    Column,
    Numbers,
    Others,
    RowColumns,
    Texts,
    Words,
    is_there,
)
from engine.source.lines import NOTHING_YET, Rows
from engine.source.log import rows_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engine.source.log import Piece

Part = tuple[int, Column | None]  # how many rows, and what they have of a field


def lines_of(piece: Piece) -> Rows:
    """Give rows as lines, those of columns as the lines of JSON that they are."""
    if isinstance(piece, Rows):
        return piece
    texts = list(map(piece.text, range(piece.rows)))
    end = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), dtype=np.int64)
    return Rows(b"".join(texts), np.concatenate((np.zeros(1, np.int64), end[:-1])), end)


def part_of(piece: Piece, first: int, stop: int) -> Piece:
    """Give some of the rows; they share the memory."""
    if isinstance(piece, RowColumns):
        return piece.part(first, stop)
    return Rows(piece.data, piece.start[first:stop], piece.end[first:stop])


def side_by_side(pieces: Sequence[Piece]) -> Piece:
    """Put the rows of several pieces into one, in their order; lines lie in order in their buffer."""
    pieces = [piece for piece in pieces if rows_in(piece)]
    columns = [piece for piece in pieces if isinstance(piece, RowColumns)]
    if columns and len(columns) == len(pieces):
        together = columns[0] if len(columns) == 1 else columns_side_by_side(columns)
        if together is not None:
            return together
    starts, ends, data = [], [], []
    size = 0
    for part in map(lines_of, pieces):
        first, last = int(part.start[0]), int(part.end[-1])
        data.append(part.data[first:last])
        starts.append(part.start + (size - first))
        ends.append(part.end + (size - first))
        size += last - first
    if not data:
        return NOTHING_YET
    return Rows(b"".join(data), np.concatenate(starts), np.concatenate(ends))


def columns_side_by_side(pieces: Sequence[RowColumns]) -> RowColumns | None:
    """Put columns below each other; None if no order of the fields is that of all pieces."""
    names = _names(pieces)
    if names is None:
        return None
    fields = {name: _column([(piece.rows, piece.fields.get(name)) for piece in pieces]) for name in names}
    return RowColumns(sum(piece.rows for piece in pieces), fields)


def _names(pieces: Sequence[RowColumns]) -> list[str] | None:
    """Give all fields in an order in which those of each piece come as they do there."""
    names: list[str] = []
    for fields in dict.fromkeys(tuple(piece.fields) for piece in pieces):
        at = 0
        for name in fields:
            if name not in names:
                names.insert(at, name)
            elif names.index(name) < at:
                return None
            at = names.index(name) + 1
    return names


def _column(parts: Sequence[Part]) -> Column:
    """Put the parts of a column below each other."""
    there = [column for _, column in parts if column is not None]
    kinds = {
        (
            type(one),
            one.values.dtype if isinstance(one, Numbers) else isinstance(one, Texts) and one.is_json,
        )
        for one in there
    }
    if len(kinds) == 1:
        if isinstance(there[0], Texts):
            return _texts(parts, is_json=there[0].is_json)
        if isinstance(there[0], Words):
            return _words(parts)
        if isinstance(there[0], Numbers):
            return _numbers(parts, there[0].values.dtype)
    return _others(parts)


def _texts(parts: Sequence[Part], *, is_json: bool) -> Texts:
    """Take only the bytes that the rows have."""
    data, starts, lengths = [], [], []
    size = 0
    for rows, column in parts:
        if not isinstance(column, Texts):
            starts.append(np.zeros(rows, np.int64))
            lengths.append(np.full(rows, ABSENT, np.int64))
            continue
        first, stop = int(column.start.min()), int((column.start + np.maximum(column.length, 0)).max())
        data.append(column.data[first:stop])
        starts.append(column.start + (size - first))
        lengths.append(column.length)
        size += stop - first
    data.append(np.zeros(SPARE_BYTES, np.uint8))
    return Texts(np.concatenate(data), np.concatenate(starts), np.concatenate(lengths), is_json)


def _words(parts: Sequence[Part]) -> Words:
    """Make one dictionary; of a long one only what the rows have."""
    place: dict[bytes, int] = {}
    renamed = []
    for rows, column in parts:
        if not isinstance(column, Words):
            renamed.append(np.full(rows, ABSENT, np.int64))
            continue
        count = len(column.texts)
        used = range(count) if count <= rows else np.unique(column.code[column.code < count]).tolist()
        names = np.full(count + 1, ABSENT, np.int64)
        for code in used:
            names[code] = place.setdefault(column.texts[code], len(place))
        renamed.append(names[column.code])
    codes = np.concatenate(renamed)
    return Words(np.where(codes == ABSENT, len(place), codes).astype(np.int32), tuple(place))


def _numbers(parts: Sequence[Part], kind: np.dtype[Any]) -> Numbers:
    """Absent is NaN among floats."""
    absent = np.nan if kind == np.float64 else 0
    values: NDArray[Any] = np.concatenate(
        [
            column.values if isinstance(column, Numbers) else np.full(rows, absent, kind)
            for rows, column in parts
        ]
    )
    return Numbers(values, np.concatenate(list(starmap(_absent, parts))))


def _others(parts: Sequence[Part]) -> Others:
    """Ask the part that a row is of."""
    first = np.cumsum([0, *(rows for rows, _ in parts)])
    columns = [column for _, column in parts]

    def value_of(row: int) -> object:
        part = int(np.searchsorted(first, row, side="right")) - 1
        column = columns[part]
        return None if column is None else column.value(row - int(first[part]))

    return Others(value_of, np.concatenate(list(starmap(_absent, parts))))


def _absent(rows: int, column: Column | None) -> NDArray[np.bool_]:
    return np.ones(rows, np.bool_) if column is None else ~is_there(column)
