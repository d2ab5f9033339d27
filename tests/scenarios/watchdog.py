"""Anything at all: it fires with the first slice."""

from tests.line_traffic import REGISTER, START_NS, Traffic, batches_of, make_story
from tests.scenarios import Scenario

_STORY = make_story(Traffic(seed=15, duration_s=60))

SCENARIO = Scenario(
    register=REGISTER,
    batches=tuple(batches_of(_STORY.events)),
    alertname="CallgaugeWatchdog",
    severity="info",
    labels=(),
    onset_ns=START_NS,
    delay_s=60,
)
