"""One log, in whatever format: lines of JSON, compressed or not, or columns of Parquet."""

from __future__ import annotations

from engine.source.columns import RowColumns
from engine.source.compression import STDIN
from engine.source.lines import LogRows, Rows
from engine.source.parquet import CHUNK_ROWS_MAX, ParquetLog, is_parquet

Log = LogRows | ParquetLog
Piece = Rows | RowColumns


def open_log(path: str, row_bytes_max: int, chunk_rows_max: int = CHUNK_ROWS_MAX) -> Log:
    """Open a log, whose columns come so many rows at a time; a SourceError says why it cannot be."""
    if path != STDIN and is_parquet(path):
        return ParquetLog(path, chunk_rows_max)
    return LogRows(path, row_bytes_max)


def rows_in(piece: Piece) -> int:
    """Say how many rows a piece has."""
    return piece.rows if isinstance(piece, RowColumns) else len(piece.start)
