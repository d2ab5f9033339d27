"""A scenario: its frame, who calls, what happens, and what must follow.

`parse_scenario` reads a text in three passes: the frame, the names that others refer to (callers, caps,
dependencies), and the rest, so that a name may be used only below the line that gives it no matter what kind
it is of. A word of the vocabulary is one line in a table here and one class beside its like.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from engine.fields import did_you_mean
from engine.scenario.callers import Burst, Group, HoldingChange, Profile, RateChange, Retry
from engine.scenario.caps import Cap, Move
from engine.scenario.expectations import Expectation, read_expectation
from engine.scenario.notices import Notice, Report, read_span
from engine.scenario.signals import Agents, Breakage, Dependency, Drift, Repeated, Scores, Transfers, Turns
from engine.scenario.statement import ALL, Frame, Known, Statement
from engine.scenario.text import Faults, read_text
from engine.scenario.troubles import SETUP, TRANSFER, Clock, Failure, Leak, Loss, Slow, Timeout
from engine.scenario.values import (
    count,
    counted_from_one,
    duration,
    longer_than_nothing,
    one_of,
    ratio,
    time_ns,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from engine.scenario.text import Line

T = TypeVar("T")

DEFAULT_START_NS = 1_767_600_000_000_000_000  # a Monday, 08:00 UTC
LENGTH_MAX_S = 60 * 86_400.0
DISORDER_MAX_S = 60.0

FRAME_WORDS = ("seed", "length", "start", "partitions", "disorder", "duplicates", "limits")
NAMING_WORDS: dict[str, Callable[[Statement], Any]] = {
    "cap": Cap.read,
    "rate_cap": Cap.read,
    "quota": Cap.read,
    "dependency": Dependency.read,
}
WORDS: dict[str, Callable[[Statement], Any]] = {
    "rate": RateChange.read,
    "burst": Burst.read,
    "profile": Profile.read,
    "holding": HoldingChange.read,
    "retry": Retry.read,
    "move": Move.read,
    "fail": Failure.read,
    "timeout": Timeout.read,
    "leak": Leak.read,
    "lose": Loss.read,
    "clock": Clock.read,
    "slow": Slow.read,
    "turns": Turns.read,
    "transfers": Transfers.read,
    "heartbeats": Repeated.read,
    "lists": Repeated.read,
    "agents": Agents.read,
    "scores": Scores.read,
    "drift": Drift.read,
    "breaks": Breakage.read,
    "reports": Report.read,
}
CALLERS = ("calls", "share")
ALL_WORDS = (*FRAME_WORDS, *CALLERS, *NAMING_WORDS, *WORDS, "at", "expect")


class Scenario(NamedTuple):
    """All of a text. Blocks of YAML are not read yet: the register and settings are the engine's own."""

    frame: Frame
    groups: tuple[Group, ...]
    statements: tuple[Any, ...]  # of the vocabulary, in their order
    expectations: tuple[Expectation, ...]
    register: str
    limits_file: str  # "": none is named
    settings: str

    def of(self, kind: type[T]) -> list[T]:
        """Give the statements of one kind, in their order."""
        return [one for one in self.statements if isinstance(one, kind)]

    def members(self, target: str) -> NDArray[np.bool_]:
        """Say which groups a name stands for: itself and its shares, or all."""
        parents = {group.name: group.parent for group in self.groups}

        def is_member(name: str) -> bool:
            return name == target or (bool(name) and is_member(parents[name]))

        return np.array([target == ALL or is_member(group.name) for group in self.groups], np.bool_)


def parse_scenario(text: str, where: str) -> Scenario:
    """Parse a scenario; raises `SettingsError` with every problem found."""
    faults = Faults(where)
    cut = read_text(text, faults)
    frame, limits_file = _frame(cut.lines, faults)
    if limits_file and cut.register:
        faults.add(1, "`limits FILE` and `limits:` are both there", "keep one of the two")
    known = Known(frame.length_s)
    groups: dict[str, Group] = {}
    found: dict[int, Any] = {}
    for line in cut.lines:
        word = line.tokens[0].value
        s = Statement(line, known, faults)
        if word == "calls":
            group: Group | None = Group.read(s)
        elif word == "share":
            group = Group.read_share(s, groups)
        elif word in NAMING_WORDS:
            found[line.number] = NAMING_WORDS[word](s)
            name = found[line.number].name
            if word == "dependency":
                known = known._replace(dependencies=(*known.dependencies, name))
            else:
                known = known._replace(caps=(*known.caps, name))
            continue
        else:
            continue
        if group is not None:
            groups[group.name] = group
            shares = tuple(one.name for one in groups.values() if one.parent)
            known = known._replace(groups=tuple(groups), shares=shares)
    expectations: list[Expectation] = []
    for line in cut.lines:
        _read_line(Statement(line, known, faults), found, expectations)
    _check_stages_and_metrics(found, faults)
    faults.raise_any()
    return Scenario(
        frame=frame,
        groups=tuple(groups.values()),
        statements=tuple(found[number] for number in sorted(found)),
        expectations=tuple(expectations),
        register=cut.register,
        limits_file=limits_file,
        settings=cut.settings,
    )


