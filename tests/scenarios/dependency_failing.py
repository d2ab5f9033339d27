"""A lookup that is called six times a minute begins to fail each time: paged within a minute."""

from tests.line_traffic import REGISTER, START_NS, Event, S, Traffic, batches_of, event, make_story
from tests.scenarios import Scenario

ONSET_S, END_S, EVERY_S = 600, 900, 10
_CALLS = make_story(Traffic(seed=17, duration_s=END_S, rate_first=0.3, rate_last=0.3)).events


def _lookup(second: int) -> Event:
    outcome = "timeout" if second >= ONSET_S else "ok"
    at_ns = START_NS + second * S
    return event(
        at_ns, "dependency.called", dependency="crm-v2", outcome=outcome, id=f"lookup-{second}",
        duration_ms=5000 if second >= ONSET_S else 80,
    )  # fmt: skip


SCENARIO = Scenario(
    register=REGISTER,
    batches=tuple(batches_of(sorted([*_CALLS, *map(_lookup, range(3, END_S, EVERY_S))]))),
    alertname="CallDependencyFailing",
    severity="critical",
    labels=(("dependency", "crm-v2"),),
    onset_ns=START_NS + ONSET_S * S,
    delay_s=65,
)
