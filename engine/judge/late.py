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

TOLD = frozenset(("cause", "side", "caller", "score"))  # groups of columns


class Late(NamedTuple):
    """What has come late by the time that a slice is judged."""

    flows: list[tuple[Flow, Flow]]  # by start, by answer
    notes: tuple[Note, ...]
    told: list[tuple[SliceSummary, bool]]  # additions to the slice, and whether they are of the last minute


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
    columns = {one.name: one for layout in LAYOUT for one in layout}
    told = {name: one for name, one in columns.items() if name.split("_")[0] in TOLD}
    if not any(len(getattr(change, name)) for name in told):
        return None
    added: dict[str, Any] = {
        name: getattr(change, name).clip(min=0) for name, one in told.items() if one.of == VALUE
    }
    rest: dict[str, Any] = {name: NOTHING[name] for name in columns.keys() - told.keys()}
    return change._replace(start_ns=start_ns, counts=np.zeros_like(change.counts), notes=(), **added, **rest)


def with_late(merged: SliceSummary | None, late: list[SliceSummary]) -> SliceSummary | None:
    """Give a slice with what is told with it; None: nothing happened, and nothing is to be told."""
    parts = late if merged is None else [merged, *late]
    return merge_summaries(parts) if parts else None
