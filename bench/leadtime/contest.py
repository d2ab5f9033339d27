"""One cap's contest: every detector on the same calibration weeks, validation weeks and incidents."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.baselines import level_of, linear_score, static_score
from bench.leadtime.feed import Calls
from bench.leadtime.product import product_scores
from bench.leadtime.prototype import prototype_scores
from bench.leadtime.report import Contest, Figures, Truth, figures_of
from bench.leadtime.traffic import BEFORE_S, FAMILIES, LASTS_S, STEP_S, WEEK_S, incident, ordinary_week

PAGES_PER_WEEK = 0.25
SHIPPED_STATIC = 0.8


class Size(NamedTuple):
    """How much to draw."""

    weeks: int  # to calibrate on, and as many to validate on
    days: int  # of each of those weeks
    incidents: int  # per family
    slice_s: int
    cold_repeats: int
    caps: tuple[float, ...] = (100.0, 1000.0)


SIZES = {
    "tiny": Size(weeks=2, days=1, incidents=3, slice_s=15, cold_repeats=0, caps=(100.0,)),
    "small": Size(weeks=8, days=7, incidents=40, slice_s=15, cold_repeats=2),
    "full": Size(weeks=16, days=7, incidents=100, slice_s=5, cold_repeats=6),
}


class Job(NamedTuple):
    """One cap, one size, one seed."""

    cap: float
    size: Size
    seed: int


def weeks_of(job: Job, part: int) -> list[Calls]:
    """Draw ordinary weeks; part 0 is for calibration, part 1 for validation."""
    return [
        ordinary_week(job.cap, np.random.default_rng([job.seed, int(job.cap), part, week]))
        for week in range(job.size.weeks)
    ]


def scores_of(
    job: Job, streams: list[Calls], stop_s: float
) -> dict[str, tuple[NDArray[np.float64], float | None]]:
    """Give every detector's scores on the streams, and its threshold as shipped if it has one."""
    steps = int(stop_s / STEP_S)
    level = np.stack([level_of(calls, steps) for calls in streams])
    prototype = [prototype_scores(calls, job.cap, steps) for calls in streams]
    caps = np.full(len(streams), job.cap)
    product = product_scores(tuple(streams), caps, stop_s, job.size.slice_s)
    page_shipped = np.where(product.page >= product.page_threshold, 1.0, 0.0)
    warn_shipped = np.where(product.warn >= product.warn_threshold, 1.0, page_shipped)
    return {
        "static 80 %, as shipped": (static_score(level, job.cap), SHIPPED_STATIC),
        "static, tuned": (static_score(level, job.cap), None),
        "predict_linear 30m -> 30m, tuned": (linear_score(level, job.cap), None),
        "prototype mended, 10 min, tuned": (np.stack([page for page, _ in prototype]), None),
        "prototype mended, 30 min, tuned": (np.stack([warn for _, warn in prototype]), None),
        "product, 10 min, tuned": (product.page, None),
        "product, 30 min, tuned": (product.warn, None),
        "product, page, as shipped": (page_shipped, 1.0),
        "product, warning, as shipped": (warn_shipped, 1.0),
    }


def run_job(job: Job) -> list[Figures]:
    """Measure every detector at one cap."""
    week_s = min(job.size.days * 86_400.0, WEEK_S)
    # Side by side: streams do not touch each other, and a slice costs the same for one as for many.
    weeks = scores_of(job, weeks_of(job, 0) + weeks_of(job, 1), week_s)
    half = job.size.weeks
    drawn = {
        family: [
            incident(family, job.cap, np.random.default_rng([job.seed, int(job.cap), 2 + at, k]))
            for k in range(job.size.incidents)
        ]
        for at, family in enumerate(FAMILIES)
    }
    truths = {
        family: Truth(np.array([i.onset_s for i in found]), np.array([i.decline_s for i in found]))
        for family, found in drawn.items()
    }
    streams = [found.calls for family in FAMILIES for found in drawn[family]]
    scores = scores_of(job, streams, BEFORE_S + LASTS_S)
    many = job.size.incidents
    figures = []
    for name, (score, threshold) in scores.items():
        by_family = {family: score[at * many : (at + 1) * many] for at, family in enumerate(FAMILIES)}
        contest = Contest(name, weeks[name][0][:half], weeks[name][0][half:], by_family, threshold)
        figures.append(figures_of(contest, truths, PAGES_PER_WEEK * job.size.days / 7, job.seed))
    return figures
