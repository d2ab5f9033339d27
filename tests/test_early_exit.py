"""Declines are told before their slice is closed, under the labels that the closed slice gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.app import REPLAY_HASH_KEY, LearningLine, load_configuration
from engine.judge.lifecycle import FIRING
from engine.limits import Limit, Register
from tests.line_runs import Run
from tests.line_traffic import REGISTER, START_NS, S, batches_of, event

if TYPE_CHECKING:
    from engine.judge.lifecycle import Alert
    from tests.line_traffic import Event

TENANT = Limit(name="tenant-cap", kind="concurrency", value=5.0, split_by=("tenant",))


def declined(second: int, code: int = 503, **labels: str) -> list[Event]:
    """Let one call be declined."""
    name = f"declined-{second}"
    return [
        event(START_NS + second * S, "call.started", name, **labels),
        event(START_NS + second * S, "call.declined", name, code=code, **labels),
    ]


def early_of(register: Register, events: list[Event]) -> tuple[list[Alert], Run]:
    """Give the alerts that were told early, and the run, whose log has ended."""
    run = Run(register)
    early = [alert for raw in batches_of(events) for alert in run.step(raw).early]
    run.finish()
    return early, run


def test_a_log_with_a_declined_call_can_be_learned_from() -> None:
    """Nobody is told early there: the one detector is silent and has no such alert."""
    configuration = load_configuration(None, None, None)._replace(register=Register())
    line = LearningLine(configuration, REPLAY_HASH_KEY)

    assert [()] == [line.step(raw).early for raw in batches_of(declined(1))]


def reached(run: Run) -> set[tuple[tuple[str, str], ...]]:
    """Give the labels under which the closed slices said that a limit was reached."""
    named = [change for change in run.changes if change.state == FIRING]
    return {one.labels for one in named if dict(one.labels)["alertname"] == "CallLimitReached"}


def test_a_decline_by_a_limit_that_nobody_wrote_down_is_told_early_even_before_the_first_slice() -> None:
    """A cap that nobody knows of is the worst one to hear of late."""
    (alert,), run = early_of(Register(), declined(1))

    assert dict(alert.labels)["limit"] == "unregistered"
    assert {alert.labels} == reached(run)
    assert alert.fired_ns == START_NS + 5 * S
    assert "not in the register" in dict(alert.annotations)["description"]
    assert "503" in dict(alert.annotations)["description"]


def test_a_trunk_that_no_limit_covers_is_unregistered_among_limits_that_cover_others() -> None:
    (alert,), run = early_of(Register(limits=REGISTER.limits[:1]), declined(7, trunk="sip-9"))

    assert dict(alert.labels)["limit"] == "unregistered"
    assert {alert.labels} == reached(run)


def test_a_split_value_that_is_seen_for_the_first_time_is_not_unregistered() -> None:
    """Its limit is in the register; the instance appears with the closed slice, which then names it."""
    early, run = early_of(Register(limits=(TENANT,)), declined(1, tenant="acme"))

    assert early == []
    assert [dict(labels)["limit"] for labels in reached(run)] == ["tenant-cap"]


def test_a_busy_line_is_told_to_nobody() -> None:
    early, run = early_of(Register(), declined(1, code=486))

    assert early == []
    assert reached(run) == set()


def test_a_limit_that_is_named_and_in_no_register_is_not_told_as_the_one_that_has_room() -> None:
    """Before the first slice nothing is known of the trunk, so nothing is said of it that may be wrong."""
    named = declined(1, trunk="sip-1", limit="stt-sessions")

    early, run = early_of(Register(limits=REGISTER.limits[:1]), named)

    assert early == []
    assert [dict(labels)["limit"] for labels in reached(run)] == ["unregistered"]
