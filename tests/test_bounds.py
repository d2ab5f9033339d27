"""Every bound has a counter that says when it was met, and no input grows memory past the bounds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from detectors import watched_rows
from engine.deliver.families import snapshot_families
from engine.deliver.handover import EARLY_ALERTS_MAX
from engine.judge import bounds
from engine.judge.bounds import BOUNDS, NO_ROOM, Place, at, bounds_met, places_of, without_room
from engine.judge.fact_rows import DEPENDENCIES_MAX
from engine.judge.reports import REPORTS_MAX
from engine.observe.unkeyed import UNMATCHED_MAX
from engine.register import parse_register
from engine.settings import EngineSettings, Settings
from tests.event_rows import raw_batch
from tests.hostile_traffic import GOOD_PER_S, HOLDING_S, START_S, event
from tests.line_runs import Run
from tests.test_handover import ALL, NOW_NS, caught_up, picture, reached, received

S = 1_000_000_000
SPLIT = "limits: [{name: each, kind: concurrency, value: 9, split_by: [tenant]}]"
SPLIT_RATE = "limits: [{name: each, kind: rate, value: 9, per: 1s, split_by: [tenant]}]"
GROWN_MB_MAX = 64.0


def run_of(rows: list[bytes], register: str = "limits: []", **engine: Any) -> dict[str, int]:
    """Run rows through the line and close them; give how often each bound was met."""
    run = Run(parse_register(register, "limits.yaml"), Settings(engine=EngineSettings(**engine)))
    run.step(raw_batch(rows, received_ns=(START_S + 60) * S))
    run.finish()
    return dict(bounds_met(run.judge))


def starts(count: int, **fields: str) -> list[bytes]:
    return [
        event(START_S + 1, "call.started", f"c{number}", tenant=f"t{number}", **fields)
        for number in range(count)
    ]


def test_window_rows_that_do_not_fit_are_counted() -> None:
    assert 0 == run_of(starts(5))["window_rows_max"]
    assert run_of(starts(20), window_rows_max=8)["window_rows_max"] >= 12


def test_values_of_a_split_limit_that_share_other_are_counted() -> None:
    assert (
        0
        == run_of(starts(5), SPLIT, limit_instances_max=5, hidden_cap_instances_max=0)["limit_instances_max"]
    )
    assert (
        7
        == run_of(starts(12), SPLIT, limit_instances_max=5, hidden_cap_instances_max=0)["limit_instances_max"]
    )


def test_values_that_are_not_watched_for_hidden_caps_are_counted() -> None:
    rows = [event(START_S + 1, "call.started", f"c{number}", trunk=f"sip-{number}") for number in range(12)]
    assert 0 == run_of(rows)["hidden_cap_instances_max"]
    assert 12 - 3 == run_of(rows, hidden_cap_instances_max=4)["hidden_cap_instances_max"]


def test_reports_that_are_not_kept_are_counted() -> None:
    rows = [
        event(START_S + 1 + number // 200 * 5, "limit.reported", "", limit="each", tenant=f"t{number}", max=9)
        for number in range(REPORTS_MAX + 10)
    ]
    assert 10 == run_of(rows, SPLIT)["reports_max"]


def test_dependencies_that_share_other_are_counted() -> None:
    rows = [
        event(START_S + 1, "dependency.called", f"c{number}", dependency=f"dep-{number}", outcome="ok")
        for number in range(DEPENDENCIES_MAX + 4)
    ]
    assert run_of(rows[: DEPENDENCIES_MAX - 1])["dependencies_max"] == 0
    assert run_of(rows)["dependencies_max"] >= 5


def test_rows_that_a_detector_has_no_room_for_are_counted() -> None:
    assert watched_rows.NO_ROOM == NO_ROOM
    slots = watched_rows.with_slots(
        np.zeros(0, np.int32), [(), (("a", "1"),), (("a", "2"),), (("a", "1"), ("b", "2"))], 2, 0
    )
    assert [0, 1, NO_ROOM, -1] == slots.tolist()

    class State(NamedTuple):
        slot: Any
        inner: Any

    state = State(slots, State(slots, ()))
    places = (Place("detector_rows_max", (0,)), Place("detector_rows_max", (1, 0)))
    assert places == places_of(state)
    assert [1, 1] == [without_room(at(state, path)) for _, path in places]
    assert (
        run_of([*starts(600), *(row.replace(b"started", b"ended") for row in starts(600))])[
            "detector_rows_max"
        ]
        > 0
    )


@pytest.mark.parametrize(
    ("bound", "room", "fields"),
    [
        ("plans_max", 64, {"kind": "load.planned", "limit": "each", "expected": 5}),
        ("signals_max", 24, {"kind": "quality.scored", "score": 0.5}),
        ("strata_max", 510, {"kind": "call.started", "release": "a"}),
        ("comparisons_max", 5, {"kind": "call.started"}),
        ("usual_rows_max", 62, {"kind": "call.started"}),
        ("rate_limits_max", 512, {"kind": "call.started"}),
    ],
)
def test_what_a_detector_leaves_out_is_counted(bound: str, room: int, fields: dict[str, Any]) -> None:
    """As many as there is room for meet no bound, a few more do: plans, metrics, label sets, releases ..."""
    by = {
        "plans_max": "tenant", "signals_max": "metric", "strata_max": "tenant", "comparisons_max": "release",
        "usual_rows_max": "trunk", "rate_limits_max": "tenant",
    }[bound]  # fmt: skip
    register = SPLIT_RATE if bound == "rate_limits_max" else SPLIT
    kind = {name: value for name, value in fields.items() if name != "kind"}

    def met(count: int) -> int:
        rows = [
            event(START_S + 1, fields["kind"], f"c{number}", **{by: f"v{number}", **kind})
            for number in range(count)
        ]
        return run_of(rows, register, stages_max=64)[bound]

    assert 0 == met(room - 2)
    assert met(room + 6) > 0


def test_ids_and_ends_that_had_to_make_room_are_counted() -> None:
    rows = [event(START_S + 1, "turn.completed", "c", id=f"e{number}") for number in range(10)]
    rows += [event(START_S + 1, "call.ended", f"c{number}") for number in range(UNMATCHED_MAX + 6)]
    run = Run(parse_register("limits: []", "limits.yaml"), Settings(engine=EngineSettings(event_ids_max=4)))
    assert {"event_ids_max": 0, "unmatched_ends_max": 0, "lists_apart_max": 0} == dict(
        run.observer.bounds_met
    )
    run.step(raw_batch(rows, received_ns=(START_S + 60) * S))
    run.finish()
    assert {"event_ids_max": 6, "unmatched_ends_max": 6, "lists_apart_max": 0} == dict(
        run.observer.bounds_met
    )


def test_early_alerts_that_do_not_fit_are_counted_and_come_with_their_slice() -> None:
    handover = caught_up()
    alerts = tuple(reached(f"limit-{number}") for number in range(EARLY_ALERTS_MAX + 7))
    handover.alerts(received(NOW_NS + S, ALL), picture(2 * S), alerts)
    assert 7 == handover.refused


def test_every_bound_is_exported_and_explained() -> None:
    run = Run(parse_register(SPLIT, "limits.yaml"))
    snapshot = run.publisher.publish(0)
    (family,) = [one for one in snapshot_families(snapshot) if one.name == "callgauge_bounds_met_total"]
    assert {(("bound", name),) for name in (*BOUNDS, *dict(run.observer.bounds_met))} == set(family.labels)
    architecture = (Path(bounds.__file__).parents[1] / "ARCHITECTURE.md").read_text()
    section = architecture.partition("## 6.")[2].partition("## 7.")[0]
    assert [] == [
        name
        for name in (*BOUNDS, *dict(run.observer.bounds_met), "early_alerts_max")
        if f"`{name}`" not in section
    ]


def attacked(ids: int, attack_s: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile_traffic", str(ids), str(attack_s)],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=1500, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr[-2000:]
    return dict(json.loads(done.stdout))


def check_attack(ids: int, attack_s: int) -> None:
    peace, war = attacked(0, attack_s), attacked(ids, attack_s)
    assert war["grown_mb"] < GROWN_MB_MAX, war
    for name in ("good_started", "good_used", "tenant_used", "alerts"):
        assert peace[name] == war[name], name
    assert GOOD_PER_S * HOLDING_S == war["good_used"]
    assert war["balanced"]
    assert war["lost"]["row_too_long"] > 0
    assert war["lost"]["not_json"] > 0
    assert war["lost"]["late"] + war["lost"]["time_ahead"] > 0
    assert war["collapsed"] > 0
    assert war["bounds"]["limit_instances_max"] > 0


def test_an_attack_costs_bounded_memory_and_leaves_good_calls_alone() -> None:
    """Nine thousand new ids and tenants, rows of 10 MB, deep nesting, clocks an hour off."""
    check_attack(9_000, 60)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_million_ids_and_tenants_cost_bounded_memory() -> None:
    check_attack(1_000_000, 1_000)
