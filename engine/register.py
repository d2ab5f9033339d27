"""The text of a limits register to a `Register`, with every mistake reported at once.

A limit that is silently misread is worse than none: it never pages. So nothing is guessed: an unknown key,
label or kind, a number in quotes, a field that means nothing for its kind, and a history that contradicts
the value are all problems, each with its place and mend. Reads no file but the database of time zones.
"""

from __future__ import annotations

import re
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING

from engine.decode.events import LABELS
from engine.fields import (
    FaultError,
    Fields,
    Problems,
    as_count,
    as_positive,
    as_positive_duration_ns,
    as_text,
    as_time_ns,
    each,
    one_of,
    printable,
    shown,
    table,
)
from engine.limits import (
    CONCURRENCY,
    INFERRED_PREFIX,
    KINDS,
    QUOTA,
    RATE,
    TIMEOUT,
    Guardrail,
    Limit,
    Register,
)
from engine.settings import MINUTE, UTC_NAME
from engine.strict_yaml import parse_yaml
from engine.zones import utc_offsets

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME_BYTES_MAX = 128
TEXT_BYTES_MAX = 1024
COUNTED = ("calls", "minutes", "tokens", "cost")
SET_BY = ("panel", "default", "code", "contract", "inferred")
WHEN_REACHED = ("decline", "queue", "throttle", "silent")

# Fields that mean something for some kinds only.
KINDS_OF_FIELD = {
    "per": (RATE, QUOTA),
    "resets": (QUOTA,),
    "stage": (TIMEOUT,),
    "counts_from": (CONCURRENCY,),
    "max_duration": (CONCURRENCY,),
    "expected_holding": (CONCURRENCY,),
    "expected_peak": (CONCURRENCY, RATE, QUOTA),
    "split_by": (CONCURRENCY, RATE, QUOTA),
}
_RESETS = re.compile(r"rolling|([01]\d|2[0-3]):[0-5]\d [A-Za-z_]+(/[A-Za-z0-9_+-]+){0,2}")


def parse_register(text: str, where: str) -> Register:
    """Parse a register; raises `SettingsError` with every problem found."""
    document = parse_yaml(text, where)
    problems = Problems(document)
    if document.value is None:
        problems.add((), "is empty", "write `limits:` and below it one `- name: ...` entry for every cap")
        problems.raise_any()
    top = Fields(document.value, (), problems)
    limits = tuple(_limit(fields) for fields in _entries(top, "limits", problems))
    guardrails = tuple(_guardrail(fields) for fields in _entries(top, "guardrails", problems))
    if top.is_mapping and not top.has("limits") and "limits" not in top.values:
        top.wrong("limits", "is missing", "write `limits: []` if there are none")
    top.close()
    _refuse_same_names("limits", [limit.name for limit in limits], problems)
    _refuse_same_names("guardrails", [guardrail.name for guardrail in guardrails], problems)
    problems.raise_any()
    return Register(limits, guardrails)


def _entries(top: Fields, key: str, problems: Problems) -> Iterable[Fields]:
    nothing: list[object] = []
    items = top.get(key, _as_list, nothing)
    return [Fields(item, (key, index), problems) for index, item in enumerate(items)]


def _as_list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise FaultError(f"{shown(value)} is not a list", "write one `- name: ...` entry for each")
    return value


def _refuse_same_names(key: str, names: Iterable[str], problems: Problems) -> None:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name and name in first:
            other = problems.place((key, first[name], "name"))
            problems.add(
                (key, index, "name"),
                f"{name!r} names two entries, the other is at {other}",
                "rename one of them",
            )
        first.setdefault(name, index)


