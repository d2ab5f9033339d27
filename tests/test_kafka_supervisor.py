"""Consumers that are made anew: with the secrets of that moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.errors import SourceError
from engine.settings import KafkaSettings
from engine.source.kafka_places import Progress
from engine.source.kafka_supervisor import Supervisor
from tests.integration.servers import free_ports

if TYPE_CHECKING:
    from pathlib import Path


async def test_each_consumer_is_made_with_the_password_of_that_moment(tmp_path: Path) -> None:
    """With the one of the start, a rotated password would be refused for ever."""
    secret = tmp_path / "password"
    secret.write_text("old\n")
    settings = KafkaSettings(
        bootstrap_servers=(f"127.0.0.1:{free_ports(1)[0]}",), security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN", sasl_username="engine", sasl_password_file=str(secret),
    )  # fmt: skip
    supervisor = Supervisor(settings, "member", Progress(), lambda *_: None)
    supervisor.begin()
    await supervisor.wait(1.0)  # Nobody is there, which is waited for.
    assert supervisor.member is None
    secret.unlink()
    with pytest.raises(SourceError, match="the password cannot be read"):
        await supervisor.wait(60.0)
    await supervisor.close()
