"""One suite over every source that needs no server: what a source promises, each of them keeps."""

import gzip
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from engine.source.contract import RawBatch, Source, tick
from engine.source.file import FileSource
from engine.source.recording import RecordingSource, RecordingWriter
from engine.source.synthetic import SyntheticSource, generate_rows
from engine.source.traffic import Scenario, Tenant
from tests.source_contract import check_batches, read_all, rows_by_partition

ROWS = [b'{"time":%d,"call_id":"%d"}' % (1_767_600_000 + number, number) for number in range(10_000)]
QUIET = Scenario(duration_s=900.0, tenants=(Tenant(name="acme", rate_per_s=0.05),), disorder_s=2.0)
BUSY = Scenario(duration_s=300.0, tenants=(Tenant(name="acme", rate_per_s=20.0),), duplicates_ratio=0.02)


class Case(NamedTuple):
    """A source, and its rows by partition; None: only their number is known beforehand."""

    source: Source
    rows: dict[int, list[bytes]] | None
    rows_count: int


def one_file(folder: Path) -> Case:
    """Make a plain log."""
    (folder / "one.jsonl").write_bytes(b"\n".join(ROWS) + b"\n")
    return Case(FileSource([str(folder / "one.jsonl")]), {0: ROWS}, len(ROWS))


def several_files(folder: Path) -> Case:
    """Make three logs with every third row each, to be merged by time."""
    for part in range(3):
        (folder / f"part-{part}.jsonl.gz").write_bytes(gzip.compress(b"\n".join(ROWS[part::3])))
    return Case(FileSource([str(folder / "part-*.jsonl.gz")]), {0: ROWS}, len(ROWS))


def recording(folder: Path) -> Case:
    """Make a recording of two partitions with ticks in between."""
    writer = RecordingWriter(str(folder), "digest", segment_bytes_max=4096)
    rows: dict[int, list[bytes]] = {0: [], 1: []}
    for number in range(60):
        part, partition = ROWS[number * 50 : number * 50 + 50], number % 2
        first = len(rows[partition])
        rows[partition] += part
        writer.write(batch_of(part, first, partition, received_ns=number * 1000))
        writer.write(tick("calls", number * 1000 + 500, (0, 1), (partition,)))
    writer.close()
    return Case(RecordingSource(folder), rows, 3000)


def synthetic(folder: Path) -> Case:
    """Make synthetic traffic with silences, in one partition."""
    rows = list(generate_rows(QUIET, 7))
    return Case(SyntheticSource(QUIET, 7), {0: rows}, len(rows))


def synthetic_keyed(folder: Path) -> Case:
    """Make busy synthetic traffic over four partitions."""
    source = SyntheticSource(BUSY, 8, partitions=4, batch_rows=500)
    return Case(source, None, len(list(generate_rows(BUSY, 8))))


def batch_of(rows: list[bytes], first_offset: int, partition: int, received_ns: int) -> RawBatch:
    """Lay rows apart in a buffer, as a decoder must be ready for."""
    length = np.array([len(row) for row in rows], np.int64)
    start = np.cumsum(length + 1) - length
    end = start + length
    offset = np.arange(first_offset, first_offset + len(rows), dtype=np.int64)
    data = b"".join(b"\n" + row for row in rows)
    return RawBatch(data, start, end, offset, "calls", partition, received_ns, (0, 1), (partition,))


MAKERS: tuple[Callable[[Path], Case], ...] = (one_file, several_files, recording, synthetic, synthetic_keyed)


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """Give each source in turn."""
    made = request.param(tmp_path)
    assert isinstance(made, Case)
    return made


async def test_every_row_comes_once_and_in_order(case: Case) -> None:
    """No row is lost, doubled or moved within its partition."""
    rows = rows_by_partition(await read_all(case.source))
    await case.source.close()
    assert sum(map(len, rows.values())) == case.rows_count
    assert case.rows is None or rows == case.rows


async def test_batches_are_well_formed(case: Case) -> None:
    """Offsets increase, times of receipt never go back, ticks are empty, and nothing can be written to."""
    check_batches(await read_all(case.source))
    await case.source.close()


async def test_after_the_end_there_is_nothing(case: Case) -> None:
    """Reading on at the end gives None again."""
    await read_all(case.source)
    assert await case.source.read() is None
    await case.source.close()


async def test_after_close_there_is_nothing(case: Case) -> None:
    """A source that was closed in the middle gives None, and may be closed again."""
    await case.source.start()
    assert await case.source.read() is not None
    await case.source.close()
    assert await case.source.read() is None
    await case.source.close()


async def test_a_source_may_be_closed_before_it_was_started(case: Case) -> None:
    """Whoever fails half-way through starting can close everything."""
    await case.source.close()
    assert await case.source.read() is None


async def test_the_same_input_gives_the_same_batches(tmp_path: Path) -> None:
    """Where batches end does not depend on the clock."""
    batches = [await read_all(SyntheticSource(BUSY, 3, partitions=4)) for _ in range(2)]
    assert [(b.data, b.received_ns, b.caught_up) for b in batches[0]] == [
        (b.data, b.received_ns, b.caught_up) for b in batches[1]
    ]


async def test_ticks_come_while_nothing_arrives() -> None:
    """A silence in the traffic shows as ticks in which every partition is caught up."""
    batches = await read_all(SyntheticSource(QUIET, 7, partitions=2))
    ticks = [batch for batch in batches if not batch.rows]
    assert len(ticks) > 100
    assert all(each.caught_up == (0, 1) for each in ticks)


async def test_a_partition_with_rows_to_come_is_not_caught_up() -> None:
    """Within what arrived at one moment, a partition is caught up only once its rows are handed over."""
    batches = await read_all(SyntheticSource(BUSY, 8, partitions=4, batch_rows=500))
    for batch, following in pairwise(batches):
        if following.rows and following.received_ns == batch.received_ns:
            assert following.partition not in batch.caught_up
