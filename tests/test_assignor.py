"""Who of a consumer group reads a topic: always one, and the one that reads it already."""

import itertools
from collections.abc import Mapping

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from engine.source.assignor import CLAIM, OneOwnerAssignor


class Cluster:
    """The part of aiokafka's cluster that an assignor asks."""

    def __init__(self, partitions: Mapping[str, set[int]]) -> None:
        self._partitions = partitions

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """Give the partitions of a topic."""
        return self._partitions.get(topic)


FOUR = Cluster({"calls": {3, 1, 0, 2}})
TWO_TOPICS = Cluster({"calls": {0, 1}, "others": {0, 1, 2}})


def round_of(
    members: Mapping[str, OneOwnerAssignor],
    cluster: Cluster = FOUR,
    leader: str = "",
    topics: Mapping[str, str] | None = None,
) -> dict[str, list[int]]:
    """Let some members join, as Kafka does it; give the partitions of each. `topics` has what they read."""
    wanted = topics or dict.fromkeys(members, "calls")
    wire = {name: member.metadata({wanted[name]}).encode() for name, member in members.items()}
    joined = {name: ConsumerProtocolMemberMetadata.decode(data) for name, data in wire.items()}
    given = members[leader or min(members)].assign(cluster, joined)
    got = {}
    for name, member in members.items():
        assignment = ConsumerProtocolMemberAssignment.decode(given[name].encode())
        member.on_assignment(assignment)
        assert {tp.topic for tp in assignment.partitions()} <= {wanted[name]}
        got[name] = [tp.partition for tp in assignment.partitions()]
    return got


def clock() -> int:
    """Give a time that stands still."""
    return 1_000


def members(*names: str) -> dict[str, OneOwnerAssignor]:
    """Make members that never owned anything."""
    return {name: OneOwnerAssignor(clock) for name in names}


def test_one_member_gets_everything() -> None:
    """Among strangers, the least member id."""
    assert round_of(members("b", "a", "c")) == {"a": [0, 1, 2, 3], "b": [], "c": []}


def test_a_returning_member_does_not_take_over() -> None:
    """The owner stays the owner, also against a lesser member id."""
    group = members("b", "c")
    round_of(group)
    assert round_of({**group, **members("a")}) == {"a": [], "b": [0, 1, 2, 3], "c": []}


def test_a_standby_takes_over() -> None:
    """Without the owner, the next one gets everything."""
    group = members("a", "b", "c")
    round_of(group)
    del group["a"]
    assert round_of(group) == {"b": [0, 1, 2, 3], "c": []}


def test_an_owner_that_was_frozen_does_not_win_by_its_old_claim() -> None:
    """Whoever was given everything last is the owner."""
    group = members("a", "b")
    round_of(group)
    frozen = group.pop("a")
    round_of(group)
    assert round_of({"a": frozen, **group}) == {"a": [], "b": [0, 1, 2, 3]}


def test_a_newcomer_alone_is_not_overruled_by_a_frozen_owner() -> None:
    """Terms rise with the clock even when nobody in the group remembers the last one."""
    frozen = OneOwnerAssignor(lambda: 1_000)
    round_of({"a": frozen})
    newcomer = OneOwnerAssignor(lambda: 2_000)
    round_of({"b": newcomer})
    assert round_of({"a": frozen, "b": newcomer}) == {"a": [], "b": [0, 1, 2, 3]}


def test_a_topic_that_is_not_there_gives_nothing() -> None:
    """The owner owns nothing until the topic exists, and then everything."""
    group = members("a", "b")
    assert round_of(group, Cluster({})) == {"a": [], "b": []}
    assert round_of(group) == {"a": [0, 1, 2, 3], "b": []}


def test_data_of_another_version_claims_nothing() -> None:
    """Whatever user data a member sends, it is assigned or stands by."""
    strange = ConsumerProtocolMemberMetadata(0, ["calls"], b"?")
    owner = ConsumerProtocolMemberMetadata(0, ["calls"], CLAIM.pack(5, 5))
    given = OneOwnerAssignor(clock).assign(FOUR, {"a": strange, "b": owner})
    assert {name: bool(each.partitions()) for name, each in given.items()} == {"a": False, "b": True}


def test_each_topic_has_an_owner_of_its_own() -> None:
    """Two deployments in one group: each has a reader and a standby, whoever leads and whoever leaves."""
    topics = {"a": "calls", "b": "others", "c": "others", "d": "calls"}
    for leader in topics:
        group = members(*topics)
        assert {"a": [0, 1], "b": [0, 1, 2], "c": [], "d": []} == round_of(group, TWO_TOPICS, leader, topics)
        del group["b"]
        left = leader if leader in group else ""
        assert {"a": [0, 1], "c": [0, 1, 2], "d": []} == round_of(group, TWO_TOPICS, left, topics)
        group |= members("b")
        again = {"a": [0, 1], "b": [], "c": [0, 1, 2], "d": []}
        assert again == round_of(group, TWO_TOPICS, leader, topics)


@given(steps=st.lists(st.sets(st.sampled_from("abcde"), min_size=1), min_size=1, max_size=12), data=st.data())
def test_ownership_only_moves_when_the_owner_is_gone(steps: list[set[str]], data: st.DataObject) -> None:
    """Whoever comes and goes and whoever leads: one owner, the same as before while it is there."""
    ticks = itertools.count(1)
    everybody = {name: OneOwnerAssignor(lambda: next(ticks)) for name in "abcde"}
    owner = ""
    for here in steps:
        leader = data.draw(st.sampled_from(sorted(here)))
        got = round_of({name: everybody[name] for name in sorted(here)}, leader=leader)
        owners = [name for name, partitions in got.items() if partitions]
        assert len(owners) == 1
        assert owners == [owner] or owner not in here
        owner = owners[0]
