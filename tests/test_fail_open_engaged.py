"""One call let through is enough to say so; what is said depends on what the register wants."""

from __future__ import annotations

import pytest

from detectors.fail_open_engaged import CLOSED, OPEN, UNKNOWN, FailOpenEngaged
from engine.judge.detection import WARNING, Finding
from tests.slices_by_hand import Slices, dependencies


class Told:
    """Shows one check to a detector."""

    def __init__(self, policy: int) -> None:
        self.detector, self.slices, self.policy = FailOpenEngaged(), Slices(), policy
        self.state = self.detector.new_state()

    def show(self, **counts: int) -> tuple[Finding, ...]:
        use = dependencies(("cost-cap", counts), policy={"cost-cap": self.policy})
        detection = self.detector.detect(self.state, self.slices.write({}, use), ())
        self.state = detection.state
        return detection.findings


def words(finding: Finding) -> str:
    return f"{finding.summary} {finding.description}".format(
        dependency="cost-cap", because="a caller is worth more", **dict(finding.evidence)
    )


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (OPEN, ["as decided", "a caller is worth more", "owner should know"]),
        (CLOSED, ["MUST fail closed", "on_check_error: closed", "boundary is not kept"]),
        (UNKNOWN, ["nobody wrote down", "not among the guardrails", "limits.yaml"]),
    ],
)
def test_one_call_let_through_is_said_with_what_the_register_wants(policy: int, said: list[str]) -> None:
    (finding,) = Told(policy).show(calls=1, failed=1, opened=1)

    assert finding.severity == WARNING
    assert finding.subject == ("dependency", 0)
    assert "1 call was let through" in words(finding)
    assert [text for text in said if text not in words(finding)] == []


def test_calls_turned_away_are_not_let_through() -> None:
    assert Told(CLOSED).show(calls=5, failed=5, closed=5) == ()


def test_calls_are_counted_until_ten_minutes_have_passed_without_one() -> None:
    told = Told(OPEN)
    told.show(calls=3, failed=3, opened=3)
    for _ in range(119):
        assert told.show(calls=1) == ()
    (finding,) = told.show(calls=2, failed=2, opened=2)
    assert "5 calls were let through since cost-cap began to fail 10 min ago" in words(finding)

    for _ in range(121):
        told.show(calls=1)
    (finding,) = told.show(calls=1, failed=1, opened=1)
    assert "1 call was let through since cost-cap began to fail just now" in words(finding)


def test_a_gap_of_days_begins_anew() -> None:
    told = Told(OPEN)
    told.show(opened=7)
    told.slices.skip(2 * 86_400)
    (finding,) = told.show(opened=1)

    assert "1 call was" in words(finding)


def test_nothing_called_nothing_said() -> None:
    detector = FailOpenEngaged()
    assert detector.detect(detector.new_state(), Slices().write(), ()).findings == ()
