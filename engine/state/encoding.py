"""Values as bytes and back: numbers, texts, containers, arrays, and the records of the core. Nothing else.

A record is a NamedTuple or a frozen Struct of the core or of a detector. It is written with the names of its
fields, and read only into a class of the same name and fields that this process has loaded: reading makes
values and runs nothing. Arrays lie apart from the rest, so that a large one is copied once, and one that two
records share is kept once. Objects that change are written by the fields that `kept.py` names for their
class, and come back as `ObjectState`, for a new object to be filled with. Rejected: pickle, which runs what
it reads; a schema beside the classes, which falls behind them.
"""

from __future__ import annotations

import functools
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np

from engine.errors import CallgaugeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# Records are looked up in these packages alone.
RECORDS_FROM = ("engine.decode.", "engine.observe.", "engine.judge.", "engine.limits", "detectors.")
ARRAY_KINDS = "biuf"
LENGTH_BYTES = 8
SCALARS = frozenset({type(None), bool, int, float, str, bytes})
# Whole numbers from so many on are written without their zeros if that at least halves them: windows are
# mostly empty, and a checkpoint may not take as much memory again as the line.
SPARSE_FROM = 1 << 13
POSITION = np.dtype("<u4")
ARRAY_BYTES_MAX = 4 << 30  # made of a few bytes that say so
TUPLE, LIST, DICT, SET, DEQUE, RECORD, OBJECT, AGAIN, ARRAY, SCALAR, ENCODED, APART = range(12)
BYTE = "|u1"
RECORDS = (tuple, msgspec.Struct)


class StateError(CallgaugeError):
    """A checkpoint cannot be used; `reason` names why in a word, for a metric."""

    def __init__(self, reason: str, what: str) -> None:
        """Keep the word and the sentence."""
        super().__init__(what)
        self.reason = reason


class ObjectState(NamedTuple):
    """The kept fields of an object that changes."""

    class_name: str
    values: dict[str, Any]


class ClassShape(msgspec.Struct, frozen=True, array_like=True):
    """A class as it was when it was written."""

    name: str  # module:class
    fields: tuple[str, ...]


class ArrayShape(msgspec.Struct, frozen=True, array_like=True):
    """What an array is; its bytes lie in the order of the table."""

    dtype: str  # little-endian
    shape: tuple[int, ...]
    is_fortran: bool  # sums depend on the order in memory
    nonzero: int  # so many positions (uint32) and then their values; -1: all values


class Head(msgspec.Struct, frozen=True, array_like=True):
    """Everything but the bytes of the arrays."""

    classes: tuple[ClassShape, ...]
    arrays: tuple[ArrayShape, ...]
    value: Any


class EncodedOnce:
    """What stays for many checkpoints and never changes, encoded once: some records, and tuples of scalars.

    A slice's summary has many small arrays, and a line knows thousands of combinations of labels: to walk
    over them at each checkpoint is work for nothing. What the checkpoint before did not use is forgotten.
    Some kinds are large and change seldom: their bytes are put apart, in a blob that is written when they
    change.
    """

    def __init__(self, kinds: Iterable[type] = (), kinds_apart: Iterable[type] = ()) -> None:
        """Know nothing; both say which records are meant."""
        self.kinds_apart = frozenset(kinds_apart)
        self.kinds = frozenset(kinds) | self.kinds_apart
        self.apart: list[bytes] = []  # of this checkpoint
        self._known: dict[int, tuple[Any, bytes]] = {}  # by identity, which the record beside it keeps
        self._used: dict[int, tuple[Any, bytes]] = {}
        self._tuples_known: dict[int, tuple[tuple[Any, ...], list[Any]]] = {}
        self._tuples_used: dict[int, tuple[tuple[Any, ...], list[Any]]] = {}

    def bytes_of(self, record: Any, kept: Mapping[type, tuple[str, ...]], *, is_shared: bool) -> bytes:
        """Give a record as bytes that `decode` reads."""
        found = self._used.get(id(record)) or self._known.get(id(record))
        if found is None:
            found = record, b"".join(encode(record, kept, is_shared=is_shared))
        self._used[id(record)] = found
        return found[1]

    def plain_of(self, value: tuple[Any, ...]) -> list[Any] | None:
        """Give a tuple as msgpack can hold it, if nothing in it can change, at any depth; else None."""
        found = self._tuples_used.get(id(value)) or self._tuples_known.get(id(value))
        if found is None:
            plain: list[Any] = [TUPLE]
            for one in value:
                part = one if type(one) in SCALARS else self.plain_of(one) if type(one) is tuple else None
                if part is None and one is not None:
                    return None
                plain.append(part)
            found = value, plain
        self._tuples_used[id(value)] = found
        return found[1]

    def put_apart(self, data: bytes) -> int:
        """Give the place of bytes in `apart`."""
        for place, one in enumerate(self.apart):
            if one is data:
                return place
        self.apart.append(data)
        return len(self.apart) - 1

    def begin(self) -> None:
        """Begin a checkpoint, whatever became of the one before: only what that one used is still known."""
        self._known, self._used = self._used, {}
        self._tuples_known, self._tuples_used = self._tuples_used, {}
        self.apart = []


