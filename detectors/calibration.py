"""Which scores ordinary traffic reaches, and thresholds that keep a budget of false pages: `callgauge learn`.

`Lesson` runs the forecast over recorded logs as a detector that says nothing, and keeps the highest score of
each limit, hour, tier and speaker that stood for two evaluations. Hours that led to a decline are no ordinary
ones. A single series never has enough history for one page in months, so days are pooled by size of cap and
class of load, and the tail above their upper fifth is taken as exponential. Rejected: the empirical maximum,
which says nothing beyond the days that were seen; a tail with a free shape, which at some tens of days is
noise. Reference: Coles, An Introduction to Statistical Modeling of Extreme Values, chapter 4.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from detectors.headroom import Headroom
from detectors.headroom_state import grown as grown_state
from detectors.thresholds import BUILT_IN, CAPS, NEVER
from engine.judge.detection import NS, Detection
from engine.learned import SPEAKERS, TIERS, Learned, LearnedBaseline, Threshold, with_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.detection import AlertPolicy
    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance
    from engine.settings import Settings

HOUR_NS = 3600 * NS
HOURS_A_DAY = 24
BEFORE_HOURS, AFTER_HOURS = 2, 1  # of a decline: not ordinary
LOADS = (0.3, 0.5, 0.7)  # edges of the classes of load
DAYS_MIN = 14  # of a pool, before it is believed
TAIL_SHARE = 0.2  # of the days, the highest, that the tail is fitted to
SCALE_MIN = 0.05  # of the tail, in units of score
# Parts of the budget, in the order of SPEAKERS: growth, level, line.
BUDGET_SHARES = (0.35, 0.55, 0.10)
DAYS_A_WEEK = 7.0
KNOWN = 0.5  # weight of the baseline from which on a score counts as one with a baseline


class HourScores(NamedTuple):
    """The highest scores of one hour, (rows, tiers, speakers); -inf where none was."""

    hour: int  # since 1970-01-01
    score: NDArray[np.float64]
    declined: NDArray[np.bool_]  # (rows,)
    known: NDArray[np.bool_]  # (rows,): a baseline was used
    load: NDArray[np.float64]  # (rows,): share of the cap that the busiest usual hour offers
    cap: NDArray[np.float64]  # (rows,)


class LessonState(NamedTuple):
    """What was seen so far. Grows by an hour an hour: this is no detector of the engine."""

    inner: Any
    last: NDArray[np.float64]  # (rows, tiers, speakers): scores of the evaluation before
    hours: tuple[HourScores, ...]


class Lesson:
    """Watches limits being forecast, without a word."""

    name = "lesson"
    policies: tuple[AlertPolicy, ...] = ()

    def __init__(self, settings: Settings) -> None:
        self.headroom = Headroom(settings.headroom)

    def new_state(self) -> LessonState:
        return LessonState(self.headroom.new_state(), np.zeros((0, len(TIERS), len(SPEAKERS))), ())

    def detect(
        self, state: LessonState, summary: WindowSummary, limits: tuple[LimitInstance, ...]
    ) -> Detection:
        """Let the forecast see the slice, and keep its scores."""
        detection = self.headroom.detect(state.inner, summary, limits)
        inner = detection.state
        hours = state.hours
        rows = len(summary.limits.level)
        hour = (summary.end_ns - 1) // HOUR_NS
        if not hours or hours[-1].hour != hour or len(hours[-1].declined) < rows:
            hours = with_hour(hours, hour, rows)
        newest = hours[-1]
        newest.declined[:] |= summary.limits.declined > 0
        last = state.last
        if detection.evaluated:
            verdict = inner.verdict
            now = np.stack([verdict.page_by_speaker, verdict.warn_by_speaker], axis=1)
            before = np.full(now.shape, -np.inf)
            before[: len(last)] = last
            stood = np.minimum(now, before)
            np.maximum(newest.score, np.where(np.isnan(stood), -np.inf, stood), out=newest.score)
            load = inner.season.busiest_per_s * inner.outlook.holding_s / summary.limits.value
            newest.known[:] = inner.season.weight >= KNOWN
            newest.load[:] = np.nan_to_num(load, nan=0.0)
            newest.cap[:] = summary.limits.value
            last = now
        return Detection(LessonState(inner, last, hours), ())


def with_hour(hours: tuple[HourScores, ...], hour: int, rows: int) -> tuple[HourScores, ...]:
    """Begin an hour, or give the newest one room for more rows."""
    blank = HourScores(
        hour,
        np.full((rows, len(TIERS), len(SPEAKERS)), -np.inf),
        np.zeros(rows, np.bool_),
        np.zeros(rows, np.bool_),
        np.zeros(rows),
        np.full(rows, np.nan),
    )
    if hours and hours[-1].hour == hour:
        return (*hours[:-1], grown_state(hours[-1], blank))
    return (*hours, blank)


class Days(NamedTuple):
    """Ordinary days of all limits, one row each."""

    row: NDArray[np.int64]  # limit instance
    score: NDArray[np.float64]  # (days, tiers, speakers): the highest
    known: NDArray[np.bool_]
    load: NDArray[np.float64]
    cap: NDArray[np.float64]


def ordinary_days(hours: tuple[HourScores, ...], rows: int) -> Days:
    """Fold hours into days, by limit, leaving out the hours around declines."""
    found: list[tuple[int, NDArray[np.float64], bool, float, float]] = []
    for row in range(rows):
        own = [one for one in hours if len(one.cap) > row and np.isfinite(one.cap[row])]
        bad = {
            one.hour + at for one in own if one.declined[row] for at in range(-BEFORE_HOURS, AFTER_HOURS + 1)
        }
        by_day: dict[tuple[int, bool], list[HourScores]] = {}
        for one in own:
            if one.hour not in bad:
                by_day.setdefault((one.hour // HOURS_A_DAY, bool(one.known[row])), []).append(one)
        for (_, known), day in sorted(by_day.items()):
            if 2 * len(day) >= HOURS_A_DAY:
                score = np.max([one.score[row] for one in day], axis=0)
                found.append((row, score, known, float(day[-1].load[row]), float(day[-1].cap[row])))
    shape = (len(found), len(TIERS), len(SPEAKERS))
    return Days(
        np.array([one[0] for one in found], np.int64),
        np.array([one[1] for one in found]).reshape(shape),
        np.array([one[2] for one in found], np.bool_),
        np.array([one[3] for one in found]),
        np.array([one[4] for one in found]),
    )


def tail_threshold(maxima: NDArray[np.float64], pages_per_week: float) -> float:
    """Give the score that daily maxima pass so many times a week, by the exponential tail of the highest.

    -inf among the maxima are days on which a speaker was silent. Where hardly any day has a score, the
    threshold is above all of them.
    """
    finite = np.sort(maxima[np.isfinite(maxima)])
    if not len(finite):
        return NEVER
    many = max(math.ceil(TAIL_SHARE * len(maxima)), 3)
    tail = finite[-many:]
    start = float(tail[0])
    scale = max(float(tail.mean()) - start, SCALE_MIN)
    share = len(tail) / len(maxima)
    asked = min(pages_per_week / DAYS_A_WEEK, 1.0)
    return start + scale * math.log(max(share / asked, 1.0))


def class_of(cap: float, load: float) -> tuple[int, int]:
    """Give the class of cap (nearest of CAPS by its logarithm) and of load."""
    nearest = int(np.argmin([abs(math.log(cap / one)) for one in CAPS]))
    return nearest, int(np.searchsorted(LOADS, load))


def thresholds(days: Days, pages_per_week: float) -> tuple[Threshold, ...]:
    """Give thresholds for each pool that has enough days, at a budget for each limit alone.

    Sizes of cap of which nothing was seen keep the built-in numbers.
    """
    classes = [class_of(cap, load) for cap, load in zip(days.cap.tolist(), days.load.tolist(), strict=True)]
    found: list[Threshold] = []
    for known in (False, True):
        pools: dict[tuple[int, int], list[int]] = {}
        for place, one in enumerate(classes):
            if bool(days.known[place]) == known:
                pools.setdefault(one if known else (one[0], 0), []).append(place)
        pools = {one: places for one, places in pools.items() if len(places) >= DAYS_MIN}
        for (cap_class, _), places in sorted(pools.items()):
            load = round(float(np.median(days.load[places])), 3)
            for tier, speaker in itertools.product(range(len(TIERS)), range(len(SPEAKERS))):
                maxima = days.score[places, tier, speaker]
                score = BUILT_IN[TIERS[tier], SPEAKERS[speaker], known][cap_class]
                # Days on which nobody came near the cap say nothing of what a filling one would score.
                if np.isfinite(maxima).any():
                    score = round(tail_threshold(maxima, BUDGET_SHARES[speaker] * pages_per_week), 3)
                found.append(threshold(tier, speaker, CAPS[cap_class], load, score, known=known))
        if pools:
            found += unseen({cap_class for cap_class, _ in pools}, known=known)
    return tuple(found)


def threshold(tier: int, speaker: int, cap: float, load: float, score: float, *, known: bool) -> Threshold:
    """Name the parts of one threshold."""
    return Threshold(
        tier=TIERS[tier], speaker=SPEAKERS[speaker], has_baseline=known, cap=cap, load=load, score=score
    )


def unseen(seen: set[int], *, known: bool) -> list[Threshold]:
    """Give the built-in numbers for sizes of cap that no pool is of."""
    return [
        threshold(TIERS.index(tier), SPEAKERS.index(speaker), CAPS[place], 0.0, scores[place], known=known)
        for (tier, speaker, has_baseline), scores in sorted(BUILT_IN.items())
        for place in range(len(CAPS))
        if has_baseline == known and place not in seen
    ]


def learned_from(
    state: LessonState, limits: tuple[LimitInstance, ...], settings: Settings
) -> tuple[Learned, Days, tuple[LimitInstance, ...]]:
    """Give the file's contents after a log, the ordinary days, and the limits whose they are."""
    baseline = state.inner.season.baseline
    rows = min(len(limits), len(baseline.calls))
    watched = [
        row for row in range(rows)
        if limits[row].limit.kind == "concurrency" and limits[row].limit.set_by != "inferred"
    ]  # fmt: skip
    baselines = tuple(
        LearnedBaseline(
            limit=limits[row].limit.name,
            split=limits[row].split,
            calls=tuple(np.round(baseline.calls[row].astype(np.float64), 3).tolist()),
            watched_s=tuple(np.round(baseline.watched_s[row].astype(np.float64), 1).tolist()),
        )
        for row in watched
    )
    days = ordinary_days(state.hours, rows)
    keep = np.isin(days.row, watched)
    days = Days(days.row[keep], days.score[keep], days.known[keep], days.load[keep], days.cap[keep])
    budget = settings.detection.pages_per_week
    found = thresholds(days, budget / max(len(watched), 1))
    learned = Learned(
        time_zone=settings.headroom.time_zone,
        day=baseline.day,
        baselines=baselines,
        thresholds=found,
        pages_per_week=budget,
        limits=len(watched) if found else 0,
    )
    return with_digest(learned), days, tuple(limits[row] for row in watched)
