"""One cap's contest: every detector on the same weeks, incidents and look-alikes.

Every baseline is tuned to the budget in every window and horizon; the best of a group is picked later, by
family, on the very incidents that are reported, which favours the baselines. The product runs once, in the
configuration it ships with.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.baselines import every_baseline, linear_score, per_minute, samples
from bench.leadtime.benign import BENIGN, DISPERSIONS, benign, week
from bench.leadtime.corpus import Corpus, corpus_of, joined
from bench.leadtime.families import FAMILIES, incident
from bench.leadtime.history import week_counts
from bench.leadtime.measures import MAIN_BUDGET, Corpora, Outcome, Scored, measure, oracle_leads_min
from bench.leadtime.ours import Tiers, learned_surfaces, tiers_of
from bench.leadtime.paging import tuned_threshold
from bench.leadtime.probability import Stated, stated
from bench.leadtime.product import Spoken, parted, spoken_of
from bench.leadtime.prototype import prototype_scores
from detectors.thresholds import surfaces_of

OURS = "ours"
UNION_SHARES = (0.40, 0.35, 0.25)  # of the budget: level only, with growth, predict_linear


class Effort(NamedTuple):
    """How much to draw at one cap."""

    weeks: int  # to calibrate on, and as many to validate on
    days: float  # of each of those weeks
    incidents: int  # per family
    benign: int  # per family
    weeks_slice_s: int
    slice_s: int
    at_once: bool = False  # see bench.leadtime.product
    families: tuple[str, ...] = FAMILIES
    harmless: tuple[str, ...] = BENIGN


class Job(NamedTuple):
    """One cap, one size, one seed."""

    cap: float
    effort: Effort
    seed: int


class Contest(NamedTuple):
    """All that one cap gave."""

    cap: float
    effort: Effort
    outcomes: list[Outcome]
    oracle_min: dict[str, NDArray[np.float64]]
    onset_to_decline_min: dict[str, NDArray[np.float64]]
    stated: dict[str, Stated]
    took_s: float


def say(text: str) -> None:
    """Tell how far we are."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def draw(job: Job) -> Corpora:
    """Draw all traffic of a job; every part has seeds of its own."""
    cap, effort = job.cap, job.effort

    def rng(part: int, number: int) -> np.random.Generator:
        return np.random.default_rng([job.seed, int(cap), part, number])

    ordinary = {cap: week_counts(cap, rng(0, 0))}
    weeks = [
        corpus_of([week(cap, rng(part, k), effort.days) for k in range(effort.weeks)], ordinary)
        for part in (1, 2)
    ]
    many, some = effort.incidents, effort.benign
    incidents = [
        incident(f, cap, rng(10 + at, k)) for at, f in enumerate(effort.families) for k in range(many)
    ]
    short = [benign(f, cap, rng(40 + at, k)) for at, f in enumerate(effort.harmless) for k in range(some)]
    bursty = max(effort.weeks // 4, 1)
    batches = [
        week(cap, rng(60 + at, k), effort.days, dispersion)
        for at, dispersion in enumerate(DISPERSIONS)
        for k in range(bursty)
    ]
    return Corpora(
        calibration=weeks[0], validation=weeks[1], incidents=corpus_of(incidents, ordinary),
        benign=corpus_of(short, ordinary), bursty=corpus_of(batches, ordinary),
        incident_rows=rows_by(effort.families, many), benign_rows=rows_by(effort.harmless, some),
        bursty_rows=rows_by([f"dispersion {dispersion:.0f}" for dispersion in DISPERSIONS], bursty),
    )  # fmt: skip


def rows_by(families: Sequence[str], many: int) -> dict[str, slice]:
    """Give the rows of each family when they stand one after the other."""
    return {family: slice(at * many, (at + 1) * many) for at, family in enumerate(families)}


def prototype_outcomes(on: Corpora, corpora: list[Corpus]) -> list[Outcome]:
    """Measure the prototype: 10 and 30 minutes, and its union of three."""
    group = "prototype, mended"
    grown = [prototype_scores(corpus, with_growth=True) for corpus in corpora]
    outcomes = [
        measure(group, "10 min", Scored(*(page for page, _ in grown)), on),
        measure(group, "30 min", Scored(*(warn for _, warn in grown)), on),
    ]
    half_hour = linear_score(samples(30), per_minute(30))
    members = [
        Scored(*(prototype_scores(corpus, with_growth=False)[1] for corpus in corpora)),
        Scored(*(warn for _, warn in grown)),
        Scored(*(half_hour(corpus) for corpus in corpora)),
    ]
    allowed = MAIN_BUDGET * len(on.calibration.streams)
    thresholds = [
        tuned_threshold(member.calibration, allowed * share)
        for member, share in zip(members, UNION_SHARES, strict=True)
    ]
    margins = [
        np.maximum.reduce([part - at if np.isfinite(at) else np.full(part.shape, -np.inf)
                           for part, at in zip(parts, thresholds, strict=True)])
        for parts in zip(*members, strict=True)
    ]  # fmt: skip
    return [*outcomes, measure(group, "union", Scored(*margins), on, 0.0)]


def said_of(on: Corpora, effort: Effort) -> list[Spoken]:
    """Run the product over all corpora; what has the same slices runs side by side."""
    long, short = [on.calibration, on.validation, on.bursty], [on.incidents, on.benign]
    by_slice: dict[int, list[Corpus]] = {}
    by_slice.setdefault(effort.weeks_slice_s, []).extend(long)
    by_slice.setdefault(effort.slice_s, []).extend(short)
    said: dict[int, Spoken] = {}
    for slice_s, corpora in by_slice.items():
        spoken = spoken_of(joined(corpora), slice_s, at_once=effort.at_once)
        said |= {id(one): part for one, part in zip(corpora, parted(spoken, corpora), strict=True)}
    return [said[id(one)] for one in corpora_of(on)]


def corpora_of(on: Corpora) -> list[Corpus]:
    """Give the corpora in the order of `Scored`."""
    return [on.calibration, on.validation, on.incidents, on.benign, on.bursty]


def our_outcomes(spoken: list[Spoken], on: Corpora) -> tuple[list[Outcome], list[Tiers]]:
    """Measure the product: as shipped, as learned from the calibration weeks, and moved to the budget."""
    outcomes: list[Outcome] = []
    for name, surfaces in (
        ("as shipped", surfaces_of(None)),
        ("learned", learned_surfaces(spoken[0], on.calibration, MAIN_BUDGET)),
    ):
        tiers = [tiers_of(one, corpus, surfaces) for one, corpus in zip(spoken, corpora_of(on), strict=True)]
        scored = Scored(*(tier.page for tier in tiers)), Scored(*(tier.warn for tier in tiers))
        outcomes.append(measure(OURS, f"page, {name}", scored[0], on, 0.0))
        outcomes.append(measure(OURS, f"warning, {name}", scored[1], on, 0.0))
    outcomes.append(measure(OURS, "page, tuned", scored[0], on))
    outcomes.append(measure(OURS, "warning, tuned", scored[1], on))
    return outcomes, tiers


def run_job(job: Job) -> Contest:
    """Hold one cap's contest."""
    began = time.monotonic()
    on = draw(job)
    corpora = corpora_of(on)
    say(f"cap {job.cap:.0f}: drawn, {time.monotonic() - began:.0f} s")
    outcomes, tiers = our_outcomes(said_of(on, job.effort), on)
    say(f"cap {job.cap:.0f}: product run, {time.monotonic() - began:.0f} s")
    outcomes += prototype_outcomes(on, corpora)
    say(f"cap {job.cap:.0f}: prototype run, {time.monotonic() - began:.0f} s")
    for variant in every_baseline():
        scores = Scored(*(variant.score(corpus) for corpus in corpora))
        shipped = None if np.isnan(variant.shipped) else variant.shipped
        outcomes.append(measure(variant.group, variant.name, scores, on, shipped))
    say(f"cap {job.cap:.0f}: done, {time.monotonic() - began:.0f} s")
    return Contest(
        cap=job.cap, effort=job.effort, outcomes=outcomes, oracle_min=oracle_leads_min(on),
        onset_to_decline_min={
            family: np.array([(s.decline_s - s.onset_s) / 60.0 for s in on.incidents.streams[rows]])
            for family, rows in on.incident_rows.items()
        },
        stated={
            "ordinary weeks": stated(on.validation, tiers[1].probability),
            "incidents from the onset on": stated(on.incidents, tiers[2].probability),
            "look-alikes": stated(on.benign, tiers[3].probability),
        },
        took_s=time.monotonic() - began,
    )  # fmt: skip
