"""Four in ten attempts of one tenant begin to fail: its error budget burns, and that of nobody else."""

from __future__ import annotations

import numpy as np

from tests.line_traffic import REGISTER, START_NS, Event, S, batches_of, event
from tests.scenarios import Scenario

ONSET_S = 600
DURATION_S = 900


def _calls() -> list[Event]:
    """Tell a call a second of 20 s each, a quarter of them of the tenant in trouble."""
    generator = np.random.default_rng(18)
    told = []
    for number in range(DURATION_S - 30):
        tenant = "acme" if generator.random() < 0.25 else "globex"
        labels = {"tenant": tenant, "trunk": f"sip-{2 + number % 2}"}
        begin_ns = START_NS + number * S + int(generator.integers(0, S))
        end_ns = begin_ns + int(generator.lognormal(3.0, 0.3) * S)
        is_wrong = tenant == "acme" and end_ns >= START_NS + ONSET_S * S and generator.random() < 0.4
        told += [
            event(begin_ns, "call.started", f"call-{number}", **labels),
            event(begin_ns + S, "call.answered", f"call-{number}", **labels),
            event(
                end_ns,
                "call.ended",
                f"call-{number}",
                outcome="failed" if is_wrong else "completed",
                **labels,
            ),
        ]
    return sorted(told)


SCENARIO = Scenario(
    register=REGISTER,
    batches=tuple(batches_of(_calls())),
    alertname="CallErrorBudgetBurn",
    severity="critical",
    labels=(("tenant", "acme"),),
    onset_ns=START_NS + ONSET_S * S,
    delay_s=150,
)
