"""The carrier reports 60 calls where the register says 40: it is said within the slice of the report."""

from tests.line_traffic import REGISTER, START_NS, S, Traffic, batches_of, event, make_story
from tests.scenarios import Scenario

_STORY = make_story(Traffic(seed=15, duration_s=60))
_AT_NS = START_NS + 30 * S
_REPORT = event(_AT_NS, "limit.reported", limit="trunk-cap", used=3, max=60)

SCENARIO = Scenario(
    register=REGISTER,
    batches=tuple(batches_of(sorted((*_STORY.events, _REPORT), key=lambda one: one.time_ns))),
    alertname="CallLimitMismatch",
    severity="warning",
    labels=(("limit", "trunk-cap"), ("owner", "voice")),
    onset_ns=_AT_NS,
    delay_s=5,
)
