"""What a page about a filling limit says: the evidence by name, and words for someone woken at night.

Numbers in sentences are rounded here, because a template can only insert; the annotations carry them as
numbers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectors.headroom_state import HeadroomState
    from engine.judge.occupancy import LimitUse

COLD_S = 1800.0
MINUTE_S = 60.0
GROWTH_SHOWN = 0.005  # of the arrivals a minute; less is "steady"
MINUTES_SHOWN_S = 90.0
PROBABILITY_SHOWN = 0.01

SUMMARY = "{limit} is filling up and will soon decline calls."
DESCRIPTION = (
    "{limit} has {calls_in_use} and {when}. "
    "{arrivals_per_minute} calls a minute arrive, {trend}, and each stays {holding}: "
    "together that asks for {offered_load} calls at once. "
    "In {horizon} we expect {expected_used}; "
    "the chance that it is full before then is {probability_percent} %. "
    "{baseline_text}"
)


def evidence_of(
    state: HeadroomState, use: LimitUse, row: int, times_s: tuple[float, float, float], at: int
) -> tuple[tuple[str, float | int | str], ...]:
    """Give the evidence for one instance.

    `times_s` = (an evaluation, age of the instance, the page horizon).
    """
    step_s, age_s, horizon_s = times_s
    outlook, verdict = state.outlook, state.verdict
    # The forecast is of the calls counted here; what others use comes on top, as it is now.
    unseen = float(use.unseen_use[row])
    used = float(use.level[row]) + unseen
    rate = float(outlook.rate_per_s[row])
    holding_s = float(outlook.holding_s[row])
    growth = math.expm1(float(outlook.growth_per_step[row]) * MINUTE_S / step_s)
    probability = float(verdict.probability[row])
    baseline = "no baseline yet" if age_s < COLD_S else "none: recent traffic only"
    evidence: list[tuple[str, float | int | str]] = [
        ("used", plain(used)),
        ("limit_value", plain(float(use.value[row]))),
        ("probability", round(probability, 3)),
        ("expected_used", round(float(outlook.mean[row, at]) + unseen, 1)),
        ("offered_load", round(rate * holding_s, 1)),
        ("holding_seconds", round(holding_s, 1)),
        ("arrivals_per_minute", round(rate * MINUTE_S, 1)),
        ("growth_per_minute_ratio", round(growth, 4)),
        ("baseline", baseline),
        (
            "when",
            when_text(*(float(t[row]) for t in (verdict.time_s, verdict.time_s_low, verdict.time_s_high))),
        ),
        ("calls_in_use", in_use_text(used, float(use.value[row]), unseen)),
        ("trend", trend_text(growth)),
        ("holding", "about " + duration_text(holding_s)),
        ("horizon", duration_text(horizon_s)),
        ("probability_percent", percent_text(probability)),
        ("baseline_text", baseline_text(age_s)),
    ]
    if unseen > 0:
        evidence.append(("unseen_use", plain(unseen)))
    for name, value in (
        ("time_to_limit_seconds", verdict.time_s[row]),
        ("time_to_limit_seconds_low", verdict.time_s_low[row]),
        ("time_to_limit_seconds_high", verdict.time_s_high[row]),
    ):
        if math.isfinite(value):
            evidence.append((name, round(float(value))))
    return tuple(evidence)


def plain(value: float) -> float | int:
    """Give a whole number without its point."""
    return int(value) if value == int(value) else value


def in_use_text(used: float, value: float, unseen: float) -> str:
    """Say how many calls there are, and how many of them only the platform sees."""
    text = f"{plain(used)} of {plain(value)} calls in use"
    return f"{text} ({plain(unseen)} of them seen by the platform alone)" if unseen > 0 else text


def duration_text(seconds: float) -> str:
    """Say a duration: seconds up to a minute and a half, then minutes."""
    if seconds < MINUTES_SHOWN_S:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE_S:.0f} min"


def when_text(time_s: float, low_s: float, high_s: float) -> str:
    """Say when the limit will be full, with what nine futures in ten allow on either side."""
    if time_s == 0.0:
        return "is full now"
    if not math.isfinite(time_s):
        if math.isfinite(low_s):
            return f"may be full in {duration_text(low_s)} at the earliest"
        return "is closer to its limit than chance allows for"
    latest = (
        f"{duration_text(high_s)} at the latest" if math.isfinite(high_s) else "or not at all if growth stops"
    )
    earliest = f"{duration_text(low_s)} at the earliest"
    return f"is on course to be full in about {duration_text(time_s)} ({earliest}, {latest})"


def trend_text(growth: float) -> str:
    """Say how the arrivals change, by a ratio a minute."""
    if abs(growth) < GROWTH_SHOWN:
        return "a steady rate"
    if growth < 0.0:
        return f"falling by {-100 * growth:.1f} % a minute"
    return f"rising by {100 * growth:.1f} % a minute (doubling in {duration_text(doubling_s(growth))})"


def doubling_s(growth: float) -> float:
    """Give the doubling time of a growth by a ratio a minute."""
    return MINUTE_S * math.log(2.0) / math.log1p(growth)


def percent_text(probability: float) -> str:
    """Say a probability in percent; never 0 or 100, which nobody can know."""
    if probability > 1.0 - PROBABILITY_SHOWN:
        return "over 99"
    if probability < PROBABILITY_SHOWN:
        return "under 1"
    return f"{100 * probability:.0f}"


def baseline_text(age_s: float) -> str:
    """Say what the forecast rests on."""
    if age_s < COLD_S:
        return (
            f"There is no baseline yet: this is seen from the first {duration_text(age_s)} of traffic alone, "
            "at a time when growth is to be expected."
        )
    return "There is no baseline of past weeks: this is seen from the traffic of the last hours alone."
