"""The decoder over the scanner gives what the parser gives: every column, table, count and sample, always."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.app import REPLAY_HASH_KEY, build_line, load_configuration
from engine.config_files import config_path
from engine.decode.decoder import JsonDecoder
from engine.decode.events import EventType
from engine.decode.fast_decoder import CAN_SCAN, FastDecoder, new_decoder
from engine.decode.scan_text import READ_BEYOND_BYTES
from engine.settings import EngineSettings
from engine.source.contract import RawBatch
from engine.source.file import FileSource
from tests.decoder_pairs import Pair
from tests.event_rows import KEY, RECEIVED_NS, T, events, raw_batch, row
from tests.fuzz_decode import SETTINGS, fuzz_decoder, side_by_side
from tests.test_scan import Guarded

pytestmark = pytest.mark.skipif(not CAN_SCAN, reason="addresses need compiled kernels, little-endian")


@pytest.mark.parametrize("seed", range(3))
def test_written_and_damaged_rows_come_to_the_same(seed: int) -> None:
    """Ten writers each; most rows are taken, or this would compare the parser with itself."""
    read, taken = fuzz_decoder(seed, writers=10)
    assert taken > read // 4


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(100, 104))
def test_many_written_and_damaged_rows_come_to_the_same(seed: int) -> None:
    """The same for longer."""
    read, taken = fuzz_decoder(seed, writers=150, rows=1000)
    assert taken > read // 4


@settings(max_examples=60)
@given(st.lists(events(), max_size=12), st.booleans(), st.sampled_from(SETTINGS))
def test_rows_of_the_parsers_own_tests_come_to_the_same(
    texts: list[bytes], has_vectors: bool, changes: dict[str, Any]
) -> None:
    """Twice, since what is new the first time may be taken the second time."""
    pair = Pair(has_vectors=has_vectors, **changes)
    for _ in range(2):
        pair.decode(raw_batch(texts, pair.fast.rows_read))


@pytest.mark.parametrize("way", [True, False])
@pytest.mark.parametrize("type_", [event_type.wire for event_type in EventType][:12])
def test_a_usual_row_is_taken_once_it_is_known(type_: str, way: bool) -> None:
    """All but the rare types, which are kept as notes; with vectors and without."""
    carried: dict[str, dict[str, Any]] = {
        "call.ended": {"outcome": "failed", "code": 500, "reason": "Busy", "latency_ms": {"llm": [1, 2.5]}},
        "call.declined": {"code": "503", "limit": "sip"}, "turn.completed": {"latency_ms": {"llm": 7}},
        "transfer.ended": {"duration_ms": 15.5}, "quality.scored": {"score": 0.5, "metric": "csat"},
        "dependency.called": {"dependency": "crm", "outcome": "ok", "fallback": "open", "duration_ms": 3},
    }  # fmt: skip
    text = row(type_, tenant="acme", trunk="sip-1", id="e1", **carried.get(type_, {}))
    pair = Pair(has_vectors=way)
    pair.decode(raw_batch([text]))
    pair.decode(raw_batch([text] * 9))
    assert 9 == pair.fast.rows_scanned


@pytest.mark.parametrize(
    "text",
    [
        b'{"unknown":1{"time":5,"type":"call.started","call_id":"c1"}',
        b',"time":5,"type":"call.started","call_id":"c1"}',
        b'{"time":1795358317,"type":"call.started","call_id":"c1",}',
        b'{"time":1795358317,"type":"call.started","call_id":"c1"',
        b'{"time":1795358317,"type":"call.started","call_id":"c1"}}',
        b'{"time":1795358317,"type":"call.started","call_id":"c1","x":{"a":01}}',
        b'{"time":1795358317,"type":"call.started","call_id":"c1","x":"\xff"}',
        b'{"time":1795358317,"type":"call.started","call_id":"c1","x":"\\q"}',
        b'{"time":1795358317,"type":"call.started","call_id":"c1","time":1795358318}',
        b'{"time":1795358317,"type":"call.started","call_id":"c1","\\u0074ime":1795358318}',
        b'{"time":1795358317,"type":"turn.completed","call_id":"c1","latency_ms":{"a":1,"b":2,"a":3}}',
        b"}",
    ],
)  # fmt: skip
def test_what_is_nearly_a_usual_row_comes_to_the_same(text: bytes) -> None:
    """Among usual rows, which teach the scanner what comes next, and before a buffer that would go on."""
    usual = row(), row("turn.completed", latency_ms={"a": 1, "b": 2})
    pair = Pair()
    for _ in range(2):
        pair.decode(raw_batch([*usual, text, *usual, text]))
        pair.decode(side_by_side([text, b',"tenant":"acme"}', *usual]))


def test_a_buffer_is_not_read_beyond_its_end() -> None:
    """The page behind it cannot be read: a byte too far ends the process, not only this test."""
    pair = Pair()
    text = row("turn.completed", tenant="acme", trunk="sip-1", latency_ms={"llm": 412.7})
    for cut in range(len(text) + 1):
        rows = [text, text, text[: len(text) - cut]]
        joined = side_by_side(rows)
        memory = Guarded(b"")
        size = len(joined.data)
        view = (ctypes.c_uint8 * size).from_address(memory.end + READ_BEYOND_BYTES - size)
        view[:] = list(joined.data)
        data: Any = memoryview(view)
        found = pair.fast.decode(dataclasses.replace(joined, data=data))
        expected = pair.plain.decode(joined)
        assert expected.call_key.tolist() == found.call_key.tolist()
        assert pair.plain.losses.tolist() == pair.fast.losses.tolist()


def test_a_place_outside_the_buffer_is_parsed_as_python_slices_it() -> None:
    """A broken source is no reason to read what is not ours."""
    text = row()
    pair = Pair()
    for start, end in ((-5, 3), (0, len(text) + 500), (10, 5), (len(text), len(text))):
        places = (np.array([0, start], np.int64), np.array([len(text), end], np.int64))
        raw = RawBatch(text, *places, np.arange(2, dtype=np.int64), "calls", 0, RECEIVED_NS, (0,), ())
        pair.decode(raw)


def test_what_may_not_be_kept_is_nowhere_in_the_scanner() -> None:
    """Masked labels, redacted reasons, ids: rows with them go by, and leave nothing behind in its tables."""
    secret = "4155559876"
    pair = Pair()
    labels = dict.fromkeys(("tenant", "agent", "limit", "call_id", "id"), secret)
    noisy = row("call.ended", **labels, reason=f"to {secret}", latency_ms={secret: 1}, code=503)
    usual = row("call.ended", tenant="acme", call_id=f"id-{secret}", unknown=secret, code=503)
    for _ in range(3):
        pair.decode(raw_batch([usual, noisy, usual, usual]))
    vocabulary = pair.fast._vocabulary
    assert pair.fast.rows_scanned > 0
    assert secret not in repr(vocabulary._numbers)
    for kept in (vocabulary._words, vocabulary._phrases, vocabulary._labels, *vocabulary._tables):
        assert secret.encode() not in kept.tobytes()


def test_a_cause_of_a_platform_that_is_not_learned_is_not_that_of_rows_without_one() -> None:
    """A name of more than 63 bytes is no word of the scanner's; fuzzing found that it counted as none."""
    pair = Pair()
    fields = {"outcome": "failed", "reason": "Service Unavailable", "limit": "sip"}
    named, bare = row("call.ended", platform="x" * 64, **fields), row("call.ended", **fields)
    for _ in range(3):
        pair.decode(raw_batch([named, bare, named, bare]))
    assert {"", "x" * 64} <= {cause.platform for cause in pair.fast.causes.causes}


