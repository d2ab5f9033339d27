"""The decoder: every row becomes one row of columns or one counted loss, as its slow twin says."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decode.decoder import SAMPLES_MAX, JsonDecoder, Sample
from engine.decode.events import LABELS, Cause, EventBatch, EventType, Note
from engine.errors import LossReason
from engine.settings import EngineSettings
from engine.source.contract import PLAIN_LOG_RECEIVED_NS, RawBatch, tick
from tests import oracle_decode
from tests.oracle_decode import identity_key

KEY = bytes(range(16))
T = 1_795_358_317
S = 1_000_000_000
RECEIVED_NS = (T + 5) * S


def raw_batch(
    rows: list[bytes], first: int = 0, received_ns: int = RECEIVED_NS, partition: int = 0
) -> RawBatch:
    """Put rows into one buffer, with a newline behind each; the first has offset `first`."""
    end = np.cumsum([len(row) + 1 for row in rows], dtype=np.int64) - 1
    start = end - np.array([len(row) for row in rows], np.int64)
    offset = np.arange(first, first + len(rows), dtype=np.int64)
    data = b"".join(row + b"\n" for row in rows)
    return RawBatch(data, start, end, offset, "calls", partition, received_ns, (partition,), ())


def new_decoder(**changes: Any) -> JsonDecoder:
    """Make a decoder in which every label is a label of the series."""
    return JsonDecoder(EngineSettings(**{"series_labels": LABELS, **changes}), KEY, {})


def row(type_: str = "call.started", **fields: Any) -> bytes:
    """Write an event; `call_id` and `time` have defaults."""
    event = {"time": T, "type": type_, "call_id": "c1", **{name.rstrip("_"): v for name, v in fields.items()}}
    return json.dumps(event).encode()


def decode_one(text: bytes, **changes: Any) -> tuple[EventBatch, JsonDecoder]:
    """Decode one row."""
    decoder = new_decoder(**changes)
    return decoder.decode(raw_batch([text])), decoder


def loss_of(text: bytes, **changes: Any) -> LossReason | None:
    """Give why a row is lost; None when it is not."""
    batch, decoder = decode_one(text, **changes)
    assert 1 == batch.rows + int(decoder.losses.sum())
    return None if batch.rows else LossReason(int(decoder.losses.argmax()))


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


LABEL_VALUES = st.sampled_from(
    [
        "acme",
        "globex",
        "",
        "é",
        "+14155551234",
        "4155551235",
        "a" * 129,
        "é" * 65,
        "a\nb",
        "550e8400-e29b-41d4",
    ]
)
WRONG_VALUES = st.sampled_from([None, True, False, 7, -1, 1.5, [], ["x"], {}, {"a": [1]}, "", "x", "NaN"])
FIELD_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "time": st.sampled_from(
        [
            T,
            T + 0.043607,
            T * 1000,
            f"{T}.123456789",
            "2026-11-22T14:38:37Z",
            "2026-11-22T14:38:37",
            5,
            -5,
            "",
        ]
    ),
    "type": st.sampled_from([event_type.wire for event_type in EventType] * 3 + ["call.unknown", ""]),
    "call_id": st.sampled_from(["c1", "c2", "", "x" * 256, "é" * 129, "\u0000", "😀"]),
    "id": st.sampled_from(["e1", "e2", "x" * 257]),
    **dict.fromkeys(LABELS, LABEL_VALUES),
    "outcome": st.sampled_from(["completed", "failed", "ok", "other", "exploded", ""]),
    "code": st.sampled_from([503, "486", 404.0, 1.5, -1, 1_000_000, "abc", "0999999"]),
    "reason": st.sampled_from(["Service Unavailable", "no answer from +49 30 1234567", "a@b.c d", ""]),
    "limit": st.sampled_from(["sip-trunk", "+14155551234", "a" * 200]),
    "duration_ms": st.sampled_from([0, -0.0, 15000.0, -1, 10**30]),
    "latency_ms": st.dictionaries(
        st.sampled_from(["setup", "llm", "e2e"]),
        st.one_of(
            st.sampled_from([0, -1, 1.5, 10**30, None, "7", True]), st.lists(st.integers(-3, 9), max_size=4)
        ),
        max_size=3,
    ),
    "used": st.sampled_from([0, 79.5, -1]),
    "max": st.sampled_from([80, "80"]),
    "calls": st.lists(st.sampled_from(["c1", "c2", "", 7, None, "x" * 257]), max_size=4),
    "expected": st.sampled_from([120, -1]),
    "until": st.sampled_from([T + 60, "2026-11-22T15:38:37Z", "soon", 5]),
    "what": st.sampled_from(["deploy", "a\u0000b"]),
    "from": st.sampled_from([80, 1.5, "v1", -3]),
    "to": st.sampled_from([True, "v2" * 100]),
    "by": st.sampled_from(["alice@example.com", ["x"]]),
    "unknown": st.sampled_from(["\u2028", [{"deep": [1, {}]}], 1e99]),
}


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """Rows as platforms, broken platforms and broken disks write them."""
    always = [name for name in ("time", "type", "call_id") if draw(st.integers(0, 19)) > 0]
    others = draw(st.lists(st.sampled_from(list(FIELD_VALUES)), max_size=9))
    names = draw(st.permutations(always + others))  # a name may come twice: the last one wins
    space = draw(st.sampled_from(["", " ", "\t\r\n "]))
    fields = []
    for name in names:
        value = draw(FIELD_VALUES[name] if draw(st.integers(0, 11)) else WRONG_VALUES)
        is_ascii = draw(st.booleans())
        fields.append(f"{json.dumps(name)}{space}:{space}{json.dumps(value, ensure_ascii=is_ascii)}")
    text = ("{" + space + f",{space}".join(fields) + "}" + space).encode()
    damage = draw(st.integers(0, 19))
    if damage == 0:
        return text[: draw(st.integers(0, len(text)))]
    if damage == 1:
        at = draw(st.integers(0, len(text) - 1))
        return text[:at] + draw(st.binary(min_size=1, max_size=1)) + text[at + 1 :]
    if damage == 2:
        return draw(
            st.sampled_from([b"[]", b"[1", b"7", b'"x"', b"null", b"", b" ", b"{}", b"\xff", b"{} {}"])
        )
    return text


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", LossReason.NOT_JSON),
        (b"{", LossReason.NOT_JSON),
        (b'{"type":NaN}', LossReason.NOT_JSON),
        (b'{"unknown":"\xff"}', LossReason.NOT_JSON),
        (b'{"unknown":"\\ud800"}', LossReason.NOT_JSON),
        (b"\xef\xbb\xbf" + row(), LossReason.NOT_JSON),
        (row() + row(), LossReason.NOT_JSON),
        (b'{"tenant":' + b"[" * 100_000, LossReason.NOT_JSON),
        (b'{"unknown":' + b"[" * 100_000 + b"]" * 100_000 + b"}", LossReason.NOT_JSON),
        (b"[1", LossReason.NOT_JSON),
        (b" [1] ", LossReason.NOT_AN_OBJECT),
        (b"{}", LossReason.FIELD_MISSING),
        (b'{"type":"call.started"}', LossReason.FIELD_MISSING),
        (b'{"time":1795358317,"type":"call.started"}', LossReason.FIELD_MISSING),
        (row(call_id=None), LossReason.FIELD_MISSING),
        (row(call_id=7), LossReason.FIELD_TYPE),
        (row(call_id=""), LossReason.FIELD_RANGE),
        (row(call_id="é" * 129), LossReason.FIELD_RANGE),
        (row(type=["call.started"]), LossReason.FIELD_TYPE),
        (row("call.exploded"), LossReason.TYPE_UNKNOWN),
        (row(time=None), LossReason.TIME_MALFORMED),
        (row(time=True), LossReason.TIME_MALFORMED),
        (row(time=5), LossReason.TIME_OUT_OF_RANGE),
        (b'{"duration_ms":1e400}', LossReason.FIELD_RANGE),
        (row("calls.listed"), LossReason.FIELD_MISSING),
        (row("calls.listed", calls="c1"), LossReason.FIELD_TYPE),
        (row("agent.joined", call_id=None), None),
        (row("dependency.called", call_id=None), None),
        (row(call_id="é" * 128), None),
    ],
)
def test_each_loss_has_its_reason(text: bytes, expected: LossReason | None) -> None:
    """One row for each way to be wrong, and some that are not."""
    assert expected == loss_of(text)


def test_a_row_longer_than_the_bound_is_not_parsed() -> None:
    """At the bound it is; one byte more and it is lost."""
    text = row(unknown="x" * 100)
    assert loss_of(text, row_bytes_max=len(text)) is None
    assert LossReason.ROW_TOO_LONG == loss_of(text, row_bytes_max=len(text) - 1)


def test_the_recorded_time_keeps_its_microseconds() -> None:
    """A double would not."""
    batch, _ = decode_one(b'{"time":1795358317.043607,"type":"call.started","call_id":"1"}')
    assert [1_795_358_317_043_607_000] == batch.time_ns.tolist()


def test_an_optional_field_of_the_wrong_type_is_ignored_and_counted() -> None:
    """The call still counts; what could not be used is counted by field."""
    text = row(
        "call.ended", tenant=7, code="x", reason=1, outcome="exploded", duration_ms=-1, latency_ms=[1], id=[2]
    )
    batch, decoder = decode_one(text)
    assert 1 == batch.rows
    assert Cause(False, "other", "", 0, "", "") == decoder.causes.causes[batch.cause_id[0]]
    assert np.isnan(batch.duration_ms[0])
    assert 0 == batch.event_key[0]
    ignored = {name: count for name, count in decoder.fields_ignored.items() if count}
    assert (
        dict.fromkeys(("tenant", "code", "reason", "outcome", "duration_ms", "latency_ms", "id"), 1)
        == ignored
    )


def test_a_negative_latency_is_not_measured_and_no_fault() -> None:
    """Platforms write -1 for a step that did not happen."""
    batch, decoder = decode_one(
        row("turn.completed", latency_ms={"llm": [-1, 250.5, "x", None, 0], "tts": 90})
    )
    assert [250.5, 0.0, 90.0] == batch.measure_ms.tolist()
    assert ["llm", "llm", "tts"] == [decoder.stages.names[stage] for stage in batch.measure_stage]
    assert 2 == decoder.fields_ignored["latency_ms"]


def test_latencies_of_one_row_are_bounded() -> None:
    """The first `measures_max` count."""
    batch, decoder = decode_one(row("turn.completed", latency_ms={"llm": list(range(300))}), measures_max=256)
    assert list(range(256)) == batch.measure_ms.tolist()
    assert 1 == decoder.fields_ignored["latency_ms"]


@pytest.mark.parametrize(
    ("type_", "stage"), [("transfer.ended", "transfer"), ("dependency.called", "dependency")]
)
def test_transfers_and_dependencies_are_measured_by_their_duration(type_: str, stage: str) -> None:
    """Their duration is a latency of a stage of its own, and a cause says how they ended."""
    batch, decoder = decode_one(row(type_, duration_ms=15_000.0, outcome="timeout"))
    assert [(stage, 15_000.0)] == as_oracle_rows(batch, decoder)[0].measures
    assert "timeout" == decoder.causes.causes[batch.cause_id[0]].outcome


def test_a_decline_has_a_cause_without_an_outcome() -> None:
    """What counts is the code, the reason and the limit."""
    batch, decoder = decode_one(
        row("call.declined", code="503", reason="Full +49301234567", limit="sip", platform="p")
    )
    assert Cause(True, "", "p", 503, "Full +#", "sip") == decoder.causes.causes[batch.cause_id[0]]


def test_calls_of_different_platforms_or_tenants_are_different_calls() -> None:
    """Identity is (platform, tenant, call_id), and masked labels keep calls apart."""
    labels = [{}, {"platform": "p"}, {"tenant": "p"}, {"tenant": "4155551234"}, {"tenant": "4155551235"}]
    decoder = new_decoder()
    batch = decoder.decode(raw_batch([row(**pair) for pair in labels for _ in range(2)]))
    expected = [
        identity_key(0, pair.get("platform", ""), pair.get("tenant", ""), "c1", KEY) for pair in labels
    ]
    assert [key for key in expected for _ in range(2)] == batch.call_key.tolist()
    assert len(labels) == len(set(expected))
    assert batch.series_id[6] == batch.series_id[8]


def test_what_is_masked_is_nowhere_in_the_decoder() -> None:
    """A number in a label, a reason, a stage name or a code is not kept in any table or memory."""
    secret = "4155559876"
    decoder = new_decoder()
    noisy = row("call.ended", **dict.fromkeys(LABELS[:6], secret), reason=f"to {secret}", limit=secret,
                code=int(secret), latency_ms={secret: 1}, call_id=secret, id=secret)  # fmt: skip
    batch = decoder.decode(raw_batch([noisy, noisy[:-1], row("change.made", by=f"+{secret}")]))
    kept = (batch, decoder.series.__dict__, decoder.causes.__dict__, decoder.stages.__dict__,
            decoder._labels._remembered, decoder.samples())  # fmt: skip
    assert secret not in repr(kept)


def test_a_list_of_live_calls_gives_the_keys_of_those_calls() -> None:
    """The keys are those the calls themselves have; entries that are no id are left out."""
    decoder = new_decoder()
    listed = row("calls.listed", tenant="acme", platform="p", calls=["c1", "", 7, "c2", "x" * 257])
    batch = decoder.decode(raw_batch([row(tenant="acme", platform="p"), listed]))
    assert (1,) == batch.note_row
    keys = dict(batch.notes[0].fields)["call_keys"]
    assert (int(batch.call_key[0]), identity_key(0, "p", "acme", "c2", KEY)) == keys


def test_a_list_beyond_the_bound_is_refused_whole() -> None:
    """A list cut short would end the calls beyond the cut."""
    assert loss_of(row("calls.listed", calls=["a", "b"]), calls_listed_max=2) is None
    assert LossReason.FIELD_RANGE == loss_of(row("calls.listed", calls=["a", "b", "c"]), calls_listed_max=2)


def test_a_note_has_its_labels_and_allowed_fields_only() -> None:
    """Anything else in the event stays out."""
    text = row(
        "limit.reported", trunk="sip-1", tenant="a", limit="sip", used=70, max="80", secret="s", what="w"
    )
    batch, decoder = decode_one(text)
    labels = (("tenant", "a"), ("trunk", "sip-1"))
    note = Note(T * S, EventType.LIMIT_REPORTED, labels, (("limit", "sip"), ("used", 70.0)))
    assert (note,) == batch.notes
    assert 1 == decoder.fields_ignored["max"]


def test_a_plain_log_is_received_at_the_newest_time_so_far() -> None:
    """Over all batches of a partition; lost rows do not move it; partitions do not mix."""
    decoder = new_decoder()
    first = decoder.decode(raw_batch([row(time=T + 2), row(time=T + 9, call_id=7), row(time=T)], 0, -1))
    other = decoder.decode(raw_batch([row(time=T + 8)], 0, -1, partition=1))
    second = decoder.decode(raw_batch([row(time=T + 1), row(time=T + 3)], 3, -1))
    assert [T + 2, T + 2] == [value // S for value in first.received_ns.tolist()]
    assert [T + 8] == [value // S for value in other.received_ns.tolist()]
    assert [T + 2, T + 3] == [value // S for value in second.received_ns.tolist()]


def test_a_batch_that_was_received_keeps_its_time_for_every_row() -> None:
    """However far ahead its events are."""
    batch = new_decoder().decode(raw_batch([row(time=T + 99), row()]))
    assert [RECEIVED_NS] * 2 == batch.received_ns.tolist()


def test_a_tick_is_a_batch_without_rows() -> None:
    """It counts nothing."""
    decoder = new_decoder()
    batch = decoder.decode(tick("calls", RECEIVED_NS, (0,), ()))
    assert (0, -1, 0, ()) == (batch.rows, batch.partition, decoder.rows_read, batch.notes)


def test_lost_rows_are_sampled_by_place_never_by_content() -> None:
    """The newest SAMPLES_MAX, oldest first."""
    decoder = new_decoder()
    decoder.decode(raw_batch([b"{"] * (SAMPLES_MAX + 5) + [row("x.y")], first=7))
    samples = decoder.samples()
    assert SAMPLES_MAX == len(samples)
    assert Sample("calls", 0, 7 + SAMPLES_MAX + 5, LossReason.TYPE_UNKNOWN) == samples[-1]
    assert Sample("calls", 0, 7 + SAMPLES_MAX + 4, LossReason.NOT_JSON) == samples[-2]


def test_rows_of_a_full_series_table_are_counted_as_collapsed() -> None:
    """Remembered combinations are counted again with every row."""
    decoder = JsonDecoder(EngineSettings(series_max=8), KEY, {"trunk": frozenset({"sip-1"})})
    texts = [row(tenant=f"t{i}", trunk="sip-1") for i in range(20)]
    batch = decoder.decode(raw_batch(texts + texts))
    assert 2 * sum(
        values[0] == "__other__" for values in (decoder.series.values[i] for i in batch.series_id[:20])
    ) == (decoder.series.rows_collapsed)
    assert {"sip-1"} == {decoder.series.values[i][1] for i in batch.series_id}
    assert decoder.series.rows_collapsed > 0
