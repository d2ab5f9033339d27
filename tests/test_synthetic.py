"""Synthetic traffic against what the scenario asked for, and against a slow twin of the loss system."""

import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from engine.source.synthetic import generate, generate_rows, make_traffic
from engine.source.traffic import Inflation, Ramp, Scenario, Stage, Step, Tenant, rate_per_s, simulate
from tests.oracle_erlang import erlang_b

ACME = Tenant(name="acme", rate_per_s=2.0, holding_mean_s=30.0)


def events_of(scenario: Scenario, seed: int = 1) -> list[dict[str, Any]]:
    """Give all events."""
    return list(generate(scenario, seed))


def count(events: list[dict[str, Any]]) -> Counter[str]:
    """Count events by type."""
    return Counter(str(event["type"]) for event in events)


def test_a_seed_gives_the_same_rows() -> None:
    """Byte for byte, and another seed gives others."""
    scenario = Scenario(duration_s=60.0, tenants=(ACME,), turn_every_s=5.0, disorder_s=1.0)
    assert list(generate_rows(scenario, 4)) == list(generate_rows(scenario, 4))
    assert list(generate_rows(scenario, 4)) != list(generate_rows(scenario, 5))


def test_a_cap_is_kept_exactly() -> None:
    """At every attempt, a twin that looks at all calls decides the same."""
    scenario = Scenario(
        duration_s=600.0, tenants=(ACME, Tenant(name="globex", rate_per_s=1.0, trunk="sip-2")),
        caps={"sip-1": 40, "sip-2": 100_000}, retry_ratio=0.7, leak_ratio=0.02,
    )  # fmt: skip
    calls, truth = simulate(scenario, np.random.default_rng(2))
    for trunk, cap in scenario.caps.items():
        here = np.array([scenario.tenants[row].trunk == trunk for row in calls.tenant])
        level = np.array(
            [
                int((here & ~calls.is_declined & (calls.start_s < at) & (calls.end_s > at)).sum())
                for at in calls.start_s[here]
            ]
        )
        assert ((level >= cap) == calls.is_declined[here]).all()
        assert truth.declined[trunk] == int(calls.is_declined[here].sum())
        assert truth.peak[trunk] == int((level + ~calls.is_declined[here]).max())
    assert truth.first_decline_s == {"sip-1": float(calls.start_s[calls.is_declined].min())}


def test_the_share_of_the_declined_is_erlangs() -> None:
    """A steady loss system declines what Erlang-B says, whatever the shape of the holding times."""
    tenant = Tenant(name="acme", rate_per_s=5.0, holding_mean_s=9.2, holding_sigma=1.0)
    scenario = Scenario(duration_s=20_000.0, tenants=(tenant,), caps={"sip-1": 50}, setup_mean_s=0.8)
    calls, _ = simulate(scenario, np.random.default_rng(3))
    settled = calls.start_s > 200.0
    share = float(calls.is_declined[settled].mean())
    assert share == pytest.approx(float(erlang_b(50, Fraction(50))), rel=0.05)


def test_rates_follow_ramps_and_steps() -> None:
    """A rate doubles, grows in a line, and is multiplied, when the scenario says so."""
    tenant = Tenant(
        name="acme", rate_per_s=1.0, ramps=(Ramp(from_s=100, until_s=300, doubling_s=100),),
        steps=(Step(at_s=400, factor=3.0, until_s=500),),
    )  # fmt: skip
    rate = rate_per_s(tenant, 600)
    assert rate[[0, 100, 200, 300, 399, 400, 499, 500]] == pytest.approx([1, 1, 2, 4, 4, 12, 12, 4])
    linear = Tenant(name="acme", rate_per_s=1.0, ramps=(Ramp(from_s=0, per_s_per_minute=0.5),))
    assert rate_per_s(linear, 121)[[0, 60, 120]] == pytest.approx([1.0, 1.5, 2.0])


def test_arrivals_and_holding_times_are_as_asked() -> None:
    """Counts are Poisson around the rate's integral; holding times have the mean, inflated when asked."""
    scenario = Scenario(
        duration_s=10_000.0, tenants=(Tenant(name="acme", rate_per_s=4.0, holding_mean_s=60.0),),
        inflation=(Inflation(from_s=5000.0, until_s=5001.0, factor=2.0),),
    )  # fmt: skip
    calls, _ = simulate(scenario, np.random.default_rng(5))
    assert abs(len(calls.start_s) - 40_000) < 4 * math.sqrt(40_000)
    early = calls.start_s < 5000
    assert calls.talk_s[early].mean() == pytest.approx(60.0, rel=0.05)
    assert calls.talk_s[~early].mean() == pytest.approx(120.0, rel=0.05)


