"""Slices merged over partitions, rolled into windows: what detectors and metrics see.

Counts and sketches form a group, so a window is a running sum: the newest slice is added, the oldest taken
off, and a query never depends on the window's length. The last five minutes are kept slice by slice; the hour
is kept in panes of one minute, sparse. Rejected: merging the slices of a window at each query, which
costs as much as the window is long.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.judge.sparse import merged, scatter_add

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.decode.events import Note
    from engine.judge.facts import SliceFacts
    from engine.judge.occupancy import LimitUse
    from engine.judge.sparse import Contribution

WINDOWS = ("1m", "5m", "1h")
FIVE_MINUTES, HOUR = WINDOWS.index("5m"), WINDOWS.index("1h")  # their columns
WINDOWS_NS = (60_000_000_000, 300_000_000_000, 3_600_000_000_000)
PANE_NS = 60_000_000_000


class WindowView(NamedTuple):
    """Windows that end with the slice. Rows are label sets.

    The total, each single label value, each whole series.

    `labels[row]` is the label set as (label, value) pairs, () being the total. Arrays of shape (rows,
    windows): `arrivals`, `ended` (ended attempts, capacity declines excluded), `errors`, `declined`. Latency
    has rows of its own: `latency_row[k]` is the label row and `latency_stage[k]` the stage of latency row k.
    `arrivals_in_slice` (rows,) is of the newest slice alone.
    """

    labels: tuple[tuple[tuple[str, str], ...], ...]
    arrivals_in_slice: NDArray[np.int64]
    arrivals: NDArray[np.int64]
    ended: NDArray[np.int64]
    errors: NDArray[np.int64]
    declined: NDArray[np.int64]
    latency_row: NDArray[np.int32]
    latency_stage: tuple[str, ...]


class StreamUse(NamedTuple):
    """How the stream itself does at this slice, apart from any limit."""

    events: int  # rows absorbed in the slice
    arrivals: int  # call attempts in the slice, all series
    amended: int  # rows of earlier slices that were added afterwards, since the slice before
    clock_ahead: int  # rows whose time lay ahead of the receipt, since the slice before
    unkeyed_calls: int  # ends whose start was seen in another partition, since the slice before
    declined_unattributed: int  # capacity declines in the slice that match no limit of the register
    # Calls in the slice, whole deployment.
    started: int = 0
    answered: int = 0
    ended: int = 0
    turns: int = 0
    agents_joined: int = 0
    opened_unknown: int = 0  # first seen by something else than a start
    ended_unknown: int = 0  # ends of calls whose start was never seen
    healed_heartbeat: int = 0  # taken out of flight without an end, by cause
    healed_ttl: int = 0
    healed_listed: int = 0
    healed_late: int = 0
    ended_answered: int = 0  # ends of calls that had been answered
    ended_without_turn: int = 0  # of these: no turn was ever seen
    ended_without_agent: int = 0  # of these: no agent ever joined
    in_flight: int = 0  # at the slice's end
    declined_late: int = 0  # capacity declines that were told after their slice was judged


class WindowSummary(NamedTuple):
    """One closed slice [start_ns, end_ns) with the windows that end with it: all that a detector sees."""

    start_ns: int
    end_ns: int
    first_ns: int  # start of the first slice of the stream
    is_partial: bool  # attached to a busy platform a short while ago; levels may be too low
    limits: LimitUse
    windows: WindowView
    stream: StreamUse
    facts: SliceFacts
    notes: tuple[Note, ...]  # changes, plans and reports of this slice, and earlier ones that came late


class RunningSum:
    """One window: a dense sum, and the sparse facts it holds, oldest first.

    So they can be taken off again.

    The facts are kept merged per pane of `pane_ns`, and leave the window a pane at a time: a window of long
    panes is shorter than its name by less than one pane. What comes late is merged into its pane, so that
    what is held is bounded by the panes and the rows of a window, however many rows are late.
    """

    def __init__(self, window_ns: int, pane_ns: int) -> None:
        """Start empty."""
        self.window_ns = window_ns
        self.pane_ns = pane_ns
        # Half the memory of int64, and enough for 600,000 a second in the hour.
        self.dense: NDArray[np.int32] = np.zeros(0, np.int32)
        self._held: deque[Contribution] = deque()
        self._pane: list[Contribution] = []  # of the pane that is not over yet

    def grow(self, size: int) -> None:
        """Make room for `size` positions; new ones are 0."""
        larger = np.zeros(size, np.int32)  # What is never written takes no memory, unlike copied zeros.
        larger[: len(self.dense)] = self.dense
        self.dense = larger

    def add(self, contribution: Contribution) -> None:
        """Add the facts of the newest slice."""
        scatter_add(self.dense, contribution.flat, contribution.values, 1)
        contribution = self._in_its_pane(contribution)
        if self._pane and contribution.start_ns > self._pane[0].start_ns:
            self._hold(merged(self._pane))
            self._pane = []
        self._pane.append(contribution)

    def amend(self, contribution: Contribution, end_ns: int) -> None:
        """Add facts of an earlier slice, if the window that ends at `end_ns` still holds its pane."""
        contribution = self._in_its_pane(contribution)
        if contribution.start_ns < end_ns - self.window_ns:
            return
        scatter_add(self.dense, contribution.flat, contribution.values, 1)
        if self._pane and self._pane[0].start_ns == contribution.start_ns:
            self._pane[-1] = merged([self._pane[-1], contribution])
        else:
            self._hold(contribution)

    def _hold(self, contribution: Contribution) -> None:
        """Keep facts in order of time, one for each pane, so that the oldest can be taken off first."""
        place = len(self._held)
        while place and self._held[place - 1].start_ns > contribution.start_ns:
            place -= 1
        if place and self._held[place - 1].start_ns == contribution.start_ns:
            self._held[place - 1] = merged([self._held[place - 1], contribution])
        else:
            self._held.insert(place, contribution)

    def evict(self, end_ns: int) -> list[NDArray[np.int32]]:
        """Take off what starts before the window that ends at `end_ns`; give the positions that changed."""
        changed = []
        from_ns = end_ns - self.window_ns
        while self._held and self._held[0].start_ns < from_ns:
            changed.append(self._take_off(self._held.popleft()))
        if self._pane and self._pane[0].start_ns < from_ns:  # Only after a gap as long as the window.
            changed.append(self._take_off(merged(self._pane)))
            self._pane = []
        return changed

    def _in_its_pane(self, contribution: Contribution) -> Contribution:
        """Date facts by their pane, so that all facts of one pane leave together."""
        start_ns = contribution.start_ns // self.pane_ns * self.pane_ns
        return contribution if start_ns == contribution.start_ns else contribution._replace(start_ns=start_ns)

    def _take_off(self, contribution: Contribution) -> NDArray[np.int32]:
        scatter_add(self.dense, contribution.flat, contribution.values, -1)
        return contribution.flat


class RollingSums:
    """Dense sums over the three windows, `width` numbers a row, rows added as they appear."""

    def __init__(self, width: int, slice_ns: int) -> None:
        """Start without rows."""
        self.width = width
        self.rows = 0
        self.windows = tuple(
            RunningSum(window_ns, PANE_NS if window_ns > 10 * PANE_NS else slice_ns)
            for window_ns in WINDOWS_NS
        )

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        self.rows = max(self.rows, rows)
        if self.rows * self.width > len(self.windows[0].dense):
            for window in self.windows:
                window.grow(max(2 * self.rows, 16) * self.width)

    def advance(self, end_ns: int, contribution: Contribution) -> list[list[NDArray[np.int32]]]:
        """Move on to the slice that ends at `end_ns`; give the positions whose sums changed, by window."""
        changed = []
        for window in self.windows:
            changed.append([contribution.flat, *window.evict(end_ns)])
            window.add(contribution)
        return changed

    def amend(self, contribution: Contribution, end_ns: int) -> None:
        """Add facts of an earlier slice to the windows that still hold it."""
        for window in self.windows:
            window.amend(contribution, end_ns)

    def table(self, window: int) -> NDArray[np.int32]:
        """Show the sums of one window as (rows, width); a view, not a copy."""
        return self.windows[window].dense[: self.rows * self.width].reshape(self.rows, self.width)
