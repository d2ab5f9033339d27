"""What a live run says is what a replay says, byte for byte."""

import itertools
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest

from engine.app import REPLAY_HASH_KEY, Configuration, OwnedLine, load_configuration
from engine.commands.warmup import warm_up
from engine.deliver.jsonl import alert_change_line
from engine.deliver.timestamps import rfc3339
from engine.source.kafka import KafkaSource
from tests.integration.kafka_broker import Kafka, call_id_of
from tests.integration.servers import wait_until
from tests.integration.service import (
    LIMITS,
    MINUTE_S,
    S,
    Service,
    go_live,
    hanging_up,
    produce_quiet,
    quiet_rows,
    replayed,
    seconds_of,
)

NAMES = itertools.count()
QUIET_S = 20 * MINUTE_S  # long enough for what fires to be resolved
DISORDER_S = 4.9  # the bound is 5 s
READ_S = 60.0


class Log(NamedTuple):
    """The go-live and a quiet time after it, and what a replay of its file says."""

    rows: list[bytes]
    quiet: list[bytes]
    changes: list[bytes]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Replay the go-live of an hour ago from a file."""
    folder = tmp_path_factory.mktemp("replay")
    rows = go_live(ending_s_ago=3600)
    rows += hanging_up(rows)
    quiet = quiet_rows(rows, QUIET_S)
    (folder / "log.jsonl").write_bytes(b"\n".join((*rows, *quiet)))
    return Log(rows, quiet, replayed(folder, "log.jsonl"))


def named(changes: list[bytes]) -> list[tuple[str, str, str]]:
    """Say briefly what changed."""
    return [(one["state"], one["severity"], one["alertname"]) for one in map(json.loads, changes)]


def in_disorder(rows: list[bytes], seconds: float, seed: int) -> list[bytes]:
    """Let each row come up to so much later than it happened."""
    rng = np.random.default_rng(seed)
    keys = [seconds_of(row) + rng.random() * seconds for row in rows]
    return [rows[place] for place in sorted(range(len(rows)), key=lambda place: keys[place])]


def tenant_of(row: bytes) -> bytes:
    """Give a row's tenant, for a topic that is keyed by it."""
    return str(msgspec.json.decode(row).get("tenant", "")).encode()


def made_topic(
    kafka: Kafka, rows: list[bytes], quiet: list[bytes], key_of: Callable[[bytes], bytes] = call_id_of
) -> str:
    """Produce rows to a topic of four partitions, then the quiet rows, one to each."""
    topic = f"live-{next(NAMES)}"
    kafka.create_topic(topic)
    kafka.produce(topic, rows, key_of=key_of)
    produce_quiet(kafka, topic, quiet)
    return topic


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    """Give the defaults with the limit of the go-live."""
    limits = tmp_path_factory.mktemp("limits") / "limits.yaml"
    limits.write_text(LIMITS, "utf-8")
    return load_configuration(None, str(limits), None)


class Live(NamedTuple):
    """What a line said of a topic that it read to its end, and the line itself."""

    changes: list[bytes]
    line: OwnedLine


async def live(
    kafka: Kafka, topic: str, configuration: Configuration, log: Log, rows_max: int = 8192
) -> Live:
    """Read a topic to its end through the line, as `run` does."""
    settings = msgspec.structs.replace(
        configuration.settings.kafka,
        bootstrap_servers=(kafka.bootstrap,), topic=topic, group_id=f"group-{next(NAMES)}",
        member_id="live", session_timeout_ns=6 * S, heartbeat_ns=S, poll_ns=S // 10, batch_rows_max=rows_max,
    )  # fmt: skip
    source, line = KafkaSource(settings), OwnedLine(configuration, REPLAY_HASH_KEY)
    changes: list[bytes] = []
    warm_up(configuration)
    deadline_s = time.monotonic() + READ_S
    await source.start()
    try:
        while line.line.pipeline.decoder.rows_read < len(log.rows) + len(log.quiet):
            assert time.monotonic() < deadline_s, f"read only {line.line.pipeline.decoder.rows_read} rows"
            raw = await source.read()
            assert raw is not None
            changes += [alert_change_line(change) for change in line.step(raw).changes]
    finally:
        await source.close()
    return Live(changes, line)


