"""A reader of delimited `io.prometheus.client.MetricFamily` messages, straight from the wire format.

It knows the wire format and the field numbers of `metrics.proto`, and shares no code with the encoder.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

Fields = dict[int, list[int | float | bytes]]


@dataclass
class Histogram:
    """A histogram as decoded: classic buckets, and native ones by index."""

    count: int
    sum: float
    schema: int
    classic: dict[float, int]
    native: dict[int, int]


@dataclass
class DecodedFamily:
    """One family; `samples` maps label pairs to a number or a histogram."""

    name: str
    help: str
    kind: int
    samples: dict[tuple[tuple[str, str], ...], float | Histogram] = field(default_factory=dict)


def families(data: bytes) -> dict[str, DecodedFamily]:
    """Decode a whole body; a name that comes twice is an error."""
    found: dict[str, DecodedFamily] = {}
    at = 0
    while at < len(data):
        size, at = _varint(data, at)
        family = _family(_fields(data[at : at + size]))
        assert len(data) >= at + size, "a message is cut off"
        assert family.name not in found, f"{family.name} comes twice"
        found[family.name] = family
        at += size
    return found


def _family(fields: Fields) -> DecodedFamily:
    family = DecodedFamily(_text(fields[1][0]), _text(fields[2][0]), _int(fields[3][0]))
    for message in fields[4]:
        metric = _fields(_bytes(message))
        labels = tuple(_label(pair) for pair in metric.get(1, []))
        assert labels not in family.samples, f"{family.name}{labels} comes twice"
        (kind,) = set(metric) - {1}
        inner = _fields(_bytes(metric[kind][0]))
        family.samples[labels] = _histogram(inner) if kind == 7 else _float(inner[1][0])
    return family


def _label(pair: float | bytes) -> tuple[str, str]:
    fields = _fields(_bytes(pair))
    return _text(fields[1][0]), _text(fields[2][0])


def _histogram(fields: Fields) -> Histogram:
    classic = {}
    for message in fields.get(3, []):
        bucket = _fields(_bytes(message))
        classic[_float(bucket[2][0])] = _int(bucket[1][0])
    deltas = []
    packed, at = _bytes(fields.get(13, [b""])[0]), 0
    while at < len(packed):
        value, at = _varint(packed, at)
        deltas.append(_signed(value))
    native, index, amount = {}, 0, 0
    for message in fields.get(12, []):
        span = _fields(_bytes(message))
        index += _signed(_int(span[1][0]))
        for _ in range(_int(span[2][0])):
            amount += deltas.pop(0)
            native[index] = amount
            index += 1
    assert not deltas, "more counts than the spans have buckets"
    schema = _signed(_int(fields[5][0])) if 5 in fields else 0
    return Histogram(_int(fields[1][0]), _float(fields[2][0]), schema, classic, native)


def _fields(data: bytes) -> Fields:
    fields: Fields = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        value: int | float | bytes
        if key & 7 == 0:
            value, at = _varint(data, at)
        elif key & 7 == 1:
            (value,), at = struct.unpack_from("<d", data, at), at + 8
        else:
            assert key & 7 == 2, f"wire type {key & 7}"
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        fields.setdefault(key >> 3, []).append(value)
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def _signed(value: int) -> int:
    return value >> 1 if value % 2 == 0 else -(value + 1 >> 1)


def _bytes(value: float | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value


def _text(value: float | bytes) -> str:
    return _bytes(value).decode()


def _int(value: float | bytes) -> int:
    assert isinstance(value, int)
    return value


def _float(value: float | bytes) -> float:
    assert isinstance(value, float)
    return value