def encode(
    value: Any,
    kept: Mapping[type, tuple[str, ...]],
    *,
    is_shared: bool = True,
    once: EncodedOnce | None = None,
) -> list[bytes]:
    """Give a value as pieces to be written one after another; `kept` names the fields of classes that change.

    Nothing in the pieces refers to the value. TypeError for what may not be in a checkpoint. Without
    `is_shared`, equal values give equal bytes whichever of their parts are one and the same object. Records
    of the kinds of `once` are bytes of their own.
    """
    writer = _Writer(kept, once, is_shared=is_shared)
    tree = writer.plain(value)
    head = msgspec.msgpack.encode(Head(tuple(writer.classes), tuple(writer.arrays), tree))
    return [len(head).to_bytes(LENGTH_BYTES, "little"), head, *writer.buffers]


def decode(data: bytes, apart: Sequence[bytes] = ()) -> Any:
    """Give the value back; StateError if the bytes are none of ours, or classes have changed.

    `apart` is what `EncodedOnce` gave, in its order.
    """
    try:
        length = int.from_bytes(data[:LENGTH_BYTES], "little")
        head = msgspec.msgpack.decode(memoryview(data)[LENGTH_BYTES : LENGTH_BYTES + length], type=Head)
        return _Reader(head, memoryview(data)[LENGTH_BYTES + length :], apart).value(head.value)
    except (msgspec.MsgspecError, ValueError, TypeError, IndexError, KeyError, RecursionError) as error:
        raise StateError("damaged", f"a checkpoint cannot be decoded ({type(error).__name__})") from error


@functools.cache
def _little(dtype: np.dtype[Any]) -> tuple[np.dtype[Any], str]:
    """Give the little-endian twin of a type, and its name; there are few, and thousands of arrays.

    TypeError for a type that is not kept.
    """
    if dtype.kind not in ARRAY_KINDS:
        raise TypeError(f"arrays of {dtype} are not kept")
    twin = dtype.newbyteorder("<")
    return twin, twin.str


