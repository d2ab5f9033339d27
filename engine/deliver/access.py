"""What an Alertmanager asks of whoever posts to it: a login, and certificates. Read from files alone."""

from __future__ import annotations

import base64
import ssl
from typing import TYPE_CHECKING, NamedTuple

import aiohttp

from engine.errors import DeliveryError
from engine.secret_file import SecretError, read_secret

if TYPE_CHECKING:
    from engine.settings import AlertmanagerSettings


class Access(NamedTuple):
    """What goes with every request."""

    headers: dict[str, str]
    tls: ssl.SSLContext


def is_about_tls(error: Exception) -> bool:
    """Say whether certificates may be to blame; a refusal of ours comes as an alert inside another error."""
    return any(isinstance(one, aiohttp.ClientSSLError | ssl.SSLError) for one in (error, error.__cause__))


def read_access(settings: AlertmanagerSettings) -> Access:
    """Read password and certificates; raises DeliveryError for a file that is no use. Blocks."""
    return Access(_headers(settings), _tls_context(settings))


def _headers(settings: AlertmanagerSettings) -> dict[str, str]:
    """Give what every request carries; raises DeliveryError when the password cannot be read."""
    headers = {"Content-Type": "application/json"}
    if not settings.username:
        return headers
    password = ""
    if settings.password_file:
        try:
            password = read_secret(settings.password_file)
        except SecretError as error:
            hint = "alertmanager.password_file must be a text file that callgauge may read"
            what = "the Alertmanager password cannot be read"
            raise DeliveryError(what, where=settings.password_file, cause=str(error), hint=hint) from None
    credentials = base64.b64encode(f"{settings.username}:{password}".encode()).decode()
    return {**headers, "Authorization": f"Basic {credentials}"}


def _tls_context(settings: AlertmanagerSettings) -> ssl.SSLContext:
    names = (settings.ca_file, settings.cert_file, settings.key_file)
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file or None)
    except (OSError, ssl.SSLError) as error:
        where = ", ".join(name for name in names if name)
        hint = "alertmanager.ca_file, cert_file and key_file must be PEM files that callgauge may read"
        what = "the TLS files for Alertmanager cannot be used"
        raise DeliveryError(what, where=where, cause=str(error), hint=hint) from error
    return context
