"""Who a call or an event is: a keyed hash of (platform, tenant, id); the ids themselves go no further.

The three parts are framed so that no two different triples give the same bytes: a byte for the kind, then
platform and tenant each behind its length, then the id, up to the end of the message. Platform and tenant
are the values before masking (they are hashed, never kept), so tenants named by long numbers stay apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engine.decode.siphash import hash_spans

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ID_BYTES_MAX = 256
CALL = b"\x00"
EVENT = b"\x01"


def identity_prefix(platform: str, tenant: str) -> bytes:
    """Frame what ids of one platform and tenant have in common; each part is at most 65,535 bytes."""
    parts = (platform.encode(), tenant.encode())
    return b"".join(len(part).to_bytes(2, "little") + part for part in parts)


def id_bytes(value: object) -> bytes:
    """Give the bytes of a call's or an event's id, a string of 1 to 256 bytes; empty when it is none."""
    if type(value) is not str or len(value) > ID_BYTES_MAX:
        return b""
    encoded = value.encode()
    return encoded if len(encoded) <= ID_BYTES_MAX else b""


def identity_keys(messages: Sequence[bytes], key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash each message (kind + prefix + id) to a uint64, shape (messages,); an empty message gives 0."""
    hashes = np.empty(len(messages), np.uint64)
    if not messages:
        return hashes
    end = np.cumsum(np.fromiter(map(len, messages), np.int64, len(messages)))
    start = np.concatenate((np.zeros(1, np.int64), end[:-1]))
    # Sums wrap around at 2^64 by design; without compiling, numpy would warn of it.
    with np.errstate(over="ignore"):
        hash_spans(np.frombuffer(b"".join(messages), np.uint8), start, end, key, hashes)
    return hashes
