"""The same kind of ramp from a cold start: the page comes minutes before the first decline."""

from tests.line_traffic import REGISTER, START_NS, Traffic, batches_of, make_story
from tests.scenarios import Scenario

_STORY = make_story(Traffic(seed=12, duration_s=600, rate_first=0.6, rate_last=3.0))
_FIRST_DECLINE_NS = min(call.end_ns for call in _STORY.calls if call.is_declined and call.end_ns >= 0)
LEAD_S = 60

SCENARIO = Scenario(
    register=REGISTER,
    batches=tuple(batches_of(_STORY.events)),
    alertname="CallLimitApproaching",
    severity="critical",
    labels=(("limit", "trunk-cap"),),
    onset_ns=START_NS,
    delay_s=(_FIRST_DECLINE_NS - START_NS) / 1e9 - LEAD_S,
)
