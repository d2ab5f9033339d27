"""Where does the time of a row go? Each part of the line, in turn with the same line untimed.

Record batches as a broker sends them are framed, decoded, observed, judged, published and written down, in
one thread, as the service does; the traffic is that of `kafka_windows`. Watches hang on the public methods
and kernels of each part from outside. A part's time is what it took less what the parts inside it took. A
watch is a call or two of the clock of the thread, and is inside what it measures: what that comes to a row
is printed, beside the whole line with and without watches. The socket, which has no part in this, is among
the bounds. What a judged slice costs is spread over the rows that came meanwhile, so the same line is also
taken through slices of a single row each, after the busy ones: a row costs less the more of them a slice has.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import engine.decode.fast_decoder
import engine.observe.observer
import engine.observe.partition
from bench.harness import FULL, SMOKE, TINY, Benchmark, Result, Row, digest_of, spread
from bench.kafka_log import SEED, batches, events
from bench.loaded import loaded_configuration
from bench.physical import per_row, received_row, stream_ns_per_byte
from engine.app import REPLAY_HASH_KEY, build_line
from engine.deliver.jsonl import alert_change_line
from engine.settings import KafkaSettings
from engine.source.batch_reader import Fetched, Room, read_chunks
from engine.source.contract import RawBatch
from engine.source.intake import Intake
from engine.source.traffic import START_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.app import Configuration, Line
    from engine.source.rows import Rows

KB = 1000
ROWS = {TINY: 3000, SMOKE: 200_000, FULL: 400_000}
TURNS = {TINY: 1, SMOKE: 5, FULL: 11}
BATCH_BYTES = (16 * KB, 300 * KB)
RECEIVED_NS = START_NS + 86_400_000_000_000  # after all events
TOPIC = "calls"
SETTINGS = KafkaSettings()
LOG_END = 1 << 62
NO_WORK_TIMES = 20_000
QUIET_SLICES = {TINY: 4, SMOKE: 120, FULL: 360}
FRAME, REST, UNTIMED, TIMED = "frame: checksums, places of rows", "between the parts", "untimed", "timed"
WRITE = "deliver: lines of the timeline"
CLOCK = time.thread_time_ns


class Part(NamedTuple):
    """A part of the line: what people call it, and where its code is called from."""

    name: str
    owner: Callable[[Line], Any]
    method: str


def detectors_of(line: Line) -> Any:
    """Give the bank of detectors."""
    return line.pipeline.judge.bank


PARTS = (
    Part("decode: columns, and what is new", lambda line: line.pipeline.decoder, "decode"),
    Part("decode: the scanner", lambda _: engine.decode.fast_decoder, "scan_rows"),
    Part("observe: routing, watermarks, room", lambda line: line.pipeline.observer, "absorb"),
    Part("observe: holding rows", lambda _: engine.observe.observer, "hold"),
    Part("observe: closing slices", lambda line: line.pipeline.observer, "close"),
    Part("observe: sorting rows", lambda _: engine.observe.partition, "sort_rows"),
    Part("observe: rows to calls and facts", lambda _: engine.observe.partition, "absorb_rows"),
    Part("observe: summaries", lambda _: engine.observe.partition, "unloaded"),
    Part("judge: limits, windows", lambda line: line.pipeline.judge, "take"),
    Part("judge: detectors", detectors_of, "detect"),
    Part("judge: lives of alerts", lambda line: line.pipeline.judge.book, "update"),
    Part("deliver: snapshots", lambda line: line.publisher, "publish"),
)
NAMES = (FRAME, *(part.name for part in PARTS), WRITE, REST)


class Watches:
    """Processor time by part, each without the parts inside it."""

    def __init__(self) -> None:
        """Nothing was timed yet."""
        self.ns: Counter[str] = Counter()
        self.timings = 0
        self._inside = [0]

    def on(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Give the same work with a watch on it."""

        def timed(*arguments: Any, **options: Any) -> Any:
            begin = CLOCK()
            self._inside.append(0)
            try:
                return work(*arguments, **options)
            finally:
                inside = self._inside.pop()
                took = CLOCK() - begin
                self._inside[-1] += took
                self.ns[name] += took - inside
                self.timings += 1

        return timed


