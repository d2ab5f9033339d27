"""The latency sketches as classic histograms: a coarse subset of the sketch's own bucket bounds.

The sketch has the layout of Prometheus' native histograms: 32 buckets an octave, bucket i ending at 2^(i/32)
s. The classic bounds are the whole octaves among them, from 2^-9 s (2 ms) to 2^7 s (128 s). Each is both a
bound of the sketch and an exact decimal, so cumulative counts are exact and `le` never has a rounded digit.
Rejected: the usual 1-2.5-5 bounds, for which counts would have to be split within a sketch's bucket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engine.deliver.text import LabelTexts, head
from engine.observe.latency import BUCKET_FIRST, PER_OCTAVE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.snapshot import HistogramFamily

NAME = "callgauge_call_latency_seconds"
HELP = "Latency of calls by stage."
CLASSIC_OCTAVES = tuple(range(-9, 8))  # 2^k s is exported
US_PER_S = 1_000_000
_LABELS = "\0"  # stands for the label pairs in the template


def cumulative_counts(family: HistogramFamily) -> NDArray[np.int64]:
    """Give shape (rows, bounds + 1): values up to each bound, and all of them last.

    The first bucket of an octave ends with the bound that the octave begins at.
    """
    is_there = family.page_of >= 0
    inside, first = np.zeros((2, *is_there.shape), np.int64)
    inside[is_there] = family.pages.sum(axis=1)[family.page_of[is_there]]
    first[is_there] = family.pages[:, 0][family.page_of[is_there]]
    up_to = inside.cumsum(axis=1)
    places = np.array(CLASSIC_OCTAVES) - BUCKET_FIRST // PER_OCTAVE
    bounded = up_to[:, places] - inside[:, places] + first[:, places]
    return np.column_stack((bounded, up_to[:, -1]))


def bound_text(octave: int) -> str:
    """Write 2^octave as `le` has it."""
    return repr(2.0**octave)


def histograms_text(family: HistogramFamily, texts: LabelTexts) -> str:
    """Write all rows: one template of integers, in which the labels differ from row to row."""
    bounds = [*map(bound_text, CLASSIC_OCTAVES), "+Inf"]
    template = "".join(f'{NAME}_bucket{{{_LABELS},le="{bound}"}} %d\n' for bound in bounds)
    template += f"{NAME}_sum{{{_LABELS}}} %d.%06d\n{NAME}_count{{{_LABELS}}} %d\n"
    cumulative = cumulative_counts(family)
    seconds, microseconds = np.divmod(family.sum_us, US_PER_S)
    numbers = np.column_stack((cumulative, seconds, microseconds, cumulative[:, -1])).tolist()
    names = family.labels
    parts = [head(NAME, "histogram", HELP)]
    for values, row in zip(family.values, numbers, strict=True):
        # Labels go in last: a per cent sign in one of them is not a place for a number.
        line_ends = template % tuple(row)
        parts.append(line_ends.replace(_LABELS, texts.pairs(tuple(zip(names, values, strict=True)))))
    return "".join(parts)