class _Writer:
    """Turns values into lists, numbers and texts, and collects arrays and classes."""

    def __init__(
        self, kept: Mapping[type, tuple[str, ...]], once: EncodedOnce | None, *, is_shared: bool
    ) -> None:
        self._is_shared = is_shared
        self.classes: list[ClassShape] = []
        self.arrays: list[ArrayShape] = []
        self.buffers: list[bytes] = []
        self._kept = kept
        self._once = once or EncodedOnce()
        self._encoded_ids: dict[int, int] = {}
        self._class_ids: dict[type, int] = {}
        self._fields: dict[type, tuple[str, ...]] = {}  # of records
        self._array_ids: dict[int, int] = {}
        self._record_ids: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no identity is used twice

    def plain(self, value: Any) -> Any:
        """Give a value as msgpack can hold it, with what is not a scalar as [kind, ...]."""
        kind = type(value)
        if kind in SCALARS:
            return value
        if kind is tuple:
            return self._once.plain_of(value) or [TUPLE, *self._each(value)]
        if kind is np.ndarray:
            return [ARRAY, self._array(value)]
        if kind in self._once.kinds:
            return self._encoded(value)
        if isinstance(value, RECORDS):
            return self._record(value)
        if kind is list:
            return [LIST, *self._each(value)]
        if kind is dict:
            return [DICT, *self._each([part for pair in value.items() for part in pair])]
        if kind is set:
            return [SET, *self._each(sorted(value))]
        if kind is deque:
            return [DEQUE, *self._each(value)]
        if isinstance(value, np.generic):
            return [SCALAR, value.dtype.newbyteorder("<").str, value.tobytes()]
        if isinstance(value, int):  # An IntEnum.
            return int(value)
        return self._object(value)

    def _each(self, values: Iterable[Any]) -> list[Any]:
        return [one if type(one) in SCALARS else self.plain(one) for one in values]

    def _array(self, array: np.ndarray[Any, Any]) -> int:
        number = self._array_ids.get(id(array))
        if number is None:
            number = len(self.arrays)
            if self._is_shared:
                self._array_ids[id(array)] = number
                self._alive.append(array)
            self._write(array)
        return number

    def _write(self, array: np.ndarray[Any, Any]) -> None:
        dtype, name = _little(array.dtype)
        little, flags = array.astype(dtype, copy=False), array.flags
        is_fortran = flags.f_contiguous and not flags.c_contiguous
        order: Literal["F", "C"] = "F" if is_fortran else "C"
        if dtype.kind in "iu" and SPARSE_FROM <= array.size < 1 << 32:
            flat = little.ravel(order)
            is_set = flat != 0  # numpy finds set places of flags several times as fast
            count = int(np.count_nonzero(is_set))
            if 2 * count * (dtype.itemsize + POSITION.itemsize) <= flat.nbytes:
                self.arrays.append(ArrayShape(name, array.shape, is_fortran, count))
                places = np.flatnonzero(is_set)
                self.buffers += [places.astype(POSITION).tobytes(), flat[places].tobytes()]
                return
        self.arrays.append(ArrayShape(name, array.shape, is_fortran, -1))
        self.buffers.append(little.tobytes(order))

    def _encoded(self, record: Any) -> list[int]:
        """Write the bytes of a record apart, or among those of the arrays if they are not there yet."""
        data = self._once.bytes_of(record, self._kept, is_shared=self._is_shared)
        if type(record) in self._once.kinds_apart:
            return [APART, self._once.put_apart(data)]
        number = self._encoded_ids.get(id(record))
        if number is None:
            number = self._encoded_ids[id(record)] = len(self.arrays)
            self.arrays.append(ArrayShape(BYTE, (len(data),), is_fortran=False, nonzero=-1))
            self.buffers.append(data)
        return [ENCODED, number]

    def _record(self, value: Any) -> list[Any]:
        known = self._record_ids.get(id(value))
        if known is not None:
            return [AGAIN, known]
        kind = type(value)
        fields = self._fields.get(kind)
        if fields is None:
            fields = self._fields[kind] = _fields_of(kind)
        class_id = self._class_id(kind, fields)
        plain = [RECORD, class_id, *self._each([getattr(value, name) for name in fields])]
        if self._is_shared:
            self._record_ids[id(value)] = len(self._record_ids)
            self._alive.append(value)
        return plain

    def _object(self, value: Any) -> list[Any]:
        fields = self._kept.get(type(value))
        if fields is None:
            raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} is not kept")
        class_id = self._class_id(type(value), fields)
        return [OBJECT, class_id, *(self.plain(getattr(value, name)) for name in fields)]

    def _class_id(self, kind: type, fields: tuple[str, ...]) -> int:
        number = self._class_ids.get(kind)
        if number is None:
            number = self._class_ids[kind] = len(self.classes)
            self.classes.append(ClassShape(name_of(kind), fields))
        return number


