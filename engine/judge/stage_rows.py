"""Numbers for pairs of a row and a stage, in order of appearance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_PAIRS: NDArray[np.int64] = np.zeros(0, np.int64)


class StageRows:
    """Numbers (row, stage name) pairs, in order of appearance; `pairs[k]` is the pair with number k."""

    def __init__(self) -> None:
        """Start without pairs."""
        self.pairs: list[tuple[int, str]] = []
        self._stages: dict[str, int] = {}
        self._ids = np.full((0, 0), -1, np.int64)  # (rows, stages); -1: no number yet
        self._columns: tuple[NDArray[np.int32], tuple[str, ...]] = (np.zeros(0, np.int32), ())

    def ids(self, rows: NDArray[Any], stages: NDArray[np.int16], names: tuple[str, ...]) -> NDArray[np.int64]:
        """Give a number to each (rows[k], names[stages[k]]), to new ones in order of row and name."""
        if not len(rows):
            return NO_PAIRS
        stage = self.places(names)[stages]
        found: NDArray[np.int64] = self.numbers(int(rows.max()) + 1)[rows, stage]
        if found.min() < 0:
            is_new = found < 0
            known = tuple(self._stages)
            fresh = zip(rows[is_new].tolist(), stage[is_new].tolist(), strict=True)
            for row, name in sorted({(row, known[number]) for row, number in fresh}):
                self._ids[row, self._stages[name]] = len(self.pairs)
                self.pairs.append((row, name))
            found = self._ids[rows, stage]
        return found

    def number_of(self, row: int, stage: str) -> int:
        """Give the number of one pair; -1 if it has none."""
        if stage not in self._stages or row >= len(self._ids):
            return -1
        return int(self._ids[row, self._stages[stage]])

    def places(self, names: tuple[str, ...]) -> NDArray[np.int64]:
        """Give the column of each stage in `numbers`."""
        return np.array([self._stages.setdefault(name, len(self._stages)) for name in names], np.int64)

    def numbers(self, rows: int) -> NDArray[np.int64]:
        """Show the number of each pair, (`rows` or more, stages); -1: it has none yet."""
        self._grow(rows)
        return self._ids

    def columns(self) -> tuple[NDArray[np.int32], tuple[str, ...]]:
        """Give the rows and the stages of all pairs, made anew only when there are more."""
        if len(self._columns[1]) < len(self.pairs):
            rows = np.array([row for row, _ in self.pairs], np.int32)
            rows.setflags(write=False)  # Snapshots share it.
            self._columns = rows, tuple(stage for _, stage in self.pairs)
        return self._columns

    def work_out(self) -> None:
        """Find the pairs by their numbers, as after a restore."""
        row, stage = np.nonzero(self._ids >= 0)
        in_order = np.argsort(self._ids[row, stage])
        known = tuple(self._stages)
        found = zip(row[in_order].tolist(), stage[in_order].tolist(), strict=True)
        self.pairs = [(row, known[number]) for row, number in found]

    def _grow(self, rows: int) -> None:
        """Make room for `rows` rows and every stage."""
        old_rows, old_stages = self._ids.shape
        if rows > old_rows or len(self._stages) > old_stages:
            larger = np.full((max(rows, 2 * old_rows), len(self._stages)), -1, np.int64)
            larger[:old_rows, :old_stages] = self._ids
            self._ids = larger
