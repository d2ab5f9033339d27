"""A real broker that lets nobody in who has no right to: TLS, SCRAM or a client's certificate, and ACLs."""

from pathlib import Path
from typing import Any

from confluent_kafka import admin

from tests.integration.kafka_broker import PROPERTIES, Kafka
from tests.integration.servers import KAFKA_VERSION, free_ports
from tests.web_world import authority, certified, secret_file

S = 1_000_000_000
# Without the types of the stubs, which do not export these names.
_names: Any = admin
TOPIC_KIND, GROUP_KIND = _names.ResourceType.TOPIC, _names.ResourceType.GROUP
LITERAL, ALLOW = _names.ResourcePatternType.LITERAL, _names.AclPermissionType.ALLOW
READ, WRITE = _names.AclOperation.READ, _names.AclOperation.WRITE
USER, PASSWORD = "callgauge", "scram-password-of-the-test"
STRANGER, NEWCOMER = "stranger", "newcomer"  # rights that were given stay: one user for each test
MECHANISM = "SCRAM-SHA-512"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
SECURE = """\
listeners=PLAINTEXT://127.0.0.1:{{port}},LOGIN://127.0.0.1:{{login_port}},\
CONTROLLER://127.0.0.1:{{controller_port}},SECURE://127.0.0.1:{secure_port},MUTUAL://127.0.0.1:{mutual_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},LOGIN://127.0.0.1:{{login_port}},\
SECURE://127.0.0.1:{secure_port},MUTUAL://127.0.0.1:{mutual_port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LOGIN:SASL_PLAINTEXT,\
SECURE:SASL_SSL,MUTUAL:SSL
listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config={scram} required;
listener.name.mutual.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=false
"""


class SecureKafka:
    """At `secure_bootstrap` it asks for a SCRAM login over TLS, at `mutual_bootstrap` for a certificate."""

    def __init__(self, folder: Path, version: str = KAFKA_VERSION) -> None:
        """Write its certificates, users and properties."""
        secure_port, mutual_port = free_ports(2)
        self.secure_bootstrap = f"127.0.0.1:{secure_port}"
        self.mutual_bootstrap = f"127.0.0.1:{mutual_port}"
        files = certified("broker")
        folder.mkdir(parents=True, exist_ok=True)
        keystore = folder / "broker.pem"
        keystore.write_text(Path(files["key_file"]).read_text() + Path(files["cert_file"]).read_text())
        keystore.chmod(0o600)
        properties = SECURE.format(
            secure_port=secure_port, mutual_port=mutual_port, scram=SCRAM, keystore=keystore,
            truststore=authority() / "ca.pem",
        )  # fmt: skip
        users = [
            part
            for name in (USER, STRANGER, NEWCOMER)
            for part in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={PASSWORD}]")
        ]
        self.kafka = Kafka(folder, PROPERTIES + properties, *users, version=version)

    def reader(self, folder: Path, topic: str, group: str, session_ns: int) -> dict[str, Any]:
        """Give the settings of a source that logs in over TLS; its password is written into the folder."""
        return {
            "bootstrap_servers": (self.secure_bootstrap,), "security_protocol": "SASL_SSL",
            "sasl_mechanism": MECHANISM, "sasl_username": USER,
            "sasl_password_file": secret_file(folder, "password", PASSWORD),
            "ca_file": str(authority() / "ca.pem"), "topic": topic, "group_id": group, "member_id": "a",
            "start": "earliest", "session_timeout_ns": session_ns, "heartbeat_ns": S, "poll_ns": S // 10,
        }  # fmt: skip

    def allow(self, principal: str, kind: Any, name: str, operation: Any = READ) -> None:
        """Give a principal the right to read one topic or group, or another right to it."""
        client = self.kafka.topics.admin()
        right = _names.AclBinding(kind, name, LITERAL, principal, "*", operation, ALLOW)
        client.create_acls([right])[right].result(30)
