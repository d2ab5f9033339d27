"""A summary as bytes: what observe processes publish, and recordings and tests keep.

Magic, version, then MessagePack: names as they are, arrays as little-endian bytes in the order of the fields.
Reading checks every length and every row number, so that bytes from a topic cannot become a wrong summary.
Rejected: pickle, which runs what it reads; JSON, which takes several times the room.
"""

from __future__ import annotations

import msgspec
import numpy as np

from engine.decode.events import Cause, Note
from engine.errors import SourceError
from engine.observe.latency import BUCKETS
from engine.observe.summary import DURATION_BINS, SCORE_BINS, Count, SliceSummary

MAGIC = b"cgss"
VERSION = 2
HEAD_BYTES = len(MAGIC) + 1

COLUMNS: dict[str, str] = {
    "bin_series": "<i4", "bin_index": "<i2", "bin_arrivals": "<i4", "bin_level": "<i4", "bin_answers": "<i4",
    "bin_answered_level": "<i4", "bin_declines": "<i4",
    "end_series": "<i4", "end_start_ns": "<i8", "end_answer_ns": "<i8",
    "end_kind": "<u1", "end_count": "<i4", "cause_series": "<i4", "cause_index": "<i4", "cause_count": "<i8",
    "latency_series": "<i4", "latency_stage": "<i2", "latency_bucket": "<i2", "latency_count": "<i8",
    "sum_series": "<i4", "sum_stage": "<i2", "sum_us": "<i8", "side_series": "<i4", "side_cause": "<i4",
    "side_count": "<i8", "failure_series": "<i4", "failure_cause": "<i4", "failure_answered": "<u1",
    "failure_bin": "<i4", "failure_count": "<i8", "caller_series": "<i4", "caller_cause": "<i4",
    "caller_end": "<i4", "caller_count": "<i8", "score_series": "<i4", "score_stage": "<i2",
    "score_bin": "<i2", "score_count": "<i8",
}  # fmt: skip
GROUPS = ("bin", "end", "cause", "latency", "sum", "side", "failure", "caller", "score")
# What is bounded by a constant, by the name of its column; the others number the names in the summary.
BOUNDS = {
    "latency_bucket": BUCKETS, "failure_bin": DURATION_BINS, "failure_answered": 2, "score_bin": SCORE_BINS,
}  # fmt: skip


class _Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    topic: str
    partition: int
    start_ns: int
    slice_ns: int
    revision: int
    labels: tuple[str, ...]
    series: tuple[tuple[str, ...], ...]
    causes: tuple[Cause, ...]
    stages: tuple[str, ...]
    notes: tuple[Note, ...]
    counts: bytes
    columns: tuple[bytes, ...]  # in the order of COLUMNS


def to_bytes(summary: SliceSummary) -> bytes:
    """Write a summary."""
    body = _Body(
        summary.topic, summary.partition, summary.start_ns, summary.slice_ns, summary.revision,
        summary.labels, summary.series, summary.causes, summary.stages, summary.notes,
        summary.counts.astype("<i8").tobytes(),
        tuple(getattr(summary, name).astype(dtype).tobytes() for name, dtype in COLUMNS.items()),
    )  # fmt: skip
    return MAGIC + bytes([VERSION]) + msgspec.msgpack.encode(body)


def from_bytes(data: bytes) -> SliceSummary:
    """Read a summary; raises `SourceError` for anything else."""
    if data[: len(MAGIC)] != MAGIC:
        raise SourceError("these bytes are no slice summary", hint="is this the topic that summaries go to?")
    if data[len(MAGIC) : HEAD_BYTES] != bytes([VERSION]):
        raise SourceError(
            f"the slice summary is of another version than {VERSION}",
            hint="run observe and judge processes of one version of callgauge",
        )
    try:
        return _summary(msgspec.msgpack.decode(data[HEAD_BYTES:], type=_Body))
    except (msgspec.MsgspecError, ValueError) as error:
        raise SourceError("the slice summary is damaged", cause=str(error)) from error


def _summary(body: _Body) -> SliceSummary:
    if len(body.columns) != len(COLUMNS):
        raise ValueError("columns are missing")
    columns = {
        name: np.frombuffer(data, dtype).astype(np.dtype(dtype).newbyteorder("="))
        for (name, dtype), data in zip(COLUMNS.items(), body.columns, strict=True)
    }
    counts = np.frombuffer(body.counts, "<i8").astype(np.int64)
    causes = len(body.causes)
    names = {
        "series": len(body.series), "index": causes, "cause": causes, "end": causes,
        "stage": len(body.stages),
    }  # fmt: skip
    for group in GROUPS:
        own = {name: column for name, column in columns.items() if name.startswith(f"{group}_")}
        if len({len(column) for column in own.values()}) != 1:
            raise ValueError(f"the columns of {group} differ in length")
        for name, column in own.items():
            bound = BOUNDS.get(name, names.get(name.removeprefix(f"{group}_")))
            if bound is None or name == "bin_index":
                continue
            if len(column) and not 0 <= int(column.min()) <= int(column.max()) < bound:
                raise ValueError(f"{name} has a number out of range")
    if any(len(values) != len(body.labels) for values in body.series):
        raise ValueError("a series does not fit the labels")
    return SliceSummary(
        topic=body.topic, partition=body.partition, start_ns=body.start_ns, slice_ns=body.slice_ns,
        revision=body.revision, labels=body.labels, series=body.series,
        counts=counts.reshape(len(body.series), len(Count)), causes=body.causes, stages=body.stages,
        notes=body.notes, **columns,
    )  # fmt: skip
