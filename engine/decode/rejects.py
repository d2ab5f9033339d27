"""What is kept of a row that could not be decoded: where it lay, why, and its shape, with every value gone.

The shape is the row's first bytes with words and numbers blotted out: a run of digits becomes `0`, a run of
letters `a`, unless it is a word of the event contract; what is no printable ASCII becomes `?`. So broken
JSON, CSV or a wrong type can be told apart and mended, and no name, number or transcript is left. Bounded in
length and in number: the first of a step are kept, the others counted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from engine.decode.events import FALLBACKS, OUTCOMES, EventType
from engine.decode.fields import EventFields

if TYPE_CHECKING:
    from engine.decode.decoder import Sample

SHAPE_BYTES_MAX = 512
REJECTS_MAX = 64  # between two times that they are taken
WORDS = frozenset((
    *EventFields.__struct_encode_fields__, *FALLBACKS, *OUTCOMES, "true", "false", "null",
    *(word for kind in EventType for word in kind.wire.split(".")),
))  # fmt: skip
_RUN = re.compile(rb"[A-Za-z_]+|[0-9]+|[^\x20-\x7e]+")


class Reject(NamedTuple):
    """One row that was not decoded."""

    sample: Sample
    size_bytes: int
    shape: str


class Rejects:
    """Keeps what was rejected until it is taken; does nothing until it is switched on."""

    def __init__(self) -> None:
        """Keep nothing."""
        self.is_on = False
        self._dropped = 0  # beyond REJECTS_MAX
        self._kept: list[Reject] = []

    def add(self, sample: Sample, text: bytes) -> None:
        """Keep the shape of a row, or count it."""
        if not self.is_on:
            return
        if len(self._kept) >= REJECTS_MAX:
            self._dropped += 1
        else:
            self._kept.append(Reject(sample, len(text), shape_of(text)))

    def take(self) -> tuple[tuple[Reject, ...], int]:
        """Give what was kept since the last time, in order, and how many more there were."""
        taken, self._kept = tuple(self._kept), []
        dropped, self._dropped = self._dropped, 0
        return taken, dropped


def shape_of(text: bytes) -> str:
    """Give the shape of a row."""
    return _RUN.sub(_blotted, text[:SHAPE_BYTES_MAX]).decode("ascii")


def _blotted(run: re.Match[bytes]) -> bytes:
    word = run[0]
    if b"0" <= word[:1] <= b"9":
        return b"0"
    if word[:1].isalpha() or word[:1] == b"_":
        return word if word.decode("ascii") in WORDS else b"a"
    return b"?"