@contextlib.contextmanager
def watched(line: Line, watches: Watches) -> Iterator[None]:
    """Hang a watch on every part of a line."""
    with contextlib.ExitStack() as stack:
        for part in PARTS:
            owner, method = part.owner(line), part.method
            plain = getattr(owner, method)
            setattr(owner, method, watches.on(part.name, plain))
            stack.callback(setattr, owner, method, plain)
        yield


def answers(batch_bytes: int, rows: list[bytes]) -> list[tuple[bytes, int]]:
    """Pack rows into answers of a broker, whole batches up to the bytes of a fetch; give offsets too."""
    made: list[tuple[bytes, int]] = []
    waiting, waiting_from, at = b"", 0, 0
    for batch, count in zip(*batches("none", batch_bytes, rows), strict=True):
        if waiting and len(waiting) + len(batch) > SETTINGS.fetch_bytes_max:
            made.append((waiting, waiting_from))
            waiting, waiting_from = b"", at
        waiting += at.to_bytes(8, "big") + batch[8:]
        at += count
    return [*made, (waiting, waiting_from)]


def play(line: Line, sent: list[tuple[bytes, int]], watches: Watches | None) -> bytes:
    """Take all answers through a line; give the lines of the timeline."""
    room, intake = Room(SETTINGS.batch_bytes_max), Intake({0: 0})
    written: list[bytes] = []

    def frame(data: bytes, offset: int) -> list[Rows]:
        fetched = Fetched(data, offset, (), committed_only=False)
        return intake.take_chunks(0, list(read_chunks(fetched, room, SETTINGS.batch_rows_max)), LOG_END)

    def write(changes: tuple[Any, ...]) -> None:
        written.extend(map(alert_change_line, changes))

    framing = watches.on(FRAME, frame) if watches else frame
    writing = watches.on(WRITE, write) if watches else write

    def take(rows: Rows) -> None:
        step = line.pipeline.step(RawBatch(*rows, TOPIC, 0, RECEIVED_NS, (0,), ()))
        line.publisher.publish(RECEIVED_NS)
        writing(step.changes)

    for data, offset in sent:
        for rows in framing(data, offset):
            take(rows)
    writing(line.pipeline.finish().changes)
    return b"".join(written)


class Turns(NamedTuple):
    """Nanoseconds a row by part, turn by turn, and what was computed."""

    ns: dict[str, list[float]]
    quiet_ms: list[float]  # a slice of a single row, turn by turn
    slices: int  # of the log
    timings: float  # a row
    computed: tuple[object, ...]


def quiet_slice_ms(line: Line, slices: int) -> float:
    """Go on with a line whose log has ended, one row for each slice; give the milliseconds of a slice."""
    observer, roller = line.pipeline.observer, line.pipeline.judge.roller
    slice_ns = roller.settings.slice_ns
    start_ns, closed = observer.watermark_ns + slice_ns, roller.slices_closed
    times_ns = range(start_ns, start_ns + slices * slice_ns, slice_ns)
    texts = [b'{"type":"call.queued","call_id":"quiet","time":%d}' % time_ns for time_ns in times_ns]
    begin = CLOCK()
    for offset, text in enumerate(texts, line.pipeline.decoder.rows_read):
        row_start, row_end, offsets = np.array([[0], [len(text)], [offset]], np.int64)
        line.pipeline.step(RawBatch(text, row_start, row_end, offsets, TOPIC, 0, RECEIVED_NS, (0,), ()))
        line.publisher.publish(RECEIVED_NS)
    took = CLOCK() - begin
    return took / 1e6 / (roller.slices_closed - closed)


