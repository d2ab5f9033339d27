"""Two decoders over the same batches: there must be no difference at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engine.decode.decoder import JsonDecoder
from engine.decode.events import LABELS
from engine.decode.fast_decoder import HAS_VECTORS, FastDecoder
from engine.decode.mask import PLAIN_MASK, LabelMask
from engine.settings import EngineSettings
from tests.event_rows import KEY

if TYPE_CHECKING:
    from engine.decode.events import EventBatch
    from engine.limits import LimitLabel
    from engine.source.contract import RawBatch


class Pair:
    """The decoder over the scanner, and the parser that it must not differ from."""

    def __init__(
        self, limit_labels: dict[str, LimitLabel] | None = None, mask: LabelMask = PLAIN_MASK, *,
        has_vectors: bool = HAS_VECTORS, **changes: Any,
    ) -> None:  # fmt: skip
        settings = EngineSettings(**{"series_labels": LABELS, **changes})
        self.fast = FastDecoder(settings, KEY, limit_labels or {}, mask, has_vectors=has_vectors)
        self.plain = JsonDecoder(settings, KEY, limit_labels or {}, mask)

    def decode(self, raw: RawBatch) -> EventBatch:
        """Decode a batch with both; every column and every table must be the same."""
        found, expected = self.fast.decode(raw), self.plain.decode(raw)
        assert_same_batch(found, expected)
        assert self.state_of(self.plain) == self.state_of(self.fast)
        return found

    @staticmethod
    def state_of(decoder: JsonDecoder | FastDecoder) -> dict[str, Any]:
        """Give everything that a decoder counts or keeps for others."""
        return {
            "rows_read": decoder.rows_read,
            "losses": decoder.losses.tolist(),
            "fields_ignored": decoder.fields_ignored,
            "samples": decoder.samples(),
            "series": (
                decoder.series.values,
                decoder.series.rows_by_admission,
                decoder.series.identities_unkept,
            ),
            "causes": (decoder.causes.causes, decoder.causes.rows_collapsed),
            "stages": (decoder.stages.names, decoder.stages.measures_collapsed),
        }


def assert_same_batch(found: EventBatch, expected: EventBatch) -> None:
    """Compare bit by bit: NaN equals NaN, and minus zero is not zero."""
    for name, column, wanted in zip(found._fields, found, expected, strict=True):
        if isinstance(wanted, np.ndarray):
            assert isinstance(column, np.ndarray)
            assert wanted.dtype == column.dtype, name
            assert wanted.tobytes() == column.tobytes(), name
        else:
            assert wanted == column, name
