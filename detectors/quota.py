"""CallQuotaExhaustion: a quota of calls or minutes will be used up before it resets.

What it catches: a day (or other period) that takes more than its quota, hours before; a rolling quota that
is about to be full. Formula: total = used + r (B - B_used) with the usual course B of the period, faded over
past ones (of the same weekday three to one), and a ratio r ~ N(1, sigma^2) that the use so far corrects by
precision weighting; z = (total - quota) / sd. In the first period there is no usual course: the rate of the
last hour, with a wide spread. Of a rolling quota, what leaves is known: only what comes has a spread.
False positives: a busy morning of a quiet day; the first days; of minutes, ends that are lost: such a call
counts until it is taken out of flight (heartbeats help).
False negatives: a burst shortly before the reset; quotas of tokens and cost, which events do not carry; what
came in an outage of the stream, after which a period is not taken as usual (one of less than ten calls is).
Reference: precision weighting of a normal prior, Gelman et al., Bayesian Data Analysis, chapter 2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.quota_state import (
    DAY_NS,
    SLOTS,
    State,
    empty_between,
    listened,
    new_quota_state,
    share_done,
    share_of,
    slot_at,
    usual_total,
    weekday,
    with_rows,
)
from detectors.reported import reported as reported_in
from engine.judge.detection import CRITICAL, MINUTE_NS, NS, AlertPolicy, Detection, Finding

if TYPE_CHECKING:
    from engine.judge.windows import WindowSummary
    from engine.limits import Limit, LimitInstance

ALERT = "CallQuotaExhaustion"
SUMMARY = "A quota will be used up before it resets."
DESCRIPTION = (
    "{limit}: {used} of {limit_value} {counts} of this period are used, and {forecast} are on course until "
    "it resets{reset_text}. It will be used up {when}. {basis}"
)
USED_UP = (
    "{limit}: all {limit_value} {counts} of this period are used. Further calls are turned away until it "
    "resets{reset_text}."
)
ROLLING_SUMMARY = "A rolling quota is about to be used up."
ROLLING = (
    "{limit}: {used} of {limit_value} {counts} within {period} are used, and at the rate of now more comes "
    "than leaves: {forecast} are on course. It will be used up {when}. What is used leaves {period} later."
)
ROLLING_USED_UP = (
    "{limit}: all {limit_value} {counts} within {period} are used. Further calls are turned away until what "
    "was used leaves it, {period} later."
)
USUAL = "The rest of it is expected at {ratio} times the usual; {periods} past periods are known."
RECENT = "Nothing is known of past periods yet: this is the rate of the last hour."
COUNTED = ("calls", "minutes")
AHEAD = SLOTS // 2  # by which a rolling quota is looked ahead
RESET_LATE_NS = 5 * MINUTE_NS  # by which a platform may still report the period before
UNWATCHED_MOST = 0.05  # of a period, by its usual course, beyond which it is not learned from
UNSEEN_MOST = 0.05  # of a period's use, beyond which its course is not learned from
HOUR_S = 3600.0


class Params(NamedTuple):
    """Constants."""

    look_ns: int = MINUTE_NS
    keep_a_period: float = 0.9  # of the weight of a past period, when another is over
    ratio_sd: float = 0.25  # of periods against the usual, before any is known; two past ones are worth this
    course_sd: float = 0.08  # by which use strays from its usual course, as long as one stray lasts ...
    course_memory: float = 0.25  # ... as a share of the period: longer stretches average it out
    recent_sd: float = 0.4  # ... from the rate of the last hour
    drift_an_hour: float = 0.15  # by which use of a rolling quota strays from the rate of now, an hour ahead
    clumping: float = 2.0  # variance of what comes to a rolling quota, against that of single calls
    z_usual: float = 1.3  # from which score on to page
    z_recent: float = 2.0
    z_rolling: float = 1.3
    used_min: float = 0.2  # of the quota, before anything is said
    through_min: float = 0.05  # of the period, or else `recent_s`, before the rate of now says anything
    recent_s: float = 3600.0


class Outlook(NamedTuple):
    """What is to be expected of one quota."""

    used: float
    forecast: float
    z: float
    left_s: float  # until it is used up, as expected; 0: it is; inf: not before the reset
    ratio: float


class Quota:
    """One finding for each quota that will not last."""

    name = "quota"
    policies = (AlertPolicy(ALERT, CRITICAL, evaluations=2, keep_ns=2 * MINUTE_NS, repeat_ns=60 * MINUTE_NS),)

    def __init__(self, params: Params | None = None) -> None:
        self.params = params or Params()

    def new_state(self) -> State:
        """Give the state before the first slice."""
        return new_quota_state()

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Count one slice; look ahead once a minute."""
        state = with_rows(state, limits[: len(summary.limits.level)])
        if not len(state.row_of):
            return Detection(state, ())
        state = self.count(state, summary, limits)
        if summary.end_ns % self.params.look_ns:
            return Detection(state, (), evaluated=False)
        findings = []
        for place, row in enumerate(state.row_of.tolist()):
            limit, value = limits[row].limit, float(summary.limits.value[row])
            if limit.counts not in COUNTED or not value > 0.0:
                continue
            seen = self.outlook(state, place, limit, value, summary.end_ns)
            if seen.used >= value:
                seen = seen._replace(left_s=0.0)
            if self.is_told(limit, seen, value):
                findings.append(self.finding(state, place, limit, value, seen, summary.end_ns))
        return Detection(state, tuple(findings))

    def count(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> State:
        """Add the use of a slice to its slot; a new period begins with what is learned from the last one."""
        middle_ns = (summary.start_ns + summary.end_ns) // 2
        slice_s = (summary.end_ns - summary.start_ns) / NS
        state, unwatched_ns = listened(state, summary, self.params.recent_s)
        state = state._replace(
            used=state.used.copy(), unseen=state.unseen.copy(), reported=state.reported.copy(),
            start_ns=state.start_ns.copy(), first_ns=state.first_ns.copy(), unwatched=state.unwatched.copy(),
            reported_before=state.reported_before.copy(),
            newest_slot=state.newest_slot.copy(), recent=state.recent.copy(),
        )  # fmt: skip
        said_now = {row for row, _ in reported_in(summary.notes, limits, "used")}
        for place, row in enumerate(state.row_of.tolist()):
            limit = limits[row].limit
            used = float(summary.limits.arrivals[row])
            if limit.counts == "minutes":
                used = float(summary.limits.level[row]) * slice_s / 60.0
            keep = math.exp(-slice_s / self.recent_s(limit))
            state.recent[place] = keep * state.recent[place] + (1.0 - keep) * used / slice_s
            slot = slot_at(limit, middle_ns)
            if limit.resets == "rolling":
                empty_between(state.used[place], int(state.newest_slot[place]), slot)
            else:
                state = self.turned(state, place, limit, (middle_ns, unwatched_ns))
            if state.first_ns[place] < 0:
                state.first_ns[place] = summary.start_ns
            state.newest_slot[place] = slot
            state.used[place, slot % SLOTS] += used
            # A restart in the middle of a period, or calls that are no events here: the platform knows.
            reported = float(summary.limits.reported_use[row])
            if limit.resets == "rolling":
                if math.isnan(reported):
                    state.unseen[place] = 0.0
                elif row in said_now:
                    state.unseen[place] = max(reported - float(state.used[place].sum()), 0.0)
            elif reported >= 0.0 and reported != state.reported[place]:
                if not is_of_before(state, place, limit, (middle_ns, reported)):
                    state.unseen[place] = max(reported - float(state.used[place].sum()), 0.0)
                state.reported[place] = reported
        return state

    def turned(self, state: State, place: int, limit: Limit, now: tuple[int, tuple[int, int]]) -> State:
        """Begin a new period if it is time; `now` = (a time, the span until then that nobody watched)."""
        time_ns, span = now
        start_ns, period = int(state.start_ns[place]), limit.period_at(time_ns)
        if start_ns >= 0 and start_ns != period[0]:
            state.unwatched[place] += share_of(state.course[place], limit.period_at(start_ns), span)
            state = self.learn(state, place, limit)
            state.used[place] = 0.0
            state.unseen[place] = 0.0
            state.reported_before[place] = state.reported[place]
            state.unwatched[place] = 0.0
        state.start_ns[place] = period[0]
        state.unwatched[place] += share_of(state.course[place], period, span)
        return state

    def learn(self, state: State, place: int, limit: Limit) -> State:
        """Take a period that is over as one of the usual ones, if it was watched.

        That is from its beginning on and nearly all of it, or as little as the last day of its weekday: a
        stream may be silent each night. While there is no usual course, any second one will do.
        """
        start_ns = int(state.start_ns[place])
        total = float(state.used[place].sum())
        is_whole = state.first_ns[place] <= start_ns and state.unseen[place] <= UNSEEN_MOST * total
        if not is_whole or total <= 0.0:
            return state
        day = weekday(start_ns, limit)
        before, is_unwatched = state.was_unwatched[place], bool(state.unwatched[place] > UNWATCHED_MOST)
        was_unwatched = state.was_unwatched.copy()
        was_unwatched[place, day] = is_unwatched
        state = state._replace(was_unwatched=was_unwatched)
        assert limit.per_ns is not None
        is_as_before = before[day] if limit.per_ns >= DAY_NS else False
        if is_unwatched and not (is_as_before or (state.periods[place] <= 0.0 and before.any())):
            return state
        params = self.params
        course, periods, ratio_var = state.course.copy(), state.periods.copy(), state.ratio_var.copy()
        totals, number = state.total.copy(), state.totals.copy()
        usual = usual_total(state, place, start_ns, limit)
        keep = params.keep_a_period
        if usual > 0.0:
            ratio_var[place] = keep * ratio_var[place] + math.log(total / usual) ** 2
        course[place] = keep * course[place] + state.used[place] / total
        periods[place] = keep * periods[place] + 1.0
        totals[place, day] = keep * totals[place, day] + total
        number[place, day] = keep * number[place, day] + 1.0
        return state._replace(
            course=course, periods=periods, ratio_var=ratio_var, total=totals, totals=number
        )

    def outlook(self, state: State, place: int, limit: Limit, value: float, end_ns: int) -> Outlook:
        """Look ahead to the reset, or for a rolling quota half of its period."""
        used = float(state.used[place].sum() + state.unseen[place])
        rate = float(state.recent[place])
        age_s = (end_ns - int(state.first_ns[place])) / NS
        rate /= max(1.0 - math.exp(-age_s / self.recent_s(limit)), 1e-9)
        if limit.resets == "rolling":
            return self.rolling(state, place, limit, value, (rate, age_s))
        start_ns, reset_ns = limit.period_at(end_ns - 1)
        rest_s = (reset_ns - end_ns) / NS
        through = 1.0 - rest_s * NS / (reset_ns - start_ns)
        usual = usual_total(state, place, start_ns, limit)
        if usual <= 0.0:
            period_s = (reset_ns - start_ns) / NS
            if through < min(self.params.through_min, self.params.recent_s / period_s):
                return Outlook(used, used, -math.inf, math.inf, math.nan)
            rest = rate * rest_s
            sd = math.sqrt((self.params.recent_sd * rest) ** 2 + rest + 1.0)
            left_s = (value - used) / rate if rate > 0.0 else math.inf
            z = (used + rest - value) / sd
            return Outlook(used, used + rest, z, left_s if left_s <= rest_s else math.inf, math.nan)
        done = share_done(state.course[place], through)
        ratio, var = self.ratio(state, place, used, (done, usual))
        rest = (1.0 - done) * usual
        strays = self.strays_var(1.0 - done) * (ratio * rest) ** 2
        sd = math.sqrt(var * rest**2 + strays + ratio * rest + 1.0)
        forecast = used + ratio * rest
        left_s = self.left_s(state, place, through, (value - used) / max(ratio * usual, 1e-9))
        left_s *= (reset_ns - start_ns) / NS
        return Outlook(used, forecast, (forecast - value) / sd, left_s, ratio)

    def ratio(
        self, state: State, place: int, used: float, course: tuple[float, float]
    ) -> tuple[float, float]:
        """Give mean and variance of the ratio to the usual; `course` = (share that is over, usual total)."""
        params = self.params
        known = max(float(state.periods[place]) - 1.0, 0.0)
        prior_var = (2.0 * params.ratio_sd**2 + float(state.ratio_var[place])) / (2.0 + known)
        done, usual = course
        expected = done * usual
        if expected <= 0.0:
            return 1.0, prior_var
        seen_var = 2.0 / expected + self.strays_var(done)
        weight = prior_var / (prior_var + seen_var)
        return 1.0 + weight * (used / expected - 1.0), prior_var * (1.0 - weight)

    def strays_var(self, share: float) -> float:
        """Give the relative variance of use around its course, over a share of the period."""
        params = self.params
        return params.course_sd**2 * min(1.0, params.course_memory / max(share, 1e-9))

    def left_s(self, state: State, place: int, through: float, share: float) -> float:
        """Give the part of the period until a further `share` of the usual total is used; inf: it is not."""
        course = state.course[place] / state.course[place].sum()
        edges = np.concatenate([[0.0], np.cumsum(course)])
        wanted = share_done(state.course[place], through) + share
        if wanted >= 1.0:
            return math.inf
        at = float(np.interp(wanted, edges, np.arange(SLOTS + 1))) / SLOTS
        return max(at - through, 0.0)

    def recent_s(self, limit: Limit) -> float:
        """Give the memory of the rate of now: for a rolling quota, a quarter of its period at most."""
        if limit.resets != "rolling" or limit.per_ns is None:
            return self.params.recent_s
        return min(self.params.recent_s, limit.per_ns / NS / 4.0)

    def rolling(
        self, state: State, place: int, limit: Limit, value: float, now: tuple[float, float]
    ) -> Outlook:
        """Look half of the period ahead: what comes at the rate of now, less what leaves.

        What leaves is known. What comes has a spread by chance, from the rate that is not known exactly, and
        from its drift, which grows with the time ahead. `now` = (rate a second, seconds since the first use).
        What is reported beyond our count stays; until we have counted for a period, it is taken to be from
        before, and to leave evenly.
        """
        assert limit.per_ns is not None
        rate, age_s = now
        params, memory_s = self.params, self.recent_s(limit)
        unseen, period_s = float(state.unseen[place]), limit.per_ns / NS
        used = float(state.used[place].sum()) + unseen
        order = (int(state.newest_slot[place]) + 1 + np.arange(AHEAD)) % SLOTS
        ahead_s = period_s / SLOTS * (1 + np.arange(AHEAD))
        comes = rate * ahead_s
        leaves = np.cumsum(state.used[place, order])
        if age_s < period_s:
            leaves += unseen * np.minimum(ahead_s / (period_s - age_s), 1.0)
        level = used + comes - leaves
        seen_s = 2.0 * memory_s * math.tanh(age_s / (2.0 * memory_s))  # that the rate is the mean of
        drift = params.drift_an_hour * ahead_s / HOUR_S
        chance = params.clumping * comes * (1.0 + ahead_s / seen_s)
        z = (level - value) / np.sqrt((drift * comes) ** 2 + chance + 1.0)
        over = np.flatnonzero(level >= value)
        left_s = float(ahead_s[over[0]]) if len(over) else math.inf
        return Outlook(used, float(level[np.argmax(z)]), float(z.max()), left_s, math.nan)

    def is_told(self, limit: Limit, seen: Outlook, value: float) -> bool:
        """Say whether this is worth a page."""
        if seen.used >= value:
            return True
        threshold = self.params.z_recent if math.isnan(seen.ratio) else self.params.z_usual
        if limit.resets == "rolling":
            threshold = self.params.z_rolling
        return seen.z >= threshold and seen.used >= self.params.used_min * value

    def finding(
        self, state: State, place: int, limit: Limit, value: float, seen: Outlook, end_ns: int
    ) -> Finding:
        """Word it."""
        is_rolling, has_usual = limit.resets == "rolling", not math.isnan(seen.ratio)
        evidence: list[tuple[str, float | int | str]] = [
            ("used", round(seen.used, 1)),
            ("limit_value", value),
            ("counts", limit.counts),
            ("forecast", round(seen.forecast)),
            (
                "when",
                f"in about {duration_text(seen.left_s)}" if math.isfinite(seen.left_s) else "before then",
            ),
            (
                "baseline",
                "past periods" if has_usual else "the rate of now" if is_rolling else "the last hour",
            ),
            ("score", round(seen.z, 2)),
        ]
        if math.isfinite(seen.left_s):
            evidence.append(("time_to_limit_seconds", round(seen.left_s)))
        subject = ("limit", int(state.row_of[place]))
        if is_rolling:
            assert limit.per_ns is not None
            evidence.append(("period", duration_text(limit.per_ns / NS)))
            text = ROLLING_USED_UP if seen.used >= value else ROLLING
            return Finding(ALERT, CRITICAL, subject, ROLLING_SUMMARY, text, evidence=tuple(evidence))
        basis = RECENT
        if has_usual:
            basis = USUAL.format(ratio=f"{seen.ratio:.2f}", periods=f"{state.periods[place]:.0f}")
            evidence.append(("ratio", round(seen.ratio, 2)))
        reset_s = (limit.period_at(end_ns - 1)[1] - end_ns) / NS
        evidence += [("reset_text", f" in {duration_text(reset_s)} ({limit.resets})"), ("basis", basis)]
        text = USED_UP if seen.used >= value else DESCRIPTION
        return Finding(ALERT, CRITICAL, subject, SUMMARY, text, evidence=tuple(evidence))


def is_of_before(state: State, place: int, limit: Limit, now: tuple[int, float]) -> bool:
    """Say whether a report still counts the period before; `now` = (time, what is reported).

    Platforms and reports may be late: just after a reset, one that is as high as the last one before it is.
    """
    assert limit.per_ns is not None
    time_ns, reported = now
    is_first = time_ns - int(state.start_ns[place]) < min(RESET_LATE_NS, limit.per_ns // 20)
    return is_first and 0.0 < state.reported_before[place] <= reported


def duration_text(seconds: float) -> str:
    """Say a duration in minutes or hours."""
    minutes = seconds / 60.0
    return f"{minutes:.0f} min" if minutes < 120.0 else f"{minutes / 60.0:.1f} h"  # noqa: PLR2004
