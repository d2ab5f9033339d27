"""Promise P1: every acknowledged record counts once, however often the service is killed with -9."""

import itertools
import time
from pathlib import Path

import pytest

from tests.integration.kafka_broker import Kafka
from tests.integration.kill_loop import Killed
from tests.line_traffic import Event, Traffic, make_story

NAMES = itertools.count()
S = 1_000_000_000
MINUTE_NS = 60 * S


def a_story(kills: int) -> tuple[Event, ...]:
    """Let a platform fill up until it declines calls, up to two minutes ago; longer for more kills."""
    duration_s = 600 + 20 * kills
    start_ns = (time.time_ns() // MINUTE_NS - duration_s // 60 - 2) * MINUTE_NS
    traffic = Traffic(seed=kills, duration_s=duration_s, rate_last=4.0)
    return make_story(traffic, start_ns).events


@pytest.mark.parametrize(
    "kills",
    [
        3,
        pytest.param(30, marks=[pytest.mark.full, pytest.mark.timeout(900)]),
        pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(14_400)]),
    ],
)
def test_kill_9_at_random_moments_loses_nothing_and_counts_nothing_twice(
    kafka: Kafka, tmp_path: Path, kills: int
) -> None:
    """The whole history is compared: calls by key, totals, losses by reason, alerts, changes told."""
    killed = Killed(tmp_path / "killed", kafka, f"killed-{next(NAMES)}")
    killed.run(a_story(kills), kills, seed=kills)
    killed.finish()
    expected, changes = killed.expected()
    found = killed.found()
    assert expected.rows["read"] == sum(kafka.end_offsets(killed.topic))
    assert found == expected
    assert killed.told() == changes
    assert len(changes) > 2
    assert killed.offsets_committed() == killed.offsets_kept()


def test_offsets_that_lead_the_state_lose_rows_and_this_test_sees_it(kafka: Kafka, tmp_path: Path) -> None:
    """The control: the same loop around a consumer that commits as it fetches must fail."""
    command = "tests.integration.auto_commit"
    killed = Killed(tmp_path / "control", kafka, f"control-{next(NAMES)}", command=command)
    killed.run_ahead(a_story(1))
    killed.finish()
    expected, _ = killed.expected()
    assert killed.found().rows["read"] < expected.rows["read"]