def test_a_vocabulary_that_is_full_starts_anew() -> None:
    """Many tenants over small tables: slower, and the same."""
    pair = Pair(series_max=4, causes_max=4)
    texts = [row("call.ended", tenant=f"t{i}", reason=f"r{i % 7}", limit=f"l{i % 11}") for i in range(300)]
    for _ in range(3):
        pair.decode(raw_batch(texts))


def test_the_setting_turns_the_scanner_off() -> None:
    """Both decoders are to be had by the same call."""
    assert isinstance(new_decoder(EngineSettings(), KEY, {}), FastDecoder)
    assert isinstance(new_decoder(EngineSettings(scan_rows=False), KEY, {}), JsonDecoder)


def test_without_compiled_kernels_rows_are_parsed() -> None:
    """Addresses mean nothing to plain Python."""
    program = (
        "from engine.decode.fast_decoder import new_decoder; from engine.settings import EngineSettings\n"
        "print(type(new_decoder(EngineSettings(), bytes(16), {})).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                          env=os.environ | {"NUMBA_DISABLE_JIT": "1"})  # fmt: skip
    assert "JsonDecoder" == done.stdout.strip()


@pytest.mark.parametrize("name", ["sip-go-live", "sip-steady"])
async def test_a_recording_comes_to_the_same(name: str) -> None:
    """Batch by batch, and nearly every row is taken."""
    source = FileSource((str(config_path(f"demo/{name}.events.jsonl.zst")),))
    await source.start()
    pair = Pair()
    while (raw := await source.read()) is not None:
        pair.decode(raw)
    await source.close()
    assert pair.fast.rows_scanned > 0.9 * pair.fast.rows_read


async def test_a_replay_gives_the_same_changes_with_the_scanner_and_without() -> None:
    """The line as `replay` runs it, byte for byte."""
    told = []
    for scan_rows in (True, False):
        configuration = load_configuration(
            None, str(config_path("demo/limits.yaml")), None, {"engine.scan_rows": str(scan_rows).lower()}
        )
        pipeline = build_line(configuration, REPLAY_HASH_KEY).pipeline
        source = FileSource((str(config_path("demo/sip-go-live.events.jsonl.zst")),))
        await source.start()
        changes: list[Any] = []
        while (raw := await source.read()) is not None:
            changes += pipeline.step(raw).changes
        changes += pipeline.finish().changes
        await source.close()
        told.append((type(pipeline.decoder).__name__, changes))
    assert ["FastDecoder", "JsonDecoder"] == [name for name, _ in told]
    assert told[0][1] == told[1][1]
    assert told[0][1]


def test_the_newest_time_of_a_plain_log_is_kept_over_batches() -> None:
    """Whichever decoder read the rows."""
    pair = Pair()
    for shift in (2, 9, 1, 0):
        pair.decode(raw_batch([row(time=T + shift), row(time=T)], pair.fast.rows_read, -1))


def test_the_first_call_that_names_a_platform_is_noticed_by_the_scanner_too() -> None:
    """Its labels were those of events of no call before, which say nothing of how calls are named."""
    pair = Pair(series_labels=("tenant",))
    labels = {"tenant": "acme", "platform": "p"}
    of_none = row("dependency.called", call_id=None, dependency="crm", outcome="ok", **labels)
    listed = row("calls.listed", tenant="acme", calls=["c1"])
    for texts, is_used in (([of_none] * 40, True), ([row(**labels)] * 40, False), ([of_none] * 40, False)):
        batch = pair.decode(raw_batch([*texts, listed]))
        assert is_used == ("call_keys" in dict(batch.notes[-1].fields))
    before = pair.fast.rows_scanned
    pair.decode(raw_batch([of_none, row(**labels)] * 20))
    assert before + 40 == pair.fast.rows_scanned
