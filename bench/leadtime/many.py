"""A deployment with 200 limits under one budget of false pages.

Limits of 10 to 5,000 places, each with ordinary weeks; a rule has one threshold for all of them (as a share
of the cap, or in standard deviations), set on other weeks so that all limits together keep the budget. Then
every limit has an incident, family by family in turn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.baselines import every_baseline
from bench.leadtime.benign import week
from bench.leadtime.corpus import Corpus, corpus_of, joined, truth_of, weeks
from bench.leadtime.families import FAMILIES, incident
from bench.leadtime.history import week_counts
from bench.leadtime.measures import leads_min
from bench.leadtime.ours import learned_surfaces, tiers_of
from bench.leadtime.paging import count_pages, tuned_threshold
from bench.leadtime.product import parted, spoken_of
from bench.leadtime.report import BASELINES, SHIPPED, lead_of, table
from detectors.thresholds import surfaces_of

MIX = ((10.0, 60), (20.0, 60), (100.0, 50), (1000.0, 26), (5000.0, 4))
PAGES_PER_WEEK = 1.0  # over the whole deployment, as the settings ship


class Draw(NamedTuple):
    """How much of it to draw."""

    share: float  # of the limits; 1: all 200
    days: float  # of a week
    repeats: int  # weeks of each limit, and incidents
    families: tuple[str, ...] = FAMILIES


class Deployment(NamedTuple):
    """Its weeks and incidents."""

    calibration: Corpus
    validation: Corpus
    incidents: Corpus


class Line(NamedTuple):
    """What one rule did."""

    group: str
    name: str
    false_per_week: float
    lead_min: NDArray[np.float64]


def draw_deployment(draw: Draw, seed: int) -> Deployment:
    """Draw the limits: weeks of each, and as many incidents."""
    share, days, repeats, families = draw
    caps = [cap for cap, many in MIX for _ in range(max(round(many * share), 1))] * repeats
    ordinary = {
        cap: week_counts(cap, np.random.default_rng([seed, 90, int(cap)])) for cap in sorted(set(caps))
    }

    def rng(part: int, number: int) -> np.random.Generator:
        return np.random.default_rng([seed, part, number])

    parts = [[week(cap, rng(91 + part, k), days) for k, cap in enumerate(caps)] for part in (0, 1)]
    parts.append([incident(families[k % len(families)], cap, rng(93, k)) for k, cap in enumerate(caps)])
    return Deployment(*(corpus_of(part, ordinary) for part in parts))


def line(
    who: tuple[str, str], scores: list[NDArray[np.float64]], on: Deployment, limits: float,
    shipped: float | None = None,
) -> Line:  # fmt: skip
    """Set the threshold on some weeks, count on others; `limits` is how many limits there are."""
    threshold = shipped
    if threshold is None:
        threshold = tuned_threshold(scores[0], PAGES_PER_WEEK * weeks(on.calibration) / limits)
    false = count_pages(scores[1], threshold) / (weeks(on.validation) / limits)
    return Line(*who, false, leads_min(scores[2], threshold, truth_of(on.incidents.streams)))


def lines(on: Deployment, limits: float, slice_s: int, *, at_once: bool) -> list[Line]:
    """Run every rule over the deployment."""
    parts = list(on)
    spoken = parted(spoken_of(joined(parts), slice_s, at_once=at_once), parts)
    found: list[Line] = []
    for how, surfaces in (
        ("as shipped", surfaces_of(None)),
        ("learned", learned_surfaces(spoken[0], on.calibration, PAGES_PER_WEEK / limits)),
    ):
        tiers = [tiers_of(one, part, surfaces) for one, part in zip(spoken, parts, strict=True)]
        for name, scores in (("page", [t.page for t in tiers]), ("warning", [t.warn for t in tiers])):
            found.append(line(("ours", f"{name}, {how}"), scores, on, limits, 0.0))
            if how == "learned":
                found.append(line(("ours", f"{name}, tuned"), scores, on, limits))
    for one in every_baseline():
        shipped = None if np.isnan(one.shipped) else one.shipped
        scores = [one.score(part) for part in parts]
        found.append(line((one.group, one.name), scores, on, limits, shipped))
    return found


def many_section(draw: Draw, seed: int, slice_s: int = 15) -> str:
    """Write the section on many limits."""
    on = draw_deployment(draw, seed)
    _, days, repeats, families = draw
    limits = len(on.validation.streams) / repeats
    found = lines(on, limits, slice_s, at_once=days < 7)
    shown = [one for one in found if one.group in ("ours", *SHIPPED)]
    shown += [
        max((one for one in found if one.group == group), key=lambda one: np.median(one.lead_min))
        for group in BASELINES
    ]
    rows = [
        [f"{one.group} {one.name}", f"{one.false_per_week:.1f}", str(lead_of(one.lead_min))] for one in shown
    ]
    said = (
        f"{limits:.0f} limits ({', '.join(f'{many} of {cap:.0f}' for cap, many in MIX)} in full), {repeats} "
        f"weeks of {days:g} days to calibrate on and as many to validate on; budget {PAGES_PER_WEEK:g} false "
        f"page a week over all of them. Leads over {len(on.incidents.streams)} incidents of {len(families)} "
        "families: median / 10th percentile / % with less than a minute [90 % interval]."
    )
    return f"{said}\n\n" + table(["detector", "false pages a week, all limits", "lead"], rows)
