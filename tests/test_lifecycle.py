"""The life of an alert: inactive, pending, firing, resolved."""

from __future__ import annotations

import numpy as np
import pytest

from detectors import make_detectors
from engine.judge.detection import AlertPolicy
from engine.judge.lifecycle import FIRING, PENDING, RESOLVED, AlertBook, AlertChange, Worded
from engine.settings import Settings
from tests.summaries import S

MINUTE = 60 * S
ONCE = AlertPolicy("Reached", "critical", keep_ns=5 * MINUTE)
TWICE = AlertPolicy("Approaching", "critical", evaluations=2, keep_ns=10 * MINUTE, repeat_ns=60 * MINUTE)


def worded(policy: AlertPolicy = ONCE, limit: str = "trunk", used: str = "1") -> Worded:
    """Make a finding with its names."""
    labels = (("alertname", policy.alertname), ("limit", limit), ("severity", policy.severity))
    return Worded(policy, labels, (("used", used),))


def new_book(alerts_max: int = 100) -> AlertBook:
    """Make an empty book that shows resolved alerts for 15 minutes."""
    return AlertBook(alerts_max, 15 * MINUTE)


def states(changes: list[AlertChange]) -> list[str]:
    """Give the states of changes."""
    return [change.state for change in changes]


def walk(
    book: AlertBook, policy: AlertPolicy, pattern: str, step_ns: int = 5 * S, at_ns: int = 0
) -> list[str]:
    """Evaluate step by step; `x` has the finding, `.` does not, ` ` is not evaluated. Give `time state`."""
    seen = []
    for number, mark in enumerate(pattern):
        end_ns = at_ns + number * step_ns
        found = {} if mark == " " else {"d": [worded(policy)] if mark == "x" else []}
        seen += [f"{change.time_ns // S} {change.state}" for change in book.update(found, end_ns)]
    return seen


def test_a_finding_fires_at_once_when_its_policy_asks_for_one_evaluation() -> None:
    book = new_book()

    changes = book.update({"d": [worded()]}, 5 * S)

    assert changes == [AlertChange(5 * S, FIRING, worded().labels, (("used", "1"),), 5 * S)]
    assert [alert.state for alert in book.alerts()] == [FIRING]


def test_a_finding_must_hold_for_its_evaluations_in_a_row() -> None:
    assert walk(new_book(), TWICE, "x.x.x.x") == []
    assert walk(new_book(), TWICE, "x.xx") == ["15 firing"]


def test_a_pending_alert_that_goes_away_is_forgotten() -> None:
    book = new_book()

    walk(book, TWICE, "x")
    assert [(alert.state, alert.fired_ns) for alert in book.alerts()] == [(PENDING, -1)]
    walk(book, TWICE, ".", at_ns=5 * S)

    assert book.alerts() == ()


def test_a_detector_that_did_not_evaluate_leaves_its_alerts_as_they_are() -> None:
    assert walk(new_book(), TWICE, "x  x") == ["15 firing"]
    assert walk(new_book(), ONCE, "x" + " " * 200) == ["0 firing"]


def test_another_detectors_findings_do_not_resolve_an_alert() -> None:
    book = new_book()
    book.update({"d": [worded()]}, 0)

    assert book.update({"e": []}, 60 * MINUTE) == []


def test_an_alert_is_resolved_when_its_finding_was_away_for_as_long_as_it_is_kept() -> None:
    assert walk(new_book(), ONCE, "x....x......", MINUTE) == ["0 firing", "600 resolved"]


def test_annotations_follow_the_last_finding_and_the_identity_does_not_change() -> None:
    book = new_book()
    book.update({"d": [worded(used="1")]}, 0)
    book.update({"d": [worded(used="2")]}, 5 * S)

    (change,) = book.update({"d": []}, 10 * MINUTE)

    assert change.annotations == (("used", "2"),)
    assert change.fired_ns == 0
    assert change.time_ns == 10 * MINUTE


def test_no_second_page_of_one_identity_within_its_time() -> None:
    """Fired at 1 min, resolved at 11 min, found again: it pages again an hour after the first page."""
    pattern = "xx" + "." * 10 + "x" * 60

    assert walk(new_book(), TWICE, pattern, MINUTE) == ["60 firing", "660 resolved", "3720 firing"]


def test_another_identity_pages_meanwhile() -> None:
    book = new_book()
    walk(book, TWICE, "xx" + "." * 10, MINUTE)

    for minute in (13, 14):
        changes = book.update({"d": [worded(TWICE, limit="other")]}, minute * MINUTE)

    assert states(changes) == [FIRING]


