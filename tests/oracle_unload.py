"""Slow, obvious twin of what makes a slice's facts its summary: sums by name, a dictionary for each kind."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from engine.observe.summary import Count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

KINDS = ("count", "bin", "end", "cause", "side", "failure", "caller", "score", "bucket", "sum")
# What the places of a key name, after the kind: s: series, c: cause, t: stage, others say themselves.
NAMED = {
    "count": "s.", "bin": "s..", "end": "s...", "cause": "sc", "side": "sc", "failure": "sc..",
    "caller": "scc", "score": "st.", "bucket": "st.", "sum": "st",
}  # fmt: skip
BIN_COLUMNS = 5

Fact = tuple[Any, ...]  # kind, numbers as in NAMED, amount


def added_up(facts: Iterable[Fact], of: Callable[[Fact], Fact] = lambda key: key) -> dict[Fact, int]:
    """Add up by key; nothing is left of what comes to 0."""
    sums: dict[Fact, int] = defaultdict(int)
    for *key, amount in facts:
        sums[of(tuple(key))] += amount
    return {key: amount for key, amount in sums.items() if amount}


def named(key: Fact, tables: dict[str, Sequence[Any]]) -> Fact:
    """Put names in the place of ids."""
    kind, *numbers = key
    return (kind, *(tables[what][one] if what in tables else one
                    for what, one in zip(NAMED[kind], numbers, strict=True)))  # fmt: skip


def unloaded(
    facts: Sequence[Fact], series: Sequence[Any], causes: Sequence[Any], stages: Sequence[Any]
) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Give the lists of names, and by kind the rows in order: names by their place, amounts last."""
    tables = {"s": series, "c": causes, "t": stages}
    by_id = added_up(facts)
    used: dict[str, set[Any]] = {what: set() for what in tables}
    for kind, *numbers in by_id:
        for what, one in zip(NAMED[kind], numbers, strict=True):
            if what in used:
                used[what].add(tables[what][one])
    lists = {what: sorted(names) for what, names in used.items()}
    place = {what: {name: at for at, name in enumerate(names)} for what, names in lists.items()}
    by_name = added_up(((*key, amount) for key, amount in by_id.items()), lambda key: named(key, tables))
    rows: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for key, amount in by_name.items():
        numbers = [place[what][one] if what in place else one
                   for what, one in zip(NAMED[key[0]], key[1:], strict=True)]  # fmt: skip
        rows[key[0]].append((*numbers, amount))
    return lists, {kind: sorted(one) for kind, one in rows.items()}


def table_of(rows: Iterable[tuple[int, int, int]], series: int) -> list[list[int]]:
    """Lay out counts."""
    table = [[0] * len(Count) for _ in range(series)]
    for row, column, amount in rows:
        table[row][column] = amount
    return table


def bins_of(rows: Iterable[tuple[int, int, int, int]]) -> list[tuple[int, ...]]:
    """Give (series, bin, the columns) for each bin in which anything is not 0."""
    found: dict[tuple[int, int], list[int]] = {}
    for series, place, column, amount in rows:
        found.setdefault((series, place), [0] * BIN_COLUMNS)[column] = amount
    return sorted((*key, *columns) for key, columns in found.items())
