"""Alerts on their way to one Alertmanager: the queue they wait in, and how they are written."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import orjson

from engine.deliver.fingerprint import Labels
from engine.deliver.timestamps import rfc3339
from engine.judge.lifecycle import FIRING, Alert

NS_PER_S = 1_000_000_000
OWED = "owed"  # a state: resolved, but nobody has heard yet that it fired


class Posting(NamedTuple):
    """One alert on its way, under its fingerprint."""

    fingerprint: str
    labels: Labels  # full, as they are sent
    alert: Alert
    queued_s: float  # on a clock that never jumps


class PostingQueue:
    """Alerts waiting for one Alertmanager: one per fingerprint, the newest state wins, firing ones first.

    When full, the oldest resolved entry is dropped, and only if there is none the oldest firing one: a
    resolution that gets lost comes about by `endsAt` anyway, a page that gets lost does not.
    """

    def __init__(self, alerts_max: int) -> None:
        self.alerts_max = alerts_max
        self._firing: dict[str, Posting] = {}
        self._resolved: dict[str, Posting] = {}

    def __len__(self) -> int:
        return len(self._firing) + len(self._resolved)

    def put(self, posting: Posting) -> int:
        """Add or replace an entry; return how many others were dropped for it."""
        is_firing = posting.alert.state == FIRING
        mine, other = (self._firing, self._resolved) if is_firing else (self._resolved, self._firing)
        other.pop(posting.fingerprint, None)
        mine[posting.fingerprint] = posting
        return self._keep_to_bound()

    def put_back(self, postings: list[Posting]) -> int:
        """Let entries wait again, behind the others, but for those with a newer state; return the dropped."""
        waiting = self._firing.keys() | self._resolved.keys()
        return sum(self.put(one) for one in postings if one.fingerprint not in waiting)

    def take(self, alerts_max: int) -> list[Posting]:
        """Remove and return up to `alerts_max` entries, oldest first, firing before resolved."""
        taken: list[Posting] = []
        for waiting in (self._firing, self._resolved):
            keys = list(itertools.islice(waiting, alerts_max - len(taken)))
            taken += [waiting.pop(key) for key in keys]
        return taken

    def _keep_to_bound(self) -> int:
        dropped = 0
        while len(self) > self.alerts_max:
            victims = self._resolved or self._firing
            del victims[next(iter(victims))]
            dropped += 1
        return dropped


def encode_batch(batch: list[Posting], external_url: str, now_ns: int, ends_after_ns: int) -> bytes:
    """Encode alerts as the JSON array that `POST /api/v2/alerts` takes, as of wall clock `now_ns`.

    Event time may lie ahead of the wall clock; nothing that is sent does, but the `endsAt` of firing alerts.
    """
    postable = []
    for posting in batch:
        alert = posting.alert
        starts_ns = min(alert.fired_ns, now_ns)
        is_firing = alert.state == FIRING
        ends_ns = now_ns + ends_after_ns if is_firing else max(starts_ns, min(alert.resolved_ns, now_ns))
        # Only here: how old the data is depends on when it is said; all else is as a replay says it.
        age_s = max(now_ns - alert.found_ns, 0) // NS_PER_S
        postable.append(
            {
                "labels": dict(posting.labels),
                "annotations": dict(alert.annotations) | {"data_age_seconds": str(age_s)},
                "startsAt": rfc3339(starts_ns),
                "endsAt": rfc3339(ends_ns),
                "generatorURL": f"{external_url}/alerts/{posting.fingerprint}",
            }
        )
    return orjson.dumps(postable)
