"""From scores to figures: thresholds, pages, leads, intervals, tables."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.baselines import count_pages, page_steps, tuned_threshold
from bench.leadtime.traffic import FAMILIES, STEP_S

MISSED_MIN = -1.0  # the lead that stands for "no page before the first decline"
LATE_MIN = 1.0  # a lead below this counts as missed
RESAMPLES = 1000


class Contest(NamedTuple):
    """One detector at one cap: its scores on three disjoint corpora; (streams, evaluations) each."""

    name: str
    calibration: NDArray[np.float64]  # ordinary weeks
    validation: NDArray[np.float64]  # other ordinary weeks
    incidents: dict[str, NDArray[np.float64]]  # family -> scores
    threshold: float | NDArray[np.float64] | None = None  # None: tuned on the calibration weeks


class Truth(NamedTuple):
    """When each incident of a family began and when its first call was declined, in seconds; (incidents,)."""

    onset_s: NDArray[np.float64]
    decline_s: NDArray[np.float64]


class Figures(NamedTuple):
    """What a detector achieved; each tuple is (value, low, high), the bounds of a 90 % bootstrap interval."""

    name: str
    threshold: float
    false_pages_per_week: tuple[float, float, float]
    median_min: dict[str, tuple[float, float, float]]
    p10_min: dict[str, tuple[float, float, float]]
    missed_ratio: dict[str, tuple[float, float, float]]


def leads_min(scores: NDArray[np.float64], threshold: float, truth: Truth) -> NDArray[np.float64]:
    """Give each incident's lead: from the first page at or after its onset to its first decline, in minutes.

    A page before the onset is no lead, and one that still stands at the onset keeps a later one from being
    sent.
    """
    leads = np.full(len(scores), MISSED_MIN)
    into = np.empty(scores.shape[1], np.int64)
    for i, score in enumerate(scores):
        at_s = (into[: page_steps(score, threshold, 0, into)] + 1) * STEP_S
        useful = at_s[(at_s >= truth.onset_s[i]) & (at_s <= truth.decline_s[i])]
        if len(useful):
            leads[i] = (truth.decline_s[i] - useful[0]) / 60.0
    return leads


def interval(
    values: NDArray[np.float64], statistic: str, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Give a statistic and its 90 % percentile bootstrap interval.

    `statistic` is median, p10, missed or mean.
    """
    samples = values[rng.integers(0, len(values), (RESAMPLES, len(values)))]
    both = []
    for data in (values[None, :], samples):
        if statistic == "median":
            both.append(np.median(data, axis=1))
        elif statistic == "p10":
            both.append(np.quantile(data, 0.1, axis=1))
        elif statistic == "missed":
            both.append(np.mean(data < LATE_MIN, axis=1))
        else:
            both.append(np.mean(data, axis=1))
    low, high = np.quantile(both[1], (0.05, 0.95))
    return float(both[0][0]), float(low), float(high)


def figures_of(contest: Contest, truths: dict[str, Truth], pages_per_week: float, seed: int) -> Figures:
    """Set the threshold on the calibration weeks, then measure on everything else."""
    rng = np.random.default_rng(seed)
    allowed = int(len(contest.calibration) * pages_per_week)
    threshold = contest.threshold
    if threshold is None:
        threshold = tuned_threshold(contest.calibration, allowed)
    by_week = np.array([count_pages(week[None, :], float(threshold)) for week in contest.validation], float)
    leads = {
        family: leads_min(contest.incidents[family], float(threshold), truths[family]) for family in FAMILIES
    }
    return Figures(
        name=contest.name,
        threshold=float(threshold),
        false_pages_per_week=interval(by_week, "mean", rng),
        median_min={family: interval(lead, "median", rng) for family, lead in leads.items()},
        p10_min={family: interval(lead, "p10", rng) for family, lead in leads.items()},
        missed_ratio={family: interval(lead, "missed", rng) for family, lead in leads.items()},
    )


def holds_against(ours: Figures, theirs: Figures, family: str) -> bool:
    """Tell whether our median lead's interval overlaps or beats theirs."""
    return ours.median_min[family][2] >= theirs.median_min[family][1]


def table(figures: list[Figures]) -> str:
    """Lay the figures out as Markdown: median lead [interval], p10, missed under a minute."""
    head = ["detector", "threshold", "false pages a week", *FAMILIES]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in figures:
        rate, low, high = row.false_pages_per_week
        is_table = row.name.startswith("product") and row.name.endswith("as shipped")
        cells = [
            row.name,
            "by cap" if is_table else f"{row.threshold:.2f}",
            f"{rate:.2f} [{low:.2f}, {high:.2f}]",
        ]
        for family in FAMILIES:
            median, low, high = row.median_min[family]
            p10, missed = row.p10_min[family][0], row.missed_ratio[family][0]
            cells.append(f"{median:.1f} [{low:.1f}, {high:.1f}] / {p10:.1f} / {100 * missed:.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
