"""Who may call the admin server. Pure: a request's method and headers in, why it is refused out.

Invariants:

* A call that changes something needs the token where there is one; where there is none, it is only taken on the
  loopback interface or a unix socket.
* A web site that somebody visits can neither call nor read this server through the browser: the `Host` of a request
  to the loopback interface must be the loopback interface's own name, and its `Origin`, if it has one, the server's.
"""

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from asynq_ttl.net.address import Address

READING = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods of calls that change nothing."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call is refused: an HTTP status, and a message for whoever called."""

    status: int
    message: str


def refusal(method: str, headers: Mapping[str, str], address: Address | None, token: str) -> Refusal | None:
    """Return why a call is refused; None if it may be done.

    Args:
        method: the request's method.
        headers: the request's headers, looked up in any case.
        address: where the server listens.
        token: what calls that change something have to bring along; empty for none.
    """
    host, origin = headers.get("Host", ""), headers.get("Origin")
    if _is_loopback(address) and not _is_loopback_name(host):
        return Refusal(403, "the Host of a request to the loopback interface must name it, such as 127.0.0.1")
    changes = method not in READING
    if (origin is not None and urlsplit(origin).netloc != host) or (
        changes and headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none")
    ):
        return Refusal(403, "requests of other web sites are refused")
    if not changes:
        return None
    if token:
        given = headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), token.encode()):
            return Refusal(401, "this call needs the token of --admin-token: Authorization: Bearer TOKEN")
    elif not _is_local(address):
        return Refusal(403, "calls that change something are refused here: start with --admin-token")
    return None


def _is_local(address: Address | None) -> bool:
    """Say whether only programs of this machine can come."""
    return address is not None and (bool(address.path) or _is_loopback(address))


def _is_loopback(address: Address | None) -> bool:
    return address is not None and not address.path and _is_loopback_name(str(address))


def _is_loopback_name(host: str) -> bool:
    """Say whether HOST or HOST:PORT is the loopback interface."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
