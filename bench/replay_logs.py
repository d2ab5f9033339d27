"""One log of a busy platform in three formats: the same events as lines, as lines in zstd, and as Parquet."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from bench.replay_cells import STAGES
from engine.source.synthetic import generate_rows

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from pathlib import Path

    from engine.source.traffic import Scenario

BLOCK_BYTES = 1 << 25
TEXTS = ("call_id", "type", "platform", "tenant", "trunk", "provider", "id", "outcome")


def write_formats(folder: Path, scenario: Scenario, seed: int, events: int) -> dict[str, Path]:
    """Write the first `events` events of a scenario, by the name of the format."""
    paths = {
        "jsonl": folder / "log.jsonl",
        "zst": folder / "log.jsonl.zst",
        "parquet": folder / "log.parquet",
    }
    with paths["jsonl"].open("wb") as plain, zstd.open(paths["zst"], "wb", level=3) as packed:
        lines: list[bytes] = []
        for number, row in enumerate(generate_rows(scenario, seed), 1):
            lines.append(row)
            if len(lines) == 4096 or number == events:
                text = b"\n".join(lines) + b"\n"
                plain.write(text)
                packed.write(text)
                lines = []
            if number == events:
                break
        assert number == events, "the scenario is too short"
    fields = [("time", pa.int64()), *((name, pa.string()) for name in TEXTS)]
    fields += [
        ("code", pa.int64()), ("duration_ms", pa.int64()),
        ("latency_ms", pa.struct([(stage, pa.float64()) for stage in STAGES])),
    ]  # fmt: skip
    schema = pa.schema(fields)
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    reading = pj.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)
    with (
        pj.open_json(paths["jsonl"], reading, options) as reader,
        pq.ParquetWriter(paths["parquet"], schema) as writer,
    ):
        for batch in reader:
            writer.write_batch(batch)
    return paths
