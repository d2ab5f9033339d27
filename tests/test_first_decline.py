"""Which limit declined its first call, and when: of the slices alone, however rows come."""

from __future__ import annotations

import pytest

from engine.limits import Limit, Register
from tests.line_runs import Run, run_all
from tests.line_traffic import (
    REGISTER,
    START_NS,
    Event,
    S,
    Traffic,
    batches_of,
    disordered,
    event,
    make_story,
)

TRUNK = Limit(name="trunk-cap", kind="concurrency", value=4.0, applies_to={"trunk": ("sip-1",)})
TENANT = Limit(name="tenant-cap", kind="concurrency", value=100.0, split_by=("tenant",))
BOTH = Register(limits=(TENANT, TRUNK))
ACME = {"tenant": "acme", "trunk": "sip-1"}
WHOLE = 1 << 20


def at(second: float, kind: str, call: str, **fields: object) -> Event:
    """Make a row of a call."""
    return event(START_NS + round(second * S), kind, call, **fields)


def busy_for_half_a_minute(**declined: str) -> list[Event]:
    """Make three minutes of short calls; four that last fill the trunk, which declines until these end."""
    events = []
    for second in [*range(60), *range(100, 180)]:
        call = f"short-{second}"
        events += [at(second, "call.started", call, **ACME), at(second + 0.5, "call.ended", call, **ACME)]
    for second in range(60, 64):
        call = f"long-{second}"
        events += [at(second, "call.started", call, **ACME), at(second + 30, "call.ended", call, **ACME)]
    for second in range(64, 90):
        call = f"declined-{second}"
        events += [
            at(second, "call.started", call, **ACME),
            at(second + 0.25, "call.declined", call, code=503, **declined),
        ]
    return sorted(events)


def first_of(run: Run) -> dict[str, float]:
    """Say when each limit declined its first call, in seconds after the first event."""
    return {one.limit: (one.time_ns - START_NS) / S for one in run.judge.first_declines.values()}


@pytest.mark.parametrize("rows_max", [1, 7, 40, WHOLE])
def test_the_limit_that_was_full_then_has_declined_however_rows_come_in_batches(rows_max: int) -> None:
    """Not the one that is fullest at the end of the batch, nor only from when that of the slice is known."""
    run = run_all(batches_of(busy_for_half_a_minute(**ACME), rows_max=rows_max), BOTH)

    assert first_of(run) == {"trunk-cap": 64.25}


@pytest.mark.parametrize(("partitions", "rows_max", "disorder_s"), [(1, WHOLE, 0), (1, 50, 4), (4, 57, 4)])
def test_the_time_is_that_of_the_first_declined_call_also_in_disorder(
    partitions: int, rows_max: int, disorder_s: int
) -> None:
    told = make_story(Traffic()).events
    declined_ns = min(one.time_ns for one in told if b"call.declined" in one.row)

    events = disordered(told, disorder_s * S + 1, partitions)
    run = run_all(batches_of(events, partitions, rows_max, rows_max), REGISTER)

    assert first_of(run) == {"trunk-cap": (declined_ns - START_NS) / S}


def test_a_decline_with_fewer_labels_than_its_call_has_its_time_all_the_same() -> None:
    run = run_all(batches_of(busy_for_half_a_minute(tenant="acme")), BOTH)

    assert first_of(run) == {"trunk-cap": 64.25}


def test_the_time_of_a_limit_is_that_of_its_own_declines() -> None:
    """Two tenants are declined in one slice, one of them by another limit."""
    named = [
        at(1, "call.declined", "a", code=503, limit="trunk-cap", **ACME),
        at(2, "call.declined", "b", code=503, limit="tenant-cap", **ACME),
        at(3, "call.declined", "c", code=503, limit="trunk-cap", tenant="globex", trunk="sip-1"),
    ]

    assert first_of(run_all(batches_of(named), BOTH)) == {"trunk-cap": 1.0, "tenant-cap": 2.0}


@pytest.mark.parametrize(
    "row",
    [
        at(16, "call.declined", "late", code=503, **ACME),
        at(16, "call.ended", "long-60", outcome="failed", code=34, **ACME),
    ],
)
def test_a_decline_that_is_told_late_or_as_an_end_dates_from_the_beginning_of_its_slice(row: Event) -> None:
    calls = [at(second, "call.started", f"long-{second}", **ACME) for second in range(60)]
    rows = [*calls[:40], row, *calls[40:]]

    run = run_all(batches_of(rows, rows_max=5), Register(limits=(TRUNK,)))

    assert first_of(run) == {"trunk-cap": 15.0}


def test_what_is_still_open_when_a_recording_ends_is_nobodys_decline_yet() -> None:
    """It is not counted yet either."""
    run = Run(BOTH)
    for raw in batches_of([at(1, "call.declined", "a", code=503, limit="trunk-cap", **ACME)]):
        run.step(raw)
    assert first_of(run) == {}
    run.finish()
    assert first_of(run) == {"trunk-cap": 1.0}
