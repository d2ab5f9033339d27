"""Label values to dense series ids, bounded, so that the totals of limits stay exact when the table is full.

The table has three parts, and a row of all `__other__` that always exists (id 0):
  free       a combination of labels as it is;
  limits     when the free part is full: only what limits need, that is every value of a label that a limit
             splits by and the values that limits name; all else becomes `__other__`;
  exact      when that is full too: only the values that limits name; other instances of a limit with split_by
             go to its instance `__other__`.
As long as the combinations of named values fit in half of the table, every one of them finds a place. A
combination that was collapsed stays collapsed: a series never changes its meaning.
Rejected: dropping the least used series, which makes the totals of a limit jump and the result depend on
timing.
"""

from __future__ import annotations

from enum import IntEnum
from math import prod
from typing import TYPE_CHECKING

from engine.decode.events import LABELS
from engine.limits import OTHER, LimitLabel

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_LIMIT = LimitLabel()


class Admission(IntEnum):
    """How a combination of labels got into the table."""

    WHOLE = 0
    LIMIT_LABELS = 1  # what no limit needs was collapsed
    EXACT_VALUES = 2  # values of split_by labels as well
    NOTHING = 3  # no place even for that: counted in the row of all `__other__`


class SeriesTable:
    """Dense ids for combinations of the effective labels; ids and values are never taken back."""

    def __init__(self, series_labels: tuple[str, ...], limit_labels: Mapping[str, LimitLabel],
                 series_max: int) -> None:  # fmt: skip
        """Lay out the parts; `labels` are those that are always kept, then those only limits need."""
        assert series_max >= 1
        assert set(series_labels) | set(limit_labels) <= set(LABELS), "labels come from the event contract"
        extra = tuple(label for label in LABELS if label in limit_labels and label not in series_labels)
        self.labels: tuple[str, ...] = series_labels + extra
        self.values: list[tuple[str, ...]] = [(OTHER,) * len(self.labels)]
        self.rows_by_admission: list[int] = [0] * len(Admission)
        self.identities_unkept: set[str] = set()  # platform, tenant: named of a call, and not in `labels`
        self._limit_labels = dict(limit_labels)
        self._ids = {self.values[0]: 0}
        exact_rows = prod(len(one.named) + 1 for one in limit_labels.values()) if limit_labels else 0
        exact_max = min(exact_rows, series_max // 2)
        self._limits_end = series_max - exact_max
        self._free_end = self._limits_end - (series_max // 4 if limit_labels else 0)
        self._series_max = series_max

    def __len__(self) -> int:
        """How many series there are."""
        return len(self.values)

    @property
    def rows_collapsed(self) -> int:
        """How many rows went to a series with a label collapsed to `__other__`."""
        return sum(self.rows_by_admission[Admission.LIMIT_LABELS :])

    def admit(self, values: tuple[str, ...]) -> tuple[int, Admission]:
        """Give the id for label values in the order of `labels`, making a series if there is room.

        The caller counts rows in `rows_by_admission`, since it may remember the answer for many rows.
        """
        needed = self._needed(values, is_split_kept=True)
        exact = self._needed(values, is_split_kept=False)
        # By what was lost, not by the part it is in: asked again, the answer is the same.
        at_worst = Admission.LIMIT_LABELS if exact == needed else Admission.EXACT_VALUES
        steps = (
            (values, self._free_end, Admission.WHOLE),
            (needed, self._limits_end, Admission.LIMIT_LABELS),
            (exact, self._series_max, at_worst),
        )
        for wanted, end, admission in steps:
            series_id = self._ids.get(wanted)
            if series_id is None and len(self.values) < end:
                series_id = self._ids[wanted] = len(self.values)
                self.values.append(wanted)
            if series_id is not None:
                # A combination that limits need in full lost nothing, whichever part it is in.
                return series_id, Admission.WHOLE if wanted == values else admission
        return 0, Admission.NOTHING

    def work_out(self) -> None:
        """Find the ids by their order, as after a restore."""
        self._ids = {values: number for number, values in enumerate(self.values)}

    def _needed(self, values: tuple[str, ...], *, is_split_kept: bool) -> tuple[str, ...]:
        kept = []
        for label, value in zip(self.labels, values, strict=True):
            needed = self._limit_labels.get(label, NO_LIMIT)
            is_kept = value in needed.named or (needed.is_split and is_split_kept)
            kept.append(value if is_kept else OTHER)
        return tuple(kept)
