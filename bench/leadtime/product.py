"""The product's scores: the shipped detector over many streams side by side, slice by slice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.corpus import Corpus, rows_of
from bench.leadtime.feed import Calls, Feed, slices
from bench.leadtime.priming import MONDAY_S, learned_before, time_of_day_s
from bench.leadtime.traffic import STEP_S
from detectors.headroom import Headroom
from detectors.headroom_state import HeadroomParams, HeadroomState, primed
from detectors.thresholds import LOAD_UNKNOWN
from engine.judge.baseline import Baseline
from engine.judge.windows import WindowSummary
from engine.learned import SPEAKERS, TIERS
from engine.settings import HeadroomSettings

STREAMS_MAX = 256  # side by side; more are done in turns
CALLS_MAX = 24_000_000  # at a time: about 2 GB


class Scores(NamedTuple):
    """What a detector says at the end of each evaluation; float64 (streams, evaluations)."""

    page: NDArray[np.float64]
    warn: NDArray[np.float64]
    probability: NDArray[np.float64]
    page_threshold: NDArray[np.float64]  # as shipped
    warn_threshold: NDArray[np.float64]


class Spoken(NamedTuple):
    """All that is said of a corpus, before any threshold; float32 (streams, evaluations, ...)."""

    by_speaker: NDArray[np.float32]  # (..., tiers, speakers)
    load: NDArray[np.float32]  # share of the cap that the busiest usual hour offers
    weight: NDArray[np.float32]  # of what is usual
    shipped: NDArray[np.float32]  # (..., tiers): threshold on the scale of the first speaker
    probability: NDArray[np.float32]


def product_scores(
    streams: tuple[Calls, ...],
    caps: NDArray[np.float64],
    stop_s: float,
    slice_s: int = 5,
    params: HeadroomParams | None = None,
) -> Scores:
    """Run the detector over streams that all last `stop_s` and that nothing is known of.

    In its shipped constants unless told otherwise.
    """
    parts = [
        score_some(Feed(streams[at : at + STREAMS_MAX], caps[at : at + STREAMS_MAX], stop_s, slice_s), params)
        for at in range(0, len(streams), STREAMS_MAX)
    ]
    return Scores(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def score_some(feed: Feed, params: HeadroomParams | None) -> Scores:
    """Run one feed."""
    rows = []
    for detector, state, summary in evaluations(feed, params, None):
        verdict = state.verdict
        thresholds = detector.thresholds(state, summary.limits, summary.end_ns)
        rows.append((verdict.page_score, verdict.warn_score, verdict.probability, *thresholds))
    return Scores(*(np.stack(column, axis=1) for column in zip(*rows, strict=True)))


def evaluations(
    feed: Feed, params: HeadroomParams | None, baseline: Baseline | None
) -> Iterator[tuple[Headroom, HeadroomState, WindowSummary]]:
    """Run one feed; with a baseline, a row of it for each stream, the weeks before are known."""
    detector = Headroom(HeadroomSettings(), params)
    state = detector.new_state()
    if baseline is not None:
        state = primed(state, baseline)
    for summary in slices(feed):
        detection = detector.detect(state, summary, ())
        state = detection.state
        if detection.evaluated:
            yield detector, state, summary


def spoken_of(corpus: Corpus, slice_s: int, *, at_once: bool = False) -> Spoken:
    """Run the detector over a corpus; -inf and NaN past the end of a stream.

    `at_once`: all times of day in one feed, for tests of the benchmark alone; what is known is off by hours.
    """
    shape = corpus.level.shape
    spoken = Spoken(
        by_speaker=np.full((*shape, len(TIERS), len(SPEAKERS)), -np.inf, np.float32),
        load=np.zeros(shape, np.float32), weight=np.zeros(shape, np.float32),
        shipped=np.zeros((*shape, len(TIERS)), np.float32), probability=np.full(shape, np.nan, np.float32),
    )  # fmt: skip
    baseline = learned_before(corpus)
    begins_s = time_of_day_s(corpus) * (0 if at_once else 1)
    for rows in chunks(corpus, begins_s):
        some = rows_of(corpus, rows)
        feed = Feed(
            tuple(stream.calls for stream in some.streams), some.caps, some.steps * STEP_S, slice_s,
            origin_s=MONDAY_S + int(begins_s[rows[0]]),
        )  # fmt: skip
        known = Baseline(baseline.calls[rows], baseline.watched_s[rows], baseline.day)
        for step, (detector, state, summary) in enumerate(evaluations(feed, None, known)):
            verdict, season = state.verdict, state.season
            spoken.by_speaker[rows, step, 0] = verdict.page_by_speaker
            spoken.by_speaker[rows, step, 1] = verdict.warn_by_speaker
            load = season.busiest_per_s * state.outlook.holding_s / summary.limits.value
            spoken.load[rows, step] = np.nan_to_num(load, nan=LOAD_UNKNOWN)
            spoken.weight[rows, step] = season.weight
            spoken.shipped[rows, step] = np.stack(
                detector.thresholds(state, summary.limits, summary.end_ns), axis=1
            )
            spoken.probability[rows, step] = verdict.probability
    after = np.arange(corpus.steps) >= corpus.ends[:, None]
    spoken.by_speaker[after], spoken.probability[after] = -np.inf, np.nan
    return spoken


def parted(spoken: Spoken, corpora: list[Corpus]) -> list[Spoken]:
    """Give each corpus its part of what was said of all of them joined."""
    firsts = np.cumsum([0, *(len(corpus.streams) for corpus in corpora)])
    return [
        Spoken(*(part[first : first + len(corpus.streams), : corpus.steps] for part in spoken))
        for first, corpus in zip(firsts, corpora, strict=False)
    ]


def chunks(corpus: Corpus, begins_s: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Give rows to run together: streams of one time of day and of like length, not too many calls."""
    calls = np.array([len(stream.calls.start_s) for stream in corpus.streams])
    for begin in np.unique(begins_s):
        order = np.flatnonzero(begins_s == begin)
        order = order[np.argsort(corpus.ends[order], kind="stable")]
        first, total = 0, 0
        for at, row in enumerate(order):
            if at > first and (total + calls[row] > CALLS_MAX or at - first >= STREAMS_MAX):
                yield order[first:at]
                first, total = at, 0
            total += int(calls[row])
        yield order[first:]