def _limit(fields: Fields) -> Limit:
    kind = fields.need("kind", one_of(KINDS), "", f"write one of {', '.join(KINDS)}")
    no_labels: tuple[str, ...] = ()
    confirmed_ns = fields.get("confirmed_on", as_time_ns, None)
    resets = fields.get("resets", _as_resets, None)
    at, _, zone = (resets or "").partition(" ")
    limit = Limit(
        name=fields.need("name", as_name, "", "every limit needs a name; it becomes the label `limit`"),
        kind=kind,
        value=fields.get("value", VALUE_READERS.get(kind, as_positive), None),
        per_ns=fields.get("per", as_positive_duration_ns, None),
        resets=resets,
        resets_at_ns=_clock_ns(at) if zone else 0,
        utc_offsets=utc_offsets(zone or UTC_NAME),
        values=fields.get("values", table(as_text, as_positive), {}),
        history=_history(fields),
        applies_to=fields.get("applies_to", table(one_of(LABELS), _as_label_values), {}),
        split_by=fields.get("split_by", _as_labels, no_labels),
        counts_from=fields.get("counts_from", one_of(("started", "answered")), "started"),
        counts=fields.get("counts", one_of(COUNTED), "calls"),
        stage=fields.get("stage", printable(NAME_BYTES_MAX), None),
        max_duration_ns=fields.get("max_duration", as_positive_duration_ns, None),
        expected_holding_ns=fields.get("expected_holding", as_positive_duration_ns, None),
        expected_peak=fields.get("expected_peak", as_positive, None),
        lives_in=fields.get("lives_in", printable(TEXT_BYTES_MAX), ""),
        set_by=fields.get("set_by", one_of(SET_BY), ""),
        owner=fields.get("owner", as_name, ""),
        action=fields.get("action", printable(TEXT_BYTES_MAX), ""),
        confirmed_on=_date_text(fields.values.get("confirmed_on")) if confirmed_ns is not None else None,
        confirmed_ns=confirmed_ns,
        when_reached=fields.get("when_reached", one_of(WHEN_REACHED), "decline"),
        runbook_url=fields.get("runbook_url", as_url, ""),
    )
    fields.close()
    _check_kind(limit, fields)
    _check_split(limit, fields)
    _check_history(limit, fields)
    return limit


def _check_kind(limit: Limit, fields: Fields) -> None:
    """Report fields that the kind needs, and fields that mean nothing for it."""
    if not limit.kind:
        return
    for key, kinds in KINDS_OF_FIELD.items():
        if fields.has(key) and limit.kind not in kinds:
            fields.wrong(
                key, f"means nothing for a limit of kind {limit.kind}", f"it is for {' and '.join(kinds)}"
            )
    if limit.kind in (RATE, QUOTA) and not fields.has("per"):
        fields.wrong(
            "per",
            f"is missing, a {limit.kind} needs it",
            "write per: 1s" if limit.kind == RATE else "write per: 1d",
        )
    if limit.kind == QUOTA and not fields.has("resets"):
        fields.wrong("resets", "is missing, a quota needs it", 'write "00:00 Europe/Berlin" or rolling')
    if limit.kind == TIMEOUT and not fields.has("stage"):
        fields.wrong(
            "stage",
            "is missing, a timeout needs it",
            "name the stage that it cuts, such as setup, or transfer",
        )
    if limit.kind != QUOTA and limit.counts != "calls":
        fields.wrong("counts", f"a {limit.kind} can only count calls", "leave the key out")


def _check_split(limit: Limit, fields: Fields) -> None:
    if limit.values and not limit.split_by:
        fields.wrong(
            "values", "gives values by instance, but split_by is missing", "write split_by: [tenant]"
        )
        return
    for key, value in limit.values.items():
        commas = len(limit.split_by) - 1
        if commas > 0 and key.count(",") != commas:
            fields.problems.add(
                (*fields.path, "values", key),
                f"does not name {commas + 1} values",
                f"write them in the order of split_by, joined by commas: {','.join(limit.split_by)}",
            )
        if limit.kind == CONCURRENCY and not value.is_integer():
            fields.problems.add(
                (*fields.path, "values", key), f"{shown(value)} is not a whole number of calls"
            )


def _check_history(limit: Limit, fields: Fields) -> None:
    if any(earlier >= later for (earlier, _), (later, _) in pairwise(limit.history)):
        fields.wrong(
            "history", "is not in ascending order of `from`", "put the oldest entry first, no date twice"
        )
        return
    if not limit.history:
        return
    newest_ns, newest = limit.history[-1]
    if newest == limit.value:
        return
    value = "null" if limit.value is None else f"{limit.value:g}"
    if limit.confirmed_ns is None and not fields.has("confirmed_on"):
        fields.wrong(
            "history",
            f"ends with {newest:g}, value is {value}, and nothing says since when",
            f"write confirmed_on, or add the entry {{from: ..., value: {value}}}",
        )
    elif limit.confirmed_ns is not None and limit.confirmed_ns < newest_ns:
        fields.wrong(
            "confirmed_on",
            f"lies before the newest entry of the history, which says {newest:g}, not {value}",
            "correct the date, or the value",
        )


