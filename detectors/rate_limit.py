"""CallRateLimitApproaching: more calls will start in one second than the limit lets through.

Catches: rising rates, and clumped starts (diallers, batches) that pass the cap inside a second while the mean
is far below it. Formula: calls of a period have mean m (filter bank of detectors/statistics.py, with growth)
and variance phi m (phi: variance within 15 s over the mean); pages when E[(N - cap)+], added up over
the next ten minutes, passes a threshold twice in a row, or when three rolling periods of the last ten minutes
were over the cap. A tail that foretold busier seconds than came (the same batch again and again) is scaled
down.
False positives: a ramp that stops short of the cap, or a step to several times the rate, as after a partial
outage; a single batch over the cap that spans some seconds.
False negatives: clumps of a kind never seen before; a jump past the cap within half a minute; for two minutes
after an outage only what is over the cap.
Reference: Vonage, "the most common mistake is confusing average CPS with instantaneous CPS"; Johnson, Kemp
and Kotz, Univariate Discrete Distributions (negative binomial).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from detectors.headroom_page import duration_text, trend_text
from detectors.rate_excess import excess_above, follow_rates
from detectors.rate_limit_state import (
    LOOKS,
    RateLimitParams,
    RateLimitState,
    add_slice,
    caps_of,
    new_state,
    with_caps,
    with_limits,
)
from detectors.statistics import FilterBank, FilterNoise
from engine.judge.detection import CRITICAL, MINUTE_NS, NS, AlertPolicy, Detection, Finding
from engine.judge.occupancy import SECOND_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.occupancy import LimitUse
    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

ALERT = "CallRateLimitApproaching"
SUMMARY = "Calls come in bursts or so fast that {limit} will be passed."
DESCRIPTION = (
    "{limit} lets {limit_value} calls start in {period}. On average {mean} start, {trend}; the busiest "
    "{period} of the last ten minutes had {busiest}. {clumps} {seen} Expected over the limit: "
    "{excess_per_hour_now} calls an hour now and {excess_per_hour_ahead} in {horizon}; {when}. {consequence}"
)
CLUMPED = "Calls start in clumps (variance {dispersion} times the mean), so the mean says little."
SINGLE = "Calls start one by one."
SEEN = "The limit was passed {over} times in these ten minutes already."
CONSEQUENCES = {
    "queue": "Calls over the limit will wait instead of being declined.",
    "throttle": "Calls over the limit will wait instead of being declined.",
    "silent": "Calls over the limit are lost without a word.",
}
DECLINES = "Calls over the limit are declined."
LOOK_NS = 15 * NS
LOOK_S = 15.0
HOUR_S = 3600.0
GAP_LOOKS_MAX = 240  # after a longer hole in the stream a row begins anew
POINTS = 9  # of the horizon
LOG_RATE_MAX = 25.0
CLUMPED_DISPERSION = 1.5
ROUNDED_FROM = 100.0
LEAST_SAID = 0.01  # calls; fewer are none


class Outlook(NamedTuple):
    """What is ahead, by slot."""

    mean: NDArray[np.float64]  # calls per period
    growth: NDArray[np.float64]  # of the log of the rate, in an evaluation
    dispersion: NDArray[np.float64]
    per_hour: NDArray[np.float64]  # (slots, POINTS): attempts over the cap, from now to the horizon
    within: NDArray[np.float64]  # (slots, POINTS): the same added up until then


class RateLimit:
    """One finding per limit of kind rate."""

    name = "rate_limit"
    policies = (
        AlertPolicy(ALERT, CRITICAL, evaluations=2, keep_ns=10 * MINUTE_NS, repeat_ns=60 * MINUTE_NS),
    )

    def __init__(self, params: RateLimitParams | None = None) -> None:
        """Lay out the horizon."""
        self.params = params or RateLimitParams()
        filters = self.params.filters
        damping = math.exp(-LOOK_S / filters.damping_s)
        self.noise = FilterNoise(np.array(filters.level_noise), np.array(filters.growth_noise), damping)
        self.ahead_s = np.linspace(0.0, self.params.horizon_looks * LOOK_S, POINTS)
        self.reach = (1.0 - damping ** (self.ahead_s / LOOK_S)) / (1.0 - damping)

    def new_state(self) -> RateLimitState:
        """Give the state before the first slice."""
        return new_state(0, self.params)

    def detect(self, state: Any, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Take in one slice; look ahead at every evaluation."""
        before: RateLimitState = state
        use = summary.limits
        now = with_limits(before, limits[: len(use.value)], self.params)
        if len(now.row) == 0:
            return Detection(now._replace(end_ns=summary.end_ns), ())
        if 0 <= now.end_ns < summary.start_ns:
            now = self.after_gap(now, summary.start_ns - now.end_ns)
        now = with_caps(now, caps_of(now, use))
        now = add_slice(now, use, summary.end_ns, self.params.high_share)
        if summary.end_ns % LOOK_NS:
            return Detection(now, (), evaluated=False)
        now, outlook = self.evaluate(now, use, summary.end_ns)
        return Detection(now, self.findings(now, outlook, use, limits))

    def after_gap(self, state: RateLimitState, gap_ns: int) -> RateLimitState:
        """Forget what a hole in the stream makes old."""
        if gap_ns // LOOK_NS <= GAP_LOOKS_MAX:
            return state._replace(before=np.zeros_like(state.before))
        blank = new_state(len(state.row), self.params)
        return blank._replace(
            known=state.known, row=state.row, window=state.window, cap=state.cap,
            before=np.zeros_like(state.before), rate_limits_refused=state.rate_limits_refused,
        )  # fmt: skip

    def evaluate(self, state: RateLimitState, use: LimitUse, end_ns: int) -> tuple[RateLimitState, Outlook]:
        """Bring filters and clumps up to date, and look ahead."""
        steps = max((end_ns - state.looked_ns) // LOOK_NS, 1) if state.looked_ns >= 0 else 1
        state = self.without_quiet(state, steps, end_ns)
        state = self.follow(self.spread(state, steps), steps)
        cap = caps_of(state, use)
        outlook = self.outlook(state, cap)
        state = self.hold_tail(state, outlook, cap, steps)
        fresh = np.zeros((len(state.row), min(steps, LOOKS)), np.int32)
        peaks, overs = fresh.copy(), fresh
        peaks[:, -1], overs[:, -1] = state.peak, -(-state.over // state.window)
        nothing, none = np.zeros(len(state.row)), np.zeros(len(state.row), np.int32)
        state = state._replace(
            looked_ns=end_ns, arrivals=nothing, squares=nothing, seconds=nothing, peak=none, over=none,
            high=none,
            peaks=np.concatenate([state.peaks, peaks], axis=1)[:, -LOOKS:],
            overs=np.concatenate([state.overs, overs], axis=1)[:, -LOOKS:],
        )  # fmt: skip
        return state, outlook

    def without_quiet(self, state: RateLimitState, steps: int, end_ns: int) -> RateLimitState:
        """Set aside evaluations in which few of many expected calls came: none, or for an hour at most some.

        When calls are back, the level begins anew from the first whole evaluation: one that was pulled to
        nothing takes their return for growth.
        """
        expected = self.expected(state, steps)
        many = self.params.quiet_calls * self.dispersions(state).max(axis=1)
        is_quiet = state.is_known & (expected >= many)
        is_quiet &= state.arrivals < self.params.quiet_share * expected
        is_quiet &= (state.arrivals == 0.0) | (state.quiet_looks <= GAP_LOOKS_MAX)
        is_back = (state.quiet_looks > 0) & ~is_quiet
        is_whole = is_back & (state.quiet_ns < state.looked_ns)
        watched = ~is_quiet & (is_whole | ~is_back)
        looks = np.where(is_whole, 0, state.quiet_looks + is_quiet * steps)
        return state._replace(
            arrivals=watched * state.arrivals,
            squares=watched * state.squares,
            seconds=watched * state.seconds,
            high=np.where(watched, state.high, 0),
            is_known=state.is_known & ~is_whole,
            quiet_looks=looks.astype(np.int32),
            quiet_ns=np.where(is_quiet, end_ns, state.quiet_ns),
        )

    def expected(self, state: RateLimitState, steps: int) -> NDArray[np.float64]:
        """Give how many calls the filters expect of this evaluation."""
        level, growth = _mixture(state.rate)
        expected = np.exp(np.minimum(level + growth * steps, LOG_RATE_MAX)) * state.seconds / LOOK_S
        return np.where(state.is_known, expected, 0.0)

    def spread(self, state: RateLimitState, steps: int) -> RateLimitState:
        """Add what the last evaluation says of clumps: within its seconds, and as a whole."""
        params = self.params
        keep = 0.5 ** (steps * LOOK_S / np.array(params.clump_half_lives_s))
        seconds, arrivals = state.seconds, state.arrivals
        # Around the mean of these seconds, not of the filter: a step of the rate is no clump.
        around = np.maximum(state.squares - np.square(arrivals) / np.maximum(seconds, 1.0), 0.0)
        within = np.where(seconds > 1.0, around * seconds / np.maximum(seconds - 1.0, 1.0), 0.0)
        means = np.where(seconds > 1.0, arrivals, 0.0)
        expected = self.expected(state, steps)
        most = params.clip * self.dispersions(state).max(axis=1)
        between = np.minimum(np.square(arrivals - expected), most * expected)
        return state._replace(
            spread=keep * state.spread + np.stack([within, within, between], axis=1),
            spread_mean=keep * state.spread_mean + np.stack([means, means, expected], axis=1),
        )

    def dispersions(self, state: RateLimitState) -> NDArray[np.float64]:
        """Give variance over mean, (slots, SPREADS)."""
        prior = self.params.clump_prior_calls
        return np.maximum((state.spread + prior) / (state.spread_mean + prior), 1.0)

    def follow(self, state: RateLimitState, steps: int) -> RateLimitState:
        """Pass the counts to the filters."""
        bank = FilterBank(*(one.copy() for one in state.rate))
        bank.covariance[~state.is_known] = 0.0  # with the level that begins anew
        is_known = state.is_known.copy()
        dispersion = self.dispersions(state).max(axis=1)
        watched = state.seconds / LOOK_S
        switch = self.params.filters.switch
        follow_rates(bank, is_known, state.arrivals, watched, dispersion, self.noise, switch, int(steps))
        return state._replace(rate=bank, is_known=is_known)

    def outlook(self, state: RateLimitState, cap: NDArray[np.float64]) -> Outlook:
        """Add up what is expected over the cap within the horizon."""
        level, growth = _mixture(state.rate)
        period_s = state.window / SECOND_BINS
        ahead = np.minimum(level[:, None] + growth[:, None] * self.reach, LOG_RATE_MAX)
        is_seen = state.is_known & (state.quiet_looks == 0)
        mean = np.where(is_seen[:, None], np.exp(ahead), 0.0) * period_s[:, None] / LOOK_S
        both = self.dispersions(state)
        # Clumps longer than a second count where the period is longer as well.
        dispersion = np.where(period_s > 1.0, both.max(axis=1), both[:, :-1].max(axis=1))
        many = mean.shape[1]
        excess, _ = excess_above(mean.ravel(), np.repeat(dispersion, many), np.repeat(cap, many))
        trust = np.minimum((state.high_seen + 1.0) / (state.high_expected + 1.0), 1.0)
        per_s = excess.reshape(mean.shape) * (trust / period_s)[:, None]
        parts = 0.5 * (per_s[:, 1:] + per_s[:, :-1]) * np.diff(self.ahead_s)
        within = np.concatenate([np.zeros((len(parts), 1)), np.cumsum(parts, axis=1)], axis=1)
        return Outlook(mean[:, 0], growth, dispersion, per_s * HOUR_S, within)

    def hold_tail(
        self, state: RateLimitState, outlook: Outlook, cap: NDArray[np.float64], steps: int
    ) -> RateLimitState:
        """Hold the tail against what came: how often a period is busier than a share of the cap."""
        keep = 0.5 ** (steps * LOOK_S / self.params.tail_half_life_s)
        high = np.floor(self.params.high_share * cap)
        _, chance = excess_above(outlook.mean, outlook.dispersion, high)
        periods = state.seconds * SECOND_BINS / state.window
        return state._replace(
            high_seen=keep * state.high_seen + state.high / state.window,
            high_expected=keep * state.high_expected + periods * chance,
        )

    def findings(
        self, state: RateLimitState, outlook: Outlook, use: LimitUse, limits: tuple[LimitInstance, ...]
    ) -> tuple[Finding, ...]:
        """Compare with the threshold."""
        age_s = (state.looked_ns - use.first_ns[state.row]) / NS
        is_ready = (use.first_ns[state.row] >= 0) & (age_s >= self.params.wait_s)
        back_s = (state.looked_ns - state.quiet_ns) / NS
        is_ready &= (state.quiet_ns < 0) | (back_s >= self.params.back_wait_s)
        is_high = is_ready & (outlook.within[:, -1] >= self.params.excess_max)
        is_high |= state.overs.sum(axis=1) >= self.params.seen_min
        return tuple(
            Finding(
                ALERT,
                CRITICAL,
                ("limit", int(state.row[slot])),
                SUMMARY,
                DESCRIPTION,
                evidence=self.evidence(state, outlook, int(slot), limits[state.row[slot]]),
            )
            for slot in np.flatnonzero(is_high & ~np.isnan(use.value[state.row]))
        )

    def evidence(
        self, state: RateLimitState, outlook: Outlook, slot: int, limit: LimitInstance
    ) -> tuple[tuple[str, float | int | str], ...]:
        """Give the numbers, and words for them."""
        over = int(state.overs[slot].sum())
        dispersion = round(float(outlook.dispersion[slot]), 1)
        time_s = self.time_s(outlook.within[slot]) if over == 0 else 0.0
        horizon = duration_text(float(self.ahead_s[-1]))
        when = f"the first one is not expected within {horizon}, but more of them than chance allows"
        if over:
            when = "it is happening now"
        elif math.isfinite(time_s):
            when = f"the first one is expected within {duration_text(time_s)}"
        period_s = state.window[slot] / SECOND_BINS
        growth = math.expm1(min(float(outlook.growth[slot]) * 60.0 / LOOK_S, 10.0))
        found: list[tuple[str, float | int | str]] = [
            ("mean", round(float(outlook.mean[slot]), 2)),
            ("period", "second" if period_s == 1.0 else f"{period_s:g} s"),
            ("trend", trend_text(growth)),
            ("busiest", int(state.peaks[slot].max())),
            ("dispersion", dispersion),
            ("clumps", CLUMPED.format(dispersion=dispersion) if dispersion >= CLUMPED_DISPERSION else SINGLE),
            ("over", over),
            ("seen", SEEN.format(over=over) if over else "It was not passed in these ten minutes."),
            ("excess_per_hour_now", _rounded(outlook.per_hour[slot, 0])),
            ("excess_per_hour_ahead", _rounded(outlook.per_hour[slot, -1])),
            ("excess_within_horizon", _rounded(outlook.within[slot, -1])),
            ("horizon", horizon),
            ("when", when),
            ("consequence", CONSEQUENCES.get(limit.limit.when_reached, DECLINES)),
        ]
        if math.isfinite(time_s):
            found.append(("time_to_limit_seconds", round(time_s)))
        return tuple(found)

    def time_s(self, within: NDArray[np.float64]) -> float:
        """Give when the first attempt over the cap is to be expected; inf: not within the horizon."""
        if within[-1] < 1.0:
            return math.inf
        at = int(np.argmax(within >= 1.0))
        share = (1.0 - within[at - 1]) / (within[at] - within[at - 1])
        return float(self.ahead_s[at - 1] + share * (self.ahead_s[at] - self.ahead_s[at - 1]))


def _mixture(bank: FilterBank) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give level and growth of the log rate, over all models."""
    return (bank.weight * bank.level).sum(axis=1), (bank.weight * bank.growth).sum(axis=1)


def _rounded(value: float) -> float:
    """Give two digits that count."""
    if value < LEAST_SAID:
        return 0.0
    return float(f"{value:.2g}") if value < ROUNDED_FROM else float(round(value))
