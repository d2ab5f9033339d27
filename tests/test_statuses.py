"""One row per limit instance: what is known of it now."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest

from detectors import make_detectors
from engine.deliver.families import headroom_ratio
from engine.erlang import safe_offered_load
from engine.judge.lifecycle import FIRING, PENDING, RESOLVED, Alert
from engine.judge.snapshot import LimitStatus
from engine.judge.statuses import HOLDING_STEP, LIMIT_STATES, SAFE_DECLINES_PER_HOUR, STATE_BY_ALERT, Statuses
from engine.limits import Limit, Register
from engine.settings import EngineSettings, Settings
from tests.line_runs import Run, run_all
from tests.line_traffic import REGISTER, START_NS, S, Traffic, batches_of, event, make_story, raw_batch

UNKNOWN = Limit(name="unknown", kind="concurrency")
RATE = Limit(name="rate", kind="rate", value=50.0, per_ns=S)
UNMEASURED = (
    Limit(name="calls-a-minute", kind="rate", value=2.0, per_ns=60 * S),
    Limit(name="calls-a-day", kind="quota", value=2.0, per_ns=86_400 * S),
    Limit(name="gateway", kind="timeout", value=2.0),
)


# What is in no register has tests of its own.
SETTINGS = Settings(engine=EngineSettings(hidden_cap_instances_max=0))


class Rows(NamedTuple):
    """A run, and the status rows after it."""

    run: Run
    by_name: dict[str, LimitStatus]


def rows_of(register: Register, seconds: int, alerts: tuple[Alert, ...] | None = None) -> Rows:
    """Run the beginning of some traffic and give the rows by limit and split."""
    events = [one for one in make_story(Traffic(1)).events if one.time_ns < START_NS + seconds * S]
    run = run_all(batches_of(events), register, SETTINGS)
    rows = Statuses(run.judge).rows(run.judge.book.alerts() if alerts is None else alerts)
    return Rows(run, {"/".join([row.limit, *(value for _, value in row.split)]): row for row in rows})


def test_there_is_no_row_before_the_first_slice() -> None:
    assert Statuses(Run(REGISTER).judge).rows(()) == ()


def test_a_row_says_what_the_last_slice_says() -> None:
    run, rows = rows_of(REGISTER, 100)
    use = run.recorder.summaries[-1].limits

    assert list(rows) == ["trunk-cap", "tenant-cap/acme", "tenant-cap/globex"]
    assert [row.used for row in rows.values()] == use.level.tolist()
    assert [row.peak for row in rows.values()] == use.level_peak.tolist()
    assert rows["tenant-cap/acme"].value == 45.0
    assert math.isnan(rows["tenant-cap/globex"].value)
    assert rows["trunk-cap"].owner == "voice"


def test_a_rate_is_used_by_its_busiest_second_and_has_no_guard_rail() -> None:
    run, rows = rows_of(Register(limits=(RATE,)), 300)

    assert rows["rate"].used == run.recorder.summaries[-1].limits.rate_peak[0]
    assert math.isnan(rows["rate"].safe_load)


def test_without_a_forecast_there_is_no_baseline_and_without_a_value_nothing_is_known() -> None:
    _, rows = rows_of(Register(limits=(*REGISTER.limits, UNKNOWN)), 12)

    assert rows["trunk-cap"].state == "no_baseline"
    assert rows["unknown"].state == "unknown"
    assert not math.isfinite(rows["trunk-cap"].time_to_limit_s)


def alert(name: str, severity: str, state: str = FIRING, **labels: str) -> Alert:
    """Make an alert."""
    given = {"alertname": name, "severity": severity, "owner": "voice", **labels}
    return Alert(tuple(sorted(given.items())), (), state, 0, 0, 0, -1)


APPROACHING = ("CallLimitApproaching", "warning"), ("CallLimitApproaching", "critical")
TRUNK = {"limit": "trunk-cap"}


@pytest.mark.parametrize(
    ("alerts", "expected"),
    [
        ((), "ok"),
        ((alert(*APPROACHING[0], **TRUNK),), "warning"),
        ((alert(*APPROACHING[1], **TRUNK), alert(*APPROACHING[0], **TRUNK)), "critical"),
        ((alert("CallLimitReached", "critical", **TRUNK), alert(*APPROACHING[1], **TRUNK)), "reached"),
        ((alert(*APPROACHING[1], PENDING, **TRUNK),), "ok"),
        ((alert(*APPROACHING[1], RESOLVED, **TRUNK),), "ok"),
        ((alert(*APPROACHING[1], limit="tenant-cap", tenant="acme"),), "ok"),
        ((alert("CallLimitUnconfirmed", "info", **TRUNK),), "ok"),
        ((alert("CallRateLimitApproaching", "critical", **TRUNK),), "critical"),
        ((alert("CallQuotaExhaustion", "critical", **TRUNK),), "critical"),
    ],
)
def test_the_state_is_that_of_the_worst_alert_that_is_firing(
    alerts: tuple[Alert, ...], expected: str
) -> None:
    assert expected == rows_of(REGISTER, 200, alerts).by_name["trunk-cap"].state


def test_an_alert_of_one_instance_says_nothing_of_the_others() -> None:
    firing = alert(*APPROACHING[1], limit="tenant-cap", tenant="acme")

    rows = rows_of(REGISTER, 200, (firing,)).by_name

    assert rows["tenant-cap/acme"].state == "critical"
    assert rows["tenant-cap/globex"].state == "unknown"
    assert {row.state for row in rows.values()} <= set(LIMIT_STATES)


def test_the_forecast_is_shown_whether_it_pages_or_not() -> None:
    run, rows = rows_of(REGISTER, 200)
    forecast = run.judge.bank.forecast
    assert forecast is not None

    row = rows["trunk-cap"]

    assert row.expected_used == forecast.mean[0] > 0
    assert row.probability == forecast.probability[0]
    assert row.holding_s == forecast.holding_s[0] > 0


def test_the_guard_rail_is_the_load_that_the_limit_carries_with_few_declines() -> None:
    statuses = Statuses(Run(REGISTER).judge)

    found = statuses.safe_load(40.0, 20.0)

    assert found == pytest.approx(safe_offered_load(40.0, 20.0, SAFE_DECLINES_PER_HOUR), rel=HOLDING_STEP - 1)
    assert found == statuses.safe_load(40.0, 20.05)
    for value, holding_s in (
        (math.nan, 20.0),
        (0.0, 20.0),
        (2.0**31 - 1, 20.0),
        (40.0, math.nan),
        (40.0, 0.0),
    ):
        assert math.isnan(statuses.safe_load(value, holding_s))


def test_what_is_remembered_of_guard_rails_is_bounded() -> None:
    statuses = Statuses(Run(REGISTER).judge)
    statuses.judge.roller.index.instances_max = 2

    for value in range(1, 40):
        statuses.safe_load(float(value), 20.0)

    assert len(statuses._safe) <= 8


def test_an_instance_that_appeared_since_the_last_slice_has_no_row_yet() -> None:
    run = Run(REGISTER, SETTINGS)
    for raw in batches_of(
        [event(START_NS + second * S, "call.started", f"c{second}") for second in range(20)]
    ):
        run.step(raw)
    run.judge.roller.index.ids(("tenant",), (("new",),))

    rows = Statuses(run.judge).rows(())

    assert len(rows) == len(run.recorder.summaries[-1].limits.level)


def test_use_that_only_the_platform_sees_counts_in_full() -> None:
    """Twenty-one calls of ours and thirty-nine of others fill a cap of sixty, whoever made them."""
    shared = Limit(name="shared", kind="concurrency", value=60.0)
    calls = [event(START_NS + second * S, "call.started", f"c{second}") for second in range(20)]
    told = event(START_NS + 19 * S, "limit.reported", "", limit="shared", used=60, max=60)
    late = event(START_NS + 26 * S, "call.started", "late")
    run = run_all(batches_of([*calls, told, late]), Register((shared,)), SETTINGS)

    (row,) = Statuses(run.judge).rows(())

    assert (row.used, row.unseen_use, headroom_ratio(row)) == (60, 39, 0.0)
    assert row.peak == 60
    full = run.judge.roller.fullness(run.recorder.summaries[-1].limits)
    assert full.tolist() == [1.0]


def test_the_forecast_of_the_use_includes_what_others_use() -> None:
    run, _ = rows_of(REGISTER, 200)
    forecast, rolled = run.judge.bank.forecast, run.judge.last
    assert forecast is not None
    assert rolled is not None
    limits = rolled.summary.limits
    use = limits._replace(unseen_use=limits.unseen_use + 7.0)
    run.judge.last = rolled._replace(summary=rolled.summary._replace(limits=use))

    assert Statuses(run.judge).rows(())[0].expected_used == forecast.mean[0] + 7.0


@pytest.mark.parametrize("limit", UNMEASURED, ids=lambda limit: limit.name)
def test_what_nothing_measures_is_unknown(limit: Limit) -> None:
    """Calls in flight are no use of a quota or a timeout, and a busy second is none of a rate per minute.

    A page on it says what it says all the same.
    """
    run, _ = rows_of(Register(limits=(limit,)), 100)

    (row,) = Statuses(run.judge).rows(())

    assert row.state == "unknown"
    assert all(math.isnan(one) for one in (row.used, row.peak, headroom_ratio(row)))
    assert math.isnan(run.judge.roller.fullness(run.recorder.summaries[-1].limits)[0])


def test_a_limit_that_has_left_the_register_has_no_row_until_it_comes_back() -> None:
    """Nobody can raise a cap that is gone, and a gauge that stays for ever says that it is still there."""
    run, rows = rows_of(REGISTER, 100)
    statuses = Statuses(run.judge)
    assert [row.applies_to for row in rows.values()] == [(("trunk", ("sip-1",)),), (), ()]

    run.judge.reload(Register(limits=REGISTER.limits[1:]), ())
    assert [row.limit for row in statuses.rows(())] == ["tenant-cap", "tenant-cap"]

    run.judge.reload(REGISTER, ())
    later = event(START_NS + 150 * S, "call.queued", "later", tenant="acme", trunk="sip-1")
    run.step(raw_batch([later.row], 0, 1_000_000, 1))  # A slice has it: it is a new instance.
    assert [row.limit for row in statuses.rows(())] == ["tenant-cap", "tenant-cap", "trunk-cap"]


@pytest.mark.parametrize("severity", ["warning", "critical"])
def test_every_forecast_of_a_limit_has_a_state(severity: str) -> None:
    """Those of the detectors that speak of the use of a limit before it is reached."""
    ahead = ("CallLimitApproaching", "CallRateLimitApproaching", "CallQuotaExhaustion")
    there_are = {
        (policy.alertname, policy.severity)
        for detector in make_detectors(SETTINGS)
        for policy in detector.policies
        if policy.alertname in ahead and policy.severity == severity
    }
    assert there_are == {one for one in STATE_BY_ALERT if one[1] == severity and one[0] in ahead}
    assert {severity} == {STATE_BY_ALERT[one] for one in there_are}
