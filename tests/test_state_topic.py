"""Checkpoints in a topic, without a broker; with one: tests/integration/test_state_topic.py."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pytest

from engine.settings import KafkaSettings, Settings, StateSettings
from engine.state.encoding import StateError
from engine.state.manifest import Candidate, Manifest
from engine.state.topic import StateTopic

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_password_that_cannot_be_read_costs_the_topic_alone(tmp_path: Path) -> None:
    """It is a StateError, as a broker that is away is: nothing of a shutdown may be skipped for it."""
    kafka = KafkaSettings(
        security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN", sasl_username="engine",
        sasl_password_file=str(tmp_path / "gone"),
    )  # fmt: skip
    topic = StateTopic(Settings(kafka=kafka, state=StateSettings(topic="state")))
    manifest = Manifest(1, 1, "calls", "core", "detectors", 1, {0: 1}, {})
    with pytest.raises(StateError, match="was not read"):
        await topic.read("calls", "")
    with pytest.raises(StateError, match="was not written"):
        await topic.write(manifest, Candidate(manifest, "here", lambda *_: b"", lambda: None))


def test_cuts_stay_where_they_are_when_partitions_are_added() -> None:
    """Those of before lay where the number of partitions said: it is looked there as well, and here last."""
    topic = StateTopic(Settings(state=StateSettings(topic="state")))
    prefix = zlib.crc32(topic._prefix.encode())
    for count in range(1, 20):
        assert topic._partition(set(range(count))) == 0
        places = topic._places(set(range(count)))
        assert places[-1] == 0
        assert set(places) == {prefix % earlier for earlier in range(1, count + 1)}
