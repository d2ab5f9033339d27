"""What the decoder's local ids stand for, and what follows from the names: order, and how long things last.

The decoder only ever adds ids, so everything here is kept until a table has grown.
Rejected: asking for names row by row, which would put strings into the hot path.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from engine.decode.events import GOOD_OUTCOMES, Cause
from engine.observe.calls import Terms
from engine.observe.merge import Names
from engine.observe.order import Ranks, kind_ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from engine.settings import EngineSettings

MINUTE_NS = 60_000_000_000
TOMBSTONE_BEYOND_LATE_NS = 5 * MINUTE_NS
HEARTBEAT_NS = 30_000_000_000
PLATFORM = "platform"
DIGEST_SHIFT = 20
NO_CAUSE = Cause(declined=True, outcome="", platform="", code=0, reason="", limit="")


class SeriesNames(Protocol):
    """The decoder's series table: label names, and label values by dense id. Ids are only ever added."""

    labels: tuple[str, ...]
    values: list[tuple[str, ...]]


class CauseNames(Protocol):
    """The decoder's cause table: causes by dense id, only ever added."""

    causes: list[Cause]


class StageNames(Protocol):
    """The decoder's stage table: names by dense id, only ever added."""

    names: list[str]


class Tables:
    """The three tables of one decoder, with what is derived from them."""

    def __init__(
        self,
        settings: EngineSettings,
        series: SeriesNames,
        causes: CauseNames,
        stages: StageNames,
        ttl_ns_of: Callable[[tuple[str, ...]], int] | None,
    ) -> None:
        """Read from the tables; see `Observer` for `ttl_ns_of`."""
        assert PLATFORM in series.labels or not settings.late_by_platform_ns, "it is by the platform"
        self.series, self.causes, self.stages = series, causes, stages
        self.names = Names(series.values.__getitem__, causes.causes.__getitem__, stages.names.__getitem__)
        self._settings = settings
        self._ttl_ns_of = ttl_ns_of
        self._kinds = kind_ranks()
        self._series_ranks = self._cause_ranks = self._digests = np.zeros(0, np.int64)
        self._fails = np.zeros(0, np.bool_)
        self._late_ns = self._ttl_ns = np.zeros(0, np.int64)

    @property
    def late_ns_max(self) -> int:
        """How late a row may be at most and still amend."""
        return max(self._settings.late_ns, *self._settings.late_by_platform_ns.values(), 0)

    def ranks(self) -> Ranks:
        """Give the order of names, by id."""
        if len(self._series_ranks) != len(self.series.values):
            self._series_ranks = _places(self.series.values)
        if len(self._cause_ranks) != len(self.causes.causes) + 1:
            self._cause_ranks = np.append(_places(self.causes.causes), -1)
        return Ranks(self._kinds, self._series_ranks, self._cause_ranks)

    def late_ns(self) -> NDArray[np.int64]:
        """Give how late rows of each series may be and still amend, int64 (series,)."""
        return self._extend()[0]

    def terms(self) -> Terms:
        """Give how long calls and tombstones last."""
        tombstone_ns = self.late_ns_max + TOMBSTONE_BEYOND_LATE_NS
        return Terms(self._extend()[1], self._settings.heartbeats_missed, HEARTBEAT_NS, tombstone_ns)

    def stage_digests(self) -> NDArray[np.int64]:
        """Give a number for each stage that depends on its name alone, int64 (stages,)."""
        if len(self._digests) != len(self.stages.names):
            digests = [zlib.crc32(name.encode()) << DIGEST_SHIFT for name in self.stages.names]
            self._digests = np.array(digests, np.int64)
        return self._digests

    def fails(self) -> NDArray[np.bool_]:
        """Say which causes are not good outcomes, bool (causes + 1,); the last one is that of id -1."""
        if len(self._fails) != len(self.causes.causes) + 1:
            fails = [not one.declined and one.outcome not in GOOD_OUTCOMES for one in self.causes.causes]
            self._fails = np.array([*fails, False], np.bool_)
        return self._fails

    def cause(self, cause_id: int) -> Cause:
        """Give the cause of a decline; an empty one for -1."""
        return self.causes.causes[cause_id] if cause_id >= 0 else NO_CAUSE

    def _extend(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        new = self.series.values[len(self._late_ns) :]
        if new:
            late = np.full(len(new), self._settings.late_ns, np.int64)
            if self._settings.late_by_platform_ns:
                at = self.series.labels.index(PLATFORM)
                by_platform = self._settings.late_by_platform_ns
                late = np.array([by_platform.get(one[at], self._settings.late_ns) for one in new], np.int64)
            ttl_ns = [self._ttl_ns_of(one) if self._ttl_ns_of else self._settings.call_ttl_ns for one in new]
            self._late_ns = np.concatenate([self._late_ns, late])
            self._ttl_ns = np.concatenate([self._ttl_ns, np.array(ttl_ns, np.int64)])
        return self._late_ns, self._ttl_ns


def _places(names: Sequence[Any]) -> NDArray[np.int64]:
    """Give the place of each name in the order of names."""
    places = np.zeros(len(names), np.int64)
    places[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return places