def test_a_limit_of_another_value_pages_within_the_time_of_the_page_before() -> None:
    """Raised as the page asked, and approached again: nobody would know. The same value stays quiet."""
    book = new_book()
    at_40, at_70 = (worded(TWICE)._replace(in_force=(("limit_value", value),)) for value in ("40", "70"))

    def fired(one: Worded, minute: int) -> list[str]:
        found = [states(book.update({"d": [one]}, (minute + each) * MINUTE)) for each in range(2)]
        book.update({"d": []}, (minute + 12) * MINUTE)
        return found[0] + found[1]

    assert [fired(at_40, 0), fired(at_70, 15), fired(at_70, 30), fired(at_40, 45)] == [
        [FIRING], [FIRING], [], [],
    ]  # fmt: skip


def test_reached_fires_again_after_every_resolve() -> None:
    reached = next(
        policy
        for detector in make_detectors(Settings())
        for policy in detector.policies
        if policy.alertname == "CallLimitReached"
    )
    pattern = "x......x......"

    assert walk(new_book(), reached, pattern, MINUTE) == [
        "0 firing",
        "300 resolved",
        "420 firing",
        "720 resolved",
    ]


def test_a_resolved_alert_stays_visible_for_a_while_so_that_it_can_be_sent_again() -> None:
    book = new_book()
    walk(book, ONCE, "x......", MINUTE)
    (alert,) = book.alerts()
    assert (alert.state, alert.resolved_ns, alert.found_ns) == (RESOLVED, 5 * MINUTE, 0)

    book.update({}, 20 * MINUTE)
    assert len(book.alerts()) == 1
    book.update({}, 20 * MINUTE + 1)
    assert book.alerts() == ()


def test_a_new_life_of_a_resolved_alert_starts_anew() -> None:
    book = new_book()
    walk(book, ONCE, "x......x", MINUTE)

    (alert,) = book.alerts()

    assert (alert.state, alert.active_ns, alert.fired_ns, alert.resolved_ns) == (
        FIRING,
        7 * MINUTE,
        7 * MINUTE,
        -1,
    )


def test_a_full_book_refuses_new_alerts_and_those_that_live_go_on() -> None:
    book = new_book(alerts_max=2)

    changes = book.update({"d": [worded(limit=name) for name in "abc"]}, 0)
    assert [dict(change.labels)["limit"] for change in changes] == ["a", "b"]
    assert book.refused == 1
    changes = book.update({"d": [worded(limit=name) for name in "bc"]}, 5 * MINUTE)

    assert [(change.state, dict(change.labels)["limit"]) for change in changes] == [(RESOLVED, "a")]
    assert len(book.alerts()) == 2


def test_the_memory_of_last_pages_is_bounded() -> None:
    book = new_book(alerts_max=3)

    for number in range(50):
        book.update({"d": [worded(limit=f"l{number}")]}, number * 60 * MINUTE)

    assert len(book._last_fired_ns) <= 6
    assert len(book.alerts()) <= 3


def test_of_the_last_pages_the_oldest_is_forgotten_first() -> None:
    """What has paged just now does not page again, however much else has."""
    book, rarely = new_book(alerts_max=3), ONCE._replace(repeat_ns=10_000 * MINUTE)
    fired = []
    for number, limit in enumerate(["a", "b", "c", "d", "e", "f", "g", "", "", "g", "a"]):
        found = [worded(rarely, limit=limit)] if limit else []
        changes = book.update({"d": found}, number * 20 * MINUTE)
        fired += [dict(change.labels)["limit"] for change in changes if change.state == FIRING]
    assert fired == [*"abcdefg", "a"]


@pytest.mark.parametrize("seed", range(5))
def test_changes_do_not_depend_on_the_order_of_findings_or_detectors(seed: int) -> None:
    generator = np.random.default_rng(seed)
    forwards, backwards = new_book(alerts_max=4), new_book(alerts_max=4)
    for step in range(60):
        found = {
            detector: [worded(ONCE, limit=f"{detector}{n}") for n in range(4) if generator.random() < 0.3]
            for detector in ("d", "e")
        }
        turned = {detector: found[detector][::-1] for detector in reversed(found)}
        assert forwards.update(found, step * MINUTE) == backwards.update(turned, step * MINUTE)
    assert forwards.alerts() == backwards.alerts()
    assert forwards.refused == backwards.refused > 0
