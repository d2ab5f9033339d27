"""Real arrivals: a call centre's 5-minute counts of 164 weekdays, each day a stream.

Arrivals are exact to 5 minutes and uniform within; holding times are drawn (lognormal, 180 s), several times
over. The cap is the 85th percentile of the natural daily maxima, so the other days peak just below it: a hard
test. Incident days have at least 30 calls over the cap, those with fewer are left out. Whatever a detector
expects comes from earlier days only. Thresholds are matched on the same days, for there are few: at most one
page in 20 days without a decline, or one in 5.
"""

from __future__ import annotations

import csv
import datetime as dt
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.baselines import every_baseline
from bench.leadtime.contest import OURS
from bench.leadtime.corpus import AHEAD_STEPS, Corpus, truth_of
from bench.leadtime.feed import Calls
from bench.leadtime.history import SLOT_S, SLOT_STEPS, SLOTS, expected_level, rolled
from bench.leadtime.measures import LATE_MIN, leads_min
from bench.leadtime.ours import learned_surfaces, tiers_of
from bench.leadtime.paging import count_pages, tuned_thresholds
from bench.leadtime.product import spoken_of
from bench.leadtime.prototype import prototype_scores
from bench.leadtime.report import BASELINES, PROTOTYPE, lead_of, table
from bench.leadtime.stream import HISTORY_WEEKS, Stream, levels
from bench.leadtime.traffic import DAY_S, HOLDING_S, HOLDING_SIGMA, STEP_S, WEEK_STEPS
from bench.leadtime.truth import first_decline_s
from detectors.thresholds import surfaces_of

FILE = Path(__file__).parents[3] / "shared" / "data" / "bank_calls_5min.csv"
OPENS_S = 7 * 3600
DAY_SLOTS = 169  # 07:00 to 21:05
DAYS_BEFORE = 20  # no day is scored that has fewer before it
LOOK_BACK = 40  # days that the plain profile is made of
SAME_WEEKDAY, DECAY = 3.0, 0.97  # its weights
CAP_QUANTILE = 0.85
OVER_MIN = 30  # calls over the cap on an incident day
QUIET_STEPS = 120  # nobody pages in the first half hour of a day
SOON_S = 600.0  # a first decline within so much more is no incident to be early for
RATES = (0.05, 0.2)  # false pages a day
SEEDS = (0, 1, 2)  # those of the research that the issue quotes


class Days(NamedTuple):
    """The recording: dates, and counts (days, DAY_SLOTS)."""

    date: list[dt.date]
    calls: NDArray[np.float64]


class Real(NamedTuple):
    """Days as streams: those that decline calls, those that do not, and which detectors did what."""

    cap: int
    incidents: Corpus
    benign: Corpus


