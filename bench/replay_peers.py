"""DuckDB and Polars, one thread each, asked for the cells of `replay_cells` as one would ask them.

Types of columns are given, so that nobody has to look at the log twice to guess them. Quantiles are exact,
the faster way for DuckDB; what is in flight is a running sum of starts and ends, which is enough for a
log without repeated or lost events. JSON is loaded into a table first, and Parquet is scanned by each query:
the faster of the two ways. Neither looks at call ids, order, limits or alerts.
"""

from __future__ import annotations

import importlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.replay_cells import BIN_NS, FAILED, LABELS, MINUTE_NS, STAGES, Cells

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TEXTS = ("type", *LABELS, "outcome")
KEYS = ", ".join(("minute", *LABELS))
EVENTS = (
    f"SELECT time // {MINUTE_NS} AS minute, time // {BIN_NS} AS bin, {', '.join(TEXTS)}, latency_ms FROM "
)
COUNTS = (
    f"SELECT {KEYS}, count(*) FILTER (type = 'call.started') AS started,"
    f" count(*) FILTER (type = 'call.ended') AS ended,"
    f" count(*) FILTER (type = 'call.ended' AND outcome IN {FAILED}) AS failed FROM events GROUP BY ALL"
)
LATENCY = (
    f"SELECT {KEYS}, "
    + ", ".join(f"count(latency_ms.{s}), quantile_disc(latency_ms.{s}, [0.5, 0.99])" for s in STAGES)
    + " FROM events WHERE latency_ms IS NOT NULL GROUP BY ALL"
)
CHANGES = (
    f"SELECT {KEYS}, bin, sum(CASE type WHEN 'call.started' THEN 1 ELSE -1 END) AS change FROM events"
    " WHERE type IN ('call.started', 'call.ended') GROUP BY ALL HAVING change <> 0"
)
PEAKS = (
    f"SELECT {KEYS}, max(level) FROM (SELECT {KEYS}, sum(change) OVER"
    f" (PARTITION BY {', '.join(LABELS)} ORDER BY bin) AS level FROM ({CHANGES})) GROUP BY ALL"
)


def duckdb_cells(path: Path) -> Cells:
    """Ask DuckDB."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    if path.suffix == ".parquet":
        connection.execute(f"CREATE VIEW events AS {EVENTS} read_parquet('{path}')")
    else:
        columns = "{time: 'BIGINT', " + ", ".join(f"{name}: 'VARCHAR'" for name in TEXTS)
        columns += ", latency_ms: 'STRUCT(" + ", ".join(f"{stage} DOUBLE" for stage in STAGES) + ")'}"
        source = f"read_json('{path}', format = 'newline_delimited', columns = {columns})"
        connection.execute(f"CREATE TEMP TABLE events AS {EVENTS} {source}")
    answers = [connection.execute(query).fetchall() for query in (COUNTS, LATENCY, PEAKS)]
    connection.close()
    return _cells(answers[0], _by_stage(answers[1]), answers[2])


def polars_cells(path: Path) -> Cells:
    """Ask Polars."""
    import polars as pl

    keys = ["minute", *LABELS]
    fields = {"time": pl.Int64} | dict.fromkeys(TEXTS, pl.String)
    schema = pl.Schema({**fields, "latency_ms": pl.Struct(dict.fromkeys(STAGES, pl.Float64))})
    is_parquet = path.suffix == ".parquet"
    log = pl.scan_parquet(path) if is_parquet else pl.scan_ndjson(path, schema=schema)
    stages = [pl.col("latency_ms").struct.field(stage).alias(stage) for stage in STAGES]
    events = log.select(
        (pl.col("time") // MINUTE_NS).alias("minute"),
        (pl.col("time") // BIN_NS).alias("bin"),
        *TEXTS,
        *stages,
    )
    if not is_parquet:
        events = events.collect().lazy()
    kind = pl.col("type")
    is_failed = (kind == "call.ended") & pl.col("outcome").is_in(list(FAILED))
    counts = events.group_by(keys).agg(
        (kind == "call.started").sum().alias("started"),
        (kind == "call.ended").sum().alias("ended"),
        is_failed.fill_null(value=False).sum().alias("failed"),
    )
    latency = events.group_by(keys).agg(
        *(pl.col(stage).count().alias(f"{stage} count") for stage in STAGES),
        *(
            pl.col(stage).quantile(q, "nearest").alias(f"{stage} {q}")
            for stage in STAGES
            for q in (0.5, 0.99)
        ),
    )
    change = pl.when(kind == "call.started").then(1).otherwise(-1)
    peaks = (
        events.filter(kind.is_in(["call.started", "call.ended"]))
        .group_by([*keys, "bin"])
        .agg(change.sum().alias("change"))
        .filter(pl.col("change") != 0)
        .sort("bin")
        .with_columns(pl.col("change").cum_sum().over(list(LABELS)).alias("level"))
        .group_by(keys)
        .agg(pl.col("level").max())
    )
    found = [frame.rows() for frame in pl.collect_all([counts, latency, peaks])]
    width = len(keys)
    rows = (
        (*row[:width], *(part for place in range(len(STAGES)) for part in _stage(row[width:], place)))
        for row in found[1]
    )
    return _cells(found[0], _by_stage(rows), found[2])


def _stage(row: tuple[Any, ...], place: int) -> tuple[int, list[float]]:
    """Take what Polars gives of a stage out of its row."""
    first = len(STAGES) + 2 * place
    return row[place], [row[first], row[first + 1]]


def _by_stage(
    rows: Iterable[tuple[Any, ...]],
) -> dict[tuple[int, tuple[str, ...], str], tuple[int, float, float]]:
    """Give a cell for every stage of a row that was measured."""
    width = 1 + len(LABELS)
    return {
        (row[0], tuple(row[1:width]), stage): (row[width + 2 * place], *row[width + 2 * place + 1])
        for row in rows
        for place, stage in enumerate(STAGES)
        if row[width + 2 * place]
    }


def _cells(
    counts: list[tuple[Any, ...]], latency: dict[tuple[int, tuple[str, ...], str], tuple[int, float, float]],
    peaks: list[tuple[Any, ...]],
) -> Cells:  # fmt: skip
    width = 1 + len(LABELS)
    return Cells(
        {(row[0], tuple(row[1:width])): tuple(row[width:]) for row in counts if any(row[width:])},
        latency,
        {(row[0], tuple(row[1:width])): int(row[width]) for row in peaks},
    )


PEERS: dict[str, Callable[[Path], Cells]] = {"duckdb": duckdb_cells, "polars": polars_cells}


def installed() -> dict[str, str]:
    """Give the versions of the peers that are installed, and import them: nobody is timed for that."""
    os.environ["POLARS_MAX_THREADS"] = "1"  # is read by the import
    found = {}
    for name in PEERS:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        found[name] = version(name)
    return found
