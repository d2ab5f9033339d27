"""A time without events in which calls were to be expected is remembered, and said on pages of limits."""

from __future__ import annotations

import pytest

from engine.judge.detection import CRITICAL, Finding
from engine.judge.silence import GAP_NS_MIN, MISSING_CALLS, Gap, Silence
from engine.limits import Limit
from engine.observe.summary import SliceSummary
from engine.settings import EngineSettings
from tests.summaries import SLICE_NS, S, calls_started
from tests.test_pages import POLICY, T0, judged
from tests.test_pages import TRUNK as LIMIT

RATE = Limit(name="starts", kind="rate", value=50.0, per_ns=S)
MINUTES = 60 * S // SLICE_NS  # slices


def gap_after(silent_ns: int, started_per_s: float) -> Gap | None:
    """Give what is remembered of a silence between two slices with events."""
    silence = Silence()
    silence.take(0, SLICE_NS, 7, started_per_s)
    silence.take(SLICE_NS, 2 * SLICE_NS, 0, started_per_s)
    back_ns = SLICE_NS + silent_ns
    silence.take(back_ns, back_ns + SLICE_NS, 1, started_per_s)
    return silence.within(back_ns + SLICE_NS, 1 + SLICE_NS)


@pytest.mark.parametrize(
    ("silent_ns", "started_per_s", "is_gap"),
    [
        (GAP_NS_MIN, MISSING_CALLS / 60, True),
        (GAP_NS_MIN, 0.9 * MISSING_CALLS / 60, False),
        (10 * GAP_NS_MIN, MISSING_CALLS / 600, True),
        (GAP_NS_MIN - SLICE_NS, 100.0, False),
    ],
)
def test_a_gap_is_a_minute_or_more_in_which_twenty_calls_were_to_start(
    silent_ns: int, started_per_s: float, *, is_gap: bool
) -> None:
    assert gap_after(silent_ns, started_per_s) == (Gap(SLICE_NS, SLICE_NS + silent_ns) if is_gap else None)


def test_before_the_first_event_there_is_no_gap() -> None:
    silence = Silence()
    silence.take(0, SLICE_NS, 0, 0.0)
    silence.take(3600 * S, 3600 * S + SLICE_NS, 9, 100.0)

    assert silence.gap is None


def test_a_gap_is_forgotten_when_no_call_of_before_can_count_any_more() -> None:
    silence = Silence()
    silence.gap = Gap(0, 60 * S)

    assert silence.within(159 * S, 100 * S) == silence.gap
    assert silence.within(160 * S, 100 * S) is None


def told(slices: list[SliceSummary], limit: Limit = LIMIT) -> dict[str, str]:
    """Give the annotations of a page of a limit after some slices."""
    pages, rolled = judged(limit, summaries=tuple(slices))
    finding = Finding("CallLimitApproaching", CRITICAL, ("limit", 0), "", "Look.")
    return dict(pages.word(finding, POLICY, rolled).annotations)


def test_a_page_of_a_limit_says_when_the_stream_was_silent() -> None:
    """Calls whose end was lost then count for hours, and nothing else says why there are so many."""
    before = [calls_started(T0 + number * SLICE_NS, 3) for number in range(20 * MINUTES)]
    back = calls_started(T0 + 30 * MINUTES * SLICE_NS, 3)

    assert told(before)["description"] == "Look."
    found = told([*before, back])
    assert found["state"] == "doubtful"
    assert found["description"] == (
        "Look. No event came from 2026-11-22T15:00:00.000Z to 2026-11-22T15:10:00.000Z: calls that ended "
        "then may still be counted as in use."
    )
    hours = EngineSettings().call_ttl_ns // SLICE_NS
    assert "state" not in told([*before, back], RATE)
    later = [calls_started(back.start_ns + number * SLICE_NS, 3) for number in range(1, hours + 1)]
    assert "state" not in told([*before, back, *later])
