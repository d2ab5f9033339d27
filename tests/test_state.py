"""A line that is restored from a checkpoint goes on as if nothing had happened, byte for byte."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from engine.app import REPLAY_HASH_KEY, Configuration, OwnedLine, build_line
from engine.deliver.jsonl import alert_change_line
from engine.settings import EngineSettings, Settings
from engine.state.blob import MAGIC, parts_of
from engine.state.encoding import EncodedOnce, StateError, decode, encode
from engine.state.kept import FIELDS, KEPT
from engine.state.line_state import capture, digests_of, new_once, restore, restored, state_hash
from engine.state.manifest import TITLE, manifest_of
from tests.line_runs import shipped_rules
from tests.line_traffic import (
    REGISTER,
    START_NS,
    Traffic,
    batches_of,
    disordered,
    event,
    make_story,
    raw_batch,
)
from tests.test_privacy import SECRETS, planted
from tests.text_scenarios import FOLDER, conformance_scenario

if TYPE_CHECKING:
    from engine.app import Line
    from engine.limits import Register
    from engine.source.contract import RawBatch

S = 1_000_000_000
TRAFFIC = Traffic(duration_s=420, rate_last=4.0)


def a_configuration(register: Register = REGISTER, settings: Settings | None = None) -> Configuration:
    return Configuration(settings or Settings(), register, shipped_rules(), Path("limits.yaml"))


def through_bytes(line: Line, configuration: Configuration, made_by: Configuration | None = None) -> Any:
    """Write a line down and read it into a new one, as a process does that takes over."""
    made_under = digests_of((made_by or configuration).settings, None, REPLAY_HASH_KEY)
    taken = capture(line.pipeline, {})
    read = {
        blob: {name: b"".join(pieces) for name, pieces in parts.items()}
        for blob, parts in taken.blobs.items()
    }
    fresh = build_line(configuration, REPLAY_HASH_KEY)
    outcome = restore(
        fresh.pipeline, read, made_under, digests_of(configuration.settings, None, REPLAY_HASH_KEY)
    )
    return fresh, outcome


def story_batches(seed: int, partitions: int = 2) -> list[RawBatch]:
    events = disordered(make_story(TRAFFIC._replace(seed=seed)).events, 4 * S, seed)
    return list(batches_of(events, partitions=partitions, rows_max=120, seed=seed))


@pytest.fixture(scope="module")
def busy_line() -> Line:
    """Give a line that has seen minutes of traffic, with calls, alerts and rows on their way."""
    line = build_line(a_configuration(), REPLAY_HASH_KEY)
    batches = story_batches(1)
    for raw in batches[: len(batches) * 3 // 4]:
        line.pipeline.step(raw)
    return line


def test_what_is_encoded_once_never_changes_afterwards() -> None:
    """A checkpoint that remembers what it wrote before is the one that would have been written without."""
    line, once = build_line(a_configuration(), REPLAY_HASH_KEY), new_once()
    for number, raw in enumerate(story_batches(3)):
        line.pipeline.step(raw)
        if number % 40 == 0:
            assert capture(line.pipeline, {}, once) == capture(line.pipeline, {})


def test_a_tuple_is_encoded_once_only_if_nothing_in_it_can_change() -> None:
    """At no depth; and whatever stands between two checkpoints, the second holds what is there then."""
    once, inner, array = EncodedOnce(), [1], np.zeros(2)
    labels = ("tenant", ("acme", None, 3)), ("trunk", "sip-1")
    value: dict[str, Any] = {"labels": [labels, labels], "inner": (("a", inner),), "arrays": (array, ())}

    for change in range(3):
        once.begin()
        found = decode(b"".join(encode(value, {}, once=once)))
        assert found["labels"] == [labels, labels]
        assert found["inner"] == (("a", [1, *range(change)]),)
        assert found["arrays"][0].tolist() == [change, 0]
        inner.append(change)
        array[0] += 1
    assert once.plain_of(labels) is once.plain_of(labels)
    assert once.plain_of(value["inner"]) is None


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_that_is_cut_at_random_places_changes_nothing(seed: int) -> None:
    """Promise P7: the same changes, and the same state in the end, however often it was restored."""
    batches = story_batches(seed)
    configuration = a_configuration()
    whole, cut = (build_line(configuration, REPLAY_HASH_KEY) for _ in range(2))
    expected, found = [], []
    kills = set(np.random.default_rng(seed).integers(1, len(batches), 12).tolist())
    for number, raw in enumerate(batches):
        if number in kills:
            cut, outcome = through_bytes(cut, configuration)
            assert outcome == (True, ())
            assert state_hash(cut.pipeline) == state_hash(whole.pipeline)
        expected += [alert_change_line(change) for change in whole.pipeline.step(raw).changes]
        found += [alert_change_line(change) for change in cut.pipeline.step(raw).changes]
    expected += [alert_change_line(change) for change in whole.pipeline.finish().changes]
    found += [alert_change_line(change) for change in cut.pipeline.finish().changes]
    assert len(expected) > 4
    assert found == expected
    assert state_hash(cut.pipeline) == state_hash(whole.pipeline)


def test_a_list_that_waits_for_a_partition_goes_on_waiting() -> None:
    """It is in the checkpoint with the rows that are held for it, and opens what it would have opened."""
    up = [event(START_NS + at * S, "call.started", f"c{at}", tenant="acme") for at in range(9)]
    told = event(START_NS + 30 * S, "calls.listed", tenant="acme", calls=["c1", "c2", "unheard"])
    rows = [event(START_NS + at * S, "call.queued", f"q{at}", tenant="acme") for at in range(99)]
    ahead, behind = ([one.row for one in part] for part in ([told, *rows[30:]], [*up, *rows[9:]]))
    whole, cut = (build_line(a_configuration(), REPLAY_HASH_KEY) for _ in range(2))
    for raw in (raw_batch(ahead, 0, 0, 2), raw_batch(behind, 1, 0, 2)):
        whole.pipeline.step(raw)
        cut.pipeline.step(raw)
        cut, outcome = through_bytes(cut, a_configuration())
        assert outcome == (True, ())
    assert cut.pipeline.observer.calls_in_flight == 3
    assert state_hash(cut.pipeline) == state_hash(whole.pipeline)


def test_after_an_upgrade_that_changed_a_record_the_alerts_go_on() -> None:
    """What calls and windows were is read again from Kafka; nobody is told for that that all is well."""
    configuration = a_configuration()
    line = build_line(configuration, REPLAY_HASH_KEY)
    for raw in story_batches(1):
        line.pipeline.step(raw)
    digests = digests_of(configuration.settings, None, REPLAY_HASH_KEY)
    read = {
        blob: {name: b"".join(pieces) for name, pieces in parts.items()}
        for blob, parts in capture(line.pipeline, {}).blobs.items()
    }
    judge = read["judge"]["judge"]
    assert judge.count(b":OccupancyState")
    read["judge"]["judge"] = judge.replace(b":OccupancyState", b":OccupancyStats")
    fresh, outcome = restored(lambda: build_line(configuration, REPLAY_HASH_KEY), read, digests, digests)
    assert not outcome.is_whole
    assert "OccupancyStats" in outcome.refused[0]
    assert fresh.pipeline.judge.book.alerts() == line.pipeline.judge.book.alerts() != ()
    assert fresh.pipeline.judge.roller.slices_closed == 0


def scenarios() -> list[Any]:
    """List every text scenario; those of the few that fill states of their own in every test run."""
    few = {"dependency_failing", "in_flight_drift", "release_regression", "timeout_cliff"}
    return [
        pytest.param(path, marks=() if path.stem in few else pytest.mark.full, id=path.stem)
        for path in sorted(FOLDER.rglob("*.scenario"))
    ]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", scenarios())
def test_every_detector_goes_on_where_it_was(path: Path) -> None:
    """Reports, plans, lists of calls, releases, dependencies and scores are in the state as well."""
    scenario = conformance_scenario(path)
    configuration = a_configuration(scenario.register, scenario.settings)
    whole, cut = (build_line(configuration, REPLAY_HASH_KEY) for _ in range(2))
    kills = set(np.random.default_rng(1).integers(1, len(scenario.batches), 6).tolist())
    changes = 0
    for number, raw in enumerate(scenario.batches):
        if number in kills:
            cut, outcome = through_bytes(cut, configuration)
            assert outcome == (True, ())
        expected = whole.pipeline.step(raw).changes
        assert cut.pipeline.step(raw).changes == expected
        changes += len(expected)
    assert state_hash(cut.pipeline) == state_hash(whole.pipeline)
    assert changes


def test_nothing_of_a_call_is_in_any_blob() -> None:
    """Numbers, addresses, call ids and what was said are planted in every field of every type of event."""
    line = build_line(a_configuration(), REPLAY_HASH_KEY)
    events = sorted([*make_story(TRAFFIC).events, *planted()])
    searched = 0
    for raw in batches_of(events, rows_max=200):
        line.pipeline.step(raw)
        for parts in capture(line.pipeline, {}).blobs.values():
            data = b"".join(piece for pieces in parts.values() for piece in pieces)
            searched += len(data)
            assert not [secret for secret in SECRETS if secret.encode() in data]
            assert REPLAY_HASH_KEY.hex().encode() not in data
    assert searched > 1_000_000


def test_every_field_of_what_changes_is_kept_or_made_anew(busy_line: Line) -> None:
    """A field that is added and not named in `kept.py` would be lost without a word."""
    seen: set[type] = set()
    waiting: list[Any] = [busy_line.pipeline]
    while waiting:
        one = waiting.pop()
        fields = FIELDS.get(type(one))
        if isinstance(one, dict | list | tuple):
            waiting += one.values() if isinstance(one, dict) else one
        elif fields is not None and type(one) not in seen:
            seen.add(type(one))
            named = [name for column in fields for name in column.split()]
            slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
            assert sorted(named) == sorted({*getattr(one, "__dict__", {}), *slots}), type(one)
            waiting += [getattr(one, name) for name in named]
    assert seen == set(FIELDS)


def test_what_is_not_named_cannot_be_written() -> None:
    """An object that nobody thought of stops the writing, and not the reading years later."""
    with pytest.raises(TypeError, match="not kept"):
        encode([object()], KEPT)
    with pytest.raises(TypeError, match="not kept"):
        encode({"rule": print}, KEPT)
    with pytest.raises(TypeError, match="arrays of"):
        encode(np.array(["text"]), KEPT)


def test_nothing_but_records_of_the_core_comes_out() -> None:
    """Bytes that name another class are refused; nothing is imported or run for them."""
    good = b"".join(encode(REGISTER, KEPT))
    for name in (b"engine.limits:Registrar", b"subprocess...:Popen...."):
        bad = good.replace(b"engine.limits:Register", name[:22].ljust(22, b"."))
        with pytest.raises(StateError):
            decode(bad)


def test_damaged_bytes_are_refused_whatever_they_are() -> None:
    """Any cut and any flipped bit gives the value or a StateError."""
    good = b"".join(encode((REGISTER, np.arange(5), {"a": {1, 2}}), KEPT))
    generator = np.random.default_rng(3)
    for _ in range(300):
        bad = bytearray(good[: generator.integers(0, len(good) + 1)])
        if bad:
            bad[generator.integers(0, len(bad))] ^= 1 << int(generator.integers(0, 8))
        try:
            decode(bytes(bad))
        except StateError:
            continue


def test_bytes_that_are_nested_too_deep_to_read_are_refused() -> None:
    """Whoever can write to the folder gets wrong numbers at most, and no error that nobody foresaw."""
    body = b'{"left_out":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    check = hashlib.blake2b(body, digest_size=16).hexdigest().encode()
    with pytest.raises(StateError, match="cannot be read"):
        manifest_of(TITLE + b" 1 " + check + b"\n" + body)
    values = ("judge", "calls", -1, "core", (), "")
    head = b"\x97" + b"".join(map(msgspec.msgpack.encode, values)) + b"\x91" * 10_000 + b"\x00"
    data = MAGIC + b"\x01" + len(head).to_bytes(4, "little") + head
    with pytest.raises(StateError, match="RecursionError"):
        parts_of(data + hashlib.blake2b(data, digest_size=16).digest(), "judge", 1 << 20)
    for depth in (500, 10_000):
        head = b"\x93\x90\x90" + b"\x92\x00" * depth + b"\x00"
        with pytest.raises(StateError, match="RecursionError"):
            decode(len(head).to_bytes(8, "little") + head)


def test_numbers_keep_their_bits_and_arrays_their_order_in_memory() -> None:
    """A sum over an array depends on both."""
    table = np.asfortranarray(np.random.default_rng(1).random((7, 5)))
    value = (
        float("nan"),
        -0.0,
        1 << 62,
        np.float32(0.1),
        table,
        np.zeros((0, 3), np.int16),
        (1.5, "é", b"x"),
    )
    again = decode(b"".join(encode(value, KEPT)))
    assert repr(again) == repr(value)
    assert again[4].flags.f_contiguous
    assert again[4].sum() == table.sum()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_an_array_that_is_mostly_empty_takes_little_room_and_comes_back_whole(share: float) -> None:
    """Whichever way it is written, and in whichever order it lies."""
    generator = np.random.default_rng(1)
    table = generator.integers(-5, 5, (300, 400), np.int32)
    table[generator.random(table.shape) >= share] = 0
    for one in (table, np.asfortranarray(table), table[:, ::2], table.astype(np.uint8)):
        data = b"".join(encode(one, KEPT))
        again = decode(data)
        assert (again.dtype, again.shape, again.flags.f_contiguous) == (
            one.dtype, one.shape, one.flags.f_contiguous,
        )  # fmt: skip
        assert again.tolist() == one.tolist()
        assert again.flags.writeable
        assert len(data) < one.nbytes * (0.6 if share < 0.2 and one.itemsize > 1 else 1.0) + 1000


def test_a_limit_that_changed_in_between_takes_effect_as_a_reload_would(busy_line: Line) -> None:
    """What still counts the same calls goes on with its level."""
    cap, tenant = REGISTER.limits
    register = msgspec.structs.replace(REGISTER, limits=(msgspec.structs.replace(cap, value=99.0), tenant))
    fresh, outcome = through_bytes(busy_line, a_configuration(register))
    assert outcome.is_whole
    index = fresh.pipeline.judge.roller.index
    assert index.instances[0].limit.value == 99.0
    before = busy_line.pipeline.judge.roller.occupancy.state.level
    assert fresh.pipeline.judge.roller.occupancy.state.level[: len(before)].tolist() == before.tolist()


def test_under_other_settings_the_alerts_are_kept_and_nothing_else(busy_line: Line) -> None:
    """Slices of another length cannot be added to; that something fires, and since when, still holds."""
    other = Settings(engine=EngineSettings(slice_ns=3 * S))
    fresh, outcome = through_bytes(busy_line, a_configuration(settings=other), a_configuration())
    assert not outcome.is_whole
    assert outcome.refused
    assert fresh.pipeline.judge.book.alerts() == busy_line.pipeline.judge.book.alerts() != ()
    assert fresh.pipeline.observer.calls_in_flight == 0 < busy_line.pipeline.observer.calls_in_flight


def test_other_settings_of_detectors_start_detectors_anew_and_keep_the_calls(busy_line: Line) -> None:
    """Their numbers mean something else now; levels and windows do not."""
    other = msgspec.structs.replace(
        Settings(), detection=msgspec.structs.replace(Settings().detection, pages_per_week=3.0)
    )
    fresh, outcome = through_bytes(busy_line, a_configuration(settings=other), a_configuration())
    assert outcome.is_whole
    assert len(outcome.refused) == 1
    assert fresh.pipeline.observer.calls_in_flight == busy_line.pipeline.observer.calls_in_flight
    assert fresh.pipeline.judge.bank.state_of("headroom").end_ns == -1


def test_a_line_of_its_own_is_not_touched_by_being_written(busy_line: Line) -> None:
    """The rows that are held stay where they are."""
    before = state_hash(busy_line.pipeline)
    rows = busy_line.pipeline.observer.rows_held
    capture(busy_line.pipeline, {})
    assert (state_hash(busy_line.pipeline), busy_line.pipeline.observer.rows_held) == (before, rows)
    assert rows > 0


def test_where_to_go_on_is_behind_the_last_row_that_was_read_decoded_or_not() -> None:
    """A row that is no event is counted as lost once, and not again after every start."""
    line = OwnedLine(a_configuration(), REPLAY_HASH_KEY).line
    raw = story_batches(1, partitions=1)[0]
    line.pipeline.step(raw)
    taken = capture(line.pipeline, {7: 5})
    assert taken.next_offsets == {raw.partition: int(raw.offset[-1]) + 1}