def read_days(path: Path) -> Days:
    """Read the recording."""
    with path.open(encoding="utf-8") as file:
        rows = [(dt.datetime.fromisoformat(t), float(calls)) for t, calls in list(csv.reader(file))[1:]]
    dates = sorted({at.date() for at, _ in rows})
    number = {date: k for k, date in enumerate(dates)}
    calls = np.zeros((len(dates), DAY_SLOTS))
    for at, count in rows:
        calls[number[at.date()], (at.hour * 3600 + at.minute * 60 - OPENS_S) // SLOT_S] = count
    return Days(dates, calls)


def draw_day(counts: NDArray[np.float64], rng: np.random.Generator) -> Calls:
    """Spread a day's counts within their slots, and draw holding times."""
    slot = np.repeat(np.arange(DAY_SLOTS), counts.astype(np.int64))
    start = np.sort((slot + rng.random(len(slot))) * float(SLOT_S))
    stretch = np.exp(rng.standard_normal(len(start)) * HOLDING_SIGMA - 0.5 * HOLDING_SIGMA**2)
    return Calls(start, start + stretch * HOLDING_S, np.zeros(len(start), np.bool_))


def seen_level(calls: Calls) -> NDArray[np.int64]:
    """Give how many calls each arrival finds in progress."""
    gone = np.searchsorted(np.sort(calls.end_s), calls.start_s, side="right")
    return np.asarray(np.arange(len(calls.start_s)) - gone)


def first_step(days: Days, day: int) -> int:
    """Give the evaluation of the week at which a day opens."""
    return int((days.date[day].weekday() * DAY_S + OPENS_S) / STEP_S)


def weeks_before(days: Days, day: int) -> NDArray[np.float64]:
    """Give the six weeks that end before a day, by slot from Monday on; NaN where there is no day."""
    table_of = np.full((HISTORY_WEEKS, 7, int(DAY_S) // SLOT_S), np.nan)
    for other in range(day):
        back = (days.date[day] - days.date[other]).days
        week = HISTORY_WEEKS - 1 - (back - 1) // 7
        if week >= 0:
            one = np.zeros(int(DAY_S) // SLOT_S)
            one[OPENS_S // SLOT_S :][:DAY_SLOTS] = days.calls[other]
            table_of[week, days.date[other].weekday()] = one
    return table_of.reshape(HISTORY_WEEKS, SLOTS)


def usual_rate(days: Days, day: int) -> NDArray[np.float64]:
    """Give the arrivals per evaluation that earlier days lead to expect, over a week with that day alone."""
    before = range(max(0, day - LOOK_BACK), day)
    weekday = days.date[day].weekday()
    weight = np.array(
        [(SAME_WEEKDAY if days.date[b].weekday() == weekday else 1.0) * DECAY ** (day - b) for b in before]
    )
    profile = (days.calls[before.start : day] * weight[:, None]).sum(axis=0) / weight.sum()
    padded = np.concatenate([profile[:1], profile, profile[-1:]])
    smooth = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    at = (np.arange(DAY_SLOTS * SLOT_STEPS) + 0.5) / SLOT_STEPS - 0.5
    week = np.zeros(WEEK_STEPS)
    first = first_step(days, day)
    week[first : first + len(at)] = np.interp(at, np.arange(DAY_SLOTS), smooth) / SLOT_STEPS
    return week


def corpus_of_days(days: Days, streams: list[tuple[int, Stream]]) -> Corpus:
    """Set days side by side, each with what was known the night before."""
    steps = DAY_SLOTS * SLOT_STEPS
    of_day = {day: usual_rate(days, day) for day, _ in streams}
    known = {day: weeks_before(days, day) for day in of_day}
    cap = streams[0][1].cap
    levels_of = {day: expected_level(rate, cap) for day, rate in of_day.items()}
    only = [stream for _, stream in streams]

    def spread(of: dict[int, NDArray[np.float64]]) -> NDArray[np.float32]:
        return np.stack([rolled(of[day], s.first_step, steps + AHEAD_STEPS) for day, s in streams]).astype(
            np.float32
        )

    return Corpus(
        only, levels(only, steps), spread(of_day), spread(levels_of), np.full(len(only), cap),
        [known[day] for day, _ in streams], np.full(len(only), steps),
    )  # fmt: skip


def real_streams(days: Days, seeds: tuple[int, ...]) -> Real:
    """Draw every day for every seed, set the cap, and sort the days."""
    drawn = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        drawn += [(day, draw_day(days.calls[day], rng)) for day in range(DAYS_BEFORE, len(days.date))]
    seen = [seen_level(calls) for _, calls in drawn]
    cap = int(np.quantile([found.max() for found in seen], CAP_QUANTILE))
    incidents, benign = [], []
    for (day, calls), found in zip(drawn, seen, strict=True):
        decline_s = first_decline_s(calls, cap)
        stop_s = float(DAY_SLOTS * SLOT_S)
        stream = Stream(calls, float(cap), first_step(days, day), stop_s, 0.0, decline_s)
        if np.isinf(decline_s):
            benign.append((day, stream))
        elif (found >= cap).sum() >= OVER_MIN and decline_s > QUIET_STEPS * STEP_S + SOON_S:
            incidents.append((day, stream))
    return Real(cap, corpus_of_days(days, incidents), corpus_of_days(days, benign))


def real_scores(
    real: Real, slice_s: int
) -> dict[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Give every detector's scores on (benign days, incident days)."""
    both = (real.benign, real.incidents)
    spoken = [spoken_of(corpus, slice_s) for corpus in both]
    surfaces = learned_surfaces(spoken[0], real.benign, 7 * RATES[0])
    tiers = [tiers_of(one, corpus, surfaces) for one, corpus in zip(spoken, both, strict=True)]
    shipped = [tiers_of(one, corpus, surfaces_of(None)) for one, corpus in zip(spoken, both, strict=True)]
    seed = [prototype_scores(corpus, with_growth=True) for corpus in both]
    scores = {
        (OURS, "page, learned"): (tiers[0].page, tiers[1].page),
        (OURS, "warning, learned"): (tiers[0].warn, tiers[1].warn),
        (OURS, "page, as shipped"): (shipped[0].page, shipped[1].page),
        (OURS, "warning, as shipped"): (shipped[0].warn, shipped[1].warn),
        (PROTOTYPE, "10 min"): (seed[0][0], seed[1][0]),
        (PROTOTYPE, "30 min"): (seed[0][1], seed[1][1]),
    }
    for one in every_baseline():
        if np.isnan(one.shipped):
            scores[(one.group, one.name)] = (one.score(both[0]), one.score(both[1]))
    for found in scores.values():
        for part in found:
            part[:, :QUIET_STEPS] = -np.inf
    return scores


def real_section(path: Path, seeds: tuple[int, ...] = SEEDS, slice_s: int = 15) -> str:
    """Write the section on real arrivals; without the file, that there is none."""
    if not path.is_file():
        return "No recording of real arrivals was found (`--real FILE` names one); this section is left out."
    real = real_streams(read_days(path), seeds)
    truth = truth_of(real.incidents.streams)
    found: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    shipped = []
    for who, (quiet, full) in real_scores(real, slice_s).items():
        allowed = tuple(share * len(quiet) for share in RATES)
        found[who] = [leads_min(full, threshold, truth) for threshold in tuned_thresholds(quiet, allowed)]
        if who[0] == OURS:
            pages_a_day = count_pages(quiet, 0.0) / len(quiet)
            shipped.append([who[1], f"{pages_a_day:.2f}", str(lead_of(leads_min(full, 0.0, truth)))])
    rows = [[f"{who[0]} {who[1]}", *(str(lead_of(lead)) for lead in leads)] for who, leads in found.items()
            if who[0] in (OURS, PROTOTYPE)]  # fmt: skip
    rows += [
        [f"{group}, best rule", *(best_of(found, group, at) for at in range(len(RATES)))]
        for group in BASELINES
    ]
    said = (
        f"`{path.name}`: cap {real.cap}, {len(real.incidents.streams)} incident days and "
        f"{len(real.benign.streams)} without a decline over {len(seeds)} draws of holding times. Cells: "
        f"median / 10th percentile lead in minutes / % with less than {LATE_MIN:g} [its 90 % interval]."
    )
    head = ["detector", *(f"one false page in {1 / share:.0f} days" for share in RATES)]
    return "\n\n".join(
        [
            said,
            table(head, rows),
            table(["ours, at its own thresholds", "false pages a day", "lead"], shipped),
        ]
    )


def best_of(found: dict[tuple[str, str], list[NDArray[np.float64]]], group: str, at: int) -> str:
    """Give the longest median lead of a group at one rate of false pages, and whose it is."""
    members = {name: leads[at] for (of, name), leads in found.items() if of == group}
    name = max(members, key=lambda each: (float(np.median(members[each])), float(np.mean(members[each]))))
    return f"{lead_of(members[name])} ({name})"
