"""Which limits and which window rows a series counts in; decided once, when the series is first seen.

Judge numbers series by itself, in order of their first slice and then of their labels, so that the numbers do
not depend on partitions or processes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from engine.decode.events import EventType
from engine.judge.implicit import NOTHING_IMPLICIT, Implicit
from engine.judge.occupancy import Membership
from engine.judge.terms import LimitTerms, terms_of
from engine.limits import OTHER, SHARED_WORDS, LimitInstance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from engine.decode.events import Note
    from engine.limits import Limit, Register

LabelSet = tuple[tuple[str, str], ...]


ROWS_RATIO_MAX = 4  # rows of instances, those that have retired included, to instances in force


def retired(limit: Limit) -> Limit:
    """Give a limit that is in the register no more: it has no value."""
    confirmed_on = limit.confirmed_on or "retired"
    return msgspec.structs.replace(limit, value=None, values={}, history=(), confirmed_on=confirmed_on)


class Csr:
    """Lists of row numbers by series, grown one series at a time and read as arrays."""

    def __init__(self) -> None:
        """Start without series."""
        self._start = [0]
        self._rows: list[int] = []
        self._arrays: Membership | None = None

    def append(self, rows: list[int]) -> None:
        """Say the rows of the next series."""
        self._rows += rows
        self._start.append(len(self._rows))
        self._arrays = None

    def arrays(self) -> Membership:
        """Give the lists as arrays, made anew only after a change."""
        if self._arrays is None:
            self._arrays = Membership(np.array(self._start, np.int64), np.array(self._rows, np.int32))
        return self._arrays


class SeriesIndex:
    """Series, limit instances and window rows, each only ever appended."""

    def __init__(
        self,
        register: Register,
        instances_max: int,
        window_rows_max: int,
        implicit: Implicit = NOTHING_IMPLICIT,
    ) -> None:
        """Start with the instances of limits that are not split; the others appear with their values."""
        self.register = register
        self.instances_max = instances_max
        self.window_rows_max = window_rows_max
        self.implicit = implicit
        self._implicit_count = 0
        self.met: Counter[str] = Counter()  # by bound: how often something did not fit
        self.series: list[LabelSet] = []
        self.instances: list[LimitInstance] = []
        self.by_start = Csr()  # instances of limits that count from `call.started`
        self.by_answer = Csr()
        self.rows = Csr()
        self.row_labels: list[LabelSet] = [()]
        self._terms: LimitTerms | None = None
        self._ids: dict[LabelSet, int] = {}
        # The same by label names and then by values, as summaries have them.
        self._ids_by_values: dict[tuple[str, ...], dict[tuple[str, ...], int]] = {}
        self._instance_ids: dict[tuple[str, LabelSet], int] = {}  # (what is counted, split) -> instance
        self._row_ids: dict[LabelSet, int] = {(): 0}
        for limit in register.limits:
            if not limit.split_by:
                self._instance(limit, ())

    def ids(self, labels: tuple[str, ...], series: tuple[tuple[str, ...], ...]) -> NDArray[np.int32]:
        """Give the number of each series (int32), taking up new ones in the order of their labels."""
        known = self._ids_by_values.setdefault(labels, {})
        fresh = {
            values: tuple((name, value) for name, value in zip(labels, values, strict=True) if value)
            for values in series
            if values not in known
        }
        if fresh:
            for labelset in sorted(one for one in set(fresh.values()) if one not in self._ids):
                self._take_up(labelset)
            known.update((values, self._ids[labelset]) for values, labelset in fresh.items())
        return np.array([known[values] for values in series], np.int32)

    def instances_of(self, series_id: int) -> list[int]:
        """List the instances that a series counts in, by start or by answer."""
        found = []
        for csr in (self.by_start.arrays(), self.by_answer.arrays()):
            found += [int(one) for one in csr.instance[csr.start[series_id] : csr.start[series_id + 1]]]
        return sorted(found)

    def terms(self) -> LimitTerms:
        """Give what the register says of the instances, made anew only after a change."""
        if self._terms is None or len(self._terms.value) < len(self.instances):
            self._terms = terms_of(self.instances, self.counting())
        return self._terms

    def counting(self) -> set[int]:
        """Give the instances that calls can count in: those of limits that are in the register."""
        rows = self._instance_ids.values()
        return {row for row in rows if not self.instances[row].limit.is_implicit}

    def instances_known(self, labels: tuple[str, ...], values: tuple[str, ...]) -> list[int]:
        """List the instances that a series of these labels would count in, taking nothing up."""
        given = {name: value for name, value in zip(labels, values, strict=True) if value}
        found = []
        for limit in (*self.register.limits, *self.implicit.limits):
            if limit.matches(given):
                split = tuple((label, given.get(label, "")) for label in limit.split_by)
                key = (limit.counted, split)
                if key in self._instance_ids:
                    found.append(self._instance_ids[key])
        return sorted(found)

    def take_announced(self, notes: Iterable[Note]) -> None:
        """Take up the instances that announced load is about: a new tenant is announced before it calls."""
        for note in notes:
            if note.type_id != EventType.LOAD_PLANNED:
                continue
            given = dict(note.labels)
            for limit in self.register.limits:
                if limit.split_by and limit.matches(given) and all(map(given.get, limit.split_by)):
                    self._instance(limit, tuple((label, given[label]) for label in limit.split_by))

    def _take_up(self, labelset: LabelSet) -> None:
        self._ids[labelset] = len(self.series)
        self.series.append(labelset)
        self._match(labelset)
        wanted = {(), labelset, *((pair,) for pair in labelset)}
        rows = [self._row(one) for one in sorted(wanted)]
        self.rows.append([row for row in rows if row >= 0])

    def _match(self, labelset: LabelSet) -> None:
        """Say which instances the next series counts in."""
        given = dict(labelset)
        matches = [limit for limit in self.register.limits if limit.matches(given)]
        rows: dict[str, list[int]] = {"started": [], "answered": []}
        for limit in matches:
            split = tuple((label, given.get(label, "")) for label in limit.split_by)
            rows[limit.counts_from].append(self._instance(limit, split))
        rows["started"] += self._implicit_rows(given)
        self.by_start.append(rows["started"])
        self.by_answer.append(rows["answered"])

    def _implicit_rows(self, given: dict[str, str]) -> list[int]:
        """List the implicit instances of the next series: as many as the register leaves room for."""
        rows = []
        for limit in self.implicit.limits:
            split = tuple((label, given.get(label, "")) for label in limit.split_by)
            if any(value in ("", *SHARED_WORDS) for _, value in split):
                continue  # Calls without a value have nothing in common.
            is_known = (limit.counted, split) in self._instance_ids
            has_room = self._implicit_count < self.implicit.instances_max and self._has_room()
            if is_known or has_room:
                self._implicit_count += not is_known
                rows.append(self._instance(limit, split))
            else:
                self.met["hidden_cap_instances_max"] += 1
        return rows

    def _instance(self, limit: Limit, split: LabelSet) -> int:
        """Give an instance its number; when full, the rest of a split limit share one named `__other__`.

        One that the register names always has its place: its cap can decline calls.
        """
        key = (limit.counted, split)
        if key not in self._instance_ids:
            if split and not limit.names(split) and not self._has_room(self._implicit_count):
                self.met["limit_instances_max"] += 1
                key = (key[0], tuple((label, OTHER) for label, _ in split))
            if key not in self._instance_ids:
                self._instance_ids[key] = len(self.instances)
                self.instances.append(LimitInstance(len(self.instances), limit, key[1]))
        return self._instance_ids[key]

    def _has_room(self, besides: int = 0) -> bool:
        """Say whether one more may be in force, beside so many; those that have retired keep their rows."""
        in_force = len(self._instance_ids) - besides
        return in_force < self.instances_max and len(self.instances) < ROWS_RATIO_MAX * self.instances_max

    def reload(self, register: Register) -> None:
        """Take a new register: instances that count the same calls go on, others retire without a value.

        One that comes back is a new one: what it did in between is not known.
        """
        self.register = register
        self._terms = None
        limits = {limit.counted: limit for limit in register.limits}
        for key, row in list(self._instance_ids.items()):
            instance = self.instances[row]
            if instance.limit.is_implicit:
                continue
            limit = limits.get(key[0])
            if limit is None:
                del self._instance_ids[key]
                limit = retired(instance.limit)
            self.instances[row] = LimitInstance(row, limit, instance.split, key not in self._instance_ids)
        for limit in register.limits:
            if not limit.split_by:
                self._instance(limit, ())
        self.by_start, self.by_answer = Csr(), Csr()
        before, self.met = self.met, Counter()
        for labelset in self.series:
            self._match(labelset)
        self.met = before | self.met  # What had no room before has none again, and counts once.

    def work_out(self) -> None:
        """Find the numbers of series and rows by their order, as after a restore."""
        self._ids = {labelset: number for number, labelset in enumerate(self.series)}
        self._row_ids = {labelset: number for number, labelset in enumerate(self.row_labels)}

    def _row(self, labelset: LabelSet) -> int:
        """Give a window row its number; -1 when full: then only the rows that exist count it."""
        if labelset not in self._row_ids:
            if len(self.row_labels) >= self.window_rows_max:
                self.met["window_rows_max"] += 1
                return -1
            self._row_ids[labelset] = len(self.row_labels)
            self.row_labels.append(labelset)
        return self._row_ids[labelset]
