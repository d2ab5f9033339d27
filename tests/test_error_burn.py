"""The error budget: what burns is told once, by whom it burns; few calls and health stay quiet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.detection.labelled_slices import LabelledSlices
from detectors.error_burn import PANES, ErrorBurn, Params
from detectors.watched_rows import NO_ROOM, Carrier, causes, with_slots
from engine.judge.detection import CRITICAL, WARNING, Finding
from engine.settings import DetectionSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

ACME, GLOBEX, SIP = (("tenant", "acme"),), (("tenant", "globex"),), (("trunk", "sip-1"),)
HOUR = 60  # slices of a minute
Counts = tuple[list[int], list[int]]  # ended and errors by row


def said(
    labels: Sequence[tuple[tuple[str, str], ...]],
    counts: Callable[[int], Counts],
    minutes: int,
    settings: DetectionSettings | None = None,
) -> list[tuple[Finding, ...]]:
    """Show so many minutes; give what is said of each."""
    writer = LabelledSlices(labels, slice_s=60.0)
    detector = ErrorBurn(settings)
    state, found = detector.new_state(), []
    for minute in range(minutes):
        ended, errors = counts(minute)
        detection = detector.detect(state, writer.write(np.array(ended), np.array(errors)), ())
        state = detection.state
        found.append(detection.findings)
    return found


def severities(found: list[tuple[Finding, ...]]) -> list[set[str]]:
    return [{one.severity for one in some} for some in found]


def subjects(some: Sequence[Finding], severity: str = CRITICAL) -> list[int]:
    return [one.subject[1] for one in some if one.severity == severity]


def test_an_outage_pages_within_minutes_and_ends_with_it() -> None:
    found = said([()], lambda minute: ([20], [10 if 120 <= minute < 150 else 0]), 240)

    first = next(number for number, some in enumerate(found) if some)
    assert 120 <= first <= 130
    assert not any(CRITICAL in some for some in severities(found)[190:])


def test_a_slow_burn_warns_and_does_not_page() -> None:
    """Two and a half percent where one is allowed, for a day."""
    found = said([()], lambda _: ([40], [1]), 30 * HOUR)

    assert severities(found)[-1] == {WARNING}
    assert not any(CRITICAL in some for some in severities(found))


def test_a_warning_waits_until_its_short_window_is_known() -> None:
    found = said([()], lambda _: ([100], [4]), 3 * HOUR)

    first = next(number for number, some in enumerate(severities(found)) if WARNING in some)
    assert first == 2 * HOUR - 1


def test_a_page_goes_by_what_there_is() -> None:
    """A total outage three minutes after the first event is no time to wait for an hour of data."""
    found = said([()], lambda _: ([10], [10]), 5)

    assert CRITICAL in severities(found)[2]
    assert dict(found[2][0].evidence)["window"] == "3 minutes"


def test_what_three_days_ago_failed_is_forgotten() -> None:
    detector = ErrorBurn()
    writer = LabelledSlices([()], slice_s=300.0)
    state = detector.new_state()
    state = detector.detect(state, writer.write(np.array([1000]), np.array([500])), ()).state
    for _ in range(PANES + 1):
        state = detector.detect(state, writer.write(np.array([10]), np.array([0])), ()).state

    assert state.errors.sum() == 0
    assert state.sums[3].tolist() == [[0], [10 * (PANES - 1)]]


def test_a_gap_of_days_leaves_nothing_behind() -> None:
    detector = ErrorBurn()
    writer = LabelledSlices([()], slice_s=60.0)
    state = detector.new_state()
    for _ in range(30):
        state = detector.detect(state, writer.write(np.array([100]), np.array([50])), ()).state
    writer.skip(4 * 86_400)

    detection = detector.detect(state, writer.write(np.array([100]), np.array([0])), ())

    assert detection.findings == ()
    assert detection.state.errors.sum() == 0


@pytest.mark.parametrize("per_minute", [0.2, 1.0, 20.0])
@pytest.mark.parametrize("objective", [0.99, 0.999])
def test_a_healthy_series_does_not_page_in_a_week(per_minute: float, objective: float) -> None:
    rng = np.random.default_rng(11)

    def counts(_: int) -> Counts:
        ended = rng.poisson(per_minute, 4)
        errors = rng.binomial(ended, 0.5 * (1.0 - objective))
        return [int(ended.sum()), *ended.tolist()], [int(errors.sum()), *errors.tolist()]

    labels = [(), *((("tenant", f"t{number}"),) for number in range(4))]
    settings = DetectionSettings(error_objective_ratio=objective)

    assert not any(said(labels, counts, 7 * 24 * HOUR, settings))


def test_two_errors_of_twelve_calls_are_no_burn() -> None:
    """The plain rule pages here: 17 % in the hour, 100 % in five minutes."""
    found = said([()], lambda minute: ([int(minute % 5 == 0)], [int(minute in (115, 120))]), 4 * HOUR)

    assert not any(found)


def outage_of_one(minute: int) -> Counts:
    """Acme fails, alone; its calls come by one of two trunks, with calls of others."""
    wrong = 8 if minute >= HOUR else 0
    return [100, 10, 90, 50], [wrong, wrong, 0, wrong]


def test_one_cause_is_one_finding_of_the_narrowest_row() -> None:
    found = said([(), ACME, GLOBEX, SIP], outage_of_one, 2 * HOUR)

    assert subjects(found[-1]) == [1]
    finding = found[-1][0]
    where = str(dict(finding.evidence)["where"])
    assert where.startswith(
        "The tenant that this alert names has 100 % of all failures and 10 % of the ended"
    )


def test_a_burn_of_all_is_told_by_the_total() -> None:
    found = said([(), ACME, GLOBEX], lambda _: ([40, 20, 20], [8, 4, 4]), HOUR)

    assert subjects(found[-1]) == [0]
    assert "spread" in str(dict(found[-1][0].evidence)["where"])


def test_a_label_that_all_calls_have_says_no_more_than_the_total() -> None:
    found = said([(), (("release", "one"),)], lambda _: ([40, 40], [8, 8]), HOUR)

    assert subjects(found[-1]) == [0]


def test_who_spoke_goes_on_speaking() -> None:
    """Another tenant joins in: the first one is still the first one's cause."""

    def counts(minute: int) -> Counts:
        other = 30 if minute >= 90 else 0
        return [100, 10, 90, 50], [8 + other, 8, other, 8]

    found = said([(), ACME, GLOBEX, SIP], counts, 2 * HOUR)

    assert subjects(found[80]) == [1]
    assert subjects(found[-1]) == [2, 1]


