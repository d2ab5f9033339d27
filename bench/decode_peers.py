"""Parsers and engines that others would make columns with, for bench/decode.py.

Each ends in columns of the same fields with the types that one would declare for it, but pysimdjson, which
ends in dicts. Polars takes the bytes from memory; DuckDB takes them from a file, which is in the page cache.
Both may use one thread, and processor time would count every other one as well.
"""

from __future__ import annotations

import importlib.util
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

TEXTS = (
    "type", "call_id", "id", "tenant", "region", "platform", "trunk", "provider", "agent", "release",
    "outcome", "reason",
)  # fmt: skip
STAGES = ("setup", "stt", "llm", "tts")
PACKAGES = {"pysimdjson to dict": "simdjson", "Polars to columns": "polars", "DuckDB to columns": "duckdb"}


def missing(without: Collection[str] = ()) -> list[str]:
    """Name the packages that are not installed; those of `without` shall pass for that."""
    return [one for one in PACKAGES.values() if one in without or importlib.util.find_spec(one) is None]


def ways(rows: list[bytes], folder: Path, without: Collection[str] = ()) -> dict[str, Callable[[], object]]:
    """Give what is installed, ready to read these rows."""
    makers = {"simdjson": _pysimdjson, "polars": _polars, "duckdb": _duckdb}
    absent = missing(without)
    return {
        name: makers[package](rows, folder) for name, package in PACKAGES.items() if package not in absent
    }


def _pysimdjson(rows: list[bytes], _folder: Path) -> Callable[[], object]:
    import simdjson

    def read() -> None:
        parse = simdjson.Parser().parse
        for row in rows:
            parse(row, recursive=True)

    return read


def _polars(rows: list[bytes], _folder: Path) -> Callable[[], object]:
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    import polars as pl

    schema = {
        "time": pl.Int64,
        **dict.fromkeys(TEXTS, pl.String),
        "code": pl.Int64,
        "duration_ms": pl.Float64,
        "latency_ms": pl.Struct(dict.fromkeys(STAGES, pl.Float64)),
    }
    data = b"\n".join(rows) + b"\n"

    def read() -> object:
        frame = pl.read_ndjson(io.BytesIO(data), schema=schema)
        assert len(frame) == len(rows), "Polars read other rows"
        return frame

    return read


def _duckdb(rows: list[bytes], folder: Path) -> Callable[[], object]:
    import duckdb

    path = folder / "rows.jsonl"
    path.write_bytes(b"\n".join(rows) + b"\n")
    stages = ", ".join(f"{stage} DOUBLE" for stage in STAGES)
    columns = {
        "time": "BIGINT",
        **dict.fromkeys(TEXTS, "VARCHAR"),
        "code": "BIGINT",
        "duration_ms": "DOUBLE",
        "latency_ms": f"STRUCT({stages})",
    }
    declared = ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    query = f"CREATE OR REPLACE TABLE made AS FROM read_ndjson('{path}', columns = {{{declared}}})"

    def read() -> object:
        connection.execute(query)
        count = connection.execute("SELECT count(*) FROM made").fetchone()
        assert count == (len(rows),), "DuckDB read other rows"
        return count

    return read
