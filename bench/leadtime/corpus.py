"""Streams side by side with what every rule may look at: the gauge, and what earlier weeks lead to expect."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.history import counts_of, expected_level, rolled, seasonal_rate
from bench.leadtime.stream import Stream, levels, steps_of
from bench.leadtime.traffic import STEP_S

AHEAD_STEPS = 480  # how far past a stream's end an expectation is asked for: 2 hours


class Corpus(NamedTuple):
    """All of (streams, evaluations), padded to the longest stream, unless said."""

    streams: list[Stream]
    level: NDArray[np.float64]
    usual_rate: NDArray[np.float32]  # arrivals per evaluation; AHEAD_STEPS more evaluations
    usual_level: NDArray[np.float32]  # in flight; AHEAD_STEPS more evaluations
    caps: NDArray[np.float64]  # (streams,)
    counts: list[NDArray[np.float64]]  # earlier weeks by slot, a table per stream; the same one where equal
    ends: NDArray[np.int64]  # (streams,): evaluations that the stream has

    @property
    def steps(self) -> int:
        """Evaluations of the longest stream."""
        return int(self.level.shape[1])


class Truth(NamedTuple):
    """When each incident began and its first call was declined, in seconds; (incidents,)."""

    onset_s: NDArray[np.float64]
    decline_s: NDArray[np.float64]


def corpus_of(streams: list[Stream], ordinary: dict[float, NDArray[np.int64]]) -> Corpus:
    """Prepare streams; `ordinary` has the earlier weeks of each cap."""
    steps = max(steps_of(stream.stop_s) for stream in streams)
    rates = {cap: seasonal_rate(counts.astype(np.float64)) for cap, counts in ordinary.items()}
    usual = {cap: expected_level(rate, cap) for cap, rate in rates.items()}
    rate = np.empty((len(streams), steps + AHEAD_STEPS), np.float32)
    level = np.empty_like(rate)
    counts: dict[tuple[float, tuple[float, ...]], NDArray[np.float64]] = {}
    for row, stream in enumerate(streams):
        before = (stream.cap, stream.history)
        if before not in counts:
            counts[before] = counts_of(stream, ordinary[stream.cap])
        factor = float(np.mean(stream.history))
        rate[row] = factor * rolled(rates[stream.cap], stream.first_step, rate.shape[1])
        level[row] = factor * rolled(usual[stream.cap], stream.first_step, rate.shape[1])
    return Corpus(
        streams=streams, level=levels(streams, steps), usual_rate=rate, usual_level=level,
        caps=np.array([stream.cap for stream in streams]),
        counts=[counts[(stream.cap, stream.history)] for stream in streams],
        ends=np.array([steps_of(stream.stop_s) for stream in streams]),
    )  # fmt: skip


def truth_of(streams: list[Stream]) -> Truth:
    """Give the truth about some streams."""
    return Truth(np.array([s.onset_s for s in streams]), np.array([s.decline_s for s in streams]))


def rows_of(corpus: Corpus, rows: NDArray[np.int64]) -> Corpus:
    """Give some of the streams."""
    steps = int(corpus.ends[rows].max())
    return Corpus(
        [corpus.streams[row] for row in rows], corpus.level[rows, :steps],
        corpus.usual_rate[rows, : steps + AHEAD_STEPS], corpus.usual_level[rows, : steps + AHEAD_STEPS],
        corpus.caps[rows], [corpus.counts[row] for row in rows], corpus.ends[rows],
    )  # fmt: skip


def joined(corpora: list[Corpus]) -> Corpus:
    """Give several as one."""
    steps = max(corpus.steps for corpus in corpora)

    def wide(parts: list[NDArray[np.float32]], width: int) -> NDArray[np.float32]:
        return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])

    return Corpus(
        streams=[stream for corpus in corpora for stream in corpus.streams],
        level=np.concatenate(
            [np.pad(corpus.level, ((0, 0), (0, steps - corpus.steps))) for corpus in corpora]
        ),
        usual_rate=wide([corpus.usual_rate for corpus in corpora], steps + AHEAD_STEPS),
        usual_level=wide([corpus.usual_level for corpus in corpora], steps + AHEAD_STEPS),
        caps=np.concatenate([corpus.caps for corpus in corpora]),
        counts=[counts for corpus in corpora for counts in corpus.counts],
        ends=np.concatenate([corpus.ends for corpus in corpora]),
    )


def weeks(corpus: Corpus) -> float:
    """Give how many weeks of traffic that is."""
    return float(corpus.ends.sum()) * STEP_S / (7 * 86_400)
