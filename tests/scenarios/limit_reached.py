"""A ramp that fills a trunk: the first decline is paged at the end of its slice."""

from tests.line_traffic import REGISTER, Traffic, batches_of, make_story
from tests.scenarios import Scenario

_STORY = make_story(Traffic(seed=11))

SCENARIO = Scenario(
    register=REGISTER,
    batches=tuple(batches_of(_STORY.events)),
    alertname="CallLimitReached",
    severity="critical",
    labels=(("limit", "trunk-cap"),),
    onset_ns=min(call.end_ns for call in _STORY.calls if call.is_declined and call.end_ns >= 0),
    delay_s=5,
)
