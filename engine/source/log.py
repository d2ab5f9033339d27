"""One log, in whatever format: lines of JSON, compressed or not, or columns of Parquet."""

from __future__ import annotations

from engine.source.columns import RowColumns
from engine.source.compression import STDIN
from engine.source.lines import LogRows, Rows, rows_of
from engine.source.parquet import ParquetLog, is_parquet

Log = LogRows | ParquetLog
Piece = Rows | RowColumns | list[bytes]


def open_log(path: str, row_bytes_max: int) -> Log:
    """Open a log; a SourceError says why it cannot be."""
    if path != STDIN and is_parquet(path):
        return ParquetLog(path)
    return LogRows(path, row_bytes_max)


def texts_of(piece: Rows | RowColumns) -> list[bytes]:
    """Give the rows of a piece one by one, those of columns as the lines of JSON that they are."""
    if isinstance(piece, RowColumns):
        return list(map(piece.text, range(piece.rows)))
    return rows_of(piece)


def rows_in(piece: Rows | RowColumns) -> int:
    """Say how many rows a piece has."""
    return piece.rows if isinstance(piece, RowColumns) else len(piece.start)