def _history(fields: Fields) -> tuple[tuple[int, float], ...]:
    entries: list[tuple[int, float]] = []
    nothing: list[object] = []
    for index, item in enumerate(fields.get("history", _as_history, nothing)):
        entry = Fields(item, (*fields.path, "history", index), fields.problems)
        from_ns = entry.need("from", as_time_ns, 0, "write the day since when it held: from: 2026-03-01")
        value = entry.need("value", as_positive, 0.0, "write the value that held then")
        entry.close()
        if from_ns and value:
            entries.append((from_ns, value))
    return tuple(entries)


def _as_history(value: object) -> list[object]:
    if not isinstance(value, list):
        raise FaultError(f"{shown(value)} is not a list", "write [{from: 2026-03-01, value: 60}]")
    return value


def _guardrail(fields: Fields) -> Guardrail:
    guardrail = Guardrail(
        name=fields.need("name", as_name, "", "every guardrail needs a name"),
        on_check_error=fields.need(
            "on_check_error",
            one_of(("open", "closed")),
            "open",
            "decide deliberately: open lets the call through, closed does not",
        ),
        because=fields.need("because", printable(TEXT_BYTES_MAX), "", "write down why it fails this way"),
        owner=fields.get("owner", as_name, ""),
    )
    fields.close()
    return guardrail


def as_name(value: object) -> str:
    """Take a name that can stand in a label: one printable line without what needs escaping."""
    name = printable(NAME_BYTES_MAX)(value)
    unsafe = sorted(set(name) & set('"\\{}'))
    if unsafe:
        raise FaultError(f"{shown(name)} holds {' '.join(unsafe)}", "use letters, digits, - _ . : and spaces")
    if name.startswith(INFERRED_PREFIX):
        raise FaultError(
            f"{shown(name)} begins with {INFERRED_PREFIX}", "that is kept for limits that callgauge infers"
        )
    return name


def as_url(value: object) -> str:
    """Take an http or https address."""
    url = printable(TEXT_BYTES_MAX)(value)
    if not re.fullmatch(r"https?://[^\s/]+\S*", url):
        raise FaultError(f"{shown(url)} is not an http or https address", "write https://host/path")
    return url


def _as_calls(value: object) -> float:
    return float(as_count(value))


def _as_seconds(value: object) -> float:
    if isinstance(value, str):
        raise FaultError(
            f"{shown(value)} is not a number", "a timeout is in seconds: write 15 for 15 seconds"
        )
    return as_positive(value)


def _as_resets(value: object) -> str:
    text = as_text(value)
    if not _RESETS.fullmatch(text):
        raise FaultError(
            f"{shown(text)} is not a time of day with its zone", 'write "00:00 Europe/Berlin" or rolling'
        )
    try:
        utc_offsets(text.partition(" ")[2] or UTC_NAME)
    except ValueError as error:
        raise FaultError(f"{shown(text)} {error}", "write a zone such as Europe/Berlin or UTC") from None
    return text


def _clock_ns(text: str) -> int:
    hours, minutes = text.split(":")
    return (60 * int(hours) + int(minutes)) * MINUTE


def _as_labels(value: object) -> tuple[str, ...]:
    labels = each(one_of(LABELS))(value)
    if len(set(labels)) < len(labels):
        raise FaultError("a label is given twice", "keep one of the two")
    return labels


def _as_label_values(value: object) -> tuple[str, ...]:
    """Take one exact value or a list of them; "" stands for calls without the label."""
    values = each(_as_label_value)(value) if isinstance(value, list) else (_as_label_value(value),)
    if not values:
        raise FaultError(
            "the list is empty, so nothing would ever match", "name the values, or leave the label out"
        )
    return tuple(dict.fromkeys(values))


def _as_label_value(value: object) -> str:
    text = as_text(value)
    if len(text.encode("utf-8", "replace")) > NAME_BYTES_MAX:
        raise FaultError(
            f"{shown(text)} is longer than a label can be ({NAME_BYTES_MAX} bytes)", "shorten it"
        )
    if "*" in text:
        raise FaultError(
            f"{shown(text)} looks like a pattern; values are exact",
            "list the values, or leave the label out",
        )
    return text


def _date_text(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


# Kinds whose value is not just any number above zero.
VALUE_READERS = {CONCURRENCY: _as_calls, TIMEOUT: _as_seconds}
