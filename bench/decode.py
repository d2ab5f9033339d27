"""What does it cost to make columns of a row of JSON? Against other parsers, in the same run.

One stream of events of 500 tenants in five shapes: turns with their fields in one order; the same as Python's
`json.dumps` writes it, with floats of 17 digits; every type of event with fields of its own, and a nested
field that nobody knows in some; two orders of fields in turns; and any order at all. All ways read the same
bytes. `orjson to dict` only parses; `orjson to columns` does by hand what our decoders do, without counts of
what is wrong, limits, masking or exact times. Both of ours end in the same `EventBatch`, which is compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import orjson

from bench import decode_peers
from bench.harness import (
    FULL,
    SMOKE,
    TINY,
    Benchmark,
    Result,
    Row,
    at_least,
    digest_of,
    in_turns,
    ratios,
    spread,
)
from bench.physical import CHECKSUM, per_row, stream_ns_per_byte
from engine.decode.decoder import JsonDecoder
from engine.decode.fast_decoder import FastDecoder
from engine.settings import EngineSettings
from engine.source.contract import RawBatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.decode.events import EventBatch

SEED = 20_261_126
KEY = bytes(range(16))
ROWS = {TINY: 1_000, SMOKE: 100_000, FULL: 200_000}
TURNS = {TINY: 1, SMOKE: 5, FULL: 11}
BATCH_ROWS = 4096
TENANTS = 500
BOTS = ("booking", "support", "sales")
START_MS = 1_795_358_317_000
TO_DICT_MIN, TO_COLUMNS_MIN = 5.0, 14.0
DICTS, COLUMNS, STRUCTS = "orjson.loads", "orjson to columns", "msgspec to typed structs"
PLAIN, OURS = "our parser (msgspec) to columns", "our scanner to columns"
WARM_UPS = 3  # a batch teaches a few hundred rows

NO_LATENCIES: dict[str, float] = {}

Event = dict[str, Any]


class Typed(msgspec.Struct, gc=False):
    """The fields of a row with their types, as one would declare them for msgspec."""

    time: int
    type: str
    call_id: str
    id: str | None = None
    tenant: str | None = None
    region: str | None = None
    platform: str | None = None
    trunk: str | None = None
    provider: str | None = None
    agent: str | None = None
    release: str | None = None
    latency_ms: dict[str, float] | None = None
    outcome: str | None = None
    code: int | None = None
    reason: str | None = None
    duration_ms: float | None = None


def labels_of(tenant: int, agent: int) -> Event:
    """Give the labels that events of a tenant carry; which agent took the call decides the last three."""
    return {
        "tenant": f"t-{tenant:05d}", "region": ("us-east-1", "eu-west-1", "us-west-2")[tenant % 3],
        "platform": "voice", "trunk": f"sip-{tenant % 7}", "agent": f"{BOTS[agent]}-{tenant}",
        "provider": ("openai", "deepgram", "azure")[(tenant + agent) % 3], "release": f"2026.11.{agent}",
    }  # fmt: skip


def make_events(rows: int, rng: np.random.Generator, *, is_mixed: bool, digits: int | None) -> list[Event]:
    """Make turns of calls, or events of every common type; latencies have so many decimals, None: all."""
    weight = 1 / np.arange(1, TENANTS + 1) ** 1.1
    tenant = rng.choice(TENANTS, rows, p=weight / weight.sum()).tolist()
    agent = rng.integers(0, 3, rows).tolist()
    kind = rng.choice(6, rows, p=(0.08, 0.07, 0.5, 0.24, 0.07, 0.04)).tolist()
    latency = rng.lognormal(6.0, 0.5, (rows, 4))
    shown = latency.tolist() if digits is None else latency.round(digits).tolist()
    ids = rng.integers(0, 2**62, (rows, 3)).tolist()
    events = []
    for i in range(rows):
        hexadecimal = f"{ids[i][0]:016x}{ids[i][1]:016x}"
        call_id = "-".join(hexadecimal[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
        always = {"time": START_MS + i // 4, "call_id": call_id}
        stt, llm, tts, setup = shown[i]
        turn = {"id": f"01J{ids[i][2]:023d}", "latency_ms": {"stt": stt, "llm": llm, "tts": tts}}
        said: tuple[str, Event] = (
            ("call.started", {}),
            ("call.answered", {"latency_ms": {"setup": setup}}),
            ("turn.completed", turn),
            ("call.heartbeat", {}),
            ("call.ended", {"outcome": "completed", "duration_ms": round(setup * 100)}),
            ("call.declined", {"code": 503, "reason": "Service Unavailable"}),
        )[kind[i] if is_mixed else 2]
        meta = {"meta": {"sdk": "py", "tags": ["a", 1, None, True]}} if is_mixed and i % 14 == 0 else {}
        events.append({**always, "type": said[0], **said[1], **meta, **labels_of(tenant[i], agent[i])})
    return events


def compact(event: Event) -> bytes:
    """Write an event without white space."""
    return json.dumps(event, separators=(",", ":")).encode()


def make_shapes(rows: int) -> dict[str, list[bytes]]:
    """Write the stream in each of the shapes."""
    rng = np.random.default_rng(SEED)
    turns = make_events(rows, rng, is_mixed=False, digits=2)
    exact = make_events(rows, rng, is_mixed=False, digits=None)
    mixed = make_events(rows, rng, is_mixed=True, digits=2)
    names = list(turns[0])
    orders = (names, names[::-1])
    return {
        "fixed order": [compact(one) for one in turns],
        "Python style": [json.dumps(one).encode() for one in exact],
        "mixed types": [compact(one) for one in mixed],
        "alternating": [compact({name: one[name] for name in orders[i % 2]}) for i, one in enumerate(turns)],
        "shuffled": [compact({name: one[name] for name in rng.permutation(names)}) for one in turns],
    }


class Stream(NamedTuple):
    """One shape, as rows and as batches."""

    rows: list[bytes]
    batches: list[RawBatch]


def stream_of(rows: list[bytes]) -> Stream:
    """Lay rows side by side, as a source does."""
    batches = []
    for first in range(0, len(rows), BATCH_ROWS):
        part = rows[first : first + BATCH_ROWS]
        end = np.cumsum([len(row) + 1 for row in part], dtype=np.int64) - 1
        start = end - np.array([len(row) for row in part], np.int64)
        offset = np.arange(first, first + len(part), dtype=np.int64)
        data = b"\n".join(part) + b"\n"
        batches.append(RawBatch(data, start, end, offset, "bench", 0, START_MS * 10**6, (0,), ()))
    return Stream(rows, batches)


def to_dicts(stream: Stream) -> None:
    """Parse, and drop what came of it."""
    loads = orjson.loads
    for row in stream.rows:
        loads(row)


def to_columns(stream: Stream) -> list[NDArray[Any]]:
    """Make columns with orjson: a list for each, dictionaries for labels, arrays at the end."""
    loads = orjson.loads
    names = (
        "type",
        "outcome",
        "reason",
        "tenant",
        "region",
        "platform",
        "trunk",
        "provider",
        "agent",
        "release",
    )
    words: list[dict[object, int]] = [{} for _ in names]
    stages: dict[str, int] = {}
    time, call, duration, code = [], [], [], []
    ids: list[list[int]] = [[] for _ in names]
    measure_row, measure_stage, measure_ms = [], [], []
    for number, row in enumerate(stream.rows):
        event = loads(row)
        get = event.get
        time.append(event["time"])
        call.append(hash(event["call_id"]))
        duration.append(get("duration_ms", -1.0))
        code.append(get("code", 0))
        for name, known, column in zip(names, words, ids, strict=True):
            value = get(name)
            column.append(known.setdefault(value, len(known)))
        for stage, value in get("latency_ms", NO_LATENCIES).items():
            measure_row.append(number)
            measure_stage.append(stages.setdefault(stage, len(stages)))
            measure_ms.append(value)
    return [
        np.array(one) for one in (time, call, duration, code, *ids, measure_row, measure_stage, measure_ms)
    ]


def to_structs(stream: Stream) -> None:
    """Parse into typed structs with msgspec."""
    decode = msgspec.json.Decoder(Typed).decode
    for row in stream.rows:
        decode(row)


def decoded(decoder: JsonDecoder | FastDecoder, stream: Stream) -> str:
    """Make batches with one of our decoders; give a digest of all columns."""
    return digest_of(*(digest_of_batch(decoder.decode(raw)) for raw in stream.batches))


def digest_of_batch(batch: EventBatch) -> str:
    """Hash the columns of a batch."""
    arrays = [column for column in batch if isinstance(column, np.ndarray)]
    return digest_of(*(column.tobytes().hex() for column in arrays), batch.notes)


def compare(name: str, rows: list[bytes], turns: int) -> tuple[list[Row], str]:
    """Let all ways read one shape, in turns; the tables of our decoders are full when the clock starts."""
    stream = stream_of(rows)
    settings = EngineSettings()
    fast, plain = FastDecoder(settings, KEY, {}), JsonDecoder(settings, KEY, {})
    digest = decoded(plain, stream)
    assert digest == decoded(fast, stream), "the decoders differ"
    for _ in range(WARM_UPS):
        decode_all(fast, stream)
    before = fast.rows_scanned
    decode_all(fast, stream)
    taken = (fast.rows_scanned - before) / len(rows)
    with tempfile.TemporaryDirectory() as folder:
        peers = decode_peers.ways(rows, Path(folder))
        seconds = in_turns(
            {
                DICTS: lambda: to_dicts(stream),
                COLUMNS: lambda: to_columns(stream),
                STRUCTS: lambda: to_structs(stream),
                **peers,
                PLAIN: lambda: decode_all(plain, stream),
                OURS: lambda: decode_all(fast, stream),
            },
            turns,
        )
    ns = {way: sorted(each)[len(each) // 2] / len(rows) * 1e9 for way, each in seconds.items()}
    size = sum(map(len, rows)) / len(rows)
    found = [Row(f"{name}, {size:.0f} bytes: rows that the scanner takes", f"{100 * taken:.2f} %")]
    found += [Row(f"{name}: {way}", f"{value:,.0f} ns a row") for way, value in ns.items()]
    for way, budget in ((DICTS, TO_DICT_MIN), (COLUMNS, TO_COLUMNS_MIN)):
        times = ratios(seconds, way, OURS)
        middle = sorted(times)[len(times) // 2]
        found.append(
            at_least(f"{name}: ours is faster than {way}", middle, budget, "x", measured=spread(times, "x"))
        )
    for way in (STRUCTS, *peers, PLAIN):
        found.append(Row(f"{name}: ours is faster than {way}", spread(ratios(seconds, way, OURS), "x")))
    return found, digest


def decode_all(decoder: JsonDecoder | FastDecoder, stream: Stream) -> None:
    """Make batches, and drop them."""
    for raw in stream.batches:
        decoder.decode(raw)


def compile_s() -> float:
    """Compile the scanner from nothing, in a process of its own; give the processor seconds."""
    program = (
        "import time; from engine.decode.fast_decoder import FastDecoder; from bench.decode import *\n"
        "stream = stream_of(make_shapes(100)['mixed types']); begin = time.process_time()\n"
        "decode_all(FastDecoder(EngineSettings(), KEY, {}), stream); print(time.process_time() - begin)"
    )
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def run(size: str) -> Result:
    """Compare over all shapes; say which peers are not here."""
    rows: list[Row] = []
    digests = []
    for name, texts in make_shapes(ROWS[size]).items():
        found, digest = compare(name, texts, TURNS[size])
        rows += found
        digests.append(digest)
    if size != TINY:
        rows.append(Row("compiling the scanner at the very first start", f"{compile_s():.1f} s"))
    ns_per_byte, _ = stream_ns_per_byte(size)
    for name, each in ns_per_byte.items():
        if name != CHECKSUM:
            rows.append(Row(f"bound: {name}", per_row(each)))
    missing = decode_peers.missing()
    notes = (
        f"skipped, not installed: {', '.join(missing)}" if missing else "No peer is missing.",
        "Processor time; 500 tenants with three agents each, Zipf. Our decoders hash ids, too.",
    )
    return Result(tuple(rows), SEED, digest_of(*digests), notes)


BENCHMARK = Benchmark("decode", "What does it cost to make columns of a row of JSON?", run)
