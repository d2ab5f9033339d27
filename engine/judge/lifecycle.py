"""Findings become alerts with a life: inactive, pending, firing, resolved."""

from __future__ import annotations

from typing import NamedTuple

PENDING, FIRING, RESOLVED = "pending", "firing", "resolved"


class Alert(NamedTuple):
    """One alert as it stands. Identity is `labels` alone; every time says which event it marks (event time, ns)."""

    labels: tuple[tuple[str, str], ...]  # sorted; alertname, severity, owner, limit, ...
    annotations: tuple[tuple[str, str], ...]  # sorted; numbers as plain decimals
    state: str  # pending | firing | resolved
    active_ns: int  # first finding of this life
    fired_ns: int  # -1: not yet
    found_ns: int  # last finding
    resolved_ns: int  # -1: not yet


class AlertChange(NamedTuple):
    """An alert began to fire or was resolved, at the end of a slice."""

    time_ns: int
    state: str  # firing | resolved
    labels: tuple[tuple[str, str], ...]
    annotations: tuple[tuple[str, str], ...]
    fired_ns: int
