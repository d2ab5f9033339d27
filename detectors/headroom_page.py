"""What a page about a filling limit says: the evidence by name, and words for someone woken at night.

Numbers in sentences are rounded here, because a template can only insert; the annotations carry them as
numbers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from detectors.statistics import normal_tail
from engine.judge.detection import CRITICAL, WARNING, Finding, LimitForecast
from engine.learned import SPEAKERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from detectors.headroom_state import HeadroomState
    from detectors.limit_crossing import Horizons
    from detectors.planned_load import Overload
    from engine.judge.occupancy import LimitUse

ALERT = "CallLimitApproaching"
COLD_S = 1800.0
MINUTE_S = 60.0
GROWTH_SHOWN = 0.005  # of the arrivals a minute; less is "steady"
MINUTES_SHOWN_S = 90.0
HOURS_SHOWN_S = 3.0 * 3600.0
PROBABILITY_SHOWN = 0.01
USUAL_PERCENT = 10.0  # less is as usual
NS = 1_000_000_000
TIMES = ("time_to_limit_seconds", "time_to_limit_seconds_low", "time_to_limit_seconds_high")

SUMMARY = "{limit} is filling up and will soon decline calls."
DESCRIPTION = (
    "{limit} has {calls_in_use} and {when}. "
    "{arrivals_per_minute} calls a minute arrive, {trend}, and each stays {holding}: "
    "together that asks for {offered_load} calls at once. "
    "In {horizon} we expect {expected_used}; "
    "the chance that it is full before then is {probability_percent} %. "
    "{baseline_text}"
)
PLAN_SUMMARY = "{limit} cannot hold the load that is planned."
PLAN_DESCRIPTION = (
    "This is a plan, nothing has happened yet: {planned_calls} calls at once are announced for {limit}, "
    "{plan_when}. They come on top of {ordinary_calls} that {ordinary_text}: together {expected_used} of "
    "{limit_value}. Raise the limit, plan for less, or move the load before it begins."
)
SPEAKER_TEXTS = (
    "",
    " What speaks is the level of the arrivals as it is, without any growth.",
    " What speaks is a straight line through the last half hour of calls in use.",
)


def evidence_of(
    state: HeadroomState,
    use: LimitUse,
    row: int,
    times_s: tuple[float, float, float],
    at: int,
    above: NDArray[np.float64],
) -> tuple[tuple[str, float | int | str], ...]:
    """Give the evidence for one instance.

    `times_s` = (an evaluation, age of the instance, the horizon `at`); `above` (SPEAKERS,) is how far each
    speaker's score stands above its threshold.
    """
    step_s, age_s, horizon_s = times_s
    outlook, verdict = state.outlook, state.verdict
    # The forecast is of the calls counted here; what others use comes on top, as it is now.
    unseen = float(use.unseen_use[row])
    used = float(use.level[row]) + unseen
    rate = float(outlook.rate_per_s[row])
    holding_s = float(outlook.holding_s[row])
    growth = math.expm1(float(outlook.growth_per_step[row]) * MINUTE_S / step_s)
    probability = max(float(verdict.probability[row]), chance_above(state, use, row, at))
    season = state.season
    is_known = season.weight[row] > 0.0
    baseline = "no baseline yet" if age_s < COLD_S else "none: recent traffic only"
    if is_known:
        baseline = f"time of week, {float(season.days[row]):.1f} days of it"
    ratio = rate * step_s * math.exp(-usual_log_calls(state, row))
    speaker = int(np.argmax(above)) if np.isfinite(above).any() else 0
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
        ("baseline_text", (usual_text(ratio) if is_known else baseline_text(age_s)) + SPEAKER_TEXTS[speaker]),
        ("speaker", SPEAKERS[speaker]),
    ]
    if unseen > 0:
        evidence.append(("unseen_use", plain(unseen)))
    times = zip(TIMES, (verdict.time_s, verdict.time_s_low, verdict.time_s_high), strict=True)
    evidence += [(name, round(float(time_s[row]))) for name, time_s in times if math.isfinite(time_s[row])]
    return tuple(evidence)


def horizon_of(state: HeadroomState, use: LimitUse, row: int, horizons: Horizons) -> int:
    """Give the horizon, from the page's on, at which the forecast of a warning stands highest."""
    outlook, first = state.outlook, horizons.page - 1
    many = len(horizons.ahead_s) if state.season.weight[row] >= 1.0 else horizons.warn
    sd = np.sqrt(np.maximum(outlook.chance_var[row] + outlook.model_var[row], 1.0))
    score = (outlook.mean[row] - use.value[row] + use.unseen_use[row]) / sd - horizons.margin
    return first + int(np.argmax(score[first:many]))


