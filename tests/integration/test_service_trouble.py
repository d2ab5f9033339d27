"""A running service among others' faults: it goes on, and says what is wrong: alert, metric or log."""

import contextlib
import itertools
import json
import os
import signal
import socket
import threading
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.kafka_broker import Kafka
from tests.integration.servers import free_ports, get, wait_until
from tests.integration.service import FIRST_START_S, LIMIT, LIMITS, Service, go_live, run_command

NAMES = itertools.count()
PERIOD_S = 0.25
AHEAD_S = 60
CALLS_UP = 4  # calls that are up at a time in the troubled stream
TIMERS = {"resend": "1s", "timeout": "1s", "ends_after": "60s", "resolved_resend": "60s"}
FAST = {"slice": "1s", "out_of_order": "1s", "idle": "2s"}


def new_topic(kafka: Kafka) -> str:
    """Make a topic of four partitions."""
    topic = f"trouble-{next(NAMES)}"
    kafka.create_topic(topic)
    return topic


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """Give the address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def not_ready_because(service: Service) -> str:
    """Give code and text of /-/ready; "": it is ready."""
    try:
        get(f"{service.url}/-/ready")
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"
    return ""


def event(kind: str, call: int, at_s: float) -> bytes:
    """Make a row of a call."""
    call_id = f"planted-secret-{call}"
    return json.dumps({"time": at_s, "type": kind, "call_id": call_id, "trunk": "sip-1"}).encode()


def produce_trouble(kafka: Kafka, topic: str, stop: threading.Event) -> None:
    """Produce calls that start in one partition and end in another, and events of a clock that is ahead."""
    for number in itertools.count():
        now_s = time.time()
        started = event("call.started", number, now_s)
        ahead = event("call.started", -number - CALLS_UP, now_s + AHEAD_S)
        kafka.produce(topic, [started, ahead], partition=0)
        kafka.produce(topic, [event("call.ended", number - CALLS_UP, now_s)], partition=1)
        if stop.wait(PERIOD_S):
            return


@pytest.fixture(scope="module")
def troubled(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service on a troubled topic, with an Alertmanager that never answers."""
    topic, stop = new_topic(kafka), threading.Event()
    with silent_server() as url:
        service = Service(
            tmp_path_factory.mktemp("troubled"),
            kafka,
            topic,
            engine=FAST,
            alertmanager={"urls": [url], **TIMERS},
        )
        producing = threading.Thread(target=produce_trouble, args=(kafka, topic, stop), daemon=True)
        service.start_ready()
        producing.start()
        yield service
        stop.set()
        producing.join()
        service.process.stop()


def problems(service: Service) -> dict[str, str]:
    """Give the descriptions of the problems with the stream that an alert fires for."""
    changes = [json.loads(change) for change in service.changes()]
    return {
        change["labels"]["problem"]: change["annotations"]["description"]
        for change in changes
        if (change["alertname"], change["state"]) == ("CallStreamIncomplete", "firing")
    }


def test_a_clock_that_is_a_minute_ahead_is_an_alert_and_a_counter(troubled: Service) -> None:
    """Its events wait for their time, and do not move the watermark."""
    wait_until(lambda: "clock_ahead" in problems(troubled), what="CallStreamIncomplete, clock_ahead")
    assert "time synchronisation" in problems(troubled)["clock_ahead"]
    assert troubled.metric("callgauge_rows_clock_ahead_total") > 0
    assert troubled.metric("callgauge_watermark_timestamp_seconds") < time.time()


def test_a_topic_that_is_not_keyed_by_call_id_is_an_alert(troubled: Service) -> None:
    """Starts and ends in different partitions make calls seem to leak; the alert says what to mend."""
    wait_until(
        lambda: "topic_not_keyed_by_call_id" in problems(troubled), what="CallStreamIncomplete, unkeyed"
    )
    assert "sets the key to call_id" in problems(troubled)["topic_not_keyed_by_call_id"]


def test_an_alertmanager_that_never_answers_costs_counted_failures_and_nothing_else(
    troubled: Service,
) -> None:
    """Slices go on being judged while every batch of alerts times out."""
    failed = "callgauge_alertmanager_batches_failed_total"
    wait_until(lambda: troubled.metric(failed, reason="timeout") > 1, what="batches time out")
    slices = troubled.metric("callgauge_slices_closed_total")
    wait_until(lambda: troubled.metric("callgauge_slices_closed_total") > slices, what="slices are judged")
    assert "" == not_ready_because(troubled)


