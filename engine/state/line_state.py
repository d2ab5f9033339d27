"""What a line knows, as parts of blobs, and back into a new line.

One blob for each partition, with the offset that it goes on at; one of what partitions share: the tables of
names and the counters; one of judge; one of what is usual by time of week, which changes every five minutes.
Each detector's state is a part of its own, and so are the alerts with the caps that were inferred: when
settings or classes have changed, what still has its meaning is kept. Taking the parts copies arrays and
nothing else, so the line goes on while they are written.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec

from engine.decode.fields import EventFields
from engine.errors import LossReason
from engine.judge.baseline import Baseline
from engine.memory import growing
from engine.observe.latency import BUCKETS
from engine.observe.partition import Partition
from engine.observe.slices import MEASURES, ROWS, Held, columns_of, new_held
from engine.observe.summary import Count, SliceSummary
from engine.state.encoding import EncodedOnce, ObjectState, StateError, decode, encode
from engine.state.kept import KEPT, fill

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.learned import Learned
    from engine.limits import Register
    from engine.pipeline import Pipeline
    from engine.settings import Settings

SHARED, JUDGE, USUAL, PARTITION = "shared", "judge", "usual", "partition-"
DECODER, OBSERVER, LINE, BOOK, LEARNED, DETECTOR = (
    "decoder", "observer", "line", "book", "learned", "detector/",
)  # fmt: skip
DIGEST_BYTES = 16

Pieces = list[bytes]
Parts = dict[str, Pieces]  # as captured: by name, bytes in pieces
Read = dict[str, dict[str, bytes]]  # as read: by blob, by part


class HasPipeline(Protocol):
    """A line, with whatever else stands around it."""

    @property
    def pipeline(self) -> Pipeline:
        """Give what is restored."""


AnyLine = TypeVar("AnyLine", bound=HasPipeline)


class Digests(NamedTuple):
    """What a state was made under: the same digests, the same meaning."""

    core: str  # settings of time, bounds and labels, the key of call ids, and the shapes of counters
    detectors: str  # settings of the detectors, and what was learned


class Capture(NamedTuple):
    """A cut between two steps: every blob with its parts, and where each partition goes on."""

    blobs: dict[str, Parts]
    next_offsets: dict[int, int]


class Outcome(NamedTuple):
    """What came of a restore."""

    is_whole: bool  # the partitions go on where they were; else they are read again from before
    refused: tuple[str, ...]  # what was not taken over, and why


def digests_of(settings: Settings, learned: Learned | None, hash_key: bytes) -> Digests:
    """Say under what a line runs. The key is named by a hash of it, never by itself."""
    engine = msgspec.structs.replace(settings.engine, call_key_file="", learned_limits_file="")
    key = hashlib.blake2b(hash_key, digest_size=DIGEST_BYTES, person=b"call key").hexdigest()
    counters = [one.name for one in (*LossReason, *Count)], EventFields.__struct_encode_fields__, BUCKETS
    return Digests(
        _digest((engine, key, counters)), _digest((settings.headroom, settings.detection, learned))
    )


def _digest(value: object) -> str:
    data = msgspec.json.encode(value, order="deterministic")
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def new_once() -> EncodedOnce:
    """Give a memory of what checkpoints of a line hold that never changes."""
    return EncodedOnce([SliceSummary], [Baseline])


def capture(
    pipeline: Pipeline,
    begun_at: Mapping[int, int],
    once: EncodedOnce | None = None,
    *,
    is_shared: bool = True,
) -> Capture:
    """Copy what the line knows; `begun_at` says where partitions go on of which nothing has been read."""
    once = once or new_once()
    once.begin()

    def encoded(value: Any) -> Pieces:
        return encode(value, KEPT, is_shared=is_shared, once=once)

    observer, judge = pipeline.observer, pipeline.judge
    partitions: dict[int, Partition] = getattr(observer, "_partitions")  # noqa: B009
    blobs: dict[str, Parts] = {
        SHARED: {
            DECODER: encoded(pipeline.decoder),
            OBSERVER: encoded(observer),
            LINE: encoded(pipeline),
        },
        JUDGE: {
            JUDGE: encoded(judge),
            BOOK: encoded(judge.book),
            LEARNED: encoded(judge.roller.learned),
        },
    }
    for detector in judge.bank.detectors:
        blobs[JUDGE][DETECTOR + detector.name] = encoded(judge.bank.state_of(detector.name))
    for number, one in partitions.items():
        held, one.held = one.held, _used(one.held)
        try:
            blobs[f"{PARTITION}{number}"] = {PARTITION: encoded(one)}
        finally:
            one.held = held
    if once.apart:
        blobs[USUAL] = {str(place): [data] for place, data in enumerate(once.apart)}
    known = {**begun_at, **pipeline.next_offsets}
    return Capture(blobs, {number: known[number] for number in partitions if number in known})


def _used(held: Held) -> Held:
    """Give the rows that are in use: what lies behind them means nothing."""
    rows, measures = int(held.cells[ROWS]), int(held.cells[MEASURES])
    cut = {name: getattr(held, name)[:rows] for name in Held._fields[:-3]}
    return held._replace(
        **cut, measure_stage=held.measure_stage[:measures], measure_ms=held.measure_ms[:measures]
    )


def _roomy(held: Held) -> Held:
    """Give a buffer of the usual room with these rows."""
    roomy = new_held(max(len(held.time_ns), len(new_held().time_ns)), max(len(held.measure_ms), 1024))
    for into, column in zip(columns_of(roomy), columns_of(held), strict=True):
        into[: len(column)] = column
    return roomy


def restore(pipeline: Pipeline, read: Read, made_under: Digests, digests: Digests) -> Outcome:
    """Fill a new line with what was read; StateError if it is unusable, and the line with it.

    Under other settings only the alerts and the inferred caps are taken over.
    """
    refused = []
    is_whole = made_under.core == digests.core
    if is_whole:
        decoder = decode(read[SHARED][DECODER])
        labels = _labels_of(decoder)
        is_whole = labels == pipeline.decoder.series.labels
        if is_whole:
            _restore_whole(pipeline, decoder, read)
    if not is_whole:
        refused.append("settings: windows, calls and detectors start anew")
    elif made_under.detectors != digests.detectors:
        refused.append("settings of detectors: they start anew")
    else:
        refused += _restore_detectors(pipeline, read[JUDGE], _usual(read))
    fill(pipeline.judge.book, decode(read[JUDGE][BOOK]))
    fill(pipeline.judge.roller.learned, decode(read[JUDGE][LEARNED]))
    return Outcome(is_whole, tuple(refused))


def restored(
    new_line: Callable[[], AnyLine], read: Read, made_under: Digests, digests: Digests
) -> tuple[AnyLine, Outcome]:
    """Fill a new line with what was read, as `restore` does; StateError if it is unusable.

    After an upgrade records may have other fields: then the alerts and the inferred caps are taken over.
    """
    line = new_line()
    try:
        return line, restore(line.pipeline, read, made_under, digests)
    except StateError as error:
        if error.reason != "changed":
            raise
        line = new_line()  # The other one is filled by half.
        outcome = restore(line.pipeline, read, Digests("", ""), digests)
        return line, outcome._replace(refused=(f"{error}: windows, calls and detectors start anew",))


def _labels_of(decoder: Any) -> tuple[str, ...]:
    """Find the labels of the series table, whichever decoder wrote it."""
    state = decoder
    while isinstance(state, ObjectState) and "series" not in state.values:
        state = state.values["parsing"]
    labels = state.values["series"].values["labels"]
    assert isinstance(labels, tuple)
    return labels


def _restore_whole(pipeline: Pipeline, decoder: Any, read: Read) -> None:
    observer, judge = pipeline.observer, pipeline.judge
    register = judge.roller.index.register
    fill(pipeline.decoder, decoder)
    fill(observer, decode(read[SHARED][OBSERVER]))
    fill(pipeline, decode(read[SHARED][LINE]))
    partitions: dict[int, Partition] = getattr(observer, "_partitions")  # noqa: B009
    for blob, parts in read.items():
        if blob.startswith(PARTITION):
            state = decode(parts[PARTITION])
            topic, number = state.values["topic"], state.values["partition"]
            partitions[number] = Partition(topic, number, observer.settings)
            fill(partitions[number], state)
            partitions[number].held = _roomy(partitions[number].held)
            partitions[number].calls = growing(partitions[number].calls)
    fill(judge, decode(read[JUDGE][JUDGE], _usual(read)))
    _take_register(pipeline, register)


def _take_register(pipeline: Pipeline, register: Register) -> None:
    """Let a register that has changed since take effect as a reload would; an equal one changes nothing."""
    roller = pipeline.judge.roller
    if roller.index.register != register:
        pipeline.judge.reload(register, roller.classifier.rules)


def _usual(read: Read) -> list[bytes]:
    """Give what was put apart; the parts of a blob come in order."""
    return list(read.get(USUAL, {}).values())


def _restore_detectors(pipeline: Pipeline, parts: dict[str, bytes], usual: list[bytes]) -> list[str]:
    """Take over the state of each detector that has not changed; say which could not be."""
    bank = pipeline.judge.bank
    states: dict[str, Any] = getattr(bank, "_states")  # noqa: B009
    refused = []
    for detector in bank.detectors:
        data = parts.get(DETECTOR + detector.name)
        if data is None:
            continue
        try:
            state = decode(data, usual)
        except StateError as error:
            refused.append(f"{detector.name} starts anew: {error}")
            continue
        if type(state) is type(detector.new_state()):
            states[detector.name] = state
        else:
            refused.append(f"{detector.name} starts anew: its state is another one now")
    return refused


def state_hash(pipeline: Pipeline) -> str:
    """Give a digest of all that the line knows: the same input leads to the same one."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for blob, parts in sorted(capture(pipeline, {}, is_shared=False).blobs.items()):
        for name, pieces in sorted(parts.items()):
            digest.update(f"{blob}/{name}".encode())
            for piece in pieces:
                digest.update(piece)
    return digest.hexdigest()
