"""The product's scores: the shipped detector over many streams side by side, slice by slice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.feed import Calls, Feed, slices
from detectors.headroom import Headroom
from detectors.headroom_state import HeadroomParams
from engine.settings import HeadroomSettings

STREAMS_MAX = 256  # side by side; more are done in turns


class Scores(NamedTuple):
    """What a detector says at the end of each evaluation; float64 (streams, evaluations)."""

    page: NDArray[np.float64]
    warn: NDArray[np.float64]
    probability: NDArray[np.float64]
    page_threshold: NDArray[np.float64]  # as shipped
    warn_threshold: NDArray[np.float64]


def product_scores(
    streams: tuple[Calls, ...],
    caps: NDArray[np.float64],
    stop_s: float,
    slice_s: int = 5,
    params: HeadroomParams | None = None,
) -> Scores:
    """Run the detector over streams that all last `stop_s`.

    In its shipped constants unless told otherwise.
    """
    parts = [
        score_some(Feed(streams[at : at + STREAMS_MAX], caps[at : at + STREAMS_MAX], stop_s, slice_s), params)
        for at in range(0, len(streams), STREAMS_MAX)
    ]
    return Scores(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def score_some(feed: Feed, params: HeadroomParams | None) -> Scores:
    """Run one feed."""
    detector = Headroom(HeadroomSettings(), params)
    state = detector.new_state()
    rows: list[tuple[NDArray[np.float64], ...]] = []
    for summary in slices(feed):
        detection = detector.detect(state, summary, ())
        state = detection.state
        if detection.evaluated:
            verdict = state.verdict
            thresholds = detector.thresholds(state, summary.limits, summary.end_ns)
            rows.append((verdict.page_score, verdict.warn_score, verdict.probability, *thresholds))
    return Scores(*(np.stack(column, axis=1) for column in zip(*rows, strict=True)))
