"""The decoder's rules, one by one: reasons of losses, what is ignored, measured, masked, bounded, noted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.decode.decoder import SAMPLES_MAX, Decoder, JsonDecoder, Sample
from engine.decode.events import LABELS, Cause, EventType, Note
from engine.errors import LossReason
from engine.limits import LimitLabel
from engine.observe.lists import matching_series
from engine.settings import EngineSettings
from engine.source.contract import tick
from tests.event_rows import KEY, RECEIVED_NS, S, T, decode_one, new_decoder, raw_batch, row
from tests.oracle_decode import identity_key


def loss_of(text: bytes, **changes: Any) -> LossReason | None:
    """Give why a row is lost; None when it is not."""
    batch, decoder = decode_one(text, **changes)
    assert 1 == batch.rows + int(decoder.losses.sum())
    return None if batch.rows else LossReason(int(decoder.losses.argmax()))


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


def test_no_zero_is_negative() -> None:
    """The sketch reads the bits of a latency, sign included."""
    batch, _ = decode_one(row("call.ended", latency_ms={"llm": -0.0}, duration_ms=-0.0))
    assert [False, False] == np.signbit([batch.measure_ms[0], batch.duration_ms[0]]).tolist()


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
    assert [stage] == [decoder.stages.names[stage_id] for stage_id in batch.measure_stage]
    assert [15_000.0] == batch.measure_ms.tolist() == batch.duration_ms.tolist()
    assert "timeout" == decoder.causes.causes[batch.cause_id[0]].outcome


def test_a_dependency_says_what_was_called_and_what_was_done_when_it_failed() -> None:
    """The name is a label; a fallback that is none of the words is as if it were not there."""
    batch, decoder = decode_one(row("dependency.called", dependency="crm", outcome="error", fallback="open"))
    cause = decoder.causes.causes[batch.cause_id[0]]
    assert ("dependency:crm", "error", "open") == (cause.operation, cause.outcome, cause.fallback)

    batch, decoder = decode_one(row("dependency.called", dependency="+49 30 1234567", fallback="maybe"))
    cause = decoder.causes.causes[batch.cause_id[0]]
    assert ("dependency:__number__", "") == (cause.operation, cause.fallback)
    assert 1 == decoder.fields_ignored["fallback"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"score": 0.5, "metric": "csat"}, [("metric:csat", 0.5)]),
        ({"score": 1}, [("metric:score", 1.0)]),
        ({"score": 1.01, "metric": "csat"}, []),
        ({"score": "0.5"}, []),
        ({"metric": "csat"}, []),
        ({"score": 0.5, "metric": "What the caller said"}, [("__other__", 0.5)]),
    ],
)
def test_a_score_is_a_measure_of_its_metric(fields: dict[str, object], expected: list[object]) -> None:
    """From 0 to 1; anything else is ignored, and the row is still counted."""
    batch, decoder = decode_one(row("quality.scored", **fields))
    names = [decoder.stages.names[stage_id] for stage_id in batch.measure_stage]
    assert expected == list(zip(names, batch.measure_ms.tolist(), strict=True))
    assert 1 == batch.rows


def test_metrics_take_no_room_from_stages() -> None:
    """Each kind of name has as many places."""
    decoder = new_decoder(stages_max=2)
    stages = decoder.stages
    assert [1, 2, 0, 0] == [stages.id_of("llm"), stages.id_of("csat", "metric:"), stages.id_of("tts"),
                            stages.id_of("nps", "metric:")]  # fmt: skip


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
            decoder.labels._remembered, decoder.samples())  # fmt: skip
    assert secret not in repr(kept)


def test_a_list_of_live_calls_gives_the_keys_of_those_calls() -> None:
    """The keys are those the calls themselves have."""
    decoder = new_decoder()
    listed = row("calls.listed", tenant="acme", platform="p", calls=["c1", "c2"])
    batch = decoder.decode(raw_batch([row(tenant="acme", platform="p"), listed]))
    assert (1,) == batch.note_row
    keys = dict(batch.notes[0].fields)["call_keys"]
    assert (int(batch.call_key[0]), identity_key(0, "p", "acme", "c2", KEY)) == keys


def test_a_list_that_names_a_label_that_series_do_not_keep_is_counted() -> None:
    """Such a list takes out no call, and somebody must be able to see that."""
    decoder = new_decoder(series_labels=("tenant", "trunk"))
    without = row("calls.listed", tenant="acme", calls=["c1"])
    first = decoder.decode(raw_batch([row(tenant="acme"), without]))
    assert not any(decoder.fields_ignored.values())
    named = decoder.decode(raw_batch([row("calls.listed", tenant="acme", platform="p", calls=["c1"])]))
    assert decoder.fields_ignored["platform"] == 1
    second = decoder.decode(raw_batch([row(tenant="acme", platform="p"), without]))
    assert decoder.fields_ignored["platform"] == 2
    # A list without a platform speaks of other calls than those that have one: it is not used at all.
    assert [len(dict(one.notes[0].fields)) for one in (first, named, second)] == [1, 1, 0]


def test_a_list_whose_label_is_hidden_like_those_of_others_is_counted() -> None:
    """Numbers are one word without a key, so it takes out no call; its keys are those of its calls alone."""
    decoder = new_decoder()
    batch = decoder.decode(raw_batch([row("calls.listed", tenant="10023456", calls=["c1"])]))
    assert decoder.fields_ignored["tenant"] == 1
    assert (identity_key(0, "", "10023456", "c1", KEY),) == dict(batch.notes[0].fields)["call_keys"]


@pytest.mark.parametrize("value", [7, ["eu"], "e" * 129, "eu\u200f"])
def test_a_list_with_a_label_that_cannot_be_used_is_not_of_all_its_values(value: object) -> None:
    """Without the label it would take out the calls of every other value."""
    decoder = new_decoder(series_labels=("tenant", "region"))
    batch = decoder.decode(raw_batch([row("calls.listed", tenant="acme", region=value, calls=["c1"])]))
    assert dict(batch.notes[0].labels) == {"tenant": "acme", "region": "__other__"}
    assert decoder.fields_ignored["region"] == 1
    values = [("acme", "eu"), ("acme", "us"), ("acme", "")]
    assert not matching_series(batch.notes[0].labels, ("tenant", "region"), values).any()


@pytest.mark.parametrize("kind", ["limit.reported", "load.planned"])
@pytest.mark.parametrize("field", [*LABELS, "limit"])
def test_a_note_of_limits_with_a_label_that_cannot_be_used_is_lost(kind: str, field: str) -> None:
    """Without the label it would be about the calls that have none, and a plan without `limit` about all."""
    note = {"call_id": None, "limit": "trunk", "max": 9, "expected": 9}
    assert LossReason.FIELD_TYPE == loss_of(row(kind, **note | {field: 7}))
    assert LossReason.FIELD_RANGE == loss_of(row(kind, **note | {field: "e" * 129}))
    assert loss_of(row(kind, **note | {field: None})) is None
    assert loss_of(row(kind, **note | {field: ""})) is None
    assert loss_of(row("change.made", call_id=None, what="cap", **{field: 7})) is None


@pytest.mark.parametrize(
    ("kind", "field"),
    [("limit.reported", "used"), ("limit.reported", "max"), ("load.planned", "expected")],
)
def test_a_number_of_a_note_beyond_all_sense_is_not_used(kind: str, field: str) -> None:
    """Two plans of 9e307 calls are more than a number can hold, and were the end of the engine."""
    decoder = new_decoder()
    rows = [row(kind, call_id=None, limit="trunk", **{field: value}) for value in (1e12, 1.1e12, 9e307)]
    batch = decoder.decode(raw_batch(rows))
    assert [dict(note.fields).get(field) for note in batch.notes] == [1e12, None, None]
    assert decoder.fields_ignored[field] == 2


@pytest.mark.parametrize("kind", ["change.made", "limit.reported", "load.planned", "dependency.called"])
def test_an_event_of_no_call_that_names_a_platform_switches_off_no_list(kind: str) -> None:
    """It says nothing of how calls are named; the next call that has the same labels does."""
    decoder = new_decoder(series_labels=("tenant", "trunk"))
    labels = {"tenant": "acme", "platform": "p"}
    listed = row("calls.listed", tenant="acme", calls=["c1"])
    stray = decoder.decode(raw_batch([row(kind, call_id=None, **labels), listed]))
    assert "call_keys" in dict(stray.notes[-1].fields)
    ignored_before = decoder.fields_ignored["platform"]
    of_call = decoder.decode(raw_batch([row(**labels), listed]))
    assert "call_keys" not in dict(of_call.notes[-1].fields)
    assert [ignored_before, decoder.fields_ignored["platform"]] == [0, 1]


def test_a_list_beyond_the_bound_is_refused_whole() -> None:
    """A list cut short would end the calls beyond the cut."""
    assert loss_of(row("calls.listed", calls=["a", "b"]), calls_listed_max=2) is None
    assert LossReason.FIELD_RANGE == loss_of(row("calls.listed", calls=["a", "b", "c"]), calls_listed_max=2)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (7, LossReason.FIELD_TYPE), ({"call_id": "b"}, LossReason.FIELD_TYPE), (None, LossReason.FIELD_TYPE),
        ("", LossReason.FIELD_RANGE), ("x" * 257, LossReason.FIELD_RANGE),
        ("é" * 129, LossReason.FIELD_RANGE),
    ],
)  # fmt: skip
def test_a_list_with_an_entry_that_is_no_call_id_is_refused_whole(entry: object, reason: LossReason) -> None:
    """Without the entry, the call that it stands for would be taken for one that has ended."""
    assert reason == loss_of(row("calls.listed", calls=["a", entry, "c"]))
    assert reason == loss_of(row("calls.listed", calls=[entry]))
    assert loss_of(row("calls.listed", calls=[])) is None


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
    decoder: Decoder = new_decoder()
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
    decoder = JsonDecoder(EngineSettings(series_max=8), KEY, {"trunk": LimitLabel(frozenset({"sip-1"}))})
    texts = [row(tenant=f"t{i}", trunk="sip-1") for i in range(20)]
    batch = decoder.decode(raw_batch(texts + texts))
    assert 2 * sum(
        values[0] == "__other__" for values in (decoder.series.values[i] for i in batch.series_id[:20])
    ) == (decoder.series.rows_collapsed)
    assert {"sip-1"} == {decoder.series.values[i][1] for i in batch.series_id}
    assert decoder.series.rows_collapsed > 0
