"""A dependency pages when it fails far more than usual, soon where it fails always, never for bad luck."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from detectors.dependency_failing import ALERT, DependencyFailing
from engine.judge.detection import CRITICAL
from tests.slices_by_hand import SLICE_NS, S, Slices, dependencies

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.judge.detection import Detection

MINUTE = 60 * S // SLICE_NS
HOUR = 60 * MINUTE


class Told:
    """Shows one dependency to a detector, slice by slice."""

    def __init__(self, seed: int = 1) -> None:
        self.detector = DependencyFailing()
        self.state = self.detector.new_state()
        self.slices, self.rng = Slices(), np.random.default_rng(seed)
        self.said: list[Detection] = []

    def show(self, *counts: dict[str, int]) -> Detection:
        names = [f"crm-{number}" for number in range(len(counts))]
        use = dependencies(*zip(names, counts, strict=True))
        self.said.append(self.detector.detect(self.state, self.slices.write({}, use), ()))
        self.state = self.said[-1].state
        return self.said[-1]

    def go(self, minutes: float, calls_per_min: float, ratio: float, what: str = "failed") -> Told:
        for _ in range(int(minutes * MINUTE)):
            calls = int(self.rng.poisson(calls_per_min / MINUTE))
            self.show({"calls": calls, what: int(self.rng.binomial(calls, ratio))})
        return self

    def every(self, seconds: int, many: int, **counts: int) -> Told:
        """Make one call every so many seconds."""
        for _ in range(many):
            self.show({"calls": 1, **counts})
            for _ in range(seconds // 5 - 1):
                self.show({})
        return self

    def found(self) -> list[int]:
        return [number for number, one in enumerate(self.said) if one.findings]

    def last_words(self) -> str:
        """Word the last finding, without what the engine puts in."""
        finding = next(one for said in reversed(self.said) for one in said.findings)
        return str(finding.description).format(dependency="crm", **dict(finding.evidence))


@pytest.mark.parametrize("calls_per_min", [6, 10, 60])
def test_an_outage_is_paged_within_a_minute(calls_per_min: int) -> None:
    told = Told().go(120, 60, 0.005)
    before = len(told.said)
    told.every(60 // calls_per_min // 5 * 5 or 5, 10, failed=1)

    assert told.found()[0] >= before
    assert (told.found()[0] - before + 1) * 5 <= 60


def test_one_failure_a_minute_is_enough_when_all_of_them_fail() -> None:
    told = Told().go(600, 1, 0.0)
    before = len(told.said)
    told.every(60, 10, timeouts=1, failed=1)

    assert told.found()
    assert (told.found()[0] - before) / MINUTE <= 6


def test_what_fails_from_the_beginning_pages_too() -> None:
    told = Told().every(10, 30, failed=1)

    assert told.found()
    assert told.found()[0] / MINUTE <= 5
    assert "too little is known" in told.last_words()


@pytest.mark.parametrize("ratio", [0.0, 0.005, 0.02, 0.15, 0.4])
@pytest.mark.parametrize("calls_per_min", [0.2, 10, 300])
def test_what_is_usual_is_quiet_from_the_first_call_on(calls_per_min: float, ratio: float) -> None:
    assert Told(3).go(8 * 60, calls_per_min, ratio).found() == []


def test_twice_as_many_failures_as_usual_are_no_page() -> None:
    told = Told().go(600, 30, 0.05)

    assert told.go(120, 30, 0.09).found() == []


def test_a_partial_failure_is_found_as_soon_as_the_evidence_allows() -> None:
    told = Told().go(600, 60, 0.01)
    before = len(told.said)
    told.go(10, 60, 0.2)

    assert (told.found()[0] - before) / MINUTE <= 3


def test_a_burst_of_retries_in_one_slice_is_one_event() -> None:
    told = Told().go(60, 10, 0.0)
    told.show({"calls": 30, "failed": 30})
    told.go(10, 10, 0.0)

    assert told.found() == []


def test_the_finding_ends_with_evidence_of_recovery() -> None:
    told = Told().go(120, 10, 0.0).go(10, 10, 1.0)
    before = len(told.said)
    told.go(20, 10, 0.0)

    assert (max(told.found()) - before) / MINUTE < 2
    assert told.detector.policies[0].keep_ns == 300 * S


def test_an_outage_does_not_become_usual() -> None:
    told = Told().go(120, 10, 0.005).go(180, 10, 1.0)
    assert told.found()[-1] == len(told.said) - 1
    told.go(30, 10, 0.0)
    before = len(told.said)
    told.go(2, 10, 1.0)

    assert told.found()[-1] >= before, "the second outage is paged like the first"


def test_an_outage_right_after_a_recovery_is_told_with_its_own_time() -> None:
    told = Told().go(60, 10, 0.0).go(60, 10, 1.0)
    while told.show({"calls": 5}).findings:
        pass
    for _ in range(9):
        told.show({"calls": 5, "failed": 5})

    assert told.last_words().startswith("45 of the 45 calls to crm in the last 1 min failed")


def test_nobody_calls_it_any_more_so_nothing_is_known() -> None:
    told = Told().go(60, 10, 0.0).go(5, 10, 1.0).go(30, 0, 0.0)

    assert told.said[-1].findings == ()
    assert max(told.found()) < len(told.said) - 15 * MINUTE


def test_throttled_is_told_apart() -> None:
    told = Told().go(60, 10, 0.0).go(5, 10, 0.9, "throttled")

    assert "were throttled" in told.last_words()
    assert "a limit of theirs" in told.last_words()


def test_a_page_says_what_became_of_the_callers() -> None:
    told = Told().go(60, 10, 0.0)
    for _ in range(20):
        told.show({"calls": 2, "failed": 2, "timeouts": 1, "opened": 1, "closed": 1})
    told.show({
        "calls": 2, "failed": 2, "timeouts": 1, "callers": 9, "callers_failed": 2, "callers_hung_up": 5,
    })  # fmt: skip

    assert "42 of the 42 calls to crm in the last 2 min failed, 21 of them by timeout" in told.last_words()
    assert "Of 9 callers" in told.last_words()
    assert "5 hung up and 2 ended in a failure" in told.last_words()
    assert "20 calls went on without it, 20 were turned away." in told.last_words()


def test_each_dependency_is_judged_by_itself_and_new_ones_may_appear() -> None:
    told = Told().go(60, 10, 0.0)
    rows: set[tuple[str, int]] = set()
    for _ in range(30):
        said = told.show({"calls": 2}, {"calls": 2, "failed": 2}, {})
        rows |= {one.subject for one in said.findings}

    assert rows == {("dependency", 1)}
    assert {(one.alertname, one.severity) for one in told.said[-1].findings} == {(ALERT, CRITICAL)}


def without_calls() -> Iterable[Detection]:
    told = Told()
    yield told.show()
    yield told.show({})
    told.slices.skip(5 * 86_400)
    yield told.show({"calls": 1, "failed": 1})


def test_nothing_called_nothing_said() -> None:
    assert [one.findings for one in without_calls()] == [(), (), ()]
