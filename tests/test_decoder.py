"""The decoder: every row becomes one row of columns or one counted loss, as its slow twin says."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config_files import config_path
from engine.decode.decoder import JsonDecoder
from engine.decode.events import EventBatch, EventType, Note
from engine.errors import LossReason
from engine.source.contract import PLAIN_LOG_RECEIVED_NS
from tests import oracle_decode
from tests.event_rows import KEY, RECEIVED_NS, events, new_decoder, raw_batch

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def as_oracle_rows(batch: EventBatch, decoder: JsonDecoder) -> list[oracle_decode.Row]:
    """Turn columns back into rows, ids into what they stand for."""
    measures: list[list[tuple[str, float]]] = [[] for _ in range(batch.rows)]
    for index, stage, value in zip(batch.measure_row, batch.measure_stage, batch.measure_ms, strict=True):
        measures[index].append((decoder.stages.names[stage], float(value)))
    notes: dict[int, Note] = dict(zip(batch.note_row, batch.notes, strict=True))
    rows = []
    for i in range(batch.rows):
        cause_id, duration_ms = int(batch.cause_id[i]), float(batch.duration_ms[i])
        rows.append(
            oracle_decode.Row(
                time_ns=int(batch.time_ns[i]),
                event_type=EventType(int(batch.type_id[i])),
                labels=dict(
                    zip(decoder.series.labels, decoder.series.values[batch.series_id[i]], strict=True)
                ),
                call_key=int(batch.call_key[i]),
                event_key=int(batch.event_key[i]),
                cause=None if cause_id < 0 else decoder.causes.causes[cause_id],
                duration_ms=None if np.isnan(duration_ms) else duration_ms,
                measures=measures[i],
                note=dict(notes[i].fields) if i in notes else None,
            )
        )
    return rows


@settings(max_examples=100, deadline=None)
@given(st.lists(events(), max_size=12))
def test_rows_come_to_what_the_twin_says(texts: list[bytes]) -> None:
    """Columns, losses by reason, the conservation law, and the offsets of the rows that decode."""
    decoder = new_decoder()
    batch = decoder.decode(raw_batch(texts, first=100))
    expected = [oracle_decode.decode_row(text, KEY) for text in texts]
    kept = [(100 + i, found) for i, found in enumerate(expected) if not isinstance(found, LossReason)]
    assert [found for _, found in kept] == as_oracle_rows(batch, decoder)
    assert [offset for offset, _ in kept] == batch.offset.tolist()
    reasons = Counter(found for found in expected if isinstance(found, LossReason))
    assert [reasons[reason] for reason in LossReason] == decoder.losses.tolist()
    assert decoder.rows_read == len(texts) == batch.rows + decoder.losses.sum()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=60), events()), max_size=8))
def test_no_bytes_raise_and_every_row_is_counted(texts: list[bytes]) -> None:
    """Garbage is a loss with a reason, not an exception."""
    decoder = new_decoder()
    batch = decoder.decode(raw_batch(texts))
    assert len(texts) == decoder.rows_read == batch.rows + decoder.losses.sum()
    arrays = (batch.time_ns, batch.received_ns, batch.offset, batch.type_id, batch.call_key, batch.event_key,
              batch.series_id, batch.cause_id, batch.duration_ms)  # fmt: skip
    assert {batch.rows} == {len(array) for array in arrays}


@settings(max_examples=50, deadline=None)
@given(st.lists(events(), max_size=12), st.integers(0, 12), st.booleans())
def test_batch_boundaries_do_not_matter(texts: list[bytes], cut: int, is_plain_log: bool) -> None:
    """The same rows in two batches give the same columns and the same tables, small tables included."""
    received_ns = PLAIN_LOG_RECEIVED_NS if is_plain_log else RECEIVED_NS
    small: dict[str, Any] = {"series_max": 3, "causes_max": 16, "stages_max": 2}
    whole, parted = new_decoder(**small), new_decoder(**small)
    at_once = whole.decode(raw_batch(texts, 0, received_ns))
    first = parted.decode(raw_batch(texts[:cut], 0, received_ns))
    second = parted.decode(raw_batch(texts[cut:], len(texts[:cut]), received_ns))
    for name, column in at_once._asdict().items():
        if isinstance(column, np.ndarray):
            shift = first.rows if name == "measure_row" else 0
            joined = np.concatenate((getattr(first, name), getattr(second, name) + shift))
            assert column.dtype == getattr(first, name).dtype
            np.testing.assert_array_equal(joined, column)
    assert first.notes + second.notes == at_once.notes
    assert whole.series.values == parted.series.values
    assert whole.series.rows_by_admission == parted.series.rows_by_admission
    assert whole.causes.causes == parted.causes.causes
    assert whole.stages.names == parted.stages.names
    assert whole.losses.tolist() == parted.losses.tolist()
    assert whole.fields_ignored == parted.fields_ignored


@pytest.mark.parametrize("name", ["sip-go-live", "sip-steady"])
def test_the_bundled_recordings_decode_without_a_loss(name: str) -> None:
    """Every row, and the first rows as the twin says."""
    texts = zstd.decompress(config_path(f"demo/{name}.events.jsonl.zst").read_bytes()).splitlines()
    decoder = new_decoder()
    batch = decoder.decode(raw_batch(texts))
    assert (len(texts), 0) == (batch.rows, int(decoder.losses.sum()))
    assert 0 == sum(decoder.fields_ignored.values())
    head = new_decoder()
    assert [oracle_decode.decode_row(text, KEY) for text in texts[:200]] == as_oracle_rows(
        head.decode(raw_batch(texts[:200])), head
    )
