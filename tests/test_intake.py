"""What was fetched becomes rows, once each and in order; what is left out is counted, by reason."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from engine.settings import KafkaSettings
from engine.source.intake import (
    HURT_PER_CONNECTION,
    HURT_TRIES_MAX,
    TRIES_MAX,
    TRIES_PER_CONNECTION,
    Intake,
)
from engine.source.raw_fetch import make_raw_consumer
from engine.source.rows import DAMAGED, NOTHING, TOO_LARGE, Chunk, Damage, Rows, side_by_side
from tests.kafka_double import TOPIC, Written, serving
from tests.record_batches import ENCODERS, GZIP, LZ4, NONE, SNAPPY, ZSTD, Record, batch_of, packed_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

PARTITION = TopicPartition(TOPIC, 0)


class Standing:
    """A consumer of one partition, assigned by hand."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        """Stand in partition 0."""
        self.consumer = consumer
        self.placed = {0}

    def log_end(self, partition: int) -> int:
        """Ask the consumer."""
        return int(self.consumer.highwater(TopicPartition(TOPIC, partition)))


class Taken(NamedTuple):
    """Everything that came until the end of the log."""

    rows: list[tuple[int, bytes]]
    intake: Intake
    place: int
    connections: int


def cut(rows: Rows) -> list[tuple[int, bytes]]:
    """Cut rows out of their buffer."""
    bounds = zip(rows.start.tolist(), rows.end.tolist(), rows.offset.tolist(), strict=True)
    return [(offset, rows.data[begin:end]) for begin, end, offset in bounds]


async def take_all(log: Written, *, is_raw: bool = True, start: int = 0, polls_max: int = 60) -> Taken:
    """Read a log from `start` to its end, by one path or the other."""
    places = {0: start}
    intake = Intake(places)
    rows: list[tuple[int, bytes]] = []
    connections = 0
    with serving(log) as double:
        options = {
            "bootstrap_servers": double.bootstrap, "auto_offset_reset": "none",
            "isolation_level": "read_committed", "fetch_max_wait_ms": 20,
        }  # fmt: skip
        settings = KafkaSettings(batch_bytes_max=1 << 20)
        consumer = make_raw_consumer(settings, **options) if is_raw else AIOKafkaConsumer(**options)
        await consumer.start()
        consumer.assign([PARTITION])
        consumer.seek(PARTITION, start)
        for _ in range(polls_max):
            fetched = await consumer.getmany(timeout_ms=200)
            for _, part in intake.take(fetched, Standing(consumer)):
                rows += cut(part)
            connections += intake.wants_new_connection
            intake.wants_new_connection = False
            if await consumer.position(PARTITION) >= log.end:
                break
        await consumer.stop()
    return Taken(rows, intake, places[0], connections)


def a_log(codecs: Sequence[int], records: int = 40) -> Written:
    """Write a batch by each codec; every fifth row is empty, every seventh null, some have headers."""
    batches = []
    for number, codec in enumerate(codecs):
        made = []
        for each in range(records):
            value = None if each % 7 == 3 else b"" if each % 5 == 4 else b'{"n":%d}' % (number * 100 + each)
            made.append(Record(each, value, headers=((b"trace", b"\xff"),) if each % 3 else ()))
        batches.append((number * 100, batch_of(number * 100, made, codec=codec, last_delta=99)))
    return Written(batches, 100 * len(codecs))


async def test_both_paths_give_the_same_rows_and_counts() -> None:
    """All codecs, gaps, null and empty values, from the start and from inside a batch."""
    log = a_log([NONE, GZIP, SNAPPY, LZ4, ZSTD, NONE])
    for start in (0, 117, 239, 250):
        raw, records = [await take_all(log, is_raw=is_raw, start=start) for is_raw in (True, False)]
        assert raw.rows == records.rows
        assert len(raw.rows) > 70
        assert raw.intake.tombstones == records.intake.tombstones > 20
        assert raw.intake.lost_rows == records.intake.lost_rows == dict.fromkeys(raw.intake.lost_rows, 0)
        assert raw.place == log.end


async def test_a_damaged_batch_is_tried_over_two_connections_and_then_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is before and behind it is read; its rows are counted, and the log says where it was."""
    batches = list(a_log([NONE, ZSTD, NONE]).batches)
    hurt = bytearray(batches[1][1])
    hurt[-3] ^= 4
    batches[1] = (100, bytes(hurt))
    with caplog.at_level(logging.WARNING):
        taken = await take_all(Written(batches, 300), start=10)
    whole = await take_all(a_log([NONE, ZSTD, NONE]), start=10)
    assert taken.rows == [row for row in whole.rows if not 100 <= row[0] < 200]
    assert taken.intake.lost_rows[DAMAGED] == 40
    assert taken.intake.refetches == TRIES_MAX - 1
    assert (taken.connections, taken.place) == (1, 300)
    assert "partition 0, from offset 100, 40 rows" in caplog.text


async def test_a_bomb_costs_its_own_rows_and_the_rest_is_read() -> None:
    """It is not tried again: its checksum is right."""
    bomb = packed_batch(
        100, bytes(ENCODERS[ZSTD](bytes(300_000_000))), attributes=ZSTD, last_delta=99, count=77
    )
    assert len(bomb) < 30_000
    batches = a_log([NONE, NONE, NONE]).batches
    taken = await take_all(Written([batches[0], (100, bomb), batches[2]], 300))
    assert taken.rows == [
        row for row in (await take_all(a_log([NONE, NONE, NONE]))).rows if not 100 <= row[0] < 200
    ]
    assert taken.intake.lost_rows[TOO_LARGE] == 77
    assert taken.connections == 0


