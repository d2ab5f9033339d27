"""CallLatencyRegression: a stage of calls has become slower than it was yesterday, or earlier today.

What it catches: the whole distribution moved up (a serving change), or a few calls became very slow (a bad
host); whether it rises with calls in flight, the first sign of a soft cap, is said. Formula: categories
between the reference's q50, q90 and q99 (detectors/shift_evidence.py), restarted e-values, an odds ratio of
1.03 being no trouble yet; the reference is the same hour yesterday, else earlier today.
False positives: a change of who calls (another tenant, longer questions), where only the total is watched.
False negatives: a rise of a few percent; the first 60 values; a drift over days, which becomes usual.
Reference: Shin, Ramdas and Rinaldo, E-detectors (NEJSDS 2024).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.block_dispersion import Dispersion, compared, grown_dispersion, new_dispersion
from detectors.reference_hours import (
    DAY_HOURS,
    Expected,
    Hours,
    block_of,
    expected,
    first_known,
    grown_hours,
    hour_before,
    new_hours,
    turned,
)
from detectors.remembered import Remembered
from detectors.rows import grown
from detectors.sequential import log_alarm_level, log_mixture_from
from detectors.shift_evidence import (
    Alternatives,
    Evidence,
    Hypotheses,
    carried_over,
    categories,
    forgotten,
    grown_evidence,
    grown_hypotheses,
    hypotheses,
    log_gammas,
    new_evidence,
    weighed,
    without_hypotheses,
)
from detectors.watched_rows import Carrier, causes, excess, with_slots
from engine.judge.detection import MINUTE_NS, NS, WARNING, AlertPolicy, Detection, Finding
from engine.kernel import kernel
from engine.observe.latency import BUCKET_FIRST, BUCKETS, PER_OCTAVE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

ALERT = "CallLatencyRegression"
SUMMARY = "Calls have become slower in a stage."
DESCRIPTION = (
    "The stage {stage} has become slower than {reference}: {above_percent} % of {values} values since "
    "{since} were above {usual_median_ms} ms; usually {usual_percent} % are. p99 is {p99_ms} ms in the last "
    "five minutes. {load_text}"
)
WITH_LOAD = (
    "It rises with calls in flight: {high_percent} % are above what a tenth usually exceed when many calls "
    "are up, {low_percent} % when few are. Something behind it is near its capacity: look for a limit before "
    "it declines."
)
NOT_WITH_LOAD = "It does not depend on how many calls are in flight: look at what changed."
COARSE = 2  # buckets of the sketch to a bin
BINS = (BUCKETS + COARSE - 1) // COARSE
RANKS = np.array([0.5, 0.9, 0.99])
ALTERNATIVES = Alternatives(whole=(1.3, 1.8, 4.0, 20.0), tails=((2, 3.0), (2, 6.0)))
SHAPE = (0, ALTERNATIVES.many, len(RANKS) + 1)  # of evidence, without slots


class Params(NamedTuple):
    """Constants."""

    rows_max: int = 256  # (label set, stage) pairs that are watched
    kept_for_totals: int = 16
    effect: float = 1.03  # odds ratio above the reference that is no trouble
    doubt: float = 4.0  # evidence this little below the alarm level: the row is not learned from ...
    doubt_ns: int = 24 * 60 * MINUTE_NS  # ... for so long
    beyond: float = 3.0  # evidence further above the alarm level is not kept
    half_life_s: float = 420.0  # of what decides whether it goes on
    values_min: float = 20.0  # of what is told
    load_half_life_s: float = 1800.0
    load_sd: float = 3.0  # by which shares at high and low load must differ, to say so


class State(NamedTuple):
    """By latency row: its slot. By slot: memory, reference and evidence."""

    slot_of: NDArray[np.int32]  # (latency rows,); -1: not watched
    row_of: NDArray[np.int32]  # (slots,): latency row
    hours: Hours
    cut: NDArray[np.int64]  # (slots, ranks)
    share: NDArray[np.float64]  # (slots, ranks + 1): of the values, by category
    laws: Hypotheses
    dispersion: Dispersion
    values: NDArray[np.float64]  # (slots,) that the reference rests on
    of_yesterday: NDArray[np.bool_]
    evidence: Evidence
    rises_ns: NDArray[np.int64]  # (slots, alternatives): the end of the slice since which it gains
    since_ns: NDArray[np.int64]  # (slots,): when what is in doubt began to rise; -1: not in doubt
    seen: NDArray[np.float64]  # (slots, 2, ranks + 1): values since then by category, and what is usual
    mean_load: float  # calls in flight, fading
    by_load: NDArray[np.float64]  # (slots, 2 bands, 2): above the usual q90, and all; fading


class LatencyShift:
    """One finding per cause: the narrowest label set that carries it."""

    name = "latency_shift"
    policies = (AlertPolicy(ALERT, WARNING, evaluations=2),)

    def __init__(self, pages_per_week: float = 1.0, params: Params | None = None) -> None:
        self.params = params or Params()
        self.pages_per_week = pages_per_week
        self._log_gammas = Remembered(log_gammas)

    def new_state(self) -> State:
        """Give the state before the first slice."""
        slots = 0
        none = np.zeros(slots)
        return State(
            slot_of=np.zeros(0, np.int32),
            row_of=np.zeros(0, np.int32),
            hours=new_hours(slots, BINS, DAY_HOURS),
            cut=np.zeros((slots, len(RANKS)), np.int64),
            share=np.zeros((slots, len(RANKS) + 1)),
            laws=without_hypotheses(*SHAPE),
            dispersion=new_dispersion(slots, BINS),
            values=none,
            of_yesterday=np.zeros(slots, np.bool_),
            evidence=new_evidence(*SHAPE),
            rises_ns=np.zeros(SHAPE[:2], np.int64),
            since_ns=np.zeros(slots, np.int64),
            seen=np.zeros((slots, 2, len(RANKS) + 1)),
            mean_load=0.0,
            by_load=np.zeros((slots, 2, 2)),
        )

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
        state = self._with_rows(state, summary)
        if not len(state.row_of):
            return Detection(state, ())
        state = self._refreshed(state, summary.end_ns)
        state = self._weigh(state, summary)
        return Detection(state, self._findings(state, summary))

    def _with_rows(self, state: State, summary: WindowSummary) -> State:
        """Give new latency rows their slots."""
        params, windows = self.params, summary.windows
        known = len(state.slot_of)
        if len(windows.latency_row) == known:
            return state
        labels = [windows.labels[row] for row in windows.latency_row[known:].tolist()]
        slot_of = with_slots(state.slot_of, labels, params.rows_max, params.kept_for_totals)
        row_of = np.flatnonzero(slot_of >= 0).astype(np.int32)
        slots = len(row_of)
        return state._replace(
            slot_of=slot_of, row_of=row_of, hours=grown_hours(state.hours, slots),
            cut=grown(state.cut, slots, 0), share=grown(state.share, slots, 0),
            laws=grown_hypotheses(state.laws, slots),
            dispersion=grown_dispersion(state.dispersion, slots), values=grown(state.values, slots, 0),
            of_yesterday=grown(state.of_yesterday, slots, 0),
            evidence=grown_evidence(state.evidence, slots), since_ns=grown(state.since_ns, slots, -1),
            seen=grown(state.seen, slots, 0), rises_ns=grown(state.rises_ns, slots, 0),
            by_load=grown(state.by_load, slots, 0),
        )  # fmt: skip

    def _refreshed(self, state: State, end_ns: int) -> State:
        """Read the reference anew at every block of ten minutes; give up a doubt that lasts a day."""
        if block_of(end_ns) == state.hours.block:
            return state
        is_usual = (state.since_ns >= 0) & (end_ns - state.since_ns > self.params.doubt_ns)
        hours, is_new = turned(state.hours, end_ns, (state.since_ns >= 0) & ~is_usual)
        if not is_new:
            return state._replace(hours=hours)
        dispersion = compared(state.dispersion, state.hours.newest)
        yesterday = expected(hour_before(hours, DAY_HOURS), RANKS)
        reference: Expected = first_known(yesterday, expected(hours.earlier.astype(np.float64), RANKS))
        laws = hypotheses(reference, self.params.effect, ALTERNATIVES, dispersion.factor)
        return state._replace(
            hours=hours,
            cut=reference.cut,
            share=categories(reference.share),
            laws=laws,
            dispersion=dispersion,
            values=reference.values,
            of_yesterday=yesterday.values > 0,
            evidence=forgotten(carried_over(state.evidence, state.laws, laws), is_usual),
            since_ns=np.where(is_usual, -1, state.since_ns),
        )

    def _weigh(self, state: State, summary: WindowSummary) -> State:
        """Add the slice to the evidence."""
        params, facts = self.params, summary.facts.latency
        slots = len(state.row_of)
        assert facts.row.max(initial=-1) < len(state.slot_of), "rows are taken up first"
        newest, seen = state.hours.newest.copy(), np.zeros((slots, len(RANKS) + 1))
        count_latencies(state.slot_of, facts.row, facts.bucket, facts.counted, state.cut, newest, seen)
        level, factor = self._level(state, summary), state.dispersion.factor
        slice_s = (summary.end_ns - summary.start_ns) / NS
        keep = 0.5 ** (slice_s / params.half_life_s)
        gammas = self._log_gammas(state.laws)
        evidence = weighed(state.evidence, seen / factor[:, None], state.laws, level, keep, gammas).evidence
        evidence = evidence._replace(log_m=np.minimum(evidence.log_m, level + params.beyond))
        in_doubt = log_mixture_from(evidence.log_m, level - params.doubt) > level - params.doubt
        high = seen[:, 2] + seen[:, 3]
        many = seen.sum(axis=1)
        rises_ns = np.where(evidence.log_ratio > 0, state.rises_ns, summary.end_ns)
        since_ns = np.where(in_doubt, state.since_ns, -1)
        usual = state.share * many[:, None]
        in_all = np.where(in_doubt[:, None, None], state.seen + np.stack([seen, usual], axis=1), 0.0)
        began = np.flatnonzero(in_doubt & (state.since_ns < 0))
        if len(began):
            best = began, evidence.log_m[began].argmax(axis=1)
            # What was counted while it rose, also before it was in doubt.
            rose = np.maximum(evidence.tally[best] * factor[began, None], seen[began])
            in_all[began] = np.stack([rose, state.share[began] * rose.sum(axis=1, keepdims=True)], axis=1)
            since_ns[began] = np.minimum(rises_ns[best], summary.start_ns)
        keep_load = 0.5 ** (slice_s / params.load_half_life_s)
        load = float(summary.stream.in_flight)
        mean_load = load if state.mean_load == 0.0 else keep_load * state.mean_load + (1 - keep_load) * load
        by_load = keep_load * state.by_load
        band, is_known = int(load > mean_load), state.values > 0
        by_load[:, band, 0] += np.where(is_known, high, 0.0)
        by_load[:, band, 1] += np.where(is_known, many, 0.0)
        return state._replace(
            hours=state.hours._replace(newest=newest),
            evidence=evidence,
            rises_ns=rises_ns,
            since_ns=since_ns,
            seen=in_all,
            mean_load=mean_load,
            by_load=by_load,
        )

    def _level(self, state: State, summary: WindowSummary) -> float:
        slice_s = (summary.end_ns - summary.start_ns) / NS
        watched = max(int(np.count_nonzero(state.values > 0)), 1)
        return log_alarm_level(watched, slice_s, self.pages_per_week)

    def _findings(self, state: State, summary: WindowSummary) -> tuple[Finding, ...]:
        """Give one finding for each stage and cause."""
        if not (state.since_ns >= 0).any():
            return ()  # Nothing is in doubt, and so nothing is sure.
        level = self._level(state, summary)
        evidence = log_mixture_from(state.evidence.log_m, level - self.params.doubt)
        wrong, values = excess(state.seen), state.seen[:, 0].sum(axis=1)
        is_told = (evidence >= level) & (values >= self.params.values_min)
        if not is_told.any():
            return ()
        # Where one row is sure, those in doubt may name the cause.
        is_slow = is_told | (evidence > level - self.params.doubt)
        windows = summary.windows
        by_stage: dict[str, list[Carrier]] = {}
        for slot in np.flatnonzero(is_slow).tolist():
            latency_row = int(state.row_of[slot])
            row = int(windows.latency_row[latency_row])
            labels = windows.labels[row]
            label = labels[0][0] if labels else ""
            carrier = Carrier(row, label, float(wrong[slot]), float(values[slot]), slot)
            by_stage.setdefault(windows.latency_stage[latency_row], []).append(carrier)
        return tuple(
            self._finding(state, summary, stage, one)
            for stage, carriers in sorted(by_stage.items())
            if any(is_told[one.slot] for one in carriers)
            for one in causes(carriers)
        )

    def _finding(self, state: State, summary: WindowSummary, stage: str, one: Carrier) -> Finding:
        slot = one.slot
        high, low = (float(state.by_load[slot, band, 0]) for band in (1, 0))
        high_all, low_all = (max(float(state.by_load[slot, band, 1]), 1.0) for band in (1, 0))
        is_with_load = rises(high, high_all, low, low_all, self.params.load_sd)
        shares = (("high_percent", 100 * high / high_all), ("low_percent", 100 * low / low_all))
        above, usual = state.seen[slot, :, 1:].sum(axis=1)
        minutes = max(round((summary.end_ns - int(state.since_ns[slot])) / MINUTE_NS), 1)
        words = WITH_LOAD.format(**{name: f"{value:.0f}" for name, value in shares})
        evidence: tuple[tuple[str, float | int | str], ...] = (
            ("reference", "at this hour yesterday" if state.of_yesterday[slot] else "earlier today"),
            ("above_percent", round(100 * float(above) / one.calls)),
            ("usual_percent", round(100 * float(usual) / one.calls)),
            ("values", int(one.calls)),
            ("since", f"{minutes} min"),
            ("usual_median_ms", round(1000 * value_s(int(state.cut[slot, 0])))),
            ("with_concurrency", "yes" if is_with_load else "no"),
            ("load_text", words if is_with_load else NOT_WITH_LOAD),
            ("baseline", "same hour yesterday" if state.of_yesterday[slot] else "earlier today"),
        )
        return Finding(
            ALERT, WARNING, ("window", one.row), SUMMARY, DESCRIPTION, labels=(("stage", stage),),
            evidence=evidence,
        )  # fmt: skip


@kernel
def count_latencies(
    slot_of: NDArray[np.int32],
    row: NDArray[np.int32],
    bucket: NDArray[np.int16],
    many: NDArray[np.int64],
    cut: NDArray[np.int64],
    newest: NDArray[np.int32],
    seen: NDArray[np.float64],
) -> None:
    """Add the facts (facts,) of watched rows to their bins in `newest` (slots, BINS), and to `seen`.

    That is (slots, ranks + 1), by category: how many of the slot's cuts (slots, ranks) lie below the bin.
    """
    for k in range(len(row)):
        slot = slot_of[row[k]]
        if slot >= 0:
            place = bucket[k] // COARSE
            category = 0
            for rank in range(cut.shape[1]):
                category += place > cut[slot, rank]
            newest[slot, place] += many[k]
            seen[slot, category] += many[k]


def rises(high: float, high_all: float, low: float, low_all: float, sds: float) -> bool:
    """Say whether a share is higher at high load than at low load, beyond chance, and half as much again."""
    pooled = (high + low) / (high_all + low_all)
    sd = math.sqrt(max(pooled * (1.0 - pooled), 1e-9) * (1.0 / high_all + 1.0 / low_all))
    return high / high_all > 1.5 * low / low_all and high / high_all - low / low_all > sds * sd


def value_s(bin_: int) -> float:
    """Give the upper bound of a bin."""
    return float(2.0 ** ((bin_ * COARSE + COARSE - 1 + BUCKET_FIRST) / PER_OCTAVE))
