"""Logs in Parquet: columns as they lie in the file, with no Python object for a row.

A column has the name of a field of the event contract; `latency_ms` is a struct of stages, or a column
`latency_ms.<stage>` for each. Any integer, float, text, dictionary or timestamp type that says what the
contract wants will do; what is rarer (lists, maps, decimals) is read as well, row by row. So is what the file
says is JSON, as DuckDB writes a column whose values differ in kind.
A file is read some rows at a time, whatever the size of its row groups: pages are decompressed one by one,
and labels come as the dictionaries that they are in the file. Numbers stay where Arrow has them. A timestamp
without a zone is refused: DuckDB and pandas write local time so as well as UTC, and a guess that is wrong
moves every alert by hours.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from engine.errors import SourceError, UsageError
from engine.source.columns import (
    ABSENT,
    FIELDS,
    LATENCY,
    SPARE_BYTES,
    STAGE_OF,
    UNUSABLE,
    Column,
    Numbers,
    Others,
    RowColumns,
    Texts,
    Words,
    raw_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Number = TypeVar("Number", np.int32, np.int64, np.float64)
CHUNK_ROWS_MAX = 1 << 18  # are read at a time,
CHUNK_VALUES = 1 << 21  # or so many values of all columns together, whatever is less
COLUMNS_MAX = 512  # that are read; a stage is one
BUFFER_BYTES = 1 << 20  # of a compressed column in memory
MAGIC = b"PAR1"
SUFFIXES = (".parquet", ".pq")
INSTALL = "install it with: pip install 'callgauge[parquet]'"
# Fields whose texts differ from row to row; those of the others are dictionaries.
SELDOM_REPEATED = ("time", "call_id", "id", "calls", "until")
# A row of a call has its id, which a dictionary holds once: worth it where the file has it so. Written out, a
# text takes four bytes and its own; numbers in a dictionary take two.
CALL = "call_id"
DICTIONARY_BYTES_MAX = 8
UNIT_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
# A number of nanoseconds below this would be read as one of a coarser unit (1973 is out of range anyway).
NS_LEAST = 10**17


def is_parquet(path: str) -> bool:
    """Tell by the name, or by the first bytes; those of a pipe are not to be had twice."""
    if path.endswith(SUFFIXES):
        return True
    try:
        if not Path(path).is_file():
            return False
        with Path(path).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _pyarrow() -> tuple[Any, Any]:
    """Import pyarrow, which is large and only for who has Parquet."""
    try:
        import pyarrow as pa
        import pyarrow.compute
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError("reading Parquet needs pyarrow, which is not installed", hint=INSTALL) from None
    return pa, pq


class ParquetLog:
    """One open file. `bytes_done` of `bytes_total` are read, by the share of its rows."""

    def __init__(self, path: str, chunk_rows_max: int = CHUNK_ROWS_MAX) -> None:
        """Open the file and look at its columns; a SourceError says what is wrong with it."""
        self.name = path
        self._pa, pq = _pyarrow()
        try:
            self.bytes_total = Path(path).stat().st_size
            contents = pq.read_metadata(path)
            repeated = _repeated(contents, self._pa.types)
            self._file = pq.ParquetFile(
                path, metadata=contents, read_dictionary=repeated, pre_buffer=False,
                buffer_size=BUFFER_BYTES, page_checksum_verification=True, arrow_extensions_enabled=True,
            )  # fmt: skip
        except (OSError, self._pa.ArrowException) as error:
            raise self._failure("cannot be read as Parquet", error) from error
        self._rows = int(self._file.metadata.num_rows)
        self._rows_done = 0
        schema = self._file.schema_arrow
        columns = _wanted(schema, self._pa, path)
        values = sum(max(schema.field(name).type.num_fields, 1) for name in columns)
        self._chunk_rows = min(chunk_rows_max, CHUNK_VALUES // max(values, 1))
        self._chunks = self._read(columns)

    @property
    def bytes_done(self) -> int:
        """How much of the file has been read."""
        return self.bytes_total * self._rows_done // max(self._rows, 1)

    def read(self) -> RowColumns | None:
        """Give the next rows, None at the end; SourceError at damage."""
        return next(self._chunks, None)

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._chunks = iter(())
        self._file.close()

    def _read(self, columns: list[str]) -> Iterator[RowColumns]:
        if not columns:  # Rows without a field are rows all the same.
            for first in range(0, self._rows, self._chunk_rows):
                rows = min(self._chunk_rows, self._rows - first)
                self._rows_done += rows
                yield RowColumns(rows, {})
            return
        try:
            for batch in self._file.iter_batches(self._chunk_rows, columns=columns, use_threads=False):
                if batch.num_rows:
                    self._rows_done += batch.num_rows
                    yield RowColumns(batch.num_rows, _fields(batch, self._pa))
        except (OSError, self._pa.ArrowException) as error:
            raise self._failure("cannot be read further", error) from error

    def _failure(self, what: str, error: Exception) -> SourceError:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "the rows before this place were read; write the file again, or check that it is whole"
        return SourceError(what, where=self.name, cause=cause, hint=hint)


def _repeated(contents: Any, kinds: Any) -> list[str]:
    """Name the columns that are read as dictionaries, by what the file says of its contents."""
    stored = (contents.schema.column(place) for place in range(contents.num_columns))
    json = {column.path for column in stored if column.logical_type.type == "JSON"}
    return [
        field.name for field in contents.schema.to_arrow_schema()
        if field.name in FIELDS and field.name not in json and _is_text(field.type, kinds)
        and (field.name not in SELDOM_REPEATED or (field.name == CALL and _has_dictionary(contents)))
    ]  # fmt: skip


def _has_dictionary(contents: Any) -> bool:
    """Say whether the ids of calls are a dictionary in the file, by what a value takes in the first rows."""
    if not contents.num_row_groups:
        return False
    group = contents.row_group(0)
    stored = (group.column(place) for place in range(group.num_columns))
    return any(
        column.path_in_schema == CALL
        and column.total_uncompressed_size < DICTIONARY_BYTES_MAX * column.num_values
        for column in stored
    )


def _wanted(schema: Any, pa: Any, path: str) -> list[str]:
    """Name the columns to read; SourceError if one cannot be taken for what its name says."""
    names = [name for name in schema.names if name in FIELDS or name.startswith(STAGE_OF)]
    stages = [name for name in names if name.startswith(STAGE_OF)]
    if LATENCY in names and pa.types.is_struct(kind := schema.field(LATENCY).type):
        stages += [STAGE_OF + kind.field(place).name for place in range(kind.num_fields)]
    twice = {name for name in names if names.count(name) > 1} | {
        name for name in stages if stages.count(name) > 1
    }
    if twice:
        raise SourceError("has a column twice", where=path, cause=min(twice), hint="keep one of them")
    if len(names) + len(stages) > COLUMNS_MAX:
        raise SourceError(f"has more than {COLUMNS_MAX} columns of events", where=path,
                          hint="one column for each stage, not for each call")  # fmt: skip
    if "time" in names and pa.types.is_timestamp(kind := schema.field("time").type) and kind.tz is None:
        raise SourceError(
            "the column `time` is a timestamp without a zone", where=path,
            hint="write it with one, such as TIMESTAMP WITH TIME ZONE, or as a number since 1970",
        )  # fmt: skip
    return names


def _fields(batch: Any, pa: Any) -> dict[str, Column]:
    """Convert the columns of a batch."""
    fields: dict[str, Column] = {}
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        if name == LATENCY and pa.types.is_struct(array.type):
            for place, stage in enumerate(array.flatten()):
                fields[STAGE_OF + array.type.field(place).name] = _column("", stage, pa)
        elif not pa.types.is_null(array.type):
            fields[name] = _column(name, array, pa)
    return fields


def _column(name: str, array: Any, pa: Any) -> Column:
    """Convert a column, by its type alone but for `time` and the fields whose texts seldom repeat."""
    kinds = pa.types
    if kinds.is_dictionary(array.type):
        if not _is_text(array.type.value_type, kinds):
            array = array.dictionary_decode()
        elif name in SELDOM_REPEATED:
            return _repeated_texts(array, pa)
        else:
            return _words(array, pa)
    kind = array.type
    if _is_json(kind):
        return _json_texts(array.storage, pa)
    if _is_text(kind, kinds):
        return _texts(array, pa) if name in SELDOM_REPEATED else _words(array.dictionary_encode(), pa)
    if kinds.is_timestamp(kind):
        return _moments(array, pa) if kind.tz is not None else _texts(array.cast(pa.string()), pa)
    if kinds.is_floating(kind):
        return _floats(name, array, pa)
    if kinds.is_integer(kind) and _fits(array, kinds):
        return Numbers(_values(array.cast(pa.int64()), np.int64), _is_null(array))
    is_null = array.is_null().to_numpy(zero_copy_only=False)
    return Others(lambda row: _value(array[row], kind, kinds), is_null)


def _value(scalar: Any, kind: Any, kinds: Any) -> Any:
    """Give what to encode for a value; UNUSABLE where Python has none for it, such as the year 29349."""
    try:
        return _meant(scalar.as_py(), kind, kinds)
    except UnicodeDecodeError:  # What is no text is no JSON either.
        raise
    except (ValueError, OverflowError):
        return UNUSABLE


def _meant(value: Any, kind: Any, kinds: Any) -> Any:
    """Give what to encode for what pyarrow makes of a value: of a map it gives pairs, of JSON the text."""
    if value is None:
        return None
    if _is_json(kind):
        return raw_json(value.encode())
    if kinds.is_map(kind):
        return {key: _meant(item, kind.item_type, kinds) for key, item in value}
    if kinds.is_struct(kind):
        return {name: _meant(item, kind.field(name).type, kinds) for name, item in value.items()}
    if isinstance(value, list):
        return [_meant(item, kind.value_type, kinds) for item in value]
    return value


def _is_json(kind: Any) -> bool:
    return bool(getattr(kind, "extension_name", "") == "arrow.json")


def _fits(integers: Any, kinds: Any) -> bool:
    """Say whether int64 holds them all; only of uint64 it may not."""
    if not kinds.is_uint64(integers.type):
        return True
    values = integers.fill_null(0).to_numpy(zero_copy_only=False)
    return int(values.max(initial=0)) <= np.iinfo(np.int64).max


def _is_text(kind: Any, kinds: Any) -> bool:
    return bool(
        kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_binary(kind)
        or kinds.is_large_binary(kind) or kinds.is_string_view(kind) or kinds.is_binary_view(kind)
    )  # fmt: skip


def _values(array: Any, kind: type[Number]) -> NDArray[Number]:
    """Give numbers of fixed width where Arrow has them, without a copy; where null, there may be any bits."""
    width = np.dtype(kind).itemsize
    return np.frombuffer(array.buffers()[1], kind, len(array), array.offset * width)


def _is_null(array: Any) -> NDArray[np.bool_]:
    """Say which values are null; not for types without a map of bits, such as unions."""
    if not array.null_count:
        return np.zeros(len(array), np.bool_)
    bits = np.frombuffer(array.buffers()[0], np.uint8)
    first, stop = array.offset, array.offset + len(array)
    near = np.unpackbits(bits[first // 8 : -(-stop // 8)], bitorder="little")
    return np.asarray(near[first % 8 : first % 8 + len(array)] == 0)


def _codes(array: Any, absent: int, pa: Any) -> NDArray[np.int32]:
    """Give the places in a dictionary; `absent` where null."""
    codes = _values(array.indices.cast(pa.int32()), np.int32)
    if not array.indices.null_count:
        return codes
    return np.where(_is_null(array.indices), np.int32(absent), codes)


def _words(array: Any, pa: Any) -> Words:
    """Take a dictionary; null gets the code behind the last one."""
    texts = array.dictionary.cast(pa.large_binary())
    codes = _codes(array, len(texts), pa)
    if texts.null_count:  # A dictionary may hold null as well.
        place = np.where(np.append(_is_null(texts), True), len(texts), np.arange(len(texts) + 1))
        codes = place[codes].astype(np.int32)
        texts = texts.fill_null(b"")
    return Words(codes, tuple(texts.to_pylist()))


def _texts(array: Any, pa: Any) -> Texts:
    """Take texts as bytes, with room behind the last one."""
    array = array.cast(pa.large_binary())
    _, offsets, data = array.buffers()
    places = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    first, last = int(places[0]), int(places[-1])
    padded = np.empty(last - first + SPARE_BYTES, np.uint8)
    padded[last - first :] = 0
    if last > first:
        padded[: last - first] = np.frombuffer(data, np.uint8)[first:last]
    length = np.diff(places)
    if array.null_count:
        length[_is_null(array)] = ABSENT
    return Texts(padded, places[:-1] - first, length)


def _repeated_texts(array: Any, pa: Any) -> Texts:
    """Take texts that a dictionary holds: rows share its bytes."""
    if not len(array.dictionary):
        rows = len(array)
        return Texts(
            np.zeros(SPARE_BYTES, np.uint8), np.zeros(rows, np.int64), np.full(rows, ABSENT, np.int64)
        )
    texts = _texts(array.dictionary, pa)
    codes = _codes(array, len(texts.start), pa)
    return Texts(texts.data, np.append(texts.start, 0)[codes], np.append(texts.length, ABSENT)[codes])


def _moments(array: Any, pa: Any) -> Numbers:
    """Take moments as nanoseconds since 1970; 0, which is out of range, for what no such number says."""
    unit_ns = UNIT_NS[array.type.unit]
    values = _values(array.cast(pa.int64()), np.int64)
    is_sayable = (values >= NS_LEAST // unit_ns) & (values <= np.iinfo(np.int64).max // unit_ns)
    return Numbers(np.where(is_sayable, values, 0) * unit_ns, _is_null(array))


def _floats(name: str, array: Any, pa: Any) -> Column:
    """Take floats; a time is written out, as it would be in JSON, for the sake of its decimals."""
    values = _values(array.cast(pa.float64()), np.float64)
    is_null = ~np.isfinite(values)
    if array.null_count:
        is_null |= _is_null(array)
    if is_null.any():
        values = np.where(is_null, np.nan, values)
    if name != "time":
        return Numbers(values, is_null)
    return _json_texts(pa.array(values, mask=is_null), pa)


def _json_texts(values: Any, pa: Any) -> Texts:
    """Take values whose text is JSON."""
    # A comma behind each: else the digits of the next row would follow those of a row.
    nothing, comma = (pa.scalar(text, pa.large_string()) for text in ("", ","))
    written = values.cast(pa.large_string())
    texts = _texts(pa.compute.binary_join_element_wise(written, nothing, comma), pa)
    return texts._replace(length=np.maximum(texts.length - 1, ABSENT), is_json=True)