def measure(configuration: Configuration, sent: list[tuple[bytes, int]], size: str) -> Turns:
    """Play the same rows with and without watches, in turns."""
    ns: dict[str, list[float]] = {}
    quiet_ms: list[float] = []
    slices = 0
    watches = Watches()
    computed: tuple[object, ...] = ()

    def whole(watches: Watches | None) -> None:
        nonlocal computed, slices
        line = build_line(configuration, REPLAY_HASH_KEY)
        with watched(line, watches) if watches else contextlib.nullcontext():
            begin = CLOCK()
            written = play(line, sent, watches)
            took = CLOCK() - begin
        observer, decoder = line.pipeline.observer, line.pipeline.decoder
        found = (decoder.rows_read, observer.rows_absorbed, observer.calls_in_flight, written)
        assert computed in ((), found), "watches change what is computed"
        computed = found
        ns.setdefault(TIMED if watches else UNTIMED, []).append(took / ROWS[size])
        if watches:
            watches.ns[REST] = took - watches.ns.total()
            for name in NAMES:
                ns.setdefault(name, []).append(watches.ns[name] / ROWS[size])
        else:
            slices = line.pipeline.judge.roller.slices_closed
            quiet_ms.append(quiet_slice_ms(line, QUIET_SLICES[size]))

    whole(None)  # Warm.
    ns.clear()
    quiet_ms.clear()
    for turn in range(TURNS[size]):
        for is_timed in (turn % 2 == 0, turn % 2 != 0):
            if is_timed:
                watches = Watches()
            whole(watches if is_timed else None)
    return Turns(ns, quiet_ms, slices, watches.timings / ROWS[size], computed)


def ns_of_a_watch() -> float:
    """Say what one timing of nothing takes, and is counted as."""
    watches = Watches()
    nothing = watches.on("", lambda: None)
    begin = CLOCK()
    for _ in range(NO_WORK_TIMES):
        nothing()
    return (CLOCK() - begin) / NO_WORK_TIMES


def rows_of(kind: str, turns: Turns, watch_ns: float, count: int) -> list[Row]:
    """Put the parts in rows, in the order of the line, with their shares of the whole."""
    wholes = turns.ns[TIMED]
    rows = []
    for name in NAMES:
        shares = [100 * one / whole for one, whole in zip(turns.ns[name], wholes, strict=True)]
        share = sorted(shares)[len(shares) // 2]
        rows.append(Row(f"{kind}: {name}", f"{share:4.1f} %, {spread(turns.ns[name], 'ns a row', 0)}"))
    rows.append(Row(f"{kind}: the whole line, with watches", spread(wholes, "ns a row", 0)))
    rows.append(Row(f"{kind}: the whole line, without", spread(turns.ns[UNTIMED], "ns a row", 0)))
    rows.append(Row(f"{kind}: a slice of a single row, after these", spread(turns.quiet_ms, "ms")))
    untimed = zip(turns.quiet_ms, turns.ns[UNTIMED], strict=True)
    shares = [100e6 * quiet_ms * turns.slices / (whole * count) for quiet_ms, whole in untimed]
    rows.append(Row(f"{kind}: {turns.slices} such slices, part of the line", spread(shares, "%", 0)))
    cost = f"{watch_ns * turns.timings:.1f} ns a row: {turns.timings * 1000:.1f} for a thousand rows"
    rows.append(Row(f"{kind}: the watches themselves", f"{cost}, {watch_ns:.0f} ns each"))
    return rows


def run(size: str) -> Result:
    """Take the rows apart."""
    configuration = loaded_configuration()
    made = events(ROWS[size])
    watch_ns = ns_of_a_watch()
    rows: list[Row] = []
    computed: list[object] = []
    for batch_bytes in BATCH_BYTES:
        turns = measure(configuration, answers(batch_bytes, made), size)
        rows += rows_of(f"{batch_bytes // KB} KB", turns, watch_ns, ROWS[size])
        computed += turns.computed
    streams, _ = stream_ns_per_byte(size)
    rows += [Row(f"bound: {name}", per_row(each)) for name, each in streams.items()]
    rows.append(received_row("bound: receiving from a socket", size, min(TURNS[size], 3)))
    mean_bytes = sum(map(len, made)) / len(made)
    note = f"A row has {mean_bytes:.0f} bytes here; of the bounds, as in `physical`."
    return Result(tuple(rows), SEED, digest_of(*computed), (note,))


BENCHMARK = Benchmark("stages", "Where does the time of a row go?", run)
