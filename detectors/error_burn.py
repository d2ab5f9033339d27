"""The error budget is being spent too fast, by two windows at a time, and it is no accident of small numbers.

What it catches: attempts that fail far more often than the objective allows. Formula: burn = error ratio /
(1 - objective); pages at 14.4 over 1 h and 5 min or 6 over 6 h and 30 min, warns at 3 over 1 d and 2 h or 1
over 3 d and 6 h (for 30 days: 2, 5, 10 and 10 % of the budget in the long window). And the evidence: a
restarted e-value for "more errors than the budget", a mixture over 2, 5, 15 and 50 times it. One cause is one
finding: the narrowest label value with 80 % of the errors, else the total.
False positives: an objective stricter than what is usual. False negatives: a series with so few calls that
chance explains it; a burn below the budget; errors that the decline rules put down to limits or people.
What was before the stream began is not known: a page goes by what there is, a warning waits for its short
window. Reference: Google SRE workbook, alerting on SLOs, table 5-8; Shin, Ramdas and Rinaldo (NEJSDS 2024).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.rows import grown
from detectors.sequential import log_alarm_level, log_mixture, restarted_once
from detectors.watched_rows import Carrier, causes, with_slots
from engine.judge.detection import CRITICAL, MINUTE_NS, NS, WARNING, AlertPolicy, Detection, Finding
from engine.judge.windows import FIVE_MINUTES, HOUR
from engine.kernel import kernel
from engine.settings import DetectionSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

ALERT = "CallErrorBudgetBurn"
SUMMARY = "Calls fail {burn} times as often as the error budget allows."
DESCRIPTION = (
    "{error_percent} % of the attempts failed in the last {window} ({errors} of {ended}), and "
    "{short_percent} % in the last {short_window}; the objective allows {budget_percent} %. At this pace the "
    "budget of {period} is spent in {spent_in}. {where}"
)
SPREAD = "The failures are spread: no single label value has most of them."
NARROW = (
    "The {label} that this alert names has {share_percent} % of all failures and {traffic_percent} % of the "
    "ended attempts: look there first."
)
ALL_OF_IT = "All attempts of this deployment count."
PANE_NS = 5 * MINUTE_NS
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
LONG_NS = (HOUR_NS, 6 * HOUR_NS, DAY_NS, 3 * DAY_NS)
SHORT_NS = tuple(long_ns // 12 for long_ns in LONG_NS)
BUDGET_MIN, BUDGET_MAX = 1e-9, 0.9  # an objective of all or of nothing leaves no ratio to compare with
PANES = LONG_NS[-1] // PANE_NS
SEVERITIES = (CRITICAL, CRITICAL, WARNING, WARNING)


class Params(NamedTuple):
    """Constants."""

    budget_spent: tuple[float, ...] = (0.02, 0.05, 0.1, 0.1)  # of the period's budget, in the long window
    ratio_max: float = 0.5  # a threshold is never above this, or a loose objective could not burn fast
    multiples: tuple[float, ...] = (2.0, 5.0, 15.0, 50.0)  # of the budget: what the evidence looks for
    multiple_max: float = 0.99  # the largest share of errors that an alternative may be
    beyond: float = 3.0  # evidence above the alarm level is not kept, so that the end is seen soon
    errors_min: int = 3
    pages_share: float = 0.1  # of the false pages that all detectors may cause
    rows_max: int = 512
    findings_max: int = 3  # more label values than this in trouble is a trouble of the whole


class State(NamedTuple):
    """By slot (a watched row); panes of five minutes, newest last written."""

    slot: NDArray[np.int32]  # (window rows,); -1: not watched
    pane: int  # number of the pane that is being filled; -1: none yet
    errors_now: NDArray[np.int64]  # (slots,) in that pane
    ended_now: NDArray[np.int64]
    errors: NDArray[np.int32]  # (slots, PANES), by pane number modulo PANES
    ended: NDArray[np.int32]
    sums: NDArray[np.int64]  # (windows, 2, slots): errors and ended of closed panes, long windows then short
    log_m: NDArray[np.float64]  # (slots, alternatives)
    spoken: tuple[int, int]  # window row that spoke last, by severity; -1: none


class ErrorBurn:
    """One finding per cause and severity."""

    name = "error_burn"
    policies = (
        AlertPolicy(ALERT, CRITICAL, repeat_ns=60 * MINUTE_NS),
        AlertPolicy(ALERT, WARNING, keep_ns=30 * MINUTE_NS, repeat_ns=60 * MINUTE_NS),
    )

    def __init__(self, settings: DetectionSettings | None = None, params: Params | None = None) -> None:
        """Take the objective and the budget of pages."""
        self.settings = settings or DetectionSettings()
        self.params = params or Params()
        self.budget = min(max(1.0 - self.settings.error_objective_ratio, BUDGET_MIN), BUDGET_MAX)
        factors = [
            max(spent * self.settings.error_period_ns / long_ns, 1.0)
            for spent, long_ns in zip(self.params.budget_spent, LONG_NS, strict=True)
        ]
        highest = max(self.params.ratio_max, self.budget)
        self.thresholds = np.minimum(np.array(factors) * self.budget, highest)
        likely = np.minimum(np.array(self.params.multiples) * self.budget, self.params.multiple_max)
        self._log_error = np.log(likely / self.budget)
        self._log_fine = np.log((1.0 - likely) / (1.0 - self.budget))

    def new_state(self) -> State:
        """Give the state before the first slice."""
        none = np.zeros(0, np.int64)
        panes = np.zeros((0, PANES), np.int32)
        sums = np.zeros((2 * len(LONG_NS), 2, 0), np.int64)
        log_m = np.zeros((0, len(self.params.multiples)))
        return State(none.astype(np.int32), -1, none, none, panes, panes, sums, log_m, (-1, -1))

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
        del limits
        state = _turned(self._grown(state, summary), summary.start_ns // PANE_NS)
        rows = np.flatnonzero(state.slot >= 0)  # In the order of their slots.
        state = self._add(state, rows, summary)
        errors, ended = _windows(state, rows, summary)
        is_high = self._is_high(errors, ended)
        if not is_high.any():
            return Detection(state._replace(spoken=(-1, -1)), ())
        age_ns = summary.end_ns - summary.first_ns
        known = np.array([one == CRITICAL for one in SEVERITIES]) | (np.array(SHORT_NS) <= age_ns)
        slice_s = (summary.end_ns - summary.start_ns) / NS
        level = self._level(len(state.log_m), slice_s)
        is_sure = log_mixture(state.log_m) >= level
        burns = is_high & known[:, None] & is_sure
        spoken, findings = list(state.spoken), []
        for number, severity in enumerate((CRITICAL, WARNING)):
            rules = [rule for rule, one in enumerate(SEVERITIES) if one == severity]
            rule_of = np.where(burns[rules[0]], rules[0], rules[1])
            slots = np.flatnonzero(burns[rules].any(axis=0))
            told = self._causes(slots, rule_of, (errors, ended), state, summary, number)
            spoken[number] = told[0].row if told else -1
            findings += [
                self._finding(severity, int(rule_of[state.slot[one.row]]), one, (errors, ended), age_ns)
                for one in told
            ]
        return Detection(state._replace(spoken=(spoken[0], spoken[1])), tuple(findings))

    def _grown(self, state: State, summary: WindowSummary) -> State:
        """Take up new rows."""
        if len(state.slot) == len(summary.windows.labels):
            return state
        labels = summary.windows.labels[len(state.slot) :]
        slot = with_slots(state.slot, labels, self.params.rows_max, 0)
        slots = int(np.count_nonzero(slot >= 0))
        missing = slots - len(state.log_m)
        if missing == 0:
            return state._replace(slot=slot)
        sums = np.zeros((*state.sums.shape[:2], missing), np.int64)
        return state._replace(
            slot=slot,
            errors_now=grown(state.errors_now, slots, 0),
            ended_now=grown(state.ended_now, slots, 0),
            errors=grown(state.errors, slots, 0),
            ended=grown(state.ended, slots, 0),
            sums=np.concatenate([state.sums, sums], axis=2),
            log_m=grown(state.log_m, slots, -1e9),
        )

    def _add(self, state: State, rows: NDArray[np.int64], summary: WindowSummary) -> State:
        """Add the slice to the pane that is being filled, and to the evidence."""
        errors, ended = summary.facts.errors[rows], summary.facts.ended[rows]
        errors = np.minimum(errors, ended)
        slice_s = (summary.end_ns - summary.start_ns) / NS
        most = self._level(len(rows), slice_s) + self.params.beyond
        log_m = state.log_m.copy()
        assert log_m.shape == (len(rows), len(self._log_error)), "one row a slot, one column an alternative"
        add_evidence(errors, ended, self._log_error, self._log_fine, most, log_m)
        return state._replace(
            errors_now=state.errors_now + errors, ended_now=state.ended_now + ended, log_m=log_m
        )

    def _is_high(self, errors: NDArray[np.int64], ended: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say which pairs of windows burn too fast, (LONG_NS, slots)."""
        longs = len(LONG_NS)
        is_high = errors[:longs] >= self.params.errors_min
        if is_high.any():
            ratio = errors / np.maximum(ended, 1)
            is_high &= (ratio[:longs] > self.thresholds[:, None]) & (ratio[longs:] > self.thresholds[:, None])
        return is_high

    def _level(self, rows: int, slice_s: float) -> float:
        pages = self.settings.pages_per_week * self.params.pages_share
        return log_alarm_level(max(rows, 1), slice_s, pages)

    def _causes(
        self,
        slots: NDArray[np.int64],
        rule_of: NDArray[np.int64],
        counts: tuple[NDArray[np.int64], NDArray[np.int64]],
        state: State,
        summary: WindowSummary,
        number: int,
    ) -> list[Carrier]:
        """Say which rows speak for those that burn: those that spoke, unless there are too many by now."""
        errors, ended = counts
        rows = np.flatnonzero(state.slot >= 0)
        # All by the window of the total, or shares of different windows would be compared.
        rule = int(rule_of[slots].min()) if len(slots) else 0
        carriers = [
            Carrier(
                int(rows[slot]),
                summary.windows.labels[rows[slot]][0][0] if summary.windows.labels[rows[slot]] else "",
                float(errors[rule, slot]),
                float(ended[rule, slot]),
                slot,
            )
            for slot in slots.tolist()
        ]
        told = causes(carriers, state.spoken[number])
        if len(told) > self.params.findings_max:
            told = causes(carriers)
        return sorted(told, key=lambda one: (-one.wrong, one.row))[: self.params.findings_max]

    def _finding(
        self,
        severity: str,
        rule: int,
        cause: Carrier,
        counts: tuple[NDArray[np.int64], NDArray[np.int64]],
        age_ns: int,
    ) -> Finding:
        errors, ended = counts
        slot, short = cause.slot, rule + len(LONG_NS)
        ratio = errors[rule, slot] / max(ended[rule, slot], 1)
        burn = ratio / self.budget
        where = SPREAD if errors.shape[1] > 1 else ALL_OF_IT
        if cause.label:
            where = NARROW.format(
                label=cause.label,
                share_percent=round(100 * errors[rule, slot] / max(errors[rule, 0], 1)),
                traffic_percent=round(100 * ended[rule, slot] / max(ended[rule, 0], 1)),
            )
        evidence: tuple[tuple[str, float | int | str], ...] = (
            ("burn", round(float(burn), 1)),
            ("errors", int(errors[rule, slot])),
            ("ended", int(ended[rule, slot])),
            ("error_percent", round(100 * float(ratio), 2)),
            ("short_percent", round(100 * float(errors[short, slot] / max(ended[short, slot], 1)), 2)),
            ("budget_percent", round(100 * self.budget, 4)),
            ("window", _span(min(LONG_NS[rule], age_ns))),
            ("short_window", _span(min(SHORT_NS[rule], age_ns))),
            ("period", _span(self.settings.error_period_ns)),
            ("spent_in", _span(self.settings.error_period_ns / float(burn))),
            ("where", where),
        )
        return Finding(ALERT, severity, ("window", cause.row), SUMMARY, DESCRIPTION, evidence=evidence)


