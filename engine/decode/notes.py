"""The rare events, kept as they are: limit reports, lists of live calls, announced load, changes.

Only the fields named here are kept, redacted and bounded. A list of calls is taken whole or not at all: from
a list cut short, or with entries left out, the engine would conclude that the other calls have ended.
"""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

import msgspec

from engine.decode.events import EventType
from engine.decode.fields import EventFields, quantity
from engine.decode.identity import CALL, id_bytes, identity_keys
from engine.decode.redaction import clean_label, redact_change
from engine.decode.timestamp import event_time_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from engine.decode.mask import LabelMask

NoteFields = tuple[tuple[str, object], ...]

OF_LIMITS = (EventType.LIMIT_REPORTED, EventType.LOAD_PLANNED)
NUMBERS = {
    EventType.LIMIT_REPORTED: ("used", "max"),
    EventType.LOAD_PLANNED: ("expected",),
}
TEXTS = ("what", "from", "to", "by")
NUMBER_MAX = 1e12  # of calls or of what a quota counts; no sum of them is more than a number can hold


def note_fields(
    fields: EventFields, type_id: int, ignore: Callable[[str], None], mask: LabelMask
) -> NoteFields:
    """Give the fields of a note other than a list of calls; `ignore` is told which could not be used."""
    pairs: list[tuple[str, object]] = []
    if type_id in OF_LIMITS and fields.limit is not None:
        limit = clean_label(fields.limit)
        if limit:
            pairs.append(("limit", mask.shown("limit", limit)))
        else:
            ignore("limit")
    for name in NUMBERS.get(EventType(type_id), ()):
        value = getattr(fields, name)
        if value is not None:
            number = quantity(value)
            if isnan(number) or number > NUMBER_MAX:
                ignore(name)
            else:
                pairs.append((name, number))
    if type_id == EventType.LOAD_PLANNED and (text := bytes(fields.until)) not in (b"", b"null"):
        until_ns = event_time_ns(text)
        if until_ns >= 0:
            pairs.append(("until_ns", until_ns))
        else:
            ignore("until")
    if type_id == EventType.LOAD_PLANNED and fields.from_ is not None:
        from_ns = _moment_ns(fields.from_)
        if from_ns >= 0:
            pairs.append(("from_ns", from_ns))
        else:
            ignore("from")
    if type_id == EventType.CHANGE_MADE:
        pairs += _change(fields, ignore)
    return tuple(pairs)


def _change(fields: EventFields, ignore: Callable[[str], None]) -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for name, value in zip(TEXTS, (fields.what, fields.from_, fields.to, fields.by), strict=True):
        if isinstance(value, str):
            pairs.append((name, redact_change(value)))
        elif type(value) in (int, float):  # "from": 80 is what a change of a cap looks like.
            pairs.append((name, redact_change(_number_text(value))))
        elif value is not None:
            ignore(name)
    return pairs


def _moment_ns(value: object) -> int:
    """Read a moment that was decoded already; a number with decimals is no longer exact, and none."""
    if isinstance(value, str):
        return event_time_ns(msgspec.json.encode(value))
    return event_time_ns(_number_text(value).encode()) if type(value) is int else -1


def _number_text(value: float) -> str:
    try:
        return str(value)
    except ValueError:  # More digits than Python converts.
        return "#"


def listed_calls(calls: list[object], prefix: bytes, key: NDArray[np.uint64]) -> tuple[int, ...]:
    """Give the keys of the platform's list of live calls, in which every entry is a call id."""
    return tuple(identity_keys([CALL + prefix + id_bytes(call) for call in calls], key).tolist())
