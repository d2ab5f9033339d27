"""The real servers that the other integration tests stand on."""

from tests.integration.conftest import StartWeb
from tests.integration.kafka_broker import Kafka

ALERTMANAGER = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}


def test_a_killed_broker_comes_back_with_its_rows(kafka: Kafka) -> None:
    """What the broker acknowledged is there after kill -9, at the same address."""
    kafka.create_topic("servers", partitions=2)
    kafka.produce("servers", [b'{"call_id":"%d"}' % number for number in range(50)])
    kafka.kill()
    kafka.start()
    assert sum(kafka.end_offsets("servers", partitions=2)) == 50


def test_alertmanager_starts_empty(alertmanager: StartWeb) -> None:
    """Each test has an Alertmanager of its own."""
    assert alertmanager(ALERTMANAGER).get_json("/api/v2/alerts") == []


def test_prometheus_takes_its_configuration(prometheus: StartWeb) -> None:
    """A configuration and the rule files that it names are used."""
    rules = "groups: [{name: example, rules: [{record: one, expr: '1'}]}]"
    server = prometheus({"rule_files": ["rules.yml"]}, {"rules.yml": rules})
    assert "example" in str(server.get_json("/api/v1/rules"))
