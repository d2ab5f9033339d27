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
TERM = struct.Struct(">q")
NEVER = 0  # the term of a member that owns nothing


class OneOwnerAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """Gives everything to one member; `term` is the claim of this one."""

    name = "callgauge-one-owner"

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        """Claim nothing. `clock_ns` keeps terms rising when nobody remembers the last one."""
        self.term = NEVER
        self._clock_ns = clock_ns

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Say which topics this member wants and under which term it owns them."""
        return ConsumerProtocolMemberMetadata(VERSION, sorted(topics), TERM.pack(self.term))

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Choose the owner, as the leader of the group; `members` are metadata by member id."""
        terms = {member: _term(metadata.user_data) for member, metadata in members.items()}
        owner = min(terms, key=lambda member: (-terms[member], member))
        term = max(self._clock_ns(), terms[owner] + 1)
        everything = [
            (topic, sorted(partitions))
            for topic in sorted(members[owner].subscription)
            if (partitions := cluster.partitions_for_topic(topic))
        ]
        nothing = ConsumerProtocolMemberAssignment(VERSION, [], TERM.pack(NEVER))
        assignment = dict.fromkeys(members, nothing)
        assignment[owner] = ConsumerProtocolMemberAssignment(VERSION, everything, TERM.pack(term))
        return assignment

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Remember the term under which this member owns, or that it does not."""
        self.term = _term(assignment.user_data)


def _term(user_data: bytes | None) -> int:
    """Read a term; data of another version of this code claims nothing."""
    if user_data is None or len(user_data) != TERM.size:
        return NEVER
    (term,) = TERM.unpack(user_data)
    return max(int(term), NEVER)
