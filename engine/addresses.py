"""Addresses as settings give them: where to listen, whom to reach, and whether that is this machine alone."""

from __future__ import annotations

import ipaddress
import re

from yarl import URL

PORT_MAX = 65_535
NOT_SHOWN = "a text with @, ? or # (not shown, it may hold a password)"
_PORT = re.compile(r"[0-9]{1,5}")


def split_listen(listen: str) -> tuple[str, int] | None:
    """Split `host:port` or `[::1]:port`; None: it is neither."""
    host, colon, port = listen.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > PORT_MAX:
        return None
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    return (host, int(port)) if host and host.isprintable() and not set(host) & set(" @?#/") else None


def web_url(address: str) -> URL | None:
    """Read an http or https address as whoever connects to it does; None: it names no host, or no port."""
    try:
        url = URL(address)
        is_whole = url.scheme in {"http", "https"} and bool(url.host) and bool(url.port)
    except ValueError:
        return None
    return url if is_whole else None


def shown_address(address: str) -> str:
    """Show a wrong address in a message, unless a user, a password or a query may be in it."""
    return NOT_SHOWN if set(address) & set("@?#") else repr(address)


def is_plain_elsewhere(url: str) -> bool:
    """Say whether what is sent to an http or https address leaves this machine in plain text."""
    scheme, _, rest = url.partition("://")
    place = rest.partition("/")[0]
    host = place[1:].partition("]")[0] if place.startswith("[") else place.partition(":")[0]
    return scheme == "http" and not is_loopback(host)


def is_loopback(host: str) -> bool:
    """Say whether a host can only be this machine, without asking a name server."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
