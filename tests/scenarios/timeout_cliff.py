"""Transfers begin to fail at exactly 15.0 s, and nothing was deployed; the register knows why."""

from __future__ import annotations

import numpy as np

from engine.limits import Limit, Register
from tests.line_traffic import REGISTER, START_NS, Event, S, Traffic, batches_of, event, make_story
from tests.scenarios import Scenario

ONSET_S = 240
DURATION_S = 480
_GATEWAY = Limit(
    name="transfer-gateway-timeout",
    kind="timeout",
    value=15.0,
    stage="transfer",
    owner="edge",
    lives_in="Gateway, route timeout",
    action="Set it to a minute",
    confirmed_on="2026-06-01",
)


def _transfers() -> list[Event]:
    """Tell one every four seconds; from the onset on, half of them are cut."""
    generator = np.random.default_rng(17)
    told = []
    for number, second in enumerate(range(10, DURATION_S, 4)):
        is_cut = second >= ONSET_S and generator.random() < 0.5
        dialled_s = (
            15.0 + float(generator.exponential(0.02)) if is_cut else float(generator.lognormal(1.0, 0.4))
        )
        at_ns = START_NS + int((second + dialled_s) * S)
        outcome = "timeout" if is_cut else "completed"
        labels = {"tenant": "acme", "trunk": "sip-1"}
        told.append(
            event(
                at_ns, "transfer.ended", f"transfer-{number}", id=f"t{number}", outcome=outcome,
                duration_ms=round(1000 * dialled_s), **labels,
            )
        )  # fmt: skip
    return told


_EVENTS = make_story(Traffic(seed=16, duration_s=DURATION_S + 30, rate_first=0.5, rate_last=0.5)).events

SCENARIO = Scenario(
    register=Register(limits=(*REGISTER.limits, _GATEWAY)),
    batches=tuple(batches_of(sorted([*_EVENTS, *_transfers()], key=lambda one: one.time_ns))),
    alertname="CallTimeoutCliff",
    severity="critical",
    labels=(("limit", "transfer-gateway-timeout"), ("owner", "edge"), ("stage", "transfer")),
    onset_ns=START_NS + ONSET_S * S,
    delay_s=120,
)
