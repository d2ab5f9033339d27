"""Verdicts over HTTP, as Argo Rollouts and Flagger read them; no data never stops a rollout."""

from __future__ import annotations

from typing import Any, cast

import pytest

from engine.judge.detection import CONTINUE, PROMOTE, ROLLBACK, ReleaseVerdict
from tests.snapshots import NS, WATERMARK_NS, a_snapshot
from tests.test_web import serving
from tests.web_world import World

BAD = ReleaseVerdict(
    release="v2.1/blue",
    verdict=ROLLBACK,
    reason="10 of 40 calls failed.",
    baseline=("v2.0",),
    since_ns=WATERMARK_NS - 600 * NS,
    share_ratio=0.1,
    calls=40,
    baseline_calls=360,
    failed=10,
    failed_usual=0.5,
    evidence=(("failures", 2400.0, 1000.0),),
)
OLD = ReleaseVerdict("v2.0", CONTINUE, "No older release takes calls beside it.")
GOOD = ReleaseVerdict("v2.2", PROMOTE, "It is not worse by more than the margin.")
# What Flagger sends; nothing of it is read.
PAYLOAD = {"name": "voice", "namespace": "prod", "phase": "Progressing", "metadata": {"token": "x"}}


def world(*releases: ReleaseVerdict, data_age_s: float = 7.0) -> World:
    found = World()
    found.snapshot = a_snapshot(releases=releases, watermark_ns=WATERMARK_NS - int((data_age_s - 7) * NS))
    return found


async def asked(found: World, path: str) -> tuple[int, dict[str, Any]]:
    async with serving(found) as session, session.get(f"/api/v1/releases{path}") as answer:
        return answer.status, cast("dict[str, Any]", await answer.json())


async def posted(found: World, path: str) -> tuple[int, dict[str, Any]]:
    async with serving(found) as session, session.post(f"/api/v1/releases{path}", json=PAYLOAD) as answer:
        return answer.status, cast("dict[str, Any]", await answer.json())


async def test_all_releases_are_listed_with_their_verdicts() -> None:
    status, answer = await asked(world(OLD, BAD), "")

    assert 200 == status
    assert 7.0 == answer["data_age_seconds"]
    assert [("v2.0", CONTINUE), ("v2.1/blue", ROLLBACK)] == [
        (one["release"], one["verdict"]) for one in answer["releases"]
    ]


async def test_a_verdict_is_a_plain_value_at_the_top() -> None:
    """Argo reads it as {$.verdict}, with conditions such as result == "rollback"."""
    status, answer = await asked(world(OLD, BAD), "/v2.1%2Fblue")

    assert (200, ROLLBACK, True) == (status, answer["verdict"], answer["known"])
    assert "10 of 40 calls failed." == answer["reason"]
    assert ["v2.0"] == answer["baseline"]
    assert [{"of": "failures", "e_value": 2400.0, "rollback_at": 1000.0}] == answer["evidence"]


async def test_what_is_not_known_is_null() -> None:
    _, answer = await asked(world(OLD), "/v2.0")

    assert answer["share_ratio"] is None
    assert answer["since"] is None


async def test_an_unknown_release_is_not_found_unless_asked_otherwise() -> None:
    """A wrong name is found out; a release without calls can be waited for all the same."""
    status, answer = await asked(world(OLD), "/v9")
    assert (404, False, CONTINUE) == (status, answer["known"], answer["verdict"])
    assert "No call" in answer["reason"]
    status, _ = await asked(world(OLD), "/v9?unknown=continue")
    assert 200 == status


@pytest.mark.parametrize(
    ("release", "gate", "rollback"), [("v2.0", 200, 409), ("v2.1%2Fblue", 409, 200), ("v2.2", 200, 409)]
)
async def test_a_gate_stops_at_a_rollback_and_a_rollback_hook_fires_at_one(
    release: str, gate: int, rollback: int
) -> None:
    found = world(OLD, BAD, GOOD)
    assert gate == (await posted(found, f"/{release}/gate"))[0]
    assert rollback == (await posted(found, f"/{release}/rollback"))[0]


async def test_no_data_lets_a_rollout_go_on() -> None:
    """An engine that has just started, or does not know the release, stops nobody."""
    nothing = World()
    nothing.snapshot = None
    for found in (nothing, world(OLD)):
        status, answer = await posted(found, "/v9/gate")
        assert (200, CONTINUE) == (status, answer["verdict"])
        assert 409 == (await posted(found, "/v9/rollback"))[0]


async def test_an_old_verdict_decides_nothing() -> None:
    status, answer = await posted(world(BAD, data_age_s=301.0), "/v2.1%2Fblue/gate")

    assert (200, CONTINUE) == (status, answer["verdict"])
    assert "301 s old" in answer["reason"]
    assert ROLLBACK in answer["reason"]


async def test_gates_are_posted_to() -> None:
    async with serving(world(OLD)) as session, session.get("/api/v1/releases/v2.0/gate") as answer:
        assert 405 == answer.status
