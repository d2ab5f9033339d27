"""What came after its slice was judged: what of it acts in the slice that is judged next.

Windows and ages are amended where it belongs. Levels change now, and what somebody is to be told (declines,
scores, calls of dependencies) counts as if it had just happened: a late page is better than none. Arrivals
and durations stay out, for detectors that add up slices would see a surge, or errors without their calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine.observe.merge import LAYOUT, NOTHING, VALUE, merge_summaries

if TYPE_CHECKING:
    from engine.decode.events import Note
    from engine.judge.occupancy import Flow
    from engine.observe.summary import SliceSummary

DECLINES, FACTS = frozenset(("cause",)), frozenset(("side", "caller", "score"))  # groups of columns
COLUMNS = {one.name: one for layout in LAYOUT for one in layout}
TOLD = {name: one for name, one in COLUMNS.items() if name.split("_")[0] in DECLINES | FACTS}
NOT_TOLD: dict[str, Any] = {name: NOTHING[name] for name in COLUMNS.keys() - TOLD.keys()}
FACT_COLUMNS = tuple(name for name in TOLD if name.split("_")[0] in FACTS)


class Late(NamedTuple):
    """What has come late by the time that a slice is judged."""

    flows: list[tuple[Flow, Flow]]  # by start, by answer
    notes: tuple[Note, ...]
    told: list[tuple[SliceSummary, int]]  # additions to the slice, and when the slice that they are of began


def late_flow(flow: Flow) -> Flow:
    """Let a late summary act now.

    Its arrivals are past, its level change and ends take effect in the first bin.
    """
    return flow._replace(
        bin_index=np.zeros_like(flow.bin_index),
        arrivals=np.zeros_like(flow.arrivals),
        declines=np.zeros_like(flow.declines),
        entered=np.zeros_like(flow.entered),
    )


def late_told(change: SliceSummary, start_ns: int) -> SliceSummary | None:
    """Give what of a late addition is told with the slice that begins at `start_ns`; None: nothing.

    What an addition takes back has been told, and stays so.
    """
    if not any(len(getattr(change, name)) for name in TOLD):
        return None
    added: dict[str, Any] = {
        name: getattr(change, name).clip(min=0) for name, one in TOLD.items() if one.of == VALUE
    }
    counts = np.zeros_like(change.counts)
    return change._replace(start_ns=start_ns, counts=counts, notes=(), **added, **NOT_TOLD)


def with_late(merged: SliceSummary | None, late: list[SliceSummary]) -> SliceSummary | None:
    """Give a slice with the scores and calls of dependencies that are told with it; None: nothing."""
    facts = [one for one in late if any(len(getattr(one, name)) for name in FACT_COLUMNS)]
    parts = facts if merged is None else [merged, *facts]
    return merge_summaries(parts) if parts else None
