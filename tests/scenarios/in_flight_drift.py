"""The carrier reports twenty calls in use where three are counted here: said with its third report."""

from tests.line_traffic import REGISTER, START_NS, S, Traffic, batches_of, event, make_story
from tests.scenarios import Scenario

_STORY = make_story(Traffic(seed=16, duration_s=240, rate_first=0.2, rate_last=0.2))
_AT_S = (90, 120, 150, 180)
_REPORTS = [
    event(START_NS + at_s * S, "limit.reported", limit="trunk-cap", used=28, max=40) for at_s in _AT_S
]

SCENARIO = Scenario(
    register=REGISTER,
    batches=tuple(batches_of(sorted((*_STORY.events, *_REPORTS), key=lambda one: one.time_ns))),
    alertname="CallsInFlightDrift",
    severity="warning",
    labels=(("limit", "trunk-cap"), ("problem", "more_than_counted")),
    onset_ns=START_NS + _AT_S[0] * S,
    delay_s=65,
)
