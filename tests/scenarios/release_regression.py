"""A release takes one call in five from the second minute on, and one in two of its calls fails at once."""

import numpy as np

from tests.line_traffic import REGISTER, START_NS, Event, S, batches_of, event
from tests.scenarios import Scenario

ONSET_S, END_S = 120, 360
NEW_RATIO, NEW_FAILED_RATIO, FAILED_RATIO = 0.2, 0.5, 0.01
CALLS_PER_S, HOLDING_S = 2.0, 30.0


def _events() -> list[Event]:
    generator = np.random.default_rng(31)
    told = []
    for number in range(int(END_S * CALLS_PER_S)):
        start_ns = START_NS + int(number / CALLS_PER_S * S)
        is_new = number >= ONSET_S * CALLS_PER_S and generator.random() < NEW_RATIO
        labels = {
            "release": "voice-2.1" if is_new else "voice-2.0",
            "tenant": "acme" if generator.random() < 0.5 else "globex",
        }
        is_failed = generator.random() < (NEW_FAILED_RATIO if is_new else FAILED_RATIO)
        lasts_s = 1.0 if is_failed else generator.exponential(HOLDING_S)
        end_ns = start_ns + int(lasts_s * S)
        told.append(event(start_ns, "call.started", f"call-{number}", **labels))
        outcome = "failed" if is_failed else "completed"
        told.append(event(end_ns, "call.ended", f"call-{number}", outcome=outcome, **labels))
    return sorted(one for one in told if one.time_ns < START_NS + END_S * S)


SCENARIO = Scenario(
    register=REGISTER,
    batches=tuple(batches_of(_events())),
    alertname="ReleaseRegression",
    severity="critical",
    labels=(("release", "voice-2.1"), ("action", "rollback")),
    onset_ns=START_NS + ONSET_S * S,
    delay_s=75,
)
