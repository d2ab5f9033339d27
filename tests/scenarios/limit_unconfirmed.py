"""A limit that nobody has confirmed: it is said with the first slice."""

from tests.line_traffic import REGISTER, START_NS, Traffic, batches_of, make_story
from tests.scenarios import Scenario

_STORY = make_story(Traffic(seed=14, duration_s=60))

SCENARIO = Scenario(
    register=REGISTER,
    batches=tuple(batches_of(_STORY.events)),
    alertname="CallLimitUnconfirmed",
    severity="info",
    labels=(("limit", "tenant-cap"),),
    onset_ns=START_NS,
    delay_s=60,
)
