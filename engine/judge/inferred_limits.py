"""The file of inferred limits: what `run` has inferred, for its next start and for `replay --learned`.

JSON, so that it can be looked at, with a digest over the rest of it: an edited or cut file is refused instead
of forecasting by it. Pure: whoever calls has read the file, or writes it.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import msgspec

from engine.errors import SettingsError
from engine.judge.implicit import LearnedValue

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 1
LIMITS_MAX = 4096
REMOVE = "remove the file: what it says will be inferred again"

NAME_ANOTHER = "name a file that `run` (engine.learned_limits_file) or `learn --out` wrote"


class Inferred(msgspec.Struct, frozen=True):
    """One inferred limit."""

    limit: str
    split: tuple[tuple[str, str], ...]
    value: float
    since_ns: int


class LimitsFile(msgspec.Struct, frozen=True):
    """All of it."""

    version: int
    digest: str
    limits: tuple[Inferred, ...]


class _Version(msgspec.Struct):
    version: int


def encode(learned: Sequence[LearnedValue]) -> bytes:
    """Give the file's bytes."""
    limits = tuple(Inferred(*one) for one in learned)
    document = LimitsFile(VERSION, _digest(limits), limits)
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def decode(data: bytes, where: str) -> tuple[LearnedValue, ...]:
    """Read a file's bytes; raises `SettingsError` for anything that `encode` did not write."""
    try:
        version = msgspec.json.decode(data, type=_Version).version
    except msgspec.MsgspecError as error:
        raise SettingsError(
            f"these are no inferred limits: {error}", where=where, hint=NAME_ANOTHER
        ) from None
    try:
        if version > VERSION:
            raise SettingsError(
                f"the file of inferred limits has version {version}, this callgauge knows up to {VERSION}",
                where=where,
                hint="use a newer callgauge, or " + REMOVE,
            )
        document = msgspec.json.decode(data, type=LimitsFile)
    except msgspec.MsgspecError as error:
        raise SettingsError(f"these are no inferred limits: {error}", where=where, hint=REMOVE) from None
    problems = []
    if _digest(document.limits) != document.digest:
        problems.append("the digest does not fit: the file was edited or cut short")
    if len(document.limits) > LIMITS_MAX:
        problems.append(f"{len(document.limits)} limits are more than {LIMITS_MAX}")
    if not all(math.isfinite(one.value) and one.value > 0 for one in document.limits):
        problems.append("a value is not a positive number")
    if problems:
        raise SettingsError(
            "the inferred limits cannot be used", where=where, problems=tuple(problems), hint=REMOVE
        )
    return tuple(LearnedValue(one.limit, one.split, one.value, one.since_ns) for one in document.limits)


def _digest(limits: tuple[Inferred, ...]) -> str:
    return hashlib.sha256(msgspec.json.encode(limits, order="deterministic")).hexdigest()
