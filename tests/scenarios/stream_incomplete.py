"""A second platform whose clock is half a minute ahead of the receipt of its events.

What comes ahead is seen with the slice that closes at its receipt, whose end lies the out-of-order bound
before that.
"""

from collections.abc import Iterator
from dataclasses import replace

from engine.source.contract import RawBatch
from tests.line_traffic import REGISTER, START_NS, S, event, raw_batch
from tests.scenarios import Scenario

ONSET_S, END_S, AHEAD_S, BOUND_S = 60, 180, 30, 5


def _batches() -> Iterator[RawBatch]:
    offset = 0
    for second in range(END_S):
        now_ns = START_NS + second * S
        told = [event(now_ns, "call.started", f"good-{second}", tenant="acme", trunk="sip-2")]
        if second >= ONSET_S:
            told.append(event(now_ns + AHEAD_S * S, "call.started", f"ahead-{second}", trunk="sip-2"))
        yield replace(raw_batch([one.row for one in told], 0, offset, 1), received_ns=now_ns)
        offset += len(told)


SCENARIO = Scenario(
    register=REGISTER,
    batches=tuple(_batches()),
    alertname="CallStreamIncomplete",
    severity="warning",
    labels=(("problem", "clock_ahead"),),
    onset_ns=START_NS + (ONSET_S - BOUND_S) * S,
    delay_s=15,
)
