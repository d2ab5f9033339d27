"""One member reads every partition of a topic, the others that want the topic stand by.

A limit is judged from all calls that it covers, so two members must never each see half of them. The
owner stays the owner as long as it is in the group: a process that returns does not take the partitions
back. Each assignment has a term, greater than every one before; a member that owned under a term says so
when it joins again, and the greatest term wins, so that an owner that was frozen while another took over
does not win by its old claim. Among members that never owned anything the least member id is chosen,
which every leader chooses alike. Each topic has an owner of its own, as two deployments that read different
topics may have one group id, which is the default. A member wants one topic, so its claim does not say which.

The instance keeps the claim of one consumer: never share one between consumers.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Any

from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

VERSION = 0
CLAIM = struct.Struct(">qq")  # the term under which a member owns, and the greatest it has heard of
NEVER = 0  # the term of a member that owns nothing


class OneOwnerAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """Gives a topic to one member; `term` is the claim of this one, `heard` the greatest term it knows."""

    name = "callgauge-one-owner"

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        """Claim nothing. `clock_ns` keeps terms rising when nobody remembers the last one."""
        self.term = NEVER
        self.heard = NEVER
        self._clock_ns = clock_ns

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Say which topics this member wants and under which term it owns them."""
        return ConsumerProtocolMemberMetadata(VERSION, sorted(topics), CLAIM.pack(self.term, self.heard))

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Choose the owners, as the leader of the group; `members` are metadata by member id."""
        claims = {member: _claim(metadata.user_data) for member, metadata in members.items()}
        term = max(self._clock_ns(), *(max(claim) + 1 for claim in claims.values()))
        owned: dict[str, list[tuple[str, list[int]]]] = {}
        for topic in sorted({topic for metadata in members.values() for topic in metadata.subscription}):
            wanting = [member for member in members if topic in members[member].subscription]
            owner = min(wanting, key=lambda member: (-claims[member][0], member))
            partitions = sorted(cluster.partitions_for_topic(topic) or ())
            owned.setdefault(owner, []).extend([(topic, partitions)] if partitions else [])
        nothing = ConsumerProtocolMemberAssignment(VERSION, [], CLAIM.pack(NEVER, term))
        assignment = dict.fromkeys(members, nothing)
        for owner, everything in owned.items():
            claim = CLAIM.pack(term, term)
            assignment[owner] = ConsumerProtocolMemberAssignment(VERSION, everything, claim)
        return assignment

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Remember the term under which this member owns, or that it does not."""
        self.term, heard = _claim(assignment.user_data)
        self.heard = max(self.heard, heard)


def _claim(user_data: bytes | None) -> tuple[int, int]:
    """Read (term, heard); data of another version of this code claims nothing."""
    if user_data is None or len(user_data) != CLAIM.size:
        return NEVER, NEVER
    term, heard = CLAIM.unpack(user_data)
    return max(int(term), NEVER), max(int(heard), NEVER)