@kernel
def add_evidence(
    errors: NDArray[np.int64],
    ended: NDArray[np.int64],
    log_error: NDArray[np.float64],
    log_fine: NDArray[np.float64],
    most: float,
    log_m: NDArray[np.float64],
) -> None:
    """Add attempts (slots,) to `log_m` (slots, alternatives), up to `most`.

    An attempt that failed adds `log_error` (alternatives,), another one `log_fine`.
    """
    for i in range(len(ended)):
        for k in range(len(log_error)):
            if ended[i] > 0:
                log_e = errors[i] * log_error[k] + (ended[i] - errors[i]) * log_fine[k]
                log_m[i, k] = restarted_once(log_m[i, k], log_e)
            log_m[i, k] = min(log_m[i, k], most)


def _turned(state: State, pane: int) -> State:
    """Go on to another pane: keep the last one, forget what is too old, and add up the windows anew."""
    if pane == state.pane:
        return state
    if state.pane < 0:
        return state._replace(pane=pane)
    errors, ended = state.errors.copy(), state.ended.copy()
    errors[:, state.pane % PANES], ended[:, state.pane % PANES] = state.errors_now, state.ended_now
    passed = np.arange(state.pane + 1, min(pane, state.pane + PANES) + 1) % PANES
    errors[:, passed] = ended[:, passed] = 0
    sums = np.zeros_like(state.sums)
    for number, window_ns in enumerate((*LONG_NS, *SHORT_NS)):
        # The newest pane of the window is the one being filled, so that it reaches up to the slice's end.
        held = np.arange(pane - window_ns // PANE_NS, pane) % PANES
        sums[number, 0] = errors[:, held].sum(axis=1, dtype=np.int64)
        sums[number, 1] = ended[:, held].sum(axis=1, dtype=np.int64)
    nothing = np.zeros_like(state.errors_now)
    return state._replace(
        pane=pane, errors_now=nothing, ended_now=nothing, errors=errors, ended=ended, sums=sums
    )


def _windows(
    state: State, rows: NDArray[np.int64], summary: WindowSummary
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give errors and ended attempts of every window, (windows, slots).

    The hour and the five minutes are those of the engine. The longer ones are panes: the one that is being
    filled counts beside whole ones, so such a window is longer than its name by less than a pane.
    """
    errors, ended = state.sums[:, 0] + state.errors_now, state.sums[:, 1] + state.ended_now
    for number, window in ((0, HOUR), (len(LONG_NS), FIVE_MINUTES)):
        errors[number] = summary.windows.errors[rows, window]
        ended[number] = summary.windows.ended[rows, window]
    return errors, ended


def _span(span_ns: float) -> str:
    """Say a span of time in its largest whole unit."""
    for unit_ns, unit in ((DAY_NS, "days"), (HOUR_NS, "hours"), (MINUTE_NS, "minutes")):
        if span_ns >= 2 * unit_ns:
            return f"{span_ns / unit_ns:.0f} {unit}"
    return f"{span_ns / MINUTE_NS:.0f} minutes" if span_ns >= MINUTE_NS else "less than a minute"
