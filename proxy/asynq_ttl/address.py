"""Where the sidecar listens and where Redis is: `HOST:PORT`, `unix:PATH`, and Redis URLs. Pure text."""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, unquote, urlencode, urlsplit, urlunsplit

DEFAULT_REDIS_PORT = 6379
_NUMBER = re.compile(r"[0-9]{1,9}")


class AddressError(ValueError):
    """An address that cannot be understood; the message says what was given and what is expected."""


@dataclass(frozen=True, slots=True)
class Address:
    """A socket: a unix path, or a host and a port."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Upstream:
    """The Redis behind the sidecar.

    Attributes:
        address: its socket.
        url: the whole URL in redis-py's form, with credentials, for the sidecar's own connections.
        tls: whether the connection is encrypted.
        database: the database of the sidecar's own connections.
        ca_file: certificate authorities to trust instead of the system's; empty for the system's.
        verify: whether the certificate and the host name are verified.
    """

    address: Address
    url: str
    tls: bool = False
    database: int = 0
    ca_file: str = ""
    verify: bool = True

    def url_of(self, database: int) -> str:
        """Return the URL of another database of the same server, credentials included."""
        parts = urlsplit(self.url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if self.address.path:
            return _joined(parts._replace(query=urlencode({**query, "db": database})))
        query.pop("db", None)
        return _joined(parts._replace(path=f"/{database}", query=urlencode(query)))

    def __str__(self) -> str:
        """Return the URL without credentials, for messages and logs."""
        scheme = "rediss" if self.tls else "redis"
        return str(self.address) if self.address.path else f"{scheme}://{self.address}/{self.database}"


def parse_address(text: str) -> Address:
    """Read `HOST:PORT` (an IPv6 host in brackets) or `unix:PATH`.

    Raises:
        AddressError: it is neither.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise AddressError(f"{text!r} has no path; expected unix:PATH")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    if not colon or not _NUMBER.fullmatch(port) or int(port) > 65_535:
        raise AddressError(f"{text!r} is no address; expected HOST:PORT or unix:PATH")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise AddressError(f"{text!r}: an IPv6 address needs brackets, as in [::1]:6380")
    return Address(host=host.strip("[]"), port=int(port))


def parse_upstream(text: str) -> Upstream:
    """Read the URL of a Redis server: `redis://`, `rediss://` (TLS) or `unix://`.

    Credentials and the database (`/0`, or `?db=0` for unix) are for the sidecar's own connections. `rediss://`
    takes `?ssl_ca_certs=FILE` and `?ssl_cert_reqs=none` as redis-py does.

    Raises:
        AddressError: it is no such URL.
    """
    try:
        parts = urlsplit(text if "://" in text else re.sub("^unix:", "unix://", text))
        port = parts.port or DEFAULT_REDIS_PORT
    except ValueError as error:
        raise AddressError(f"the upstream URL is malformed: {error}") from None
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if parts.scheme == "unix":
        if not parts.path:
            raise AddressError("the upstream URL has no path; expected unix:///path/to/redis.sock")
        address = Address(path=unquote(parts.path))
        database = query.get("db", "0")
    elif parts.scheme in ("redis", "rediss"):
        if not parts.hostname:
            raise AddressError(f"the upstream URL has no host; expected {parts.scheme}://HOST:PORT/DB")
        address = Address(host=parts.hostname, port=port)
        database = parts.path.strip("/") or query.get("db", "0")
    else:
        raise AddressError("the upstream must be a redis://, rediss:// or unix:// URL")
    if not _NUMBER.fullmatch(database):
        raise AddressError(f"the upstream URL names database {database!r}; expected a number")
    return Upstream(
        address=address,
        url=_joined(parts),
        tls=parts.scheme == "rediss",
        database=int(database),
        ca_file=query.get("ssl_ca_certs", ""),
        verify=query.get("ssl_cert_reqs", "required") != "none",
    )


def _joined(parts: SplitResult) -> str:
    """Return a URL of its parts in redis-py's form: of a unix path the standard library would make `unix:/path`."""
    url = urlunsplit(parts)
    return "unix://" + url.removeprefix("unix:").removeprefix("//") if parts.scheme == "unix" else url
