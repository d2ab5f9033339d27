"""What every source promises, as checks that its own tests run (test_source_contract.py, integration)."""

from collections.abc import Iterable, Sequence

import numpy as np

from engine.source.contract import RawBatch, Source


def rows_of(batch: RawBatch) -> list[bytes]:
    """Cut a batch into its rows."""
    bounds = zip(batch.row_start.tolist(), batch.row_end.tolist(), strict=True)
    return [batch.data[start:end] for start, end in bounds]


def rows_by_partition(batches: Iterable[RawBatch]) -> dict[int, list[bytes]]:
    """Join the rows of each partition in the order in which they were read."""
    rows: dict[int, list[bytes]] = {}
    for batch in batches:
        if batch.rows:
            rows.setdefault(batch.partition, []).extend(rows_of(batch))
    return rows


async def read_all(source: Source) -> list[RawBatch]:
    """Start a source and read it to its end."""
    await source.start()
    batches = []
    while (batch := await source.read()) is not None:
        batches.append(batch)
    return batches


async def read_rows(source: Source, rows: int, reads_max: int = 2000) -> list[RawBatch]:
    """Read a started source that never ends until it has given so many rows."""
    batches: list[RawBatch] = []
    for _ in range(reads_max):
        if sum(batch.rows for batch in batches) >= rows:
            return batches
        batch = await source.read()
        assert batch is not None, "the source has ended"
        batches.append(batch)
    raise AssertionError(f"{sum(batch.rows for batch in batches)} of {rows} rows came")


def check_batches(batches: Sequence[RawBatch]) -> None:
    """Check what holds for the batches of any source, in the order in which they were read."""
    last_offset: dict[int, int] = {}
    last_received_ns = -1
    for batch in batches:
        check_batch(batch)
        assert batch.received_ns >= last_received_ns, "the time of receipt went back"
        last_received_ns = batch.received_ns
        if batch.rows:
            before = last_offset.get(batch.partition, -1)
            assert int(batch.offset[0]) > before, "an offset came twice or went back"
            last_offset[batch.partition] = int(batch.offset[-1])


def check_batch(batch: RawBatch) -> None:
    """Check one batch or tick alone."""
    for array in (batch.row_start, batch.row_end, batch.offset):
        assert array.dtype == np.int64
        assert array.shape == (batch.rows,)
        assert not array.flags.writeable, "an array can be written to"
    assert set(batch.caught_up) <= set(batch.assigned)
    if not batch.rows:
        assert (batch.partition, batch.data) == (-1, b"")
        return
    assert batch.partition in batch.assigned
    assert (np.diff(batch.offset) > 0).all()
    assert (batch.row_start < batch.row_end).all(), "a row is empty"
    assert (batch.row_start[1:] >= batch.row_end[:-1]).all(), "rows overlap"
    assert batch.row_start[0] >= 0
    assert batch.row_end[-1] <= len(batch.data)
