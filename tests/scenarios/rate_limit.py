"""A dialler begins to start its calls in batches: the mean stays, and the seconds fill up."""

from __future__ import annotations

import numpy as np

from engine.limits import Limit, Register
from tests.line_traffic import MS, START_NS, Event, S, batches_of, event
from tests.scenarios import Scenario

DURATION_S = 900
ONSET_S = 480
CAP = 20


def _calls() -> list[Event]:
    """Tell four calls a second of 5 s each, from the onset on in batches of about seven."""
    generator = np.random.default_rng(31)
    told = []
    number = 0
    for second in range(DURATION_S - 20):
        batches = generator.poisson(4.0 if second < ONSET_S else 4.0 / 7.0)
        for _ in range(batches):
            at_ns = START_NS + second * S + int(generator.integers(0, 900)) * MS
            for _ in range(1 if second < ONSET_S else int(generator.integers(4, 11))):
                number += 1
                told += [
                    event(at_ns, "call.started", f"call-{number}", tenant="acme", trunk="sip-1"),
                    event(at_ns + S, "call.answered", f"call-{number}", tenant="acme", trunk="sip-1"),
                    event(
                        at_ns + 5 * S,
                        "call.ended",
                        f"call-{number}",
                        outcome="completed",
                        tenant="acme",
                        trunk="sip-1",
                    ),
                ]
    return sorted(told)


SCENARIO = Scenario(
    register=Register(
        limits=(
            Limit(
                name="trunk-cps",
                kind="rate",
                value=float(CAP),
                per_ns=S,
                applies_to={"trunk": ("sip-1",)},
                owner="voice",
                lives_in="contract",
                confirmed_on="2026-06-01",
            ),
        )
    ),
    batches=tuple(batches_of(_calls())),
    alertname="CallRateLimitApproaching",
    severity="critical",
    labels=(("limit", "trunk-cps"),),
    onset_ns=START_NS + ONSET_S * S,
    delay_s=180,  # as the benchmark asks of a dialler that clumps
)
