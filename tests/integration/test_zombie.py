"""A member that is frozen until its partitions are somebody else's, and then goes on as if nothing had been.

Two members of one group, with one folder of checkpoints or with one each. Whoever reads is stopped with
SIGSTOP for longer than the session, again and again, while calls happen in real time. In the end the state is
that of a line that has read the whole topic once, and a real Alertmanager has told nothing twice.
"""

import itertools
import threading
import time
from bisect import bisect_right
from collections import Counter
from pathlib import Path

import orjson
import pytest

from tests.integration.conftest import StartWeb
from tests.integration.kafka_broker import Kafka
from tests.integration.kill_loop import (
    PARTITIONS,
    STANDING_STILL,
    STATE,
    expected_of,
    found_in,
    offsets_kept_in,
)
from tests.integration.servers import wait_until
from tests.integration.service import Service
from tests.integration.webhook import Told, Webhook, receiving
from tests.line_traffic import Event, Traffic, make_story

NAMES = itertools.count()
S = 1_000_000_000
SESSION = {"session_timeout": "2s", "heartbeat": "500ms"}
FROZEN_S = 4.0
TIMERS = {"resend": "1s", "timeout": "1s", "ends_after": "30s"}
FIRST_S = 40.0  # from making the story until both members run


class Zombies:
    """Two services on one topic, and a thread that produces what happens when it happens."""

    def __init__(self, folder: Path, kafka: Kafka, alertmanager: str, *, is_shared: bool) -> None:
        """Make the topic and the services; nothing runs yet."""
        self.topic = f"zombie-{next(NAMES)}"
        kafka.create_topic(self.topic, PARTITIONS)
        self.kafka = kafka
        self.members: dict[str, Service] = {}
        self.states: dict[str, Path] = {}
        for name in ("a", "b"):
            self.states[name] = folder / ("shared" if is_shared else name) / "state"
            self.states[name].parent.mkdir(parents=True, exist_ok=True)
            self.members[name] = Service(
                folder / name, kafka, self.topic,
                kafka=SESSION, engine={**STANDING_STILL, "slice": "1s", "out_of_order": "1s"},
                state={**STATE, "folder": str(self.states[name])},
                alertmanager={"urls": [alertmanager], **TIMERS},
            )  # fmt: skip

    def run(self, events: tuple[Event, ...]) -> int:
        """Produce the events in their time, and freeze whoever reads meanwhile; say how often."""
        for member in self.members.values():
            member.start_ready()
        feeding = threading.Thread(target=self._feed, args=(events,), daemon=True)
        feeding.start()
        times = 0
        while feeding.is_alive():
            self._freeze(self.reader())
            times += 1
        return times

    def _freeze(self, reader: str) -> None:
        """Let the one that reads be away until the other one reads, and longer than the session."""
        other = "b" if reader == "a" else "a"
        wait_until(lambda: self._has_read(reader), what="it reads")
        self.members[reader].process.pause()
        frozen_s = time.monotonic()
        wait_until(lambda: self._is_reading(other), what="the other one takes over")
        wait_until(lambda: time.monotonic() - frozen_s > FROZEN_S, what="the session is over")
        self.members[reader].process.resume()
        wait_until(lambda: not self._is_reading(reader), what="the zombie knows")

    def _feed(self, events: tuple[Event, ...]) -> None:
        first = 0
        while first < len(events):
            due = bisect_right(events, time.time_ns(), lo=first, key=lambda one: one.time_ns)
            self.kafka.produce(self.topic, [one.row for one in events[first:due]])
            first = due
            time.sleep(0.2)

    def reader(self) -> str:
        """Give the member that reads."""
        wait_until(lambda: sum(map(self._is_reading, self.members)) == 1, what="one member reads")
        return next(filter(self._is_reading, self.members))

    def _is_reading(self, name: str) -> bool:
        return self.members[name].metric("callgauge_source_state", state="reading") == 1

    def _has_read(self, name: str) -> bool:
        return self.members[name].metric("callgauge_rows_read_total") > 0

    def finish(self) -> str:
        """Let the reader read to the end, stop both in order, and give which it was."""
        ends = self.kafka.end_offsets(self.topic, PARTITIONS)
        reader = self.reader()
        wait_until(lambda: offsets_kept_in(self.states[reader]) == ends, what="all is in a checkpoint")
        time.sleep(2.0)  # What is queued for Alertmanager goes, and webhooks come.
        self.stop(last=reader)  # The standby takes over otherwise.
        return reader

    def stop(self, last: str = "a") -> None:
        """Stop both; stopping twice is fine."""
        for name in sorted(self.members, key=lambda name: name == last):
            self.members[name].process.stop()


def pages_of(changes: set[bytes]) -> Counter[Told]:
    """Count what people are to be told of these changes."""
    told: Counter[Told] = Counter()
    for change in map(orjson.loads, changes):
        if change["state"] in {"firing", "resolved"}:
            told[change["state"], tuple(sorted(change["labels"].items()))] += 1
    return told


def a_story(duration_s: int) -> tuple[Event, ...]:
    """Let a platform be full in a minute, and then fall empty again; from now on."""
    traffic = Traffic(seed=duration_s, duration_s=duration_s, rate_first=8.0, rate_last=0.3, holding_s=8.0)
    return make_story(traffic, time.time_ns() + int(FIRST_S * S)).events


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("is_shared", [True, False], ids=["one-folder", "two-folders"])
def test_a_zombie_changes_nothing_and_pages_nobody(
    kafka: Kafka, alertmanager: StartWeb, tmp_path: Path, is_shared: bool
) -> None:
    """0 difference to the whole history, 0 pages more than its own, 0 false resolutions."""
    check(kafka, alertmanager, tmp_path, is_shared=is_shared, duration_s=100, times_min=4)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("is_shared", [True, False], ids=["one-folder", "two-folders"])
def test_a_zombie_changes_nothing_over_alerts_that_resolve(
    kafka: Kafka, alertmanager: StartWeb, tmp_path: Path, is_shared: bool
) -> None:
    """The same for a quarter of an hour, in which alerts fire and resolve while members are frozen."""
    check(kafka, alertmanager, tmp_path, is_shared=is_shared, duration_s=900, times_min=40)


def check(
    kafka: Kafka, alertmanager: StartWeb, folder: Path, *, is_shared: bool, duration_s: int, times_min: int
) -> None:
    """Let it happen, and compare."""
    with receiving() as webhook:
        server = alertmanager(webhook.config)
        zombies = Zombies(folder, kafka, server.url, is_shared=is_shared)
        try:
            times = zombies.run(a_story(duration_s))
            reader = zombies.finish()
        finally:
            zombies.stop()
        compare(zombies, reader, webhook)
    assert times >= times_min


def compare(zombies: Zombies, reader: str, webhook: Webhook) -> None:
    """Hold the last checkpoint and all pages against the whole history."""
    service, state = zombies.members[reader], zombies.states[reader]
    expected, changes = expected_of(service, state, zombies.kafka, zombies.topic)
    assert expected.rows["read"] == sum(zombies.kafka.end_offsets(zombies.topic))
    assert found_in(service, state, zombies.topic) == expected
    pages = pages_of(changes)
    assert len(pages) > 2
    assert webhook.counted() - pages == Counter(), "extra pages"
    assert pages - webhook.counted() == Counter(), "pages that were missed"
