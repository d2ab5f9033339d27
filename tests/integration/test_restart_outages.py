"""Promise P2: a restart adds no page and resolves nothing, for outages of up to five minutes.

A service between the real Kafka and the real Alertmanager is stopped or killed at moments when alerts are
pending and firing, and started again after a while. The oracles are a replay of the same rows, and a receiver
that hears what Alertmanager says.
"""

import itertools
import json
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.conftest import StartWeb
from tests.integration.kafka_broker import Kafka
from tests.integration.notified import Notified, telling
from tests.integration.servers import get, wait_until
from tests.integration.service import Service, go_live, replayed, seconds_of

NAMES = itertools.count()
SCALED = {"resend": "1s", "timeout": "1s", "retry": "200ms", "ends_after": "40s", "resolved_resend": "60s"}
SHIPPED: dict[str, str] = {}
STANDING_STILL = {"idle": "1h"}  # event time stands where the last rows left it
APPROACHING, REACHED = "CallLimitApproaching", "CallLimitReached"


class Cut(NamedTuple):
    """A moment of the recording, and how the service ends there."""

    at_s: int
    is_killed: bool
    rows_meanwhile: bool  # the platform goes on while the service is away


CUTS = (
    Cut(186, is_killed=True, rows_meanwhile=False),  # the warning is pending
    Cut(200, is_killed=False, rows_meanwhile=False),  # the warning fires, the page is pending
    Cut(203, is_killed=True, rows_meanwhile=True),  # the same, and it fires while the service is away
    Cut(560, is_killed=False, rows_meanwhile=True),  # the limit is reached
)


def lives(service: Service) -> list[tuple[str, ...]]:
    """Give the alerts as the service shows them: what they are, and since when."""
    shown = json.loads(get(f"{service.url}/api/v1/alerts"))["alerts"]
    names = ("fingerprint", "state", "active_at", "fired_at")
    return sorted(tuple(str(one[name]) for name in names) for one in shown)


def states(service: Service) -> set[tuple[str, str, str]]:
    """Give the alerts by name."""
    shown = json.loads(get(f"{service.url}/api/v1/alerts"))["alerts"]
    return {(one["labels"]["alertname"], one["labels"]["severity"], one["state"]) for one in shown}


def settled(service: Service, rows: int) -> list[tuple[str, ...]]:
    """Give the alerts when so many rows were read and judged."""
    service.wait_for_rows(rows)
    before: list[tuple[str, ...]] = []
    while (found := lives(service)) != before:
        before = found
        time.sleep(0.3)
    return found


@pytest.mark.full
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("outages_s", "timers"),
    [((1, 3, 10, 20), SCALED), ((1, 15, 60, 300), SHIPPED)],
    ids=["scaled", "shipped"],
)
def test_pending_and_firing_alerts_go_on_where_they_were_after_an_outage(
    kafka: Kafka,
    alertmanager: StartWeb,
    notified: Notified,
    tmp_path: Path,
    outages_s: tuple[int, ...],
    timers: dict[str, str],
) -> None:
    """Nothing is resolved and nobody is told twice; changes are those of a replay without any outage."""
    server, topic = alertmanager(telling(notified)), f"outages-{next(NAMES)}"
    kafka.create_topic(topic)
    rows = go_live(ending_s_ago=0)
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(rows))
    expected = set(replayed(tmp_path, "log.jsonl"))
    service = Service(
        tmp_path / "only", kafka, topic, engine=STANDING_STILL, alertmanager={"urls": [server.url], **timers},
        state={"folder": "state", "period": "300ms"},
    )  # fmt: skip
    service.start_ready()
    done, seen = 0, set[tuple[str, str, str]]()
    for cut, outage_s in zip(CUTS, outages_s, strict=True):
        until = sum(seconds_of(row) < seconds_of(rows[0]) + cut.at_s for row in rows)
        kafka.produce(topic, rows[done:until])
        before = settled(service, until)
        seen |= states(service)
        (service.process.kill if cut.is_killed else service.process.stop)()
        done = until
        if cut.rows_meanwhile:
            done += 1_000
            kafka.produce(topic, rows[until:done])
        time.sleep(outage_s)
        service.start_ready()
        after = settled(service, done)
        told = {(each[0], each[3]) for each in after if each[1] == "firing"}
        assert {(each[0], each[3]) for each in before if each[1] == "firing"} <= told
        if not cut.rows_meanwhile:
            assert before == after
    assert {(APPROACHING, "warning", "pending"), (APPROACHING, "critical", "pending")} <= seen
    kafka.produce(topic, rows[done:])
    settled(service, len(rows))
    assert set(service.changes()) == expected
    wait_until(lambda: notified.of(REACHED, "critical") == ["firing"], what="the last page is told")
    service.process.stop()
    fired = {(change["alertname"], change["severity"]) for change in map(json.loads, expected)}
    assert sorted(("firing", *each) for each in fired) == sorted(notified.heard)
