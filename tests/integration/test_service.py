"""The service as others meet it: Kafka on one side, Alertmanager on the other, and what goes wrong."""

import itertools
import json
from functools import partial
from pathlib import Path
from typing import Any, cast

from tests.integration.conftest import StartWeb
from tests.integration.kafka_broker import Kafka
from tests.integration.notified import Notified, telling
from tests.integration.servers import Web, wait_until
from tests.integration.service import (
    LIMIT,
    MINUTE_S,
    Service,
    go_live,
    hanging_up,
    produce_quiet,
    quiet_rows,
    replayed,
)

NAMES = itertools.count()
APPROACHING = "CallLimitApproaching"
# Timers of a deployment, scaled down; an alert outlives the session time-out of a dead member.
TIMERS = {"resend": "1s", "timeout": "1s", "ends_after": "60s", "resolved_resend": "60s"}
STANDING_STILL = {"idle": "1h"}  # event time stands where the last rows left it

Alert = dict[str, Any]


def held(server: Web, alertname: str, severity: str = "critical") -> list[Alert]:
    """Give the alerts of this name that an Alertmanager holds as active."""
    alerts = cast("list[Alert]", server.get_json("/api/v2/alerts"))
    wanted = {"alertname": alertname, "severity": severity}
    return [alert for alert in alerts if wanted.items() <= alert["labels"].items()]


def is_held(server: Web, severity: str) -> bool:
    """Say whether an Alertmanager holds the alert that a limit is near."""
    return bool(held(server, APPROACHING, severity))


def new_topic(kafka: Kafka) -> str:
    """Make a topic of four partitions."""
    topic = f"service-{next(NAMES)}"
    kafka.create_topic(topic)
    return topic


def alertmanager_settings(server: Web) -> dict[str, object]:
    """Give the settings of a service that sends to this server."""
    return {"urls": [server.url], "external_labels": {"cluster": "eu-1"}, **TIMERS}


def fired_at(changes: list[bytes], alertname: str, severity: str) -> str:
    """Give when an alert first fired, as RFC 3339 to the second."""
    for change in map(json.loads, changes):
        if (change["state"], change["alertname"], change["severity"]) == ("firing", alertname, severity):
            return str(change["time"])[:19]
    raise AssertionError(f"{alertname} did not fire")


def test_alertmanager_holds_the_page_once_over_a_restart_until_the_load_is_gone(
    kafka: Kafka, alertmanager: StartWeb, notified: Notified, tmp_path: Path
) -> None:
    """Labels route, startsAt is when it fired; SIGTERM resolves nothing, ten quiet minutes do."""
    server, topic = alertmanager(telling(notified)), new_topic(kafka)
    rows = go_live(ending_s_ago=15 * MINUTE_S)
    kafka.produce(topic, rows)
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(rows))
    changes = replayed(tmp_path, "log.jsonl")
    service = Service(
        tmp_path / "only", kafka, topic, engine=STANDING_STILL, alertmanager=alertmanager_settings(server),
        state={"folder": "state"},
    )  # fmt: skip
    service.start_ready()
    for severity in ("warning", "critical"):
        wait_until(partial(is_held, server, severity), what=f"the {severity} is held")
        (alert,) = held(server, APPROACHING, severity)
        assert {
            "alertname": APPROACHING, "severity": severity, "limit": LIMIT, "owner": "voice-platform",
            "cluster": "eu-1",
        } == alert["labels"]  # fmt: skip
        assert fired_at(changes, APPROACHING, severity) == alert["startsAt"][:19]
        assert alert["generatorURL"] == f"{service.url}/alerts/{alert['fingerprint']}"
    (before,) = held(server, APPROACHING)
    service.process.stop()
    assert service.process.returncode == 0
    assert before["startsAt"] == held(server, APPROACHING)[0]["startsAt"]
    assert ["firing"] == notified.of(APPROACHING, "critical")

    service.start_ready()
    assert 1 == service.metric("callgauge_checkpoint_restores_total", outcome="whole")
    assert len(rows) == service.metric("callgauge_rows_read_total")  # None of them was read again.
    quiet = quiet_rows(rows, 11 * MINUTE_S)
    kafka.produce(topic, hanging_up(rows))
    produce_quiet(kafka, topic, quiet)
    wait_until(lambda: not held(server, APPROACHING), what="the page is resolved")
    wait_until(lambda: notified.of(APPROACHING, "critical") == ["firing", "resolved"], what="the end is told")
    service.process.stop()


def test_a_standby_takes_over_and_the_alert_is_neither_lost_nor_doubled(
    kafka: Kafka, alertmanager: StartWeb, notified: Notified, tmp_path: Path
) -> None:
    """The active one is killed while the page fires: same alert, same start, nobody is told twice."""
    server, topic = alertmanager(telling(notified)), new_topic(kafka)
    both = [
        Service(tmp_path / name, kafka, topic, alertmanager=alertmanager_settings(server))
        for name in ("one", "other")
    ]
    kafka.produce(topic, go_live(ending_s_ago=0))
    for service in both:
        service.start_ready()
    active, standby = sorted(both, key=lambda one: one.metric("callgauge_source_state", state="standby"))
    assert 1 == active.metric("callgauge_source_state", state="reading")
    assert 1 == standby.metric("callgauge_source_state", state="standby")
    wait_until(lambda: bool(held(server, APPROACHING)), what="the page is held")
    (before,) = held(server, APPROACHING)
    assert 0 == standby.metric("callgauge_alertmanager_alerts_sent_total")
    active.process.kill()
    wait_until(
        lambda: standby.metric("callgauge_alertmanager_alerts_sent_total") > 0, what="the standby sends"
    )
    (taken_over,) = held(server, APPROACHING)
    wait_until(
        lambda: held(server, APPROACHING)[0]["endsAt"] > taken_over["endsAt"],
        what="the standby keeps the page alive",
    )
    assert taken_over["endsAt"] > before["endsAt"]
    assert [before["startsAt"]] == [alert["startsAt"] for alert in held(server, APPROACHING)]
    assert ["firing"] == notified.of(APPROACHING, "critical")
    standby.process.stop()
    assert standby.process.returncode == 0
