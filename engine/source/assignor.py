"""One member reads every partition of the topic, the others stand by.

A limit is judged from all calls that it covers, so two members must never each see half of them. The
owner stays the owner as long as it is in the group: a process that returns does not take the partitions
back. Each assignment has a term, greater than every one before; a member that owned under a term says so
when it joins again, and the greatest term wins, so that an owner that was frozen while another took over
does not win by its old claim. Among members that never owned anything the least member id is chosen,
which every leader chooses alike.

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
    """Gives everything to one member; `term` is the claim of this one, `heard` the greatest term it knows."""

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
        """Choose the owner, as the leader of the group; `members` are metadata by member id."""
        claims = {member: _claim(metadata.user_data) for member, metadata in members.items()}
        owner = min(claims, key=lambda member: (-claims[member][0], member))
        term = max(self._clock_ns(), *(max(claim) + 1 for claim in claims.values()))
        everything = [
            (topic, sorted(partitions))
            for topic in sorted(members[owner].subscription)
            if (partitions := cluster.partitions_for_topic(topic))
        ]
        nothing = ConsumerProtocolMemberAssignment(VERSION, [], CLAIM.pack(NEVER, term))
        assignment = dict.fromkeys(members, nothing)
        assignment[owner] = ConsumerProtocolMemberAssignment(VERSION, everything, CLAIM.pack(term, term))
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
