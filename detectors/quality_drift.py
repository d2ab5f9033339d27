"""CallQualityDrift: the answers are worse than yesterday, and than a week ago.

What it catches: scores (`quality.scored`, by metric) that moved down: all of them a little, or a tenth of
them a lot (a model that answers worse, a prompt that was changed). Formula: categories between the
reference's q50 and q10 (detectors/shift_evidence.py); references are the same hour yesterday and a week ago,
and both must reject where both are known; else earlier today, with a larger minimum effect. The total, and
values of other labels (a trunk, a release), speak only if, tenant by tenant and agent by agent, scores fell
as well: a change of who calls is no drift. False positives: a change of mix within one tenant or agent; a
scorer that was changed. False negatives: scores that come after their slice was judged; under 30 scores; one
trunk or release that is too small to show in all tenants or agents together.
Reference: Shin, Ramdas and Rinaldo, E-detectors (NEJSDS 2024).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.block_dispersion import Dispersion, compared, grown_dispersion, new_dispersion
from detectors.reference_hours import (
    DAY_HOURS,
    WEEK_HOURS,
    Hours,
    counted,
    expected,
    grown_hours,
    hour_before,
    new_hours,
    turned,
)
from detectors.remembered import Remembered
from detectors.rows import grown
from detectors.sequential import log_alarm_level, log_mixture, restarted
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
    in_categories,
    log_gammas,
    new_evidence,
    weighed,
    without_hypotheses,
)
from detectors.watched_rows import Carrier, causes, excess, with_slots
from engine.judge.detection import MINUTE_NS, NS, WARNING, AlertPolicy, Detection, Finding
from engine.judge.facts import SCORE_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

ALERT = "CallQualityDrift"
SUMMARY = "Answers are worse than they were."
DESCRIPTION = (
    "{metric}: {below_percent} % of {values} scores since {since} were below {usual_median}; {usual_percent} "
    "% were {reference}. Their mean is {mean}, usually {usual_mean}. Tenants and agents were each "
    "compared with themselves: who calls does not explain it. Look at what changed: model, prompt, speech "
    "recognition, knowledge."
)
RANKS = np.array([0.5, 0.9])  # of what is missing to a perfect score: q50 and q10 of scores
ALTERNATIVES = Alternatives(whole=(1.7, 3.0, 12.0), tails=((1, 2.5),))
YESTERDAY, WEEK_AGO, TODAY = range(3)
REFERENCES = ("at this hour yesterday", "at this hour a week ago", "earlier today")
SHAPE = (0, ALTERNATIVES.many, len(RANKS) + 1)  # of evidence, without slots
STRATA = ("agent", "tenant")  # who calls whom; a worse release is no change of mix


class Params(NamedTuple):
    """Constants."""

    rows_max: int = 128  # (label set, metric) pairs that are watched
    kept_for_totals: int = 8
    effect: tuple[float, float, float] = (1.15, 1.15, 1.4)  # odds ratio that is no trouble, by reference
    doubt: float = 4.0  # evidence this little below the alarm level: the row is not learned from ...
    doubt_ns: int = 24 * 60 * MINUTE_NS  # ... for so long
    beyond: float = 3.0  # evidence further above the alarm level is not kept
    half_life_s: float = 900.0  # of what decides whether it goes on
    values_min: float = 30.0


class State(NamedTuple):
    """By score row: its slot. By slot: memory, references and evidence; references come first."""

    slot_of: NDArray[np.int32]  # (score rows,); -1: not watched
    row_of: NDArray[np.int32]  # (slots,)
    hours: Hours
    cut: NDArray[np.int64]  # (slots, references, ranks)
    share: NDArray[np.float64]  # (slots, references, ranks + 1): of the scores, by category
    laws: tuple[Hypotheses, ...]  # by reference
    dispersion: Dispersion
    known: NDArray[np.bool_]  # (slots, references)
    mean: NDArray[np.float64]  # (slots, references): of the scores
    evidence: tuple[Evidence, ...]  # by reference
    strata: NDArray[np.float64]  # (slots, STRATA, alternatives): evidence over the values of each label
    since_ns: NDArray[np.int64]  # (slots,): in doubt since; -1: not
    seen: NDArray[np.float64]  # (slots, 2, ranks + 1): scores since then by category, and what is usual
    summed: NDArray[np.float64]  # (slots,): their sum


class QualityDrift:
    """One finding for each metric and cause."""

    name = "quality_drift"
    policies = (AlertPolicy(ALERT, WARNING, evaluations=2, keep_ns=15 * MINUTE_NS),)

    def __init__(self, pages_per_week: float = 1.0, params: Params | None = None) -> None:
        self.params = params or Params()
        self.pages_per_week = pages_per_week
        self._log_gammas = tuple(Remembered(log_gammas) for _ in REFERENCES)

    def new_state(self) -> State:
        """Give the state before the first slice."""
        many = (0, len(REFERENCES))
        return State(
            slot_of=np.zeros(0, np.int32),
            row_of=np.zeros(0, np.int32),
            hours=new_hours(0, SCORE_BINS, WEEK_HOURS),
            cut=np.zeros((*many, len(RANKS)), np.int64),
            share=np.zeros((*many, len(RANKS) + 1)),
            laws=(without_hypotheses(*SHAPE),) * len(REFERENCES),
            dispersion=new_dispersion(0, SCORE_BINS),
            known=np.zeros(many, np.bool_),
            mean=np.zeros(many),
            evidence=(new_evidence(*SHAPE),) * len(REFERENCES),
            strata=np.zeros((0, len(STRATA), ALTERNATIVES.many)),
            since_ns=np.zeros(0, np.int64),
            seen=np.zeros((0, 2, len(RANKS) + 1)),
            summed=np.zeros(0),
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
        """Give new score rows their slots."""
        params, scores = self.params, summary.facts.scores
        known = len(state.slot_of)
        if len(scores.score_row) == known:
            return state
        labels = [summary.windows.labels[row] for row in scores.score_row[known:].tolist()]
        slot_of = with_slots(state.slot_of, labels, params.rows_max, params.kept_for_totals)
        row_of = np.flatnonzero(slot_of >= 0).astype(np.int32)
        slots = len(row_of)
        return state._replace(
            slot_of=slot_of, row_of=row_of, hours=grown_hours(state.hours, slots),
            cut=grown(state.cut, slots, 0), share=grown(state.share, slots, 0),
            laws=tuple(grown_hypotheses(one, slots) for one in state.laws),
            dispersion=grown_dispersion(state.dispersion, slots), known=grown(state.known, slots, 0),
            mean=grown(state.mean, slots, 0),
            evidence=tuple(grown_evidence(one, slots) for one in state.evidence),
            strata=grown(state.strata, slots, -np.inf), since_ns=grown(state.since_ns, slots, -1),
            seen=grown(state.seen, slots, 0), summed=grown(state.summed, slots, 0),
        )  # fmt: skip

    def _refreshed(self, state: State, end_ns: int) -> State:
        """Read the references anew at every block of ten minutes; give up a doubt that lasts a day."""
        is_usual = (state.since_ns >= 0) & (end_ns - state.since_ns > self.params.doubt_ns)
        hours, is_new = turned(state.hours, end_ns, (state.since_ns >= 0) & ~is_usual)
        if not is_new:
            return state._replace(hours=hours)
        dispersion = compared(state.dispersion, state.hours.newest)
        found = [
            expected(hour_before(hours, DAY_HOURS), RANKS),
            expected(hour_before(hours, WEEK_HOURS), RANKS),
            expected(hours.earlier.astype(np.float64), RANKS),
        ]
        known = np.stack([one.values > 0 for one in found], axis=1)
        known[:, TODAY] &= ~known[:, YESTERDAY] & ~known[:, WEEK_AGO]
        laws = tuple(
            hypotheses(one, effect, ALTERNATIVES, dispersion.factor)
            for one, effect in zip(found, self.params.effect, strict=True)
        )
        evidence = tuple(
            forgotten(carried_over(one, before, after), is_usual | ~known[:, place])
            for place, (one, before, after) in enumerate(zip(state.evidence, state.laws, laws, strict=True))
        )
        return state._replace(
            hours=hours,
            cut=np.stack([one.cut for one in found], axis=1),
            share=np.stack([categories(one.share) for one in found], axis=1),
            laws=laws,
            dispersion=dispersion,
            known=known,
            mean=np.stack([1.0 - one.mean_bin / (SCORE_BINS - 1) for one in found], axis=1),
            evidence=evidence,
            since_ns=np.where(is_usual, -1, state.since_ns),
        )

    def _weigh(self, state: State, summary: WindowSummary) -> State:
        """Add the slice to the evidence of every reference, and of every label's values together."""
        params, scores = self.params, summary.facts.scores
        slot = state.slot_of[scores.row].astype(np.int64)
        is_kept = slot >= 0
        slot, many = slot[is_kept], scores.counted[is_kept]
        missing = SCORE_BINS - 1 - scores.bin[is_kept].astype(np.int64)  # to a perfect score
        slots = len(state.row_of)
        level = self._level(state, summary)
        keep = 0.5 ** ((summary.end_ns - summary.start_ns) / NS / params.half_life_s)
        seen = np.zeros((slots, len(REFERENCES), len(RANKS) + 1))
        evidence, log_e = [], []
        for place, (one, laws) in enumerate(zip(state.evidence, state.laws, strict=True)):
            seen[:, place] = in_categories(slots, state.cut[:, place], slot, missing, many)
            told = seen[:, place] * (state.known[:, place] / state.dispersion.factor)[:, None]
            after, moved = weighed(one, told, laws, level, keep, self._log_gammas[place](laws))
            evidence.append(after._replace(log_m=np.minimum(after.log_m, level + params.beyond)))
            log_e.append(moved)
        strata = self._weigh_strata(state, summary, np.stack(log_e, axis=1))
        in_doubt = rejected(tuple(evidence), state.known) > level - params.doubt
        goes_on = in_doubt & (state.since_ns >= 0)
        first = np.arange(slots), np.argmax(state.known, axis=1)
        new = np.stack([seen[first], state.share[first] * seen[first].sum(axis=1, keepdims=True)], axis=1)
        summed = np.bincount(slot, weights=many * (1.0 - missing / (SCORE_BINS - 1)), minlength=slots)
        return state._replace(
            hours=counted(state.hours, slot, missing, many),
            evidence=tuple(evidence),
            strata=np.minimum(strata, level + params.beyond),
            since_ns=np.where(goes_on, state.since_ns, np.where(in_doubt, summary.start_ns, -1)),
            seen=goes_on[:, None, None] * state.seen + in_doubt[:, None, None] * new,
            summed=goes_on * state.summed + in_doubt * summed,
        )

    def _weigh_strata(
        self, state: State, summary: WindowSummary, log_e: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Give the evidence of totals from the values of each label together: a mix cannot move it.

        What each value saw is compared with the value's own reference; the products of their e-values are
        e-values again, as every score has one value of a label.
        """
        strata = state.strata.copy()
        first = np.argmax(state.known, axis=1)
        own = log_e[np.arange(len(first)), first]
        for total, label, members in self._members(state, summary):
            together = own[members].sum(axis=0)
            if together.any():
                strata[total, label] = restarted(strata[total, label], together)
        return strata

    def _members(self, state: State, summary: WindowSummary) -> list[tuple[int, int, list[int]]]:
        """Give (slot of a total, place in STRATA, slots of the values) where a label has two or more."""
        scores, labels = summary.facts.scores, summary.windows.labels
        totals: dict[str, int] = {}
        values: dict[tuple[str, str], list[int]] = {}
        for slot, row in enumerate(state.row_of.tolist()):
            own, metric = labels[int(scores.score_row[row])], scores.metric[row]
            if not own:
                totals[metric] = slot
            elif state.known[slot].any():
                values.setdefault((metric, own[0][0]), []).append(slot)
        return [
            (totals[metric], STRATA.index(label), members)
            for (metric, label), members in sorted(values.items())
            if metric in totals and label in STRATA and len(members) > 1
        ]

    def _level(self, state: State, summary: WindowSummary) -> float:
        slice_s = (summary.end_ns - summary.start_ns) / NS
        watched = max(int(np.count_nonzero(state.known.any(axis=1))), 1)
        return log_alarm_level(watched, slice_s, self.pages_per_week)

    def _findings(self, state: State, summary: WindowSummary) -> tuple[Finding, ...]:
        level = self._level(state, summary)
        evidence = rejected(state.evidence, state.known)
        wrong, values = excess(state.seen), state.seen[:, 0].sum(axis=1)
        is_told = (evidence >= level) & (values >= self.params.values_min)
        if not is_told.any():
            return ()
        # Where one row is sure, those in doubt may name the cause.
        is_worse = is_told | (evidence > level - self.params.doubt)
        scores, labels = summary.facts.scores, summary.windows.labels
        mixed: dict[str, list[int]] = {}  # What a change of who calls can move, by metric.
        for slot, score_row in enumerate(state.row_of.tolist()):
            own = labels[int(scores.score_row[score_row])]
            if not own or own[0][0] not in STRATA:
                mixed.setdefault(scores.metric[score_row], []).append(slot)
        for total, place, _ in self._members(state, summary):
            within = float(log_mixture(state.strata[total : total + 1, place])[0])
            gated = mixed[scores.metric[int(state.row_of[total])]]
            is_told[gated] &= within >= level
            is_worse[gated] &= within > level - self.params.doubt
        by_metric: dict[str, list[Carrier]] = {}
        for slot in np.flatnonzero(is_worse).tolist():
            score_row = int(state.row_of[slot])
            row = int(scores.score_row[score_row])
            label = labels[row][0][0] if labels[row] else ""
            by_metric.setdefault(scores.metric[score_row], []).append(
                Carrier(row, label, float(wrong[slot]), float(values[slot]), slot)
            )
        return tuple(
            self._finding(state, summary, metric, one)
            for metric, carriers in sorted(by_metric.items())
            if any(is_told[one.slot] for one in carriers)
            for one in causes(carriers)
        )

    def _finding(self, state: State, summary: WindowSummary, metric: str, one: Carrier) -> Finding:
        slot = one.slot
        first = int(np.argmax(state.known[slot]))
        both = bool(state.known[slot, YESTERDAY] and state.known[slot, WEEK_AGO])
        text = "at this hour yesterday, and a week ago" if both else REFERENCES[first]
        below, usual = state.seen[slot, :, 1:].sum(axis=1)
        minutes = max(round((summary.end_ns - int(state.since_ns[slot])) / MINUTE_NS), 1)
        evidence: tuple[tuple[str, float | int | str], ...] = (
            ("reference", text),
            ("baseline", text),
            ("below_percent", round(100 * float(below) / one.calls)),
            ("usual_percent", round(100 * float(usual) / one.calls)),
            ("values", int(one.calls)),
            ("since", f"{minutes} min"),
            ("usual_median", round(1.0 - float(state.cut[slot, first, 0]) / (SCORE_BINS - 1), 2)),
            ("mean", round(float(state.summed[slot]) / one.calls, 3)),
            ("usual_mean", round(float(state.mean[slot, first]), 3)),
        )
        labels = (("metric", metric),)
        return Finding(ALERT, WARNING, ("window", one.row), SUMMARY, DESCRIPTION, labels, evidence)


def rejected(evidence: tuple[Evidence, ...], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give the evidence that all known references give at least, (slots,); -inf where there is none."""
    found = np.stack([log_mixture(one.log_m) for one in evidence], axis=1)
    least = np.where(known, found, np.inf).min(axis=1, initial=np.inf)
    return np.asarray(np.where(known.any(axis=1), least, -np.inf))
