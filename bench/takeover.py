"""How long until another member of the group is right when the one that reads is killed? As on another host.

Each member has an id and a folder of its own: what it goes on with is in `state.topic`, and the key of call
ids is shared. It stands by, with its kernels loaded, before the other is killed with -9. The time runs from
the kill: in it is what is left of the session time-out, the rebalance, the checkpoint out of the topic, and
all rows that came since. Those are produced behind the kill, when nobody reads.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from bench.live import TOPIC, Service
from bench.memory import CALLS, LIMITS, SCRAPE_S, SEED, scenario, wait_until_counted
from engine.source.synthetic import generate_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.live import Stack

STATE_TOPIC, STATE_BYTES_MAX = "state", 16 << 20
# Of checkpoints, here and in the topic: what came since is behind the kill, and not a wait here.
PERIOD = "2s"
TAIL_S = 1.0
TAIL_SHARE = 0.01  # of all calls: what starts in a minute or less, of those that start in an hour
POLL_S = 0.1  # to ask a member that reads is work for it
NAMES = itertools.count()


class Takeover(NamedTuple):
    """Seconds since the kill."""

    assigned_s: float  # the partitions are given, the checkpoint is restored, every partition has its place
    right_s: float  # it has read to the end, and what it counts and holds is what it should


class Group:
    """One that reads and those that take over from it, each on a host of its own."""

    def __init__(self, over: Stack, session_timeout: str, rows: int) -> None:
        """Make the first member, for a topic that has `rows`; nothing runs yet."""
        self.rows = rows
        self._over = over
        self._name = f"takeover-{session_timeout}"
        self._kafka = {"group_id": self._name, "session_timeout": session_timeout, "heartbeat": "2s"}
        key = over.folder / "call.key"
        if not key.exists():
            key.write_text(secrets.token_hex(16), "utf-8")
            key.chmod(0o600)
            over.kafka.create_topic(
                STATE_TOPIC, 1, cleanup_policy="compact", max_message_bytes=str(STATE_BYTES_MAX)
            )
        self._key = str(key)
        self._reader = self._member()

    def __enter__(self) -> Self:
        """Begin to read, before anybody else may."""
        self._reader.__enter__()
        self._reader.wait_for(lambda: _is(self._reader, "reading"), "it reads", POLL_S)
        return self

    def __exit__(self, *_: object) -> None:
        """End the one that reads."""
        self._reader.__exit__()

    def _member(self) -> Service:
        name = f"{self._name}-{next(NAMES)}"
        state = {"folder": str(self._over.folder / name), "topic": STATE_TOPIC}
        return Service(
            self._over, name, LIMITS, kafka=self._kafka, engine={"call_key_file": self._key},
            state=state | {"period": PERIOD, "topic_period": PERIOD},
        )  # fmt: skip

    def take_over(self, size: str) -> Takeover:
        """Kill the one that reads; another reads from then on."""
        old, new = self._reader, self._member()
        new.__enter__()
        with contextlib.ExitStack() as failed:
            failed.callback(new.__exit__)
            new.wait_for(lambda: _is(new, "standby") and new.is_ready(), "it stands by", POLL_S)
            wait_until_counted(old, self.rows)
            in_flight = old.metric("callgauge_calls_in_flight")
            written = old.metric("callgauge_state_topic_checkpoints_total")
            old.wait_for(
                lambda: old.metric("callgauge_state_topic_checkpoints_total") >= written + 2,
                "a checkpoint that has it all is in the topic", POLL_S,
            )  # fmt: skip
            begin_s = time.perf_counter()
            old.kill()
            started = self._produce_tail(size)
            takeover = Takeover(
                _since(begin_s, new, lambda: _is(new, "reading"), "it reads"),
                _since(begin_s, new, lambda: self._has_all(new, in_flight), "it has caught up"),
            )
            wait_until_counted(new, self.rows)
            self._check(new, in_flight + started)
            failed.pop_all()
        self._reader = new
        return takeover

    def _produce_tail(self, size: str) -> int:
        """Produce calls that start now; give how many."""
        whole = scenario(size)
        faster = CALLS[size] * TAIL_SHARE / TAIL_S / sum(one.rate_per_s for one in whole.tenants)
        tail = msgspec.structs.replace(
            whole, duration_s=TAIL_S, start_ns=time.time_ns(),
            tenants=tuple(
                msgspec.structs.replace(one, rate_per_s=one.rate_per_s * faster) for one in whole.tenants
            ),
        )  # fmt: skip
        rows = list(generate_rows(tail, SEED + self.rows))
        self._over.kafka.produce(TOPIC, rows)
        self.rows += len(rows)
        return sum(b'"call.started"' in row for row in rows)

    def _has_all(self, new: Service, in_flight: float) -> bool:
        """Say whether it is ready, and has all rows and calls; the last of them start a little later."""
        return (
            new.is_ready()
            and new.metric("callgauge_rows_read_total") == self.rows
            and new.metric("callgauge_calls_in_flight") >= in_flight
        )

    def _check(self, new: Service, in_flight: float) -> None:
        """Hold that it went on from the topic and counted every row once."""
        restored = new.metric('callgauge_checkpoint_restores_total{outcome="whole"}')
        assert restored == 1, f"{restored} checkpoints were restored"
        new.wait_for(
            lambda: new.metric("callgauge_calls_in_flight") == in_flight,
            f"{in_flight} calls are in flight", SCRAPE_S,
        )  # fmt: skip
        assert new.metric("callgauge_rows_absorbed_total") == self.rows


def _is(service: Service, state: str) -> bool:
    return service.metric(f'callgauge_source_state{{state="{state}"}}') == 1


def _since(begin_s: float, service: Service, met: Callable[[], bool], what: str) -> float:
    service.wait_for(met, what, POLL_S)
    return time.perf_counter() - begin_s
