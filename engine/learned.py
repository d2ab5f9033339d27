"""What was learned offline from recorded logs: what is usual by time of week, and thresholds for a budget.

`callgauge learn` writes it, `run` and `replay` read it and never change it. JSON, so that it can be looked at
and compared; with a digest over everything else in it, so that an edited or cut file is refused instead of
paging by it. Pure: whoever calls has read the file.
"""

from __future__ import annotations

import contextlib
import hashlib

import msgspec

from engine.errors import SettingsError
from engine.settings import UTC_NAME

VERSION = 1
WEEK_SLOTS = 2016  # five minutes each, from Monday 00:00 local time on
TIERS = ("page", "warn")
SPEAKERS = ("growth", "level", "line")  # forecast with growth, forecast at the level of now, straight line
NUMBER_MAX = 1e12
FILE_BYTES_MAX = 64 << 20  # a file that is larger is none of ours
LOAD_AGAIN = "learn again with `callgauge learn`"


class LearnedBaseline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arrivals of one limit instance by time of week, faded; see engine/judge/baseline.py."""

    limit: str
    split: tuple[tuple[str, str], ...] = ()  # (label, value), in the order of `split_by`
    calls: tuple[float, ...]  # (WEEK_SLOTS,)
    watched_s: tuple[float, ...]  # (WEEK_SLOTS,)


class Threshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which score on one speaker may speak, at one size of cap and class of load.

    Between sizes of cap it is interpolated by the logarithm, between loads linearly; flat outside.
    """

    tier: str  # one of TIERS
    speaker: str  # one of SPEAKERS
    has_baseline: bool
    cap: float
    load: float  # share of the cap that the busiest usual hour offers, in calls at a time
    score: float


class Learned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything in the file."""

    version: int = VERSION
    digest: str = ""  # 64 hexadecimal digits over all the rest; `encode` puts it in
    time_zone: str = UTC_NAME  # by which the week was told
    day: int = -1  # local day since 1970-01-01 that the baselines have faded to
    baselines: tuple[LearnedBaseline, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    pages_per_week: float = 0.0  # the budget that the thresholds keep over the whole deployment, and over ...
    limits: int = 0  # ... so many limit instances together; 0: no thresholds


def encode(learned: Learned) -> bytes:
    """Give the file's bytes, with the digest put in."""
    return msgspec.json.format(msgspec.json.encode(with_digest(learned)), indent=0) + b"\n"


def with_digest(learned: Learned) -> Learned:
    """Give the same with its digest."""
    bare = msgspec.structs.replace(learned, digest="")
    digest = hashlib.sha256(msgspec.json.encode(bare, order="deterministic")).hexdigest()
    return msgspec.structs.replace(learned, digest=digest)


def decode(data: bytes, where: str) -> Learned:
    """Read a file's bytes; raises `SettingsError` for anything that `encode` did not write."""
    try:
        version = msgspec.json.decode(data, type=_Version).version
        if version > VERSION:
            raise SettingsError(
                f"the learned file has version {version}, this callgauge knows up to {VERSION}",
                where=where,
                hint="use a newer callgauge, or " + LOAD_AGAIN,
            )
        learned = msgspec.json.decode(data, type=Learned)
    except msgspec.MsgspecError as error:
        raise SettingsError(f"this is no learned file: {error}", where=where, hint=LOAD_AGAIN) from None
    problems = tuple(problems_of(learned))
    if with_digest(learned).digest != learned.digest:
        problems = ("its digest does not fit: it was edited or cut short",)
    if problems:
        raise SettingsError(
            "the learned file cannot be used", where=where, problems=problems, hint=LOAD_AGAIN
        )
    return learned


def is_learned(data: bytes) -> bool:
    """Say whether these bytes are meant for a learned file, valid or not: baselines are in no other one."""
    with contextlib.suppress(msgspec.MsgspecError):
        return msgspec.json.decode(data, type=_Kind).baselines is not msgspec.UNSET
    return False


class _Kind(msgspec.Struct):
    baselines: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Version(msgspec.Struct):
    version: int


def problems_of(learned: Learned) -> list[str]:
    """List what is wrong with it."""
    problems = []
    names = [(one.limit, one.split) for one in learned.baselines]
    if len(set(names)) < len(names):
        problems.append("baselines: the same limit instance is there twice")
    for one in learned.baselines:
        for numbers in (one.calls, one.watched_s):
            if len(numbers) != WEEK_SLOTS or not all(0.0 <= number <= NUMBER_MAX for number in numbers):
                problems.append(f"baselines: {one.limit} has not {WEEK_SLOTS} numbers from 0 on")
                break
    for threshold in learned.thresholds:
        known = threshold.tier in TIERS and threshold.speaker in SPEAKERS
        if not known or threshold.cap <= 0.0 or not 0.0 <= threshold.load <= NUMBER_MAX:
            problems.append(f"thresholds: {threshold.tier}, {threshold.speaker} is out of range")
    return problems
