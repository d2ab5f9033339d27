"""The file with TLS and users of a listener, in the format of Prometheus' web configuration file.

So whoever runs Prometheus has such a file already, `htpasswd -nBC 10 name` writes its hashes, and `promtool
check web-config` checks it. Read are `tls_server_config` (cert_file, key_file, client_ca_file,
client_auth_type, min_version) and `basic_auth_users`; any other key is refused instead of passed over, since
it may be one that was meant to keep somebody out. Paths in it are relative to the file.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.addresses import is_loopback
from engine.errors import DeliveryError
from engine.fields import FaultError, Fields, Problems, as_text, one_of, table
from engine.secret_file import SecretError, read_secret
from engine.settings_file import read_text_file
from engine.strict_yaml import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

BCRYPT = re.compile(r"\$2[aby]\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{53}")
BCRYPT_COSTS = range(4, 15)  # a second of a processor for one password
USERS_MAX = 64
TOKEN_CHARS_MIN = 16
NO_CERTIFICATE, OWN_CERTIFICATE = "NoClientCert", "RequireAndVerifyClientCert"
VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


class Tls(NamedTuple):
    """Files of certificates, as paths that can be opened; `client_ca_file` "": clients need none."""

    cert_file: str
    key_file: str
    client_ca_file: str
    min_version: str


class Access(NamedTuple):
    """What a listener asks for: nothing, if all of it is empty."""

    tls: Tls | None = None
    users: Mapping[str, bytes] = {}  # name -> bcrypt hash
    token: str = ""

    @property
    def needs_login(self) -> bool:
        """Say whether a request must carry a password or a token."""
        return bool(self.users or self.token)

    @property
    def knows_callers(self) -> bool:
        """Say whether a stranger is kept out, by a login or by a certificate."""
        return self.needs_login or bool(self.tls and self.tls.client_ca_file)


def read_access(config_file: str, token_file: str, setting: str) -> Access:
    """Read both files ("": none); raises SettingsError or DeliveryError, without anything of a secret."""
    access = _read_file(config_file) if config_file else Access()
    if not token_file:
        return access
    try:
        token = read_secret(token_file)
    except SecretError as error:
        raise DeliveryError(
            "the token cannot be read", where=token_file, cause=str(error), hint=f"see {setting}"
        ) from None
    if len(token) < TOKEN_CHARS_MIN:
        raise DeliveryError(
            f"the token is shorter than {TOKEN_CHARS_MIN} characters",
            where=token_file,
            hint="make one with: openssl rand -hex 32",
        )
    return access._replace(token=token)


def refuse_insecure(access: Access, host: str, where: str, *, allow_insecure: bool) -> str:
    """Raise DeliveryError for a listener open to the network; else give what it lacks, "": nothing."""
    missing = " and ".join(name for name, is_there in (
        ("TLS", access.tls is not None), ("a login", access.knows_callers),
    ) if not is_there and not is_loopback(host))  # fmt: skip
    if missing and not allow_insecure:
        raise DeliveryError(
            f"the HTTP server would be open to the network without {missing}",
            where=where,
            hint="listen on 127.0.0.1, name a file with TLS and users (web.config_file, for the admin "
            "listener web.admin_config_file), or set web.allow_insecure: true",
        )
    return missing


class RenewableContext(ssl.SSLContext):
    """What a server is opened with: each new connection is taken by the newest context alone.

    A context in use cannot be renewed itself: authorities that it trusts can only be added.
    """

    newest: ssl.SSLContext

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin the TLS of one connection."""
        return self.newest.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def make_context(tls: Tls) -> ssl.SSLContext:
    """Make a server's context; raises DeliveryError for files that are no use."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[tls.min_version]
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, _no_password)
        if tls.client_ca_file:
            context.load_verify_locations(tls.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        raise DeliveryError(
            "the certificates of the HTTP server cannot be used",
            where=", ".join(name for name in tls[:3] if name),
            cause=getattr(error, "strerror", None) or type(error).__name__,
            hint="cert_file, key_file and client_ca_file must be PEM files that callgauge may read, "
            "the key without a passphrase and of that certificate",
        ) from None
    return context


def _no_password() -> str:
    raise ValueError  # Or OpenSSL would ask on the terminal.


def _read_file(path: str) -> Access:
    text = read_text_file(Path(path), "the web configuration")
    problems = Problems(parse_yaml(text, path))
    value = problems.document.value
    fields = Fields({} if value is None else value, (), problems)
    users: dict[str, bytes] = fields.get("basic_auth_users", _as_users, {})
    if len(users) > USERS_MAX:
        fields.wrong("basic_auth_users", f"{len(users)} users are more than {USERS_MAX}")
    tls = None
    if fields.has("tls_server_config"):
        tls = _read_tls(Fields(fields.values["tls_server_config"], ("tls_server_config",), problems), path)
    fields.known.append("tls_server_config")
    fields.close()
    problems.raise_any()
    return Access(tls, users)


def _read_tls(fields: Fields, path: str) -> Tls:
    folder = Path(path).parent
    hint = "name a PEM file"
    cert_file = fields.need("cert_file", as_text, "", hint)
    key_file = fields.need("key_file", as_text, "", hint)
    client_ca_file = fields.get("client_ca_file", as_text, "")
    kind = fields.get("client_auth_type", one_of((NO_CERTIFICATE, OWN_CERTIFICATE)), NO_CERTIFICATE)
    if (kind == OWN_CERTIFICATE) != bool(client_ca_file):
        hint = f"give client_ca_file and client_auth_type: {OWN_CERTIFICATE}, or neither"
        fields.wrong("client_auth_type", "and client_ca_file belong together", hint)
    min_version = fields.get("min_version", one_of(tuple(VERSIONS)), "TLS12")
    fields.close()
    names = [str(folder / name) if name else "" for name in (cert_file, key_file, client_ca_file)]
    return Tls(names[0], names[1], names[2], min_version)


def _as_users(value: Any) -> dict[str, bytes]:
    """Take names with their hashes; a message names a name, so none may be `name:password` in one."""
    if isinstance(value, dict) and any(":" in str(name) for name in value):
        raise FaultError("a user's name holds a colon", "write NAME: HASH, with a space after the colon")
    return table(as_text, _as_hash)(value)


def _as_hash(value: Any) -> bytes:
    """Take a bcrypt hash; whatever else stands there may be a password, and is not shown."""
    found = BCRYPT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise FaultError("is not a bcrypt hash", "make one with: htpasswd -nBC 10 NAME")
    if int(found["cost"]) not in BCRYPT_COSTS:
        raise FaultError(
            f"costs more than 2^{BCRYPT_COSTS[-1]} rounds", "make one with: htpasswd -nBC 10 NAME"
        )
    return value.encode()  # type: ignore[no-any-return]
