"""The check of the daily cost cap fails once, and the call goes through, as the register wants it."""

import msgspec

from engine.limits import Guardrail
from tests.line_traffic import REGISTER, START_NS, S, Traffic, batches_of, event, make_story
from tests.scenarios import Scenario

_STORY = make_story(Traffic(seed=18, duration_s=90, rate_first=0.5, rate_last=0.5))
_AT_NS = START_NS + 42 * S
_CAP = Guardrail(
    name="daily-cost-cap",
    on_check_error="open",
    because="blocking a real caller is worse than one extra call past a cost limit",
    owner="finance",
)
_CHECK = event(
    _AT_NS, "dependency.called", dependency="daily-cost-cap", outcome="error", fallback="open", id="check"
)

SCENARIO = Scenario(
    register=msgspec.structs.replace(REGISTER, guardrails=(_CAP,)),
    batches=tuple(batches_of(sorted((*_STORY.events, _CHECK)))),
    alertname="FailOpenEngaged",
    severity="warning",
    labels=(("dependency", "daily-cost-cap"), ("owner", "finance")),
    onset_ns=_AT_NS,
    delay_s=5,
)