def test_sighup_takes_a_good_register_and_refuses_a_broken_one(troubled: Service) -> None:
    """What cannot be loaded leaves the old limits in force, and says so in a metric and the log."""
    successful = "callgauge_config_last_reload_successful"
    troubled.limits.write_text(LIMITS.replace("value: 80", "value: 90"), "utf-8")
    os.kill(troubled.process.pid, signal.SIGHUP)
    wait_until(lambda: troubled.metric("callgauge_limit_value", limit=LIMIT) == 90, what="the new limit")
    assert 1 == troubled.metric(successful)
    troubled.limits.write_text("limits: [", "utf-8")
    os.kill(troubled.process.pid, signal.SIGHUP)
    wait_until(lambda: troubled.metric(successful) == 0, what="the reload fails")
    slices = troubled.metric("callgauge_slices_closed_total")
    wait_until(
        lambda: troubled.metric("callgauge_slices_closed_total") > slices + 1, what="slices are judged"
    )
    assert 90 == troubled.metric("callgauge_limit_value", limit=LIMIT)
    assert "the old configuration stays in force" in troubled.log()
    assert "limits.yaml" in troubled.log()


def test_nothing_of_a_caller_is_logged(troubled: Service) -> None:
    """Whatever goes wrong, the log has no call id."""
    wait_until(lambda: "clock_ahead" in problems(troubled), what="there is trouble")
    assert "planted-secret" not in troubled.log()
    assert "Traceback" not in troubled.log()


def test_without_a_broker_it_waits_and_says_so(tmp_path: Path) -> None:
    """Healthy, so that nobody restarts it in vain; not ready, with the reason; and it ends when asked to."""
    (port,) = free_ports(1)
    service = Service(tmp_path, f"127.0.0.1:{port}", "calls")
    service.start()
    wait_until(
        lambda: "waiting for Kafka" in not_ready_because(service), what="the reason", timeout_s=FIRST_START_S
    )
    assert not_ready_because(service).startswith("503 ")
    wait_until(lambda: "waiting for Kafka" in service.log(), what="the reason in the log")
    assert f"127.0.0.1:{port}" in service.log()
    assert 1 == service.metric("callgauge_source_state", state="waiting")
    assert "healthy" in get(f"{service.url}/-/healthy")
    service.process.stop()
    assert 0 == service.process.returncode


def test_it_ends_in_order_although_broker_and_alertmanager_are_dead(kafka: Kafka, tmp_path: Path) -> None:
    """Both hang; the deadline of the shutdown holds for all of it, and nothing is left to kill."""
    topic = new_topic(kafka)
    kafka.produce(topic, go_live(ending_s_ago=0))
    with silent_server() as url:
        service = Service(tmp_path, kafka, topic, alertmanager={"urls": [url], **TIMERS})
        service.start_ready()
        failed = "callgauge_alertmanager_batches_failed_total"
        wait_until(lambda: service.metric(failed, reason="timeout") > 0, what="alerts time out")
        kafka.process.pause()
        try:
            os.kill(service.process.pid, signal.SIGTERM)
            wait_until(lambda: not service.process.is_running, what="it ends")
        finally:
            kafka.process.resume()
        service.process.stop()
    assert 0 == service.process.returncode
    assert "msg=stopped" in service.log()
    assert "Traceback" not in service.log()


@pytest.mark.parametrize(
    ("address", "says"),
    [("taken", "the port is in use"), ("203.0.113.1:1", "cannot listen")],
)
def test_a_port_that_cannot_be_had_is_said_at_once(tmp_path: Path, address: str, says: str) -> None:
    """Exit code 1, with the setting and the mend; the kernels are not even loaded."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = address.replace("taken", f"127.0.0.1:{taken.getsockname()[1]}")
        web = {"listen": listen, "allow_insecure": True}
        (tmp_path / "engine.yaml").write_text(json.dumps({"web": web}), "utf-8")
        done = run_command("run", "--config", "engine.yaml", cwd=tmp_path)
    text = done.stderr.decode()
    assert 1 == done.returncode, text
    assert says in text
    assert f"web.listen: {listen}" in text
    assert "hint: " in text
    assert "Traceback" not in text