@pytest.mark.parametrize(
    ("joined_by", "first_has", "expected"), [(2, 5, [1, 2, 3]), (9, 5, [0]), (9, 200, [1])]
)
def test_more_tenants_in_trouble_than_are_told_are_a_trouble_of_the_whole(
    joined_by: int, first_has: int, expected: list[int]
) -> None:
    """Unless the first one, which spoke alone before, has nearly all of it."""

    def counts(minute: int) -> Counts:
        first = first_has if minute >= HOUR else 0
        errors = [first, *(5 if minute >= 90 and number < joined_by else 0 for number in range(9))]
        ended = [max(first_has, 10), *[10] * 9]
        return [sum(ended), *ended], [sum(errors), *errors]

    found = said([(), *((("tenant", f"t{number}"),) for number in range(10))], counts, 3 * HOUR)

    assert subjects(found[80]) == [1]
    assert sorted(subjects(found[-1])) == expected


@pytest.mark.parametrize(
    ("objective", "errors", "expected"),
    [
        (0.5, 100, True),
        (0.5, 40, False),
        (0.9999, 3, True),
        (1.0, 3, True),
        (0.2, 70, False),
        (0.0, 70, False),
    ],
)
def test_any_objective_can_be_asked_for(objective: float, errors: int, expected: bool) -> None:
    settings = DetectionSettings(error_objective_ratio=objective)

    found = said([()], lambda _: ([100], [errors]), HOUR, settings)

    assert (CRITICAL in severities(found)[-1]) is expected


def test_factors_follow_from_the_period() -> None:
    month = ErrorBurn(DetectionSettings(error_objective_ratio=0.999))
    week = ErrorBurn(DetectionSettings(error_objective_ratio=0.999, error_period_ns=7 * 86_400 * 10**9))

    assert month.thresholds == pytest.approx([0.0144, 0.006, 0.003, 0.001])
    assert week.thresholds == pytest.approx([0.00336, 0.0014, 0.001, 0.001])


def test_rows_are_bounded_and_whole_series_are_not_watched() -> None:
    labels = [(), ACME, (*ACME, *SIP), *((("tenant", f"t{number}"),) for number in range(700))]
    writer = LabelledSlices(labels, slice_s=60.0)
    detector = ErrorBurn()

    state = detector.detect(detector.new_state(), writer.write(), ()).state

    assert len(state.log_m) == Params().rows_max
    assert state.slot[:3].tolist() == [0, 1, -1]


def test_slots_are_kept_when_rows_appear_later() -> None:
    none: NDArray[np.int32] = np.zeros(0, np.int32)
    first = with_slots(none, [(), ACME], 4, 1)

    assert with_slots(first, [GLOBEX, SIP, ()], 4, 1).tolist() == [0, 1, 2, NO_ROOM, 3]


def test_label_values_without_a_total_stand_side_by_side() -> None:
    acme, globex = Carrier(1, "tenant", 10.0, 20.0), Carrier(2, "tenant", 9.0, 30.0)
    trunk = Carrier(3, "trunk", 19.0, 60.0)

    assert causes([acme, globex, trunk]) == [acme, globex]
    assert causes([]) == []