def _read_line(s: Statement, found: dict[int, Any], expectations: list[Expectation]) -> None:
    """Read a statement that is neither of the frame nor names something."""
    if s.word in FRAME_WORDS or s.word in CALLERS or s.word in NAMING_WORDS:
        return
    if s.word in WORDS:
        found[s.line.number] = WORDS[s.word](s)
    elif s.word in ("at", "expect"):
        span = read_span(s) if s.word == "at" else None
        if span is not None and not (s.plain and s.plain[0] == "expect"):
            found[s.line.number] = Notice.read(s, span)
            return
        if span is not None:
            s.plain.pop(0)
        expectation = read_expectation(s, span)
        if expectation is not None:
            expectations.append(expectation)
    else:
        s.wrong(f"`{s.word}` is not a statement", did_you_mean(s.word, ALL_WORDS))


def _check_stages_and_metrics(found: dict[int, Any], faults: Faults) -> None:
    """Report what grows slow or drifts without being there."""
    turns = {stage for one in found.values() if isinstance(one, Turns) for stage in one.stage_s}
    others = {SETUP, *(one.name for one in found.values() if isinstance(one, Dependency))}
    others |= {TRANSFER for one in found.values() if isinstance(one, Transfers)}
    metrics = {one.metric for one in found.values() if isinstance(one, Scores)}
    for number, one in found.items():
        if isinstance(one, Slow) and one.stage not in turns | others:
            mend = did_you_mean(one.stage, sorted(turns | others))
            faults.add(number, f"`stage={one.stage}` is no stage of `turns`, nor a dependency", mend)
        elif isinstance(one, Slow) and one.in_flight and one.stage not in turns:
            faults.add(
                number, "`in_flight=` is for stages of `turns`", "`cap ... as=queued` makes set-up wait"
            )
        elif isinstance(one, Timeout) and one.stage == TRANSFER and TRANSFER not in others:
            faults.add(number, "there is nothing to cut", "write `transfers` above it")
        elif isinstance(one, Drift) and one.metric not in metrics:
            faults.add(number, f"`metric={one.metric}` has no `scores`", "write `scores` above it")


def _frame(lines: tuple[Line, ...], faults: Faults) -> tuple[Frame, str]:
    """Read what holds for the whole, and the name of a file of limits."""
    given: dict[str, Statement] = {}
    for line in lines:
        word = line.tokens[0].value
        if word in FRAME_WORDS:
            s = Statement(line, Known(0.0), faults)
            if word in given:
                s.wrong(f"`{word}` is given twice", "keep one of the two")
            given[word] = s
    for word, example in (("seed", "seed 7"), ("length", "length 2h")):
        if word not in given:
            faults.add(1, f"there is no `{word}`", f"write `{example}`")

    def value(word: str, reader: Callable[[str], T], default: T) -> T:
        s = given.get(word)
        if s is None:
            return default
        s.pairs = {**s.pairs, "": s.name("a value")}  # read as a key without a name
        return s.get("", reader, default) if s.pairs[""] else default

    length_s = value("length", longer_than_nothing, 3600.0)
    disorder_s = value("disorder", duration, 0.0)
    frame = Frame(
        seed=value("seed", count, 0),
        length_s=length_s,
        start_ns=value("start", time_ns, DEFAULT_START_NS),
        partitions=value("partitions", counted_from_one, 1),
        is_keyed="partitions" not in given
        or given["partitions"].get("key", one_of(("call_id", "none")), "call_id") == "call_id",
        disorder_s=disorder_s,
        duplicates_ratio=value("duplicates", ratio, 0.0),
    )
    if length_s > LENGTH_MAX_S:
        given["length"].wrong("it is longer than 60d")
    if disorder_s > DISORDER_MAX_S:
        given["disorder"].wrong("it is longer than 60s")
    limits_file = value("limits", str, "")
    for s in given.values():
        s.close()
    return frame, limits_file
