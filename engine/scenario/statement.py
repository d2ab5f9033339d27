"""One statement of a scenario, read key by key.

A vocabulary class takes what it knows and calls `close`, which reports every key that nobody asked for. All
changes of something take the same three keys: `from=` (when), `over=` (grows in a line for so long; without
it: at once) and `until=` (from then on it is as before).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from engine.decode.events import LABELS
from engine.fields import FaultError, did_you_mean, nearest
from engine.scenario.values import duration, longer_than_nothing, words

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray

    from engine.scenario.text import Faults, Line

T = TypeVar("T")

ALL = "*"  # every group
NEVER_S = math.inf


class Change(NamedTuple):
    """When something is otherwise, in seconds from the start."""

    from_s: float = 0.0
    over_s: float = 0.0
    until_s: float = NEVER_S

    def weight(self, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Say how much of the change is there at some times: 0 to 1."""
        share = np.ones(len(at_s)) if self.over_s <= 0 else np.clip((at_s - self.from_s) / self.over_s, 0, 1)
        return np.where((at_s >= self.from_s) & (at_s < self.until_s), share, 0.0)


class Frame(NamedTuple):
    """What holds for the whole scenario."""

    seed: int = 0
    length_s: float = 0.0
    start_ns: int = 0
    partitions: int = 1
    is_keyed: bool = True  # by call id; False: any event in any partition
    disorder_s: float = 0.0
    duplicates_ratio: float = 0.0


class Known(NamedTuple):
    """What other statements may name."""

    length_s: float
    groups: tuple[str, ...] = ()
    shares: tuple[str, ...] = ()  # of these groups
    caps: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()


class Statement:
    """Reads one line; whatever is wrong with it is noted, and the reading goes on with a stand-in."""

    def __init__(self, line: Line, known: Known, faults: Faults) -> None:
        """Take the tokens apart into words and pairs."""
        self.line = line
        self.known = known
        self.word = line.tokens[0].value
        self.plain = [token.value for token in line.tokens[1:] if not token.key]
        self.pairs: dict[str, str] = {}
        self._faults = faults
        self._read: list[str] = []
        for token in line.tokens[1:]:
            if token.key in self.pairs:
                self.wrong(f"`{token.key}=` is given twice", "keep one of the two")
            elif token.key:
                self.pairs[token.key] = token.value

    def wrong(self, text: str, hint: str = "") -> None:
        """Note a fault of this statement."""
        self._faults.add(self.line.number, text, hint)

    def name(self, what: str) -> str:
        """Take the next plain word."""
        if not self.plain:
            self.wrong(f"`{self.word}` needs {what} as its next word")
            return ""
        return self.plain.pop(0)

    def one_of(self, names: Collection[str], what: str) -> str:
        """Take the next plain word, which must be known."""
        name = self.name(what)
        if name and name not in names:
            self.wrong(f"`{name}` is not {what}", did_you_mean(name, names) if names else "there is none")
        return name

    def target(self) -> str:
        """Take the name of a group, or `*`."""
        return self.one_of((*self.known.groups, ALL), "the name of a `calls` or `share` above it")

    def callers(self) -> str:
        """Take the name of a group that calls at a rate of its own, or `*`."""
        name = self.target()
        if name in self.known.shares:
            self.wrong(
                f"`{name}` is a share, which has no rate of its own", "name the `calls` that it is a share of"
            )
        return name

    def has(self, key: str) -> bool:
        """Say whether a key is given."""
        return key in self.pairs

    def get(self, key: str, reader: Callable[[str], T], default: T) -> T:
        """Read a key; absent or wrong: the default."""
        self._read.append(key)
        if key not in self.pairs:
            return default
        try:
            return reader(self.pairs[key])
        except FaultError as wrong:
            for fault in wrong.faults:
                self.wrong(f"`{f'{key}=' if key else self.word}`: {fault.text}", fault.hint)
            return default

    def need(self, key: str, reader: Callable[[str], T], stand_in: T, hint: str) -> T:
        """Read a key that must be there."""
        if key not in self.pairs:
            self.wrong(f"`{self.word}` needs `{key}=`", f"such as {hint}")
        return self.get(key, reader, stand_in)

    def moment(self, key: str, default: float) -> float:
        """Read a time that must lie within the scenario."""
        at_s = self.get(key, duration, default)
        if key in self.pairs and at_s >= self.known.length_s:
            self.wrong(f"`{key}={self.pairs[key]}` lies behind the end", "mend it, or `length`")
        return at_s

    def change(self) -> Change:
        """Read `from=`, `over=` and `until=`."""
        change = Change(
            from_s=self.moment("from", 0.0),
            over_s=self.get("over", longer_than_nothing, 0.0),
            until_s=self.get("until", duration, NEVER_S),
        )
        if change.until_s <= change.from_s:
            self.wrong("`until=` does not lie after `from=`")
        return change

    def labels(self) -> dict[str, str]:
        """Read the labels that are given."""
        given = [label for label in LABELS if label in self.pairs]
        self._read += LABELS
        return {label: self.get(label, words, "") for label in given}

    def rest(self, reader: Callable[[str], T], default: T) -> dict[str, T]:
        """Read all pairs that were not asked for, in their order."""
        left = [key for key in self.pairs if key not in self._read]
        return {key: self.get(key, reader, default) for key in left}

    def close(self) -> None:
        """Report what nobody asked for."""
        for key in self.pairs:
            if key not in self._read:
                mend = (
                    nearest(key, self._read) or f"known: {', '.join(f'{one}=' for one in self._read if one)}"
                )
                self.wrong(f"`{self.word}` knows no `{key}=`", mend)
        for word in self.plain:
            self.wrong(f"`{word}` is no `key=value`")
