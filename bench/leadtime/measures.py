"""From scores to figures: thresholds on some weeks, false pages on others, leads, calls lost, intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.corpus import Corpus, Truth, truth_of, weeks
from bench.leadtime.paging import REPEAT, pages_by_stream, tuned_thresholds, useful_pages
from bench.leadtime.traffic import STEP_S
from bench.leadtime.truth import lost

POSTED_S = 5.0  # an evaluation is posted when its slice closes: the out-of-order bound later
MISSED_MIN = -1.0  # the lead that stands for "no page before the first decline"
LATE_MIN = 1.0  # a lead below this counts as missed
REACTIONS_MIN = (1.0, 5.0, 15.0)
BUDGETS = (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)  # false pages a week and limit
MAIN_BUDGET = 0.25
RESAMPLES = 1000


class Corpora(NamedTuple):
    """What one contest is held on."""

    calibration: Corpus
    validation: Corpus
    incidents: Corpus
    benign: Corpus
    bursty: Corpus  # whole weeks whose calls come in batches
    incident_rows: dict[str, slice]
    benign_rows: dict[str, slice]
    bursty_rows: dict[str, slice]


class Scored(NamedTuple):
    """One detector's scores on each of them."""

    calibration: NDArray[np.float64]
    validation: NDArray[np.float64]
    incidents: NDArray[np.float64]
    benign: NDArray[np.float64]
    bursty: NDArray[np.float64]


class Outcome(NamedTuple):
    """What one detector achieved at one threshold."""

    group: str
    name: str
    threshold: float
    false_by_stream: NDArray[np.int64]  # pages in each validation week
    weeks: float  # of validation
    lead_min: dict[str, NDArray[np.float64]]  # family -> (incidents,)
    calls_lost: dict[str, NDArray[np.int64]]  # family -> (incidents, reactions)
    benign: dict[str, float]  # family -> share of the streams that page
    bursty: dict[str, float]  # dispersion -> pages a week
    curve: tuple[tuple[float, dict[str, float]], ...] = ()  # by budget: false pages a week, median leads

    @property
    def false_per_week(self) -> float:
        """Give the false pages a week and limit."""
        return float(self.false_by_stream.sum()) / self.weeks


def posted_s(steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give when a page of these evaluations is posted."""
    return np.asarray((steps + 1) * STEP_S + POSTED_S, np.float64)


def leads_min(scores: NDArray[np.float64], threshold: float, truth: Truth) -> NDArray[np.float64]:
    """Give each incident's lead: from its first page since the onset to its first decline, in minutes.

    A page before the onset is no lead, and one that still stands at the onset keeps a later one from being
    sent. Several pages of one incident count once.
    """
    first = np.ceil((truth.onset_s - POSTED_S) / STEP_S - 1).astype(np.int64)
    last = np.floor((truth.decline_s - POSTED_S) / STEP_S - 1).astype(np.int64)
    paged = useful_pages(scores, threshold, np.maximum(first, 0), np.minimum(last, scores.shape[1] - 1))
    return np.where(paged >= 0, (truth.decline_s - posted_s(paged)) / 60.0, MISSED_MIN)


def losses(corpus: Corpus, lead_min: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give the calls lost in each incident at each reaction time."""
    found = np.zeros((len(lead_min), len(REACTIONS_MIN)), np.int64)
    for row, (stream, lead) in enumerate(zip(corpus.streams, lead_min, strict=True)):
        paged_s = stream.decline_s - 60.0 * lead if lead >= 0 else np.inf
        for column, reaction in enumerate(REACTIONS_MIN):
            found[row, column] = lost(stream.losses_s, paged_s, stream.decline_s, 60.0 * reaction)
    return found


def measure(group: str, name: str, scored: Scored, on: Corpora, shipped: float | None = None) -> Outcome:
    """Give one detector's outcome at its own threshold, or at the one that the main budget allows."""
    budgets = BUDGETS if shipped is None else ()
    allowed = tuple(budget * weeks(on.calibration) for budget in budgets)
    thresholds = tuned_thresholds(scored.calibration, allowed) if budgets else []
    main = shipped if shipped is not None else thresholds[budgets.index(MAIN_BUDGET)]
    curve = []
    for threshold in thresholds:
        false = pages_by_stream(scored.validation, threshold, REPEAT).sum() / weeks(on.validation)
        medians = {
            family: float(np.median(leads))
            for family, leads in leads_by_family(scored, threshold, on).items()
        }
        curve.append((float(false), medians))
    leads = leads_by_family(scored, main, on)
    lost_all = losses(on.incidents, np.concatenate(list(leads.values())))
    paged = useful_pages(scored.benign, main, first_steps(on.benign), on.benign.ends - 1) >= 0
    bursty = pages_by_stream(scored.bursty, main, REPEAT)
    return Outcome(
            group=group, name=name, threshold=main,
            false_by_stream=pages_by_stream(scored.validation, main, REPEAT), weeks=weeks(on.validation),
            lead_min=leads,
            calls_lost={family: lost_all[rows] for family, rows in on.incident_rows.items()},
            benign={family: float(np.mean(paged[rows])) for family, rows in on.benign_rows.items()},
            bursty={
                family: float(bursty[rows].sum() / weeks(on.bursty) * len(bursty) / len(bursty[rows]))
                for family, rows in on.bursty_rows.items()
            },
            curve=tuple(curve),
    )  # fmt: skip


def first_steps(corpus: Corpus) -> NDArray[np.int64]:
    """Give the first evaluation of each stream that is posted at its onset or later."""
    onset_s = np.array([stream.onset_s for stream in corpus.streams])
    return np.maximum(np.ceil((onset_s - POSTED_S) / STEP_S - 1), 0).astype(np.int64)


def leads_by_family(scored: Scored, threshold: float, on: Corpora) -> dict[str, NDArray[np.float64]]:
    """Give the leads of each family."""
    return {
        family: leads_min(scored.incidents[rows], threshold, truth_of(on.incidents.streams[rows]))
        for family, rows in on.incident_rows.items()
    }


def oracle_leads_min(on: Corpora) -> dict[str, NDArray[np.float64]]:
    """Give what one who knows the cause would have had."""
    found = {}
    for family, rows in on.incident_rows.items():
        streams = on.incidents.streams[rows]
        lead = np.array([(s.decline_s - s.oracle_s - POSTED_S) / 60.0 for s in streams])
        found[family] = np.where(lead >= 0, lead, MISSED_MIN)
    return found


def statistics_of(data: NDArray[np.float64], statistic: str) -> NDArray[np.float64]:
    """Give median, p10, missed or mean of the last axis."""
    if statistic == "median":
        return np.asarray(np.median(data, axis=-1))
    if statistic == "p10":
        return np.asarray(np.quantile(data, 0.1, axis=-1))
    if statistic == "missed":
        return np.asarray(np.mean(data < LATE_MIN, axis=-1))
    return np.asarray(np.mean(data, axis=-1))


def interval(values: NDArray[np.float64], statistic: str, seed: int) -> tuple[float, float, float]:
    """Give a statistic and its 90 % percentile bootstrap interval."""
    rng = np.random.default_rng(seed)
    samples = values[rng.integers(0, len(values), (RESAMPLES, len(values)))]
    low, high = np.quantile(statistics_of(samples, statistic), (0.05, 0.95))
    return float(statistics_of(values, statistic)), float(low), float(high)
