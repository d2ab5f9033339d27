"""What the reports of a slice say of limits, by the limit instance that each is of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.decode.events import EventType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engine.decode.events import Note
    from engine.limits import LimitInstance


def reported(
    notes: tuple[Note, ...], told: Iterable[LimitInstance], field: str
) -> Iterator[tuple[int, float]]:
    """Give for every report of `field`, in order, the row of its limit instance and what it says.

    Only those of `told` are looked for, of which no two that have the same name and split.
    """
    reports = [one for one in notes if one.type_id == EventType.LIMIT_REPORTED]
    if not reports:
        return
    row_of, split_by = {}, {}
    for instance in told:
        row_of[instance.limit.name, tuple(value for _, value in instance.split)] = instance.index
        split_by[instance.limit.name] = instance.limit.split_by
    for note in reports:
        fields, labels = dict(note.fields), dict(note.labels)
        name, number = str(fields.get("limit", "")), fields.get(field)
        split = tuple(labels.get(label, "") for label in split_by.get(name, ()))
        row = row_of.get((name, split), -1)
        if row >= 0 and isinstance(number, int | float):
            yield row, float(number)