def until_watermark(changes: list[bytes], line: OwnedLine) -> list[bytes]:
    """Leave out what a replay judges at the end of its log, and a live run has yet to see."""
    until = rfc3339(line.line.pipeline.observer.watermark_ns)
    return [change for change in changes if json.loads(change)["time"] <= until]


@pytest.mark.parametrize("rows_max", [61, 1000, 8192])
async def test_live_equals_replay_whatever_the_batches(
    kafka: Kafka, log: Log, configuration: Configuration, rows_max: int
) -> None:
    """Four partitions read at their own pace, in batches of any size: the same bytes as from the file."""
    topic = made_topic(kafka, log.rows, log.quiet)
    read = await live(kafka, topic, configuration, log, rows_max)
    assert until_watermark(log.changes, read.line) == read.changes
    assert ("resolved", "critical", "CallLimitApproaching") in named(read.changes)


async def test_live_equals_replay_with_disorder_within_the_bound(
    kafka: Kafka, log: Log, configuration: Configuration
) -> None:
    """Rows that come up to the bound late are judged as if they had come in order; none is lost."""
    topic = made_topic(kafka, in_disorder(log.rows, DISORDER_S, seed=1), log.quiet)
    read = await live(kafka, topic, configuration, log)
    assert until_watermark(log.changes, read.line) == read.changes
    snapshot = read.line.publish(-1)
    assert (0, 0) == (snapshot.rows_amended, sum(count for _, count in snapshot.rows_lost))


async def test_a_topic_keyed_by_tenant_does_no_harm(
    kafka: Kafka, log: Log, configuration: Configuration
) -> None:
    """All events of a call still share a partition, which is all that the key is asked for."""
    topic = made_topic(kafka, log.rows, log.quiet, key_of=tenant_of)
    read = await live(kafka, topic, configuration, log)
    assert until_watermark(log.changes, read.line) == read.changes
    assert 0 == read.line.line.pipeline.observer.unkeyed_calls


def troubled(rows: list[bytes], seed: int) -> list[bytes]:
    """Let one row in fifty come up to 90 s late, one in thirty twice, and some be no events."""
    rng = np.random.default_rng(seed)
    keyed = []
    for row in rows:
        late_s = rng.random() * (90 if rng.random() < 0.02 else DISORDER_S)
        keyed.append((seconds_of(row) + late_s, row))
        if rng.random() < 0.03:
            keyed.append((seconds_of(row) + late_s + rng.random(), row))
        if rng.random() < 0.01:
            keyed.append((seconds_of(row) + late_s, b'{"call_id":"planted-secret","time":"planted-secret"}'))
    return [row for _, row in sorted(keyed, key=lambda one: one[0])]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=lambda end: end.name)
def test_a_recorded_run_is_replayed_exactly(
    kafka: Kafka, log: Log, tmp_path: Path, end: signal.Signals
) -> None:
    """Late rows, rows that come twice and idle partitions depend on the moment; a recording keeps it."""
    rows = troubled(log.rows, seed=2)
    topic = made_topic(kafka, rows, [])
    engine = {"idle": "5s"}  # so that the run goes on to the present, which no log of rows could tell
    service = Service(tmp_path / "live", kafka, topic, "--record", "recording", engine=engine)
    service.start_ready()
    service.wait_for_rows(len(rows))
    wait_until(
        lambda: ("resolved", "critical", "CallLimitApproaching") in named(service.changes()),
        what="the quiet hour since the go-live is judged",
    )
    late = service.metric("callgauge_rows_lost_total", reason="late")
    amended = service.metric("callgauge_rows_amended_total")
    if end == signal.SIGKILL:
        service.process.kill()
    else:
        service.process.stop()
    assert service.changes() == replayed(service.folder, "recording", "--config", "engine.yaml")
    assert late > 0
    assert amended > 0
    assert "planted-secret" not in service.log()
