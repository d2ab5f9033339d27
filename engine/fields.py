"""Plain values of a configuration file to typed ones, with every fault found in one go.

`Fields` reads one mapping key by key through converters; a converter gives the typed value or raises
`FaultError`. Nothing stops at the first fault: a person mends the whole file once. Rejected: msgspec's and
pydantic's own conversion, the first since it stops at the first fault, the second for its weight.
"""

from __future__ import annotations

import difflib
import math
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from engine.addresses import shown_address
from engine.durations import parse_duration, parse_size, parse_time
from engine.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from engine.strict_yaml import Document, Path

T = TypeVar("T")
K = TypeVar("K")

NUMBER_MAX = 1e15
SHOWN_CHARACTERS_MAX = 60  # of a wrong value, in a message


class Fault(NamedTuple):
    """One thing that is wrong: where below the value, what, and how to mend it."""

    at: Path
    text: str
    hint: str


class FaultError(Exception):
    """What a converter raises: a value cannot be what its key asks for."""

    def __init__(self, text: str = "", hint: str = "", faults: tuple[Fault, ...] = ()) -> None:
        """Hold one fault of the value itself, or several of values below it."""
        super().__init__(text)
        self.faults = faults or (Fault((), text, hint),)


class Problems:
    """Collects what is wrong with one document."""

    def __init__(self, document: Document) -> None:
        """Begin with the keys that occur twice."""
        self.document = document
        self.found: list[str] = []
        for path in document.repeated:
            self.add(path, "is given twice", "keep one of the two")

    def add(self, path: Path, text: str, hint: str = "") -> None:
        """Note one problem: its path, its place and the mend."""
        place = self.place(path)
        shown = path_text(path) or "the file"
        self.found.append(f"{shown}: {text}{f' ({place})' if place else ''}{f'; {hint}' if hint else ''}")

    def place(self, path: Path) -> str:
        """Say where a path stands, or the nearest path above it that stands in the file."""
        while path and path not in self.document.places:
            path = path[:-1]
        return self.document.places.get(path, "")

    def raise_any(self) -> None:
        """Raise everything found as one `SettingsError`."""
        if self.found:
            count = "1 problem" if len(self.found) == 1 else f"{len(self.found)} problems"
            raise SettingsError(count, where=self.document.where, problems=tuple(self.found))


class Fields:
    """One mapping, read key by key. `close` reports every key that nobody asked for."""

    def __init__(self, value: Any, path: Path, problems: Problems) -> None:
        """Take a mapping; anything else is a problem, and reads as an empty one."""
        self.path = path
        self.problems = problems
        self.known: list[str] = []
        self.is_mapping = isinstance(value, dict)
        self.values: dict[Any, Any] = value if isinstance(value, dict) else {}
        if not self.is_mapping:
            problems.add(
                path, f"{kind_of(value)} is not a mapping", "write `key: value` lines, indented below it"
            )

    def get(self, key: str, convert: Callable[[Any], T], default: T) -> T:
        """Convert the value of a key; absent, empty or wrong: the default."""
        self.known.append(key)
        value = self.values.get(key)
        if value is None:
            return default
        try:
            return convert(value)
        except FaultError as wrong:
            for fault in wrong.faults:
                self.problems.add((*self.path, key, *fault.at), fault.text, fault.hint)
            return default

    def need(self, key: str, convert: Callable[[Any], T], stand_in: T, hint: str) -> T:
        """Convert the value of a key that must be there; `stand_in` lets the reading go on."""
        if self.is_mapping and self.values.get(key) is None:
            self.problems.add((*self.path, key), "is missing", hint)
        return self.get(key, convert, stand_in)

    def has(self, key: str) -> bool:
        """Say whether the key is given and not empty."""
        return self.values.get(key) is not None

    def wrong(self, key: str, text: str, hint: str = "") -> None:
        """Note a problem of one key that only a look at several keys shows."""
        self.problems.add((*self.path, key), text, hint)

    def close(self) -> None:
        """Report keys that nobody asked for."""
        for key in self.values:
            if key not in self.known:
                self.problems.add(
                    (*self.path, str(key)), "is not a known key", did_you_mean(str(key), self.known)
                )


def path_text(path: Path) -> str:
    """Write a path as people do: `limits[2].applies_to.trunk`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def kind_of(value: object) -> str:
    """Say what a value is and nothing of it: in place of a mapping may stand a whole file of a secret."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    return "a text" if isinstance(value, str) else "a single value"


def shown(value: object) -> str:
    """Show a wrong value in a message, cut to a bounded length; of an address no user and no query."""
    if value is None or isinstance(value, (dict, list)):
        return kind_of(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = shown_address(value) if "@" in value or "://" in value else repr(value)
    else:
        text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}..."


def nearest(word: str, words: Collection[str]) -> str:
    """Suggest the word that was meant; "": none is near."""
    near = difflib.get_close_matches(word, list(words), n=1)
    return f"did you mean {near[0]}?" if near else ""


def did_you_mean(word: str, words: Collection[str]) -> str:
    """Suggest the nearest word, or list them all."""
    return nearest(word, words) or f"known: {', '.join(words)}"


def as_text(value: object) -> str:
    """Take a text; numbers, dates and yes/no are what YAML made of a text without quotes."""
    if not isinstance(value, str):
        hint = "" if isinstance(value, (dict, list)) else "put it in quotes"
        raise FaultError(f"{shown(value)} is not a text", hint)
    try:
        value.encode()
    except UnicodeEncodeError:  # Python makes surrogates of other bytes in the environment.
        raise FaultError(f"{shown(value)} is not UTF-8 text", "write it in UTF-8") from None
    return value


