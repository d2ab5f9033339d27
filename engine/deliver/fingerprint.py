"""The name of an alert outside the engine: the fingerprint that Alertmanager itself shows for it.

It is the 64-bit FNV-1a hash of the sorted labels, as in Prometheus' `common/model`, so that a person can go
from Alertmanager's `fingerprint` to our page about the alert, and two replicas link to the same page.
Rejected: a hash of our own, which would be one more id for one thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Labels = tuple[tuple[str, str], ...]

_OFFSET, _PRIME, _MASK = 14695981039346656037, 1099511628211, (1 << 64) - 1
_SEPARATOR = b"\xff"


def full_labels(labels: Labels, external: Mapping[str, str]) -> Labels:
    """Give the labels as they are sent: external ones added where absent, empty ones left out, sorted."""
    merged = {**external, **dict(labels)}
    return tuple(sorted((name, str(value)) for name, value in merged.items() if str(value)))


def fingerprint(sent: Labels) -> str:
    """Give the 16 hexadecimal digits that Alertmanager shows for an alert with exactly the sent labels."""
    state = _OFFSET
    for name, value in sent:
        for byte in name.encode() + _SEPARATOR + value.encode() + _SEPARATOR:
            state = ((state ^ byte) * _PRIME) & _MASK
    return f"{state:016x}"