def chance_above(state: HeadroomState, use: LimitUse, row: int, at: int) -> float:
    """Give the chance that the level stands at the cap at one horizon."""
    outlook = state.outlook
    sd = math.sqrt(max(float(outlook.chance_var[row, at] + outlook.model_var[row, at]), 1.0))
    return float(
        normal_tail((float(use.value[row] - use.unseen_use[row]) - float(outlook.mean[row, at])) / sd)
    )


def plan_evidence(over: Overload, use: LimitUse, end_ns: int) -> tuple[tuple[str, float | int | str], ...]:
    """Give the evidence for one plan that does not fit."""
    plan, row = over.plan, over.row
    unseen = float(use.unseen_use[row])
    begins_s, lasts_s = (plan.from_ns - end_ns) / NS, (plan.until_ns - plan.from_ns) / NS
    begins = f"beginning in {duration_text(begins_s)}" if begins_s > 0.0 else "from now on"
    return (
        ("used", plain(float(use.level[row]) + unseen)),
        ("limit_value", plain(float(use.value[row]))),
        ("expected_used", round(plan.expected + over.ordinary + unseen)),
        ("planned_calls", plain(round(plan.expected, 1))),
        ("ordinary_calls", round(over.ordinary + unseen)),
        ("ordinary_text", "are usual at that time of the week" if over.is_usual else "are in use now"),
        ("plan_when", f"{begins}, for {duration_text(max(lasts_s, 0.0))}"),
        ("baseline", "time of week" if over.is_usual else "none: what is in use now"),
    )


def usual_log_calls(state: HeadroomState, row: int) -> float:
    """Give the logarithm of the usual calls an evaluation, as of the last one."""
    weight = float(state.season.weight[row])
    return float(state.season.offset[row]) / weight if weight > 0.0 else 0.0


def usual_text(ratio: float) -> str:
    """Say what the forecast rests on, and how today compares."""
    percent = 100.0 * (ratio - 1.0)
    if abs(percent) < USUAL_PERCENT:
        today = "about as much as is usual"
    else:
        today = f"{abs(percent):.0f} % {'more' if percent > 0 else 'less'} than is usual"
    return f"That is {today} at this time of the week; the forecast follows the usual course from here."


def plain(value: float) -> float | int:
    """Give a whole number without its point."""
    return int(value) if value == int(value) else value


def in_use_text(used: float, value: float, unseen: float) -> str:
    """Say how many calls there are, and how many of them only the platform sees."""
    text = f"{plain(used)} of {plain(value)} calls in use"
    return f"{text} ({plain(unseen)} of them seen by the platform alone)" if unseen > 0 else text


def duration_text(seconds: float) -> str:
    """Say a duration: seconds up to a minute and a half, then minutes, then hours."""
    if seconds < MINUTES_SHOWN_S:
        return f"{seconds:.0f} s"
    if seconds >= HOURS_SHOWN_S:
        return f"{seconds / 3600.0:.0f} h"
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


def plan_findings(over: list[Overload], use: LimitUse, end_ns: int, page_horizon_ns: int) -> list[Finding]:
    """Say which announced load does not fit: a warning at once, a page shortly before it begins.

    The soonest comes last, since of several for one limit the last one speaks.
    """
    found = []
    for one in reversed(over):
        evidence = plan_evidence(one, use, end_ns)
        is_near = one.plan.from_ns - end_ns <= page_horizon_ns
        for severity in (CRITICAL, WARNING) if is_near else (WARNING,):
            subject = ("limit", one.row)
            found.append(Finding(ALERT, severity, subject, PLAN_SUMMARY, PLAN_DESCRIPTION, evidence=evidence))
    return found


def forecast_of(state: HeadroomState, at: int) -> LimitForecast:
    """Give the last evaluation as everyone else sees it; `at` is the page horizon."""
    outlook, verdict = state.outlook, state.verdict
    ready = state.is_ready
    return LimitForecast(
        score=verdict.page_score,
        probability=verdict.probability,
        mean=np.where(ready, outlook.mean[:, at], np.nan),
        offered_load=outlook.rate_per_s * outlook.holding_s,
        holding_s=outlook.holding_s,
        time_to_limit_s=verdict.time_s,
        time_to_limit_s_low=verdict.time_s_low,
        time_to_limit_s_high=verdict.time_s_high,
    )