def damage(place: int, next_offset: int, rows: int, fingerprint: int = 0) -> Chunk:
    """Say that there is a damaged batch at a place."""
    return Chunk(NOTHING, place, damage=Damage(next_offset, rows, fingerprint))


def test_a_batch_that_heals_is_not_lost() -> None:
    """Bytes that were hurt on the way are right the next time; counting begins anew at another place."""
    places = {0: 5}
    intake = Intake(places)
    for place in (5, 8):
        for _ in range(TRIES_MAX - 1):
            assert intake.take_chunks(0, [damage(place, 99, 3), Chunk(NOTHING, 99)], 200) == []
            assert places == {0: place}
        rows = side_by_side([(place, b"row"), (place + 2, b"row")])
        assert intake.take_chunks(0, [Chunk(rows, place + 3)], 200) == [rows]
    assert intake.lost_rows[DAMAGED] == 0


def test_where_nobody_knows_how_far_damage_goes_strides_grow() -> None:
    """One offset, then two, then four, never beyond the end of the log; the first row ends it."""
    places = {0: 10}
    intake = Intake(places)
    seen = []
    for _ in range(4):
        for _ in range(TRIES_MAX):
            intake.take_chunks(0, [damage(places[0], places[0], 0)], 24)
        seen.append(places[0])
    assert seen == [11, 13, 17, 24]
    assert intake.lost_rows[DAMAGED] == 14
    intake.take_chunks(0, [Chunk(side_by_side([(24, b"row")]), 25)], 60)
    for _ in range(TRIES_MAX):
        intake.take_chunks(0, [damage(25, 1 << 40, 3)], 60)  # Its header cannot be believed either.
    assert places == {0: 26}


def test_a_new_connection_is_wanted_half_way() -> None:
    """Once for each damaged batch."""
    intake = Intake({0: 0})
    wanted = []
    for _ in range(TRIES_MAX):
        intake.take_chunks(0, [damage(0, 9, 9)], 100)
        wanted.append(intake.wants_new_connection)
        intake.wants_new_connection = False
    assert wanted == [each == TRIES_PER_CONNECTION for each in range(1, TRIES_MAX + 1)]


def test_rows_that_were_taken_are_not_taken_again() -> None:
    """A chunk may begin before the place."""
    intake = Intake({0: 3})
    rows = side_by_side([(each, b"row %d" % each) for each in range(6)])
    (part,) = intake.take_chunks(0, [Chunk(rows, 6)], 6)
    assert cut(part) == [(3, b"row 3"), (4, b"row 4"), (5, b"row 5")]
    assert intake.take_chunks(0, [Chunk(rows, 6)], 6) == []


def test_bytes_that_differ_each_time_are_hurt_on_the_way_and_tried_for_longer() -> None:
    """Over new connections; a wire that never heals is given up in the end, and its rows are counted."""
    places = {0: 5}
    intake = Intake(places)
    wanted = []
    for times in range(1, HURT_TRIES_MAX + 1):
        assert (places, intake.lost_rows[DAMAGED]) == ({0: 5}, 0)
        intake.take_chunks(0, [damage(5, 9, 4, fingerprint=times)], 100)
        wanted += [times] * intake.wants_new_connection
        intake.wants_new_connection = False
    assert wanted == list(range(HURT_PER_CONNECTION, HURT_TRIES_MAX + 1, HURT_PER_CONNECTION))
    assert (places, intake.lost_rows[DAMAGED]) == ({0: 9}, 4)


def test_a_log_that_is_damaged_is_found_on_a_wire_that_hurts_too() -> None:
    """What counts is how often the same bytes came in a row."""
    places = {0: 5}
    intake = Intake(places)
    for fingerprint in (1, 2, *(7,) * (TRIES_MAX - 1), 3, *(7,) * (TRIES_MAX - 1)):
        intake.take_chunks(0, [damage(5, 9, 4, fingerprint)], 100)
    assert places == {0: 5}
    intake.take_chunks(0, [damage(5, 9, 4, fingerprint=7)], 100)
    assert places == {0: 9}


def test_nothing_lies_behind_the_end_of_the_log() -> None:
    """What claims to is fetched again, however often it came; what is right is taken then."""
    places = {0: 5}
    intake = Intake(places)
    far = 1 << 57
    astray = Chunk(side_by_side([(5, b"row"), (far, b"row")]), far + 1)
    for _ in range(TRIES_MAX - 1):
        assert intake.take_chunks(0, [astray, Chunk(NOTHING, far + 9)], 8) == []
        assert places == {0: 5}
    rows = side_by_side([(5, b"row"), (7, b"row")])
    assert intake.take_chunks(0, [Chunk(rows, 8)], 8) == [rows]
    assert (places, intake.lost_rows[DAMAGED], intake.refetches) == ({0: 8}, 0, TRIES_MAX - 1)


async def test_a_consumer_that_was_led_astray_comes_back() -> None:
    """The first batch claims to lie behind the end of the log, each time; the next one is read."""
    batches = list(a_log([NONE, NONE]).batches)
    first = (1 << 57).to_bytes(8, "big") + batches[0][1][8:]
    taken = await take_all(Written([(0, first), batches[1]], 200))
    whole = await take_all(a_log([NONE, NONE]))
    lost = 2**7 - 1  # one offset, then two, and so on, until there is a batch that is right
    assert taken.rows == [row for row in whole.rows if row[0] >= lost]
    assert (taken.place, taken.intake.lost_rows[DAMAGED]) == (200, lost)
