"""Verdicts on releases, for whatever rolls them out: Argo Rollouts reads JSON, Flagger reads status codes.

Argo's web provider does a GET, takes a value by JSONPath and errs on anything but 2xx; several errors abort a
rollout. So an unknown release is 404, which finds a wrong name, unless `unknown=continue` asks for an answer
about a release that has no calls yet. Flagger's webhooks do a POST and go on at 200 to 202, but a hook of its
type `rollback` means the opposite: 2xx rolls back. So there are two routes: `gate` and `rollback`. Nothing
here has a side effect, and what is posted is not read. No data never stops a rollout: the verdict is
`continue`, and the body says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from engine.judge.detection import CONTINUE, ROLLBACK, ReleaseVerdict
from engine.web.answers import json_answer, moment
from engine.web.guard import Policy, Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.judge.snapshot import Snapshot

NOT_SEEN = "No call with this release has been seen in the last hour."
AGE_S_MAX = 300.0  # older verdicts are of another situation
TOO_OLD = "The newest data is {age:.0f} s old, too old to decide by; the last verdict was {verdict}."
CONFLICT = 409


class ReleaseRoutes:
    """Handlers; they read the published snapshot alone."""

    def __init__(
        self, get_snapshot: Callable[[], Snapshot | None], age_s: Callable[[Snapshot | None], float | None]
    ) -> None:
        self._get_snapshot = get_snapshot
        self._age_s = age_s

    def table(self) -> list[Route]:
        """List method, path, handler and policy."""
        release = "/api/v1/releases/{release}"
        return [
            Route("GET", "/api/v1/releases", self.releases, Policy.READ),
            Route("GET", release, self.release, Policy.READ),
            Route("POST", f"{release}/gate", self.gate, Policy.READ),
            Route("POST", f"{release}/rollback", self.rollback, Policy.READ),
        ]

    async def releases(self, _: web.Request) -> web.Response:
        """Give all releases that take calls, or did within the hour."""
        snapshot = self._get_snapshot()
        found = [self._fields(one, snapshot) for one in (snapshot.releases if snapshot else ())]
        return json_answer({"data_age_seconds": self._age_s(snapshot), "releases": found})

    async def release(self, request: web.Request) -> web.Response:
        """Give one release; 404 if it is unknown, or on request a verdict to go on."""
        found = self._of(request)
        is_known = found["known"]
        status = 200 if is_known or request.query.get("unknown") == CONTINUE else 404
        return json_answer(found, status=status)

    async def gate(self, request: web.Request) -> web.Response:
        """Let a rollout go on (200), or not (409)."""
        found = self._of(request)
        return json_answer(found, status=CONFLICT if found["verdict"] == ROLLBACK else 200)

    async def rollback(self, request: web.Request) -> web.Response:
        """Ask for a rollback (200), or not (409)."""
        found = self._of(request)
        return json_answer(found, status=200 if found["verdict"] == ROLLBACK else CONFLICT)

    def _of(self, request: web.Request) -> dict[str, object]:
        wanted, snapshot = request.match_info["release"], self._get_snapshot()
        releases = snapshot.releases if snapshot else ()
        found = next((one for one in releases if one.release == wanted), None)
        if found is None:
            found = ReleaseVerdict(wanted, CONTINUE, NOT_SEEN)
            return {**self._fields(found, snapshot), "known": False}
        return self._fields(found, snapshot)

    def _fields(self, one: ReleaseVerdict, snapshot: Snapshot | None) -> dict[str, object]:
        age_s = self._age_s(snapshot)
        verdict, reason = one.verdict, one.reason
        if age_s is not None and age_s > AGE_S_MAX and verdict != CONTINUE:
            reason = TOO_OLD.format(age=age_s, verdict=verdict)
            verdict = CONTINUE
        return {
            "release": one.release,
            "known": True,
            "verdict": verdict,
            "reason": reason,
            "baseline": list(one.baseline),
            "since": moment(one.since_ns),
            "share_ratio": one.share_ratio,
            "calls": one.calls,
            "baseline_calls": one.baseline_calls,
            "failed": one.failed,
            "failed_usual": one.failed_usual,
            "evidence": [
                {"of": what, "e_value": e_value, "rollback_at": needed}
                for what, e_value, needed in one.evidence
            ],
            "data_age_seconds": age_s,
        }
