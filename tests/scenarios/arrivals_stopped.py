"""Calls stop on a trunk while dependencies are still called: the stream lives, and no call comes."""

from tests.line_traffic import REGISTER, START_NS, S, Traffic, batches_of, event, make_story
from tests.scenarios import Scenario

STOP_S = 240
_EVENTS = make_story(Traffic(seed=13, duration_s=STOP_S, rate_first=1.0, rate_last=1.0)).events
_OTHERS = [
    event(START_NS + second * S, "dependency.called", dependency="crm", outcome="ok", id=f"d{second}")
    for second in range(STOP_S, STOP_S + 200, 2)
]

SCENARIO = Scenario(
    register=REGISTER,
    batches=tuple(batches_of([*_EVENTS, *_OTHERS])),
    alertname="CallArrivalsStopped",
    severity="critical",
    labels=(("trunk", "sip-1"),),
    onset_ns=START_NS + STOP_S * S,
    delay_s=75,
)
