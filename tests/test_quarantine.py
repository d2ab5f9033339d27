"""Rows that could not be decoded: their shape is kept, nothing of them, within bounds."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.decode.decoder import JsonDecoder, Sample
from engine.decode.fast_decoder import FastDecoder
from engine.decode.rejects import REJECTS_MAX, SHAPE_BYTES_MAX, WORDS, Reject, Rejects, shape_of
from engine.deliver.quarantine import Quarantine, QuarantineStats
from engine.deliver.quarantine_topic import WAITING_MAX, QuarantineTopic
from engine.errors import LossReason
from engine.settings import EngineSettings, KafkaSettings, QuarantineSettings
from tests.event_rows import KEY, raw_batch, row

S = 1_000_000_000
SAMPLE = Sample("calls", 3, 41, LossReason.NOT_JSON)


def reject(shape: str = "{") -> Reject:
    return Reject(SAMPLE, 17, shape)


def quarantine(folder: Path, **changes: Any) -> tuple[Quarantine, Path]:
    path = folder / "quarantine.jsonl"
    return Quarantine(QuarantineSettings(path=str(path), **changes)), path


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (b'{"type":"call.started","call_id":"c-17","time":1795358317.043607,}',
         '{"type":"call.started","call_id":"a-0","time":0.0,}'),
        (b'{"type":"call.strated","tenant":"Jane Doe","caller":"+49 152 2345"}',
         '{"type":"call.a","tenant":"a a","a":"+0 0 0"}'),
        (b"1795358317;call.started;acme", "0;call.started;a"),
        (b"\x1b[31mERROR\r\nlevel=info", "?[0a?a=a"),
        ("größe".encode(), "a?a"),
        (b"", ""),
    ],
)  # fmt: skip
def test_the_shape_keeps_the_structure_and_the_words_of_the_contract(text: bytes, shape: str) -> None:
    assert shape == shape_of(text)


def slow_shape(text: bytes) -> str:
    """Go character by character: the obvious twin."""
    shape, run = "", ""
    for code in [*text[:SHAPE_BYTES_MAX], None]:
        char = "" if code is None else chr(code)
        if char.isascii() and char.isdigit():
            kind = "0"
        elif char.isascii() and (char.isalpha() or char == "_"):
            kind = "a"
        else:
            kind = "" if " " <= char <= "~" or code is None else "?"
        if run and (code is None or kind != run[0]):
            word = run[1:]
            shape += run[0] if run[0] != "a" else word if word in WORDS else "a"
            run = ""
        if kind and code is not None:
            run = (run or kind) + char
        else:
            shape += char
    return shape


@given(st.binary(max_size=600) | st.text(max_size=200).map(str.encode))
def test_the_shape_is_that_of_the_twin(text: bytes) -> None:
    shape = shape_of(text)
    assert slow_shape(text) == shape
    assert shape.isascii()
    assert shape.isprintable() or not shape
    assert set(re.findall("[0-9]+", shape)) <= {"0"}
    assert set(re.findall("[A-Za-z_]+", shape)) <= WORDS | {"a"}


@pytest.mark.parametrize("kind", [JsonDecoder, FastDecoder])
def test_decoders_keep_rejected_rows_only_when_asked_to(kind: type[JsonDecoder | FastDecoder]) -> None:
    """With where they lay and why; rows that decode are not kept."""
    decoder = kind(EngineSettings(), KEY, {})
    raw = raw_batch([row(), b"{", row("no.such"), row(time="+4915223456789")], first=40)
    decoder.decode(raw)
    assert ((), 0) == decoder.rejects.take()
    decoder.rejects.is_on = True
    decoder.decode(raw)
    kept, dropped = decoder.rejects.take()
    assert [(41, "not_json"), (42, "type_unknown"), (43, "time_malformed")] == [
        (one.sample.offset, one.sample.reason.name.lower()) for one in kept
    ]
    assert 0 == dropped
    assert "4915" not in repr(kept)
    assert ((), 0) == decoder.rejects.take()


def test_what_is_kept_until_it_is_taken_is_bounded() -> None:
    rejects = Rejects()
    rejects.is_on = True
    for _ in range(REJECTS_MAX + 5):
        rejects.add(SAMPLE, b"x" * 10_000_000)
    kept, dropped = rejects.take()
    assert (REJECTS_MAX, 5) == (len(kept), dropped)
    assert {10_000_000} == {one.size_bytes for one in kept}
    assert {"a"} == {one.shape for one in kept}


def test_a_line_says_where_why_and_how_it_looked(tmp_path: Path) -> None:
    held, path = quarantine(tmp_path)
    held.add((reject(),), 0, 1_795_358_317 * S)
    (line,) = path.read_text().splitlines()
    assert {
        "at": "2026-11-22T14:38:37.000000Z", "topic": "calls", "partition": 3, "offset": 41,
        "reason": "not_json", "size_bytes": 17, "shape": "{",
    } == orjson.loads(line)  # fmt: skip
    assert 0o600 == path.stat().st_mode & 0o777


def test_the_rate_is_bounded_and_the_rest_counted(tmp_path: Path) -> None:
    """A topic full of rubbish costs ten lines a second."""
    held, path = quarantine(tmp_path, rows_per_s_max=10)
    for second in range(3):
        for part in range(10):
            held.add((reject(),) * 50, 7, (1000 + second) * S + part * S // 10)
    assert 30 <= len(path.read_text().splitlines()) <= 40
    stats = held.stats
    assert 3 * 10 * 57 == stats.written + stats.dropped
    held.add((reject(),) * 50, 0, 5 * S)  # A clock that was set back gives no room, and takes none.
    assert stats.written == held.stats.written
    held.add((reject(),) * 50, 0, 6 * S)
    assert stats.written + 10 == held.stats.written


def test_two_files_of_so_many_bytes_at_most(tmp_path: Path) -> None:
    held, path = quarantine(tmp_path, bytes_max=4096, rows_per_s_max=10)
    for second in range(400):
        held.add((reject("x" * 300),) * 5, 0, (1000 + second) * S)
        sizes = [one.stat().st_size for one in tmp_path.iterdir()]
        assert len(sizes) <= 2
        assert max(sizes) <= 4096
    assert {"quarantine.jsonl", "quarantine.jsonl.1"} == {one.name for one in tmp_path.iterdir()}
    assert 2000 == held.stats.written
    assert all(orjson.loads(line)["shape"] == "x" * 300 for line in path.read_text().splitlines())


def test_a_disk_that_refuses_stops_nothing_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = Quarantine(QuarantineSettings(path=str(tmp_path / "missing" / "quarantine.jsonl")))
    for second in range(3):
        held.add((reject(),), 0, (1000 + second) * S)
    assert (0, 3) == (held.stats.written, held.stats.failed)
    assert 1 == caplog.text.count("cannot be written")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Nobody who may write to the folder makes us write elsewhere."""
    held, path = quarantine(tmp_path)
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    path.symlink_to(victim)
    held.add((reject(),), 0, 1000 * S)
    assert ("untouched", 1) == (victim.read_text(), held.stats.failed)


def test_a_pipe_that_nobody_reads_does_not_hold_the_step_up(tmp_path: Path) -> None:
    kept, path = quarantine(tmp_path)
    os.mkfifo(path)
    kept.add([reject()], 0, S)
    assert kept.stats == QuarantineStats(failed=1)


def test_what_waits_for_the_topic_is_bounded() -> None:
    """While brokers are away the rest is dropped, and counted."""
    topic = QuarantineTopic("rejected", KafkaSettings())
    for rows in (WAITING_MAX - 1, 8, 3):
        topic.offer([reject()] * rows)
    assert (WAITING_MAX, 10) == (len(topic._waiting), topic.dropped)


def test_without_a_path_nothing_is_done() -> None:
    held = Quarantine(QuarantineSettings())
    held.add((reject(),), 3, 1000 * S)
    assert QuarantineStats() == held.stats
