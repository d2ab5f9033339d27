"""The labels of a row, to a series id, a platform and the framing of identities; remembered by raw values.

Rows of a platform carry few combinations of labels, so nearly every row costs one look-up. The memory
holds only values that may be kept: rows with a masked or unusable label are worked out anew each time. When
full it is emptied, which costs time and changes no result.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.decode.events import LABELS
from engine.decode.identity import identity_prefix
from engine.decode.redaction import clean_label

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.decode.fields import EventFields
    from engine.decode.mask import LabelMask
    from engine.decode.series import SeriesTable

REMEMBERED_PER_SERIES = 4


class RowLabels(NamedTuple):
    """What the labels of a row come to."""

    series_id: int
    admission: int  # engine.decode.series.Admission
    platform: str  # masked
    prefix: bytes  # of the identities of its calls and events, see engine.decode.identity
    unkept: tuple[str, ...]  # platform, tenant: named, and no label of the series


class LabelReader:
    """Reads the labels that series and identities need; counts unusable ones through `ignore`."""

    def __init__(
        self, series: SeriesTable, series_max: int, ignore: Callable[[str], None], mask: LabelMask
    ) -> None:
        """Remember at most a few combinations per series."""
        # Platform and tenant are in every identity, whether or not they are labels of the series.
        always = tuple(name for name in ("platform", "tenant") if name not in series.labels)
        self.names = series.labels + always
        self.values_of: Callable[[EventFields], tuple[Any, ...]] = attrgetter(*self.names)
        self._series = series
        self._ignore = ignore
        self._mask = mask
        self._remembered: dict[tuple[Any, ...], RowLabels] = {}
        self._remembered_max = REMEMBERED_PER_SERIES * series_max

    def read(self, fields: EventFields, *, is_of_call: bool) -> RowLabels:
        """Give what the labels of a row come to, and count the row in the series table.

        Only a row of a call says what calls are named by; a change or a report may be of anything.
        """
        values = self.values_of(fields)
        try:
            labels = self._remembered.get(values)
        except TypeError:  # A list or an object where a label should be.
            labels = None
        if labels is None:
            labels = self._work_out(values)
        self._series.rows_by_admission[labels.admission] += 1
        if is_of_call and labels.unkept:
            self._series.identities_unkept.update(labels.unkept)
        return labels

    def remembered(self, values: tuple[Any, ...]) -> RowLabels | None:
        """Give what labels came to when last read, unless they may not be kept; counts nothing.

        Nor are they given as long as `read` has something to note of the first call that has them.
        """
        labels = self._remembered.get(values)
        if labels is not None and self._series.identities_unkept.issuperset(labels.unkept):
            return labels
        return None

    def _work_out(self, values: tuple[Any, ...]) -> RowLabels:
        clean: dict[str, str] = {}
        kept: dict[str, str] = {}
        for name, value in zip(self.names, values, strict=True):
            text = clean_label(value)
            if text is None:
                self._ignore(name)
            clean[name] = text or ""
            kept[name] = self._mask.shown(name, clean[name])
        series_id, admission = self._series.admit(tuple(kept[name] for name in self._series.labels))
        prefix = identity_prefix(clean["platform"], clean["tenant"])
        unkept = tuple(name for name in self.names if clean[name] and name not in self._series.labels)
        labels = RowLabels(series_id, int(admission), kept["platform"], prefix, unkept)
        if all(
            value is None or (value == clean[name] and self._mask.may_be_learned(name, value))
            for name, value in zip(self.names, values, strict=True)
        ):
            if len(self._remembered) >= self._remembered_max:
                self._remembered.clear()
            self._remembered[values] = labels
        return labels


def note_labels(fields: EventFields, mask: LabelMask) -> tuple[tuple[str, str], ...]:
    """Give the usable labels of a note, in the order of LABELS."""
    cleaned = ((name, clean_label(getattr(fields, name))) for name in LABELS)
    return tuple((name, mask.shown(name, value)) for name, value in cleaned if value)