def test_a_call_has_the_events_of_its_life() -> None:
    """Started, answered, turns whose stages add up, heartbeats, ended with its duration."""
    scenario = Scenario(duration_s=900.0, tenants=(ACME,), turn_every_s=5.0, heartbeat_s=10.0)
    calls: dict[str, list[dict[str, Any]]] = {}
    for event in events_of(scenario):
        calls.setdefault(event["call_id"], []).append(event)
    whole = [life for life in calls.values() if life[-1]["type"] == "call.ended"]
    assert len(whole) > 1000
    for life in whole:
        assert [event["type"] for event in life[:2]] == ["call.started", "call.answered"]
        assert life[-1]["outcome"] == "completed"
        talked_s = life[-1]["duration_ms"] / 1000
        counted = count(life)
        assert counted["turn.completed"] == int(talked_s / 5.0) or talked_s % 5.0 < 0.001
        assert counted["call.heartbeat"] == int(talked_s / 10.0) or talked_s % 10.0 < 0.001
        for event in life:
            if event["type"] == "turn.completed":
                stages = dict(event["latency_ms"])
                assert stages.pop("e2e") == pytest.approx(sum(stages.values()), abs=0.02)
                assert set(stages) == {"stt", "llm", "tts"}


def test_declined_attempts_say_so_and_try_again() -> None:
    """A declined attempt is started and declined with the code, and retries are attempts of their own."""
    crowd = Scenario(duration_s=600.0, tenants=(ACME,), caps={"sip-1": 10})
    patient = Scenario(duration_s=600.0, tenants=(ACME,), caps={"sip-1": 10}, retry_ratio=1.0)
    declined = [event for event in events_of(crowd) if event["type"] == "call.declined"]
    assert {(event["code"], event["reason"]) for event in declined} == {(503, "Service Unavailable")}
    started = {event["call_id"] for event in events_of(crowd) if event["type"] == "call.started"}
    assert {event["call_id"] for event in declined} <= started
    assert count(events_of(patient))["call.started"] > 1.5 * count(events_of(crowd))["call.started"]


def test_lost_ends_and_leaks_leave_calls_open() -> None:
    """Lost ends give the place back and leaks do not; neither is told."""
    lost = Scenario(duration_s=3000.0, tenants=(ACME,), lost_ends_ratio=0.2)
    leaking = Scenario(duration_s=3000.0, tenants=(ACME,), leak_ratio=0.2)
    neither = make_traffic(Scenario(duration_s=3000.0, tenants=(ACME,)), 1).truth.peak["sip-1"]
    for scenario in (lost, leaking):
        counted = count(events_of(scenario))
        ended = counted["call.ended"] / counted["call.answered"]
        assert ended == pytest.approx(0.79, abs=0.03)
    assert make_traffic(lost, 1).truth.peak["sip-1"] < 1.5 * neither
    assert make_traffic(leaking, 1).truth.peak["sip-1"] > 5 * neither


def test_failed_calls_are_never_answered() -> None:
    """They end with their code, and hold the cap for their set-up alone."""
    counted = Counter(
        (event.get("outcome"), event.get("code"))
        for event in events_of(Scenario(duration_s=600.0, tenants=(ACME,), failed_ratio=0.25))
        if event["type"] == "call.ended"
    )
    assert set(counted) == {("completed", None), ("failed", 500)}


def test_disorder_stays_within_its_bound() -> None:
    """Rows arrive in the order of arrival, and no event is overtaken by more than the bound."""
    traffic = make_traffic(Scenario(duration_s=300.0, tenants=(ACME,), disorder_s=4.0), 1)
    assert (np.diff(traffic.arrival_ns) >= 0).all()
    behind_ns = np.maximum.accumulate(traffic.time_ns) - traffic.time_ns
    assert 1e9 < behind_ns.max() < 4e9


def test_duplicates_are_whole_rows() -> None:
    """About as many rows as asked come twice, byte for byte."""
    rows = list(generate_rows(Scenario(duration_s=3000.0, tenants=(ACME,), duplicates_ratio=0.05), 1))
    twice = sum(times == 2 for times in Counter(rows).values())
    assert twice / len(set(rows)) == pytest.approx(0.05, abs=0.01)


def test_a_stage_slows_down_when_asked() -> None:
    """Its latencies are multiplied from then on, the others are not."""
    stages = (
        Stage(name="stt", mean_ms=100.0),
        Stage(name="llm", mean_ms=400.0, slow_from_s=500, slow_factor=3),
    )
    scenario = Scenario(duration_s=1000.0, tenants=(ACME,), turn_every_s=2.0, stages=stages)
    turns = [event for event in events_of(scenario) if event["type"] == "turn.completed"]
    for name, before_ms, after_ms in (("stt", 100, 100), ("llm", 400, 1200)):
        slow_ns = scenario.start_ns + 500 * 10**9
        early = [event["latency_ms"][name] for event in turns if event["time"] < slow_ns]
        late = [event["latency_ms"][name] for event in turns if event["time"] >= slow_ns]
        assert np.mean(early) == pytest.approx(before_ms, rel=0.05)
        assert np.mean(late) == pytest.approx(after_ms, rel=0.05)


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(duration_s=0.0, tenants=(ACME,)),
        Scenario(duration_s=10.0, tenants=()),
        Scenario(duration_s=10.0, tenants=(Tenant(name="nobody", rate_per_s=0.0),)),
    ],
)
def test_nobody_calls(scenario: Scenario) -> None:
    """An empty scenario has no events and no declines."""
    assert events_of(scenario) == []
    assert make_traffic(scenario, 1).truth.first_decline_s == {}
