"""The product's two tiers: what its speakers say against the thresholds that it ships with, or has learned.

Learned is what `callgauge learn` makes of the calibration weeks: for each size of cap and class of load the
score that daily maxima pass as often as the budget allows, by speaker. One configuration for every family.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.corpus import Corpus
from bench.leadtime.product import Spoken
from bench.leadtime.traffic import DAY_S, STEP_S
from detectors.calibration import KNOWN, Days, thresholds
from detectors.thresholds import Surfaces, surfaces_of, thresholds_of
from engine.learned import SPEAKERS, TIERS, Learned

DAY_STEPS = int(DAY_S / STEP_S)
HALF_A_DAY = DAY_STEPS // 2  # a shorter part of a day is no day to learn from


class Tiers(NamedTuple):
    """How far each tier is above its own threshold, and the stated chance; (streams, evaluations)."""

    page: NDArray[np.float64]
    warn: NDArray[np.float64]  # a page implies its warning
    probability: NDArray[np.float64]


def tiers_of(spoken: Spoken, corpus: Corpus, surfaces: Surfaces) -> Tiers:
    """Hold what was said against thresholds; 0 and above speaks."""
    margins = []
    built_in = surfaces_of(None)
    for at, tier in enumerate(TIERS):
        margin = np.empty(corpus.level.shape)
        for row in range(len(corpus.streams)):
            cap = np.full(corpus.steps, corpus.caps[row])
            where = cap, spoken.load[row].astype(np.float64), spoken.weight[row].astype(np.float64)
            added = spoken.shipped[row, :, at] - thresholds_of(built_in, tier, *where)[:, 0]  # bursts, youth
            above = spoken.by_speaker[row, :, at] - thresholds_of(surfaces, tier, *where)
            margin[row] = above.max(axis=1) - added
        margins.append(margin)
    page, warn = margins
    return Tiers(page, np.maximum(warn, page), spoken.probability.astype(np.float64))


def learned_surfaces(spoken: Spoken, corpus: Corpus, pages_per_week: float) -> Surfaces:
    """Learn thresholds from ordinary streams at a budget for each limit; where too few, as shipped."""
    found = thresholds(ordinary_days(spoken, corpus), pages_per_week)
    return surfaces_of(Learned(thresholds=found))


def ordinary_days(spoken: Spoken, corpus: Corpus) -> Days:
    """Give the highest score of every day, by tier and speaker, that stood for two evaluations."""
    rows, best, known, load = [], [], [], []
    for row, end in enumerate(corpus.ends):
        said = spoken.by_speaker[row, :end]
        stood = np.minimum(said[1:], said[:-1])
        for first in range(0, len(stood), DAY_STEPS):
            day = stood[first : first + DAY_STEPS]
            if len(day) >= HALF_A_DAY:
                last = min(first + DAY_STEPS, int(end)) - 1
                rows.append(row)
                best.append(day.max(axis=0))
                known.append(spoken.weight[row, last] >= KNOWN)
                load.append(spoken.load[row, last])
    shape = (len(rows), len(TIERS), len(SPEAKERS))
    return Days(
        row=np.array(rows, np.int64), score=np.array(best, np.float64).reshape(shape),
        known=np.array(known, np.bool_), load=np.array(load, np.float64), cap=corpus.caps[rows],
    )  # fmt: skip
