"""The id of a topic (KIP-516): a topic that was deleted and made anew has another one under the same name.

Brokers tell it since Kafka 2.8, in Metadata from version 10 on; aiokafka asks in version 5. So that one
request is written here, and goes through aiokafka's client as its own requests do. A broker that is older,
or does not know the topic at the moment, tells none: then nothing can be compared, and nothing is.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from engine.source.bounded import bounded

METADATA, VERSION = 3, 10
NONE = bytes(16)
ANSWER_S = 5.0
UNKNOWN = ""


class _Uuid:
    """Sixteen bytes."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(len(NONE))


_TEXT, _TAGS = CompactString("utf-8"), ("tags", TaggedFields)


class _Answer(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = METADATA, VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(
            ("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), _TAGS,
        )),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        ("topics", CompactArray(
            ("error_code", Int16), ("name", _TEXT), ("topic_id", _Uuid), ("is_internal", Boolean),
            ("partitions", CompactArray(
                ("error_code", Int16), ("partition", Int32), ("leader", Int32), ("leader_epoch", Int32),
                ("replicas", CompactArray(Int32)), ("in_sync", CompactArray(Int32)),
                ("offline", CompactArray(Int32)), _TAGS,
            )),
            ("operations", Int32), _TAGS,
        )),
        ("operations", Int32),
        _TAGS,
    )  # fmt: skip


class _Question(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, FLEXIBLE_VERSION = METADATA, VERSION, True
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _TEXT), _TAGS)),
        ("make_it", Boolean),
        ("operations_of_cluster", Boolean),
        ("operations_of_topic", Boolean),
        _TAGS,
    )


class _TopicIdRequest:
    """What aiokafka's client wants of a request."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def prepare(self, versions: dict[int, tuple[int, int]]) -> _Question:
        """Give what is sent to a broker that speaks these versions, by kind of request."""
        lowest, highest = versions.get(METADATA, (0, 0))
        if not lowest <= VERSION <= highest:
            raise IncompatibleBrokerVersion("topics have no ids there")
        return _Question([(NONE, self._topic, {})], False, False, False, {})


async def read_topic_id(client: Any, topic: str) -> str:
    """Ask a broker, through a client of aiokafka; KafkaError or TimeoutError if there is no answer."""
    node = client.get_random_node()
    try:
        answer = await bounded(client.send(node, _TopicIdRequest(topic)), ANSWER_S)
    except IncompatibleBrokerVersion:
        return UNKNOWN
    found = {name: topic_id for _, name, topic_id, *_ in answer.topics or ()}.get(topic, NONE)
    return found.hex() if found != NONE else UNKNOWN