class _Reader:
    """Turns what `_Writer` made back into values."""

    def __init__(self, head: Head, buffers: memoryview, apart: Sequence[bytes]) -> None:
        self._apart = apart
        self._shapes = head.classes
        self._classes: dict[int, type] = {}
        self._arrays = list(_arrays_of(head.arrays, buffers))
        self._records: list[Any] = []
        self._encoded: dict[int, Any] = {}

    def value(self, plain: Any) -> Any:
        if not isinstance(plain, list):
            return plain
        kind, *rest = plain
        if kind == ARRAY:
            return self._arrays[rest[0]]
        if kind == ENCODED:
            if rest[0] not in self._encoded:
                self._encoded[rest[0]] = decode(self._arrays[rest[0]].tobytes())
            return self._encoded[rest[0]]
        if kind == APART:
            return decode(self._apart[rest[0]])
        if kind == AGAIN:
            return self._records[rest[0]]
        if kind == SCALAR:
            return np.frombuffer(rest[1], np.dtype(rest[0])).astype(np.dtype(rest[0]).newbyteorder("="))[0]
        if kind == RECORD:
            return self._record(rest[0], [self.value(one) for one in rest[1:]])
        if kind == OBJECT:
            shape = self._shapes[rest[0]]
            return ObjectState(shape.name, dict(zip(shape.fields, map(self.value, rest[1:]), strict=True)))
        values = [self.value(one) for one in rest]
        if kind == DICT:
            return dict(zip(values[::2], values[1::2], strict=True))
        return {TUPLE: tuple, LIST: list, SET: set, DEQUE: deque}[kind](values)

    def _record(self, class_id: int, values: list[Any]) -> Any:
        found = self._classes.get(class_id)
        if found is None:
            found = self._classes[class_id] = _record_class(self._shapes[class_id])
        fields = self._shapes[class_id].fields
        record = found(**dict(zip(fields, values, strict=True)))
        self._records.append(record)
        return record


def _arrays_of(shapes: tuple[ArrayShape, ...], buffers: memoryview) -> Iterator[np.ndarray[Any, Any]]:
    """Give arrays that own their bytes and may be written to."""
    at = 0
    for one in shapes:
        dtype = np.dtype(one.dtype)
        if dtype.kind not in ARRAY_KINDS or min(one.shape, default=0) < 0:
            raise ValueError("an array of another kind")
        size = int(np.prod(one.shape, dtype=np.int64))
        if size * dtype.itemsize > ARRAY_BYTES_MAX:
            raise ValueError("an array is too large")
        places_end = at + max(one.nonzero, 0) * POSITION.itemsize
        end = places_end + (size if one.nonzero < 0 else one.nonzero) * dtype.itemsize
        if end > len(buffers):
            raise ValueError("arrays are cut off")
        flat = np.frombuffer(buffers[places_end:end], dtype).astype(dtype.newbyteorder("="))
        if one.nonzero >= 0:
            values, flat = flat, np.zeros(size, flat.dtype)
            flat[np.frombuffer(buffers[at:places_end], POSITION)] = values
        yield flat.reshape(one.shape, order="F") if one.is_fortran else flat.reshape(one.shape)
        at = end
    if at != len(buffers):
        raise ValueError("bytes are left over")


def _fields_of(kind: type) -> tuple[str, ...]:
    """Give the fields of a record; TypeError if it is none."""
    fields = getattr(kind, "_fields", None) or getattr(kind, "__struct_fields__", None)
    if fields is None and not hasattr(kind, "_fields"):
        raise TypeError(f"{kind.__qualname__} is no record")
    if not name_of(kind).startswith(RECORDS_FROM):
        raise TypeError(f"{name_of(kind)} is no record of the core")
    return tuple(fields or ())


def _record_class(shape: ClassShape) -> type:
    """Find a class among those that are loaded; StateError if it is gone or has other fields now."""
    module, _, name = shape.name.partition(":")
    is_ours = shape.name.startswith(RECORDS_FROM)
    found: Any = getattr(sys.modules.get(module), name, None) if is_ours else None
    is_record = isinstance(found, type) and issubclass(found, tuple | msgspec.Struct)
    if is_record and (name_of(found), _fields_of(found)) == (shape.name, shape.fields):
        return found  # type: ignore[no-any-return]
    raise StateError("changed", f"{shape.name} is another record in this version of callgauge")


def name_of(kind: type) -> str:
    """Name a class so that it is found again."""
    return f"{kind.__module__}:{kind.__qualname__}"
