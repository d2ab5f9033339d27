"""Names of call stages (`setup`, `llm`, ...) and of quality metrics as dense ids, first come first served.

`__other__` is id 0 and always exists: it takes names when the table is full, names that are no stage name,
and names that look like a telephone number. Metrics share the ids, so that one column holds both; their
names carry a prefix that no stage can have, and as many of them have room as stages.
"""

from __future__ import annotations

import re

from engine.decode.redaction import is_number_like
from engine.limits import OTHER

METRIC = "metric:"
STAGE_NAME = re.compile(r"[a-z0-9_]{1,32}")


class StageTable:
    """Dense ids for stage names; ids are never taken back."""

    def __init__(self, stages_max: int) -> None:
        """Make a table for at most `stages_max` names, `__other__` included."""
        assert stages_max >= 1
        self.names: list[str] = [OTHER]
        self.measures_collapsed = 0
        self._ids: dict[str, int] = {}
        self._stages_max = stages_max
        self._taken = {"": 1, METRIC: 1}  # `__other__` is one of each

    def __len__(self) -> int:
        """How many stages there are, `__other__` included."""
        return len(self.names)

    def id_of(self, name: str, kind: str = "") -> int:
        """Give the id of a stage, or of a METRIC; count the measure if it goes to `__other__`."""
        stage_id = self._ids.get(kind + name)
        if stage_id is not None:
            return stage_id
        is_full = self._taken[kind] >= self._stages_max
        if is_full or not STAGE_NAME.fullmatch(name) or is_number_like(name):
            self.measures_collapsed += 1
            return 0
        self._taken[kind] += 1
        self._ids[kind + name] = len(self.names)
        self.names.append(kind + name)
        return self._ids[kind + name]

    def known(self, name: str, kind: str = "") -> int | None:
        """Give the id of a stage or metric that has one of its own; counts nothing."""
        return self._ids.get(kind + name)
