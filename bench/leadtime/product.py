"""The product's scores: the shipped detector over many streams side by side, slice by slice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.corpus import Corpus, rows_of
from bench.leadtime.feed import Calls, Feed, slices
from bench.leadtime.traffic import STEP_S
from detectors.headroom import Headroom
from detectors.headroom_state import HeadroomParams
from engine.settings import HeadroomSettings

STREAMS_MAX = 256  # side by side; more are done in turns
CALLS_MAX = 12_000_000  # at a time: about 2 GB


class Scores(NamedTuple):
    """What a detector says at the end of each evaluation; float64 (streams, evaluations)."""

    page: NDArray[np.float64]
    warn: NDArray[np.float64]
    probability: NDArray[np.float64]
    page_threshold: NDArray[np.float64]  # as shipped
    warn_threshold: NDArray[np.float64]


class Tiers(NamedTuple):
    """How far each tier is above its own threshold, and the stated chance; (streams, evaluations)."""

    page: NDArray[np.float64]
    warn: NDArray[np.float64]  # a page implies its warning
    probability: NDArray[np.float64]


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


def product_tiers(corpus: Corpus, slice_s: int) -> Tiers:
    """Run the detector over a corpus, in its shipped constants; -inf and NaN past the end of a stream."""
    shape = corpus.level.shape
    page, warn, probability = np.full(shape, -np.inf), np.full(shape, -np.inf), np.full(shape, np.nan)
    for rows in chunks(corpus):
        some = rows_of(corpus, rows)
        feed = Feed(tuple(stream.calls for stream in some.streams), some.caps, some.steps * STEP_S, slice_s)
        scores = score_some(feed, None)
        at = np.ix_(rows, np.arange(some.steps))
        page[at] = scores.page - scores.page_threshold
        warn[at] = np.maximum(scores.warn - scores.warn_threshold, page[at])
        probability[at] = scores.probability
    return Tiers(page, warn, probability)


def chunks(corpus: Corpus) -> Iterator[NDArray[np.int64]]:
    """Give rows to run together: streams of like length, not too many calls."""
    order = np.argsort(corpus.ends, kind="stable")
    calls = np.array([len(stream.calls.start_s) for stream in corpus.streams])
    first, total = 0, 0
    for at, row in enumerate(order):
        if at > first and (total + calls[row] > CALLS_MAX or at - first >= STREAMS_MAX):
            yield order[first:at]
            first, total = at, 0
        total += int(calls[row])
    yield order[first:]
