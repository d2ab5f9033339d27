"""Are the stated probabilities true? Of the moments at which p was stated, a share p should see a decline."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.corpus import Corpus
from bench.leadtime.traffic import STEP_S

WITHIN_S = 600.0  # the page's horizon: what the stated probability is about
EDGES = np.array([0.0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0])


class Stated(NamedTuple):
    """By bin of the stated probability: moments, their mean probability, how many of them saw a decline."""

    moments: NDArray[np.int64]
    mean: NDArray[np.float64]
    came: NDArray[np.int64]
    brier: float
    brier_of_rate: float  # of one who always states the overall share


def stated(corpus: Corpus, probability: NDArray[np.float64]) -> Stated:
    """Compare what was stated between each stream's onset and its first decline with what came."""
    at_s = (np.arange(corpus.steps) + 1) * STEP_S
    onset = np.array([stream.onset_s for stream in corpus.streams])[:, None]
    decline = np.array([stream.decline_s for stream in corpus.streams])[:, None]
    stop = np.array([stream.stop_s for stream in corpus.streams])[:, None]
    counts = (at_s >= onset) & (at_s < decline) & (at_s <= stop) & ~np.isnan(probability)
    said = probability[counts]
    came = np.broadcast_to(decline - at_s <= WITHIN_S, counts.shape)[counts]
    if not len(said):
        none = np.zeros(len(EDGES) - 1)
        return Stated(none.astype(np.int64), none, none.astype(np.int64), np.nan, np.nan)
    cell = np.clip(np.searchsorted(EDGES, said, side="right") - 1, 0, len(EDGES) - 2)
    moments = np.bincount(cell, minlength=len(EDGES) - 1)
    total = np.bincount(cell, said, minlength=len(EDGES) - 1)
    rate = float(np.mean(came))
    return Stated(
        moments=moments, mean=total / np.maximum(moments, 1),
        came=np.bincount(cell, came, minlength=len(EDGES) - 1).astype(np.int64),
        brier=float(np.mean(np.square(said - came))), brier_of_rate=rate * (1.0 - rate),
    )  # fmt: skip