def printable(length_max: int) -> Callable[[object], str]:
    """Take a text of one line that is not empty, at most `length_max` bytes of UTF-8."""

    def convert(value: object) -> str:
        text = as_text(value)
        if not text or text != text.strip():
            raise FaultError(f"{shown(text)} is empty or begins or ends with a space", "write it without")
        if not text.isprintable():
            raise FaultError(
                f"{shown(text)} holds a line break or a control character", "keep it to one plain line"
            )
        if len(text.encode("utf-8", "replace")) > length_max:
            raise FaultError(f"{shown(text)} is longer than {length_max} bytes", "shorten it")
        return text

    return convert


def as_flag(value: object) -> bool:
    """Take true or false."""
    if not isinstance(value, bool):
        raise FaultError(f"{shown(value)} is not true or false", "write true or false, without quotes")
    return value


def as_number(value: object) -> float:
    """Take a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FaultError(f"{shown(value)} is not a number", "write a plain number, without quotes or unit")
    if not math.isfinite(value) or abs(value) > NUMBER_MAX:
        raise FaultError(f"{shown(value)} is out of range", "write a number that can be counted to")
    return float(value)


def as_positive(value: object) -> float:
    """Take a number above zero."""
    number = as_number(value)
    if number <= 0:
        raise FaultError(f"{shown(value)} is not above zero", "leave the key out if it is not known")
    return number


def as_count(value: object) -> int:
    """Take a whole number of at least one."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise FaultError(
            f"{shown(value)} is not a whole number", "write a whole number, without quotes or unit"
        )
    if not 1 <= value <= NUMBER_MAX:
        raise FaultError(f"{shown(value)} is out of range", "write a whole number of at least 1")
    return value


def as_duration_ns(value: object) -> int:
    """Take a duration such as `5s`, and give nanoseconds."""
    hint = "write a number and its unit: 200ms, 5s, 10m, 4h or 1d"
    if not isinstance(value, str):
        raise FaultError(f"{shown(value)} has no unit", hint)
    try:
        return parse_duration(value)
    except ValueError as error:
        raise FaultError(f"{shown(value)} {error}", hint) from None


def as_positive_duration_ns(value: object) -> int:
    """Take a duration above zero, and give nanoseconds."""
    duration_ns = as_duration_ns(value)
    if duration_ns == 0:
        raise FaultError(f"{shown(value)} is not above zero", "write a duration such as 1s or 5m")
    return duration_ns


def as_size(value: object) -> int:
    """Take a size such as `64MiB`, or a plain number of bytes, and give bytes."""
    hint = "write a number and its unit: 512KiB, 64MiB or 1GB"
    if isinstance(value, int) and not isinstance(value, bool):
        return as_count(value)
    if not isinstance(value, str):
        raise FaultError(f"{shown(value)} is not a size", hint)
    try:
        size = parse_size(value)
    except ValueError as error:
        raise FaultError(f"{shown(value)} {error}", hint) from None
    return as_count(size)


def as_time_ns(value: object) -> int:
    """Take a date or a time with a zone, and give nanoseconds since the epoch."""
    hint = "write 2026-06-01 (midnight in UTC) or 2026-06-01T08:30:00+02:00"
    if not isinstance(value, (str, date)):
        raise FaultError(f"{shown(value)} is not a date", hint)
    try:
        return parse_time(value)
    except ValueError as error:
        raise FaultError(f"{shown(value)} {error}", hint) from None


def one_of(choices: Collection[str]) -> Callable[[object], str]:
    """Take one of the given words."""

    def convert(value: object) -> str:
        word = as_text(value)
        if word not in choices:
            known = ", ".join(choice or '""' for choice in choices)
            raise FaultError(f"{shown(word)} is not one of {known}", nearest(word, choices))
        return word

    return convert


def each(convert: Callable[[Any], T]) -> Callable[[object], tuple[T, ...]]:
    """Take a list, every item converted."""

    def convert_list(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise FaultError(f"{shown(value)} is not a list", "write [a, b], or one `- a` line each")
        return tuple(item for _, item in _convert_items(enumerate(value), convert))

    return convert_list


def table(convert_key: Callable[[Any], K], convert: Callable[[Any], T]) -> Callable[[object], dict[K, T]]:
    """Take a mapping, every key and value converted."""

    def convert_table(value: object) -> dict[K, T]:
        if not isinstance(value, dict):
            raise FaultError(f"{kind_of(value)} is not a mapping", "write {key: value}")
        keys = _convert_items(((str(key), key) for key in value), convert_key)
        values = _convert_items(((str(key), item) for key, item in value.items()), convert)
        return dict(zip((key for _, key in keys), (item for _, item in values), strict=True))

    return convert_table


def _convert_items(
    items: Iterable[tuple[str | int, Any]], convert: Callable[[Any], T]
) -> list[tuple[str | int, T]]:
    converted: list[tuple[str | int, T]] = []
    faults: list[Fault] = []
    for at, item in items:
        try:
            converted.append((at, convert(item)))
        except FaultError as wrong:
            faults += [Fault((at, *fault.at), fault.text, fault.hint) for fault in wrong.faults]
    if faults:
        raise FaultError(faults=tuple(faults))
    return converted
