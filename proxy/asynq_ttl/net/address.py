"""Where the sidecar listens and where Redis is: `HOST:PORT`, `unix:PATH`, and Redis URLs. Pure text."""

import re
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, parse_qs, unquote, urlencode, urlsplit, urlunsplit

DEFAULT_REDIS_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
# A cluster has at most a thousand nodes.
MAX_PORTS = 1000
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
        certificate_file: the certificate that the sidecar shows; empty for none.
        key_file: its private key; empty if it is in the same file.
        server_name: the name the certificate must have; empty for the host of the URL.
        username: the user of the sidecar's own connections; empty for the default user.
        password: their password; empty for none.
        password_file: a file with the password instead, read anew for each connection; empty for none.
        sentinels: the Sentinels that say where the master is; empty without Sentinel. `address` is then the first one.
        master: the name of the master that they watch.
        sentinel_username: the user at the Sentinels; empty for the default user.
        sentinel_password: the password of the Sentinels; empty for none.
        sentinel_password_file: a file with it instead, read anew for each connection; empty for none.
        nodes: the nodes of a cluster that are asked first for all the others; empty without a cluster. `address` is
            then the first one.
    """

    address: Address
    url: str = field(repr=False)
    tls: bool = False
    database: int = 0
    ca_file: str = ""
    verify: bool = True
    certificate_file: str = ""
    key_file: str = ""
    server_name: str = ""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    password_file: str = ""
    sentinels: tuple[Address, ...] = ()
    master: str = ""
    sentinel_username: str = field(default="", repr=False)
    sentinel_password: str = field(default="", repr=False)
    sentinel_password_file: str = ""
    nodes: tuple[Address, ...] = ()

    def __str__(self) -> str:
        """Return the URL without credentials, for messages and logs."""
        scheme = "rediss" if self.tls else "redis"
        if self.sentinels:
            return f"{scheme}+sentinel://{','.join(map(str, self.sentinels))}/{self.master}/{self.database}"
        if self.nodes:
            return f"{scheme}+cluster://{','.join(map(str, self.nodes))}"
        return str(self.address) if self.address.path else f"{scheme}://{self.address}/{self.database}"


_OF_REDIS_PY = frozenset(("db", "ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile"))
_OPTIONS = _OF_REDIS_PY | {"ssl_server_name", "sentinel_username", "sentinel_password", "sentinel_password_file"}
"""The options of an upstream's URL. Others are left out: redis-py raises for those that it does not know either."""

_IS_URL = "this looks like a URL, and a password may be in it; expected HOST:PORT or unix:PATH"
_ENCODE = "percent-encode the user name and the password in it: %2F for /, %40 for @, %3A for :, %23 for #, %3F for ?"


def parse_address(text: str) -> Address:
    """Read `HOST:PORT` (an IPv6 host in brackets) or `unix:PATH`.

    Raises:
        AddressError: it is neither.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise AddressError(f"{text!r} has no path; expected unix:PATH")
        if text.startswith("unix://") and ("?" in path or ("@" in path and not path.startswith("/"))):
            raise AddressError(_IS_URL)
        return Address(path=path)
    if "@" in text or "/" in text:
        raise AddressError(_IS_URL)
    host, colon, port = text.rpartition(":")
    if not colon or not _NUMBER.fullmatch(port) or int(port) > 65_535:
        raise AddressError(f"{text!r} is no address; expected HOST:PORT or unix:PATH")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise AddressError(f"{text!r}: an IPv6 address needs brackets, as in [::1]:6380")
    if not _can_be_a_name(host):
        raise AddressError(f"{text!r} is no address: no host can be called that")
    return Address(host=host.strip("[]"), port=int(port))


def parse_ports(text: str) -> range:
    """Read a range of ports, `FROM-TO`, both included.

    Raises:
        AddressError: it is none, or one of more than `MAX_PORTS` ports.
    """
    found = re.fullmatch("([0-9]{1,5})-([0-9]{1,5})", text.strip())
    first, last = map(int, found.groups()) if found else (0, 0)
    if not 0 < first <= last <= 65_535:
        raise AddressError(f"{text!r} is no range of ports; expected FROM-TO, as in 6400-6499")
    if last - first >= MAX_PORTS:
        raise AddressError(f"{text!r} has more than {MAX_PORTS} ports")
    return range(first, last + 1)


def parse_host(text: str) -> str:
    """Read a host without a port: a name, or an address of IPv4 or IPv6.

    Raises:
        AddressError: it is none.
    """
    host = text.strip()
    if not re.fullmatch(r"[A-Za-z0-9_.:\-]{1,253}", host) or not (":" in host or _can_be_a_name(host)):
        raise AddressError(f"{text!r} is no host; expected a name or an address, without a port")
    if ":" in host and not re.fullmatch(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", host):
        raise AddressError(f"{text!r} is no host; expected a name or an address, without a port")
    return host


def _can_be_a_name(host: str) -> bool:
    """Say whether a host can be looked up: its labels have 1 to 63 characters, and the last one may be empty."""
    if not host:
        return True
    try:
        return all(0 < len(label if label.isascii() else label.encode("idna")) < 64 for label in _labels(host))
    except UnicodeError:
        return False


def _labels(host: str) -> list[str]:
    return host.removesuffix(".").split(".")


def parse_upstream(text: str) -> Upstream:
    """Read the URL of a Redis server: `redis://`, `rediss://` (TLS), `unix://`, or of its Sentinels.

    Credentials and the database (`/0`, or `?db=0` for unix) are for the sidecar's own connections. `rediss://` takes
    `ssl_ca_certs=FILE`, `ssl_cert_reqs=none`, `ssl_certfile=FILE` and `ssl_keyfile=FILE` as redis-py does, and
    `ssl_server_name=NAME`. `redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB` (or `rediss+`) names Sentinels, and takes
    `sentinel_username` and `sentinel_password` or `sentinel_password_file`. `redis+cluster://HOST:PORT,HOST:PORT` (or
    `rediss+`) names nodes of a cluster.

    Raises:
        AddressError: it is no such URL.
    """
    if re.match("rediss?[+]sentinel://", text):
        return _parse_sentinels(text)
    if re.match("rediss?[+]cluster://", text):
        return _parse_cluster(text)
    parts, port = split_url(text if "://" in text else re.sub("^unix:", "unix://", text), "the upstream URL")
    query = _query(parts)
    if parts.scheme == "unix":
        if not parts.path:
            raise AddressError("the upstream URL has no path; expected unix:///path/to/redis.sock")
        address = Address(path=unquote(parts.path))
        database = query.get("db", "0")
    elif parts.scheme in ("redis", "rediss"):
        if not parts.hostname or not _can_be_a_name(parts.hostname):
            raise AddressError(f"the upstream URL has no host; expected {parts.scheme}://HOST:PORT/DB; {_ENCODE}")
        address = Address(host=parts.hostname, port=port or DEFAULT_REDIS_PORT)
        database = parts.path.strip("/") or query.get("db", "0")
    else:
        raise AddressError(
            "the upstream must be a redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// URL"
        )
    return _upstream(parts, query, address, database)


def split_url(text: str, what: str, *, hosts: bool = False) -> tuple[SplitResult, int | None]:
    """Return the parts of a URL that may hold a password, and its port.

    A password with a `/`, `?`, `#` or `@` that is not percent-encoded ends early, and the rest of it comes to stand in
    the port, the path or the query. So what is in a URL that looks like that is never repeated.

    Args:
        text: the URL.
        what: what it is, for the message.
        hosts: whether it may name several hosts, each with a port: then none is returned.

    Raises:
        AddressError: it is malformed, or a password in it may not have been percent-encoded.
    """
    try:
        parts = urlsplit(text)
        port = None if hosts else parts.port
    except ValueError:
        raise AddressError(f"{what} is malformed; {_ENCODE}") from None
    if parts.scheme == "unix" and parts.netloc and not parts.netloc.endswith("@"):
        raise AddressError(f"{what} is malformed: it has no host, as in unix:///path/to/redis.sock; {_ENCODE}")
    # Only the path of a socket may have an @, where nothing stands before it that could be a password's beginning.
    strays = "@" in parts.path and (parts.scheme != "unix" or bool(parts.netloc))
    if strays or parts.fragment or ("@" in parts.query and not _OPTIONS.issuperset(_query(parts))):
        raise AddressError(f"{what} has an @ or a # where none belongs; {_ENCODE}")
    return parts, port


def _parse_sentinels(text: str) -> Upstream:
    parts, _ = split_url(text, "the upstream URL", hosts=True)
    _, _, hosts = parts.netloc.rpartition("@")
    name, _, database = parts.path.strip("/").partition("/")
    if not name:
        raise AddressError("the upstream URL names no master; expected redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB")
    sentinels = _addresses(hosts, "Sentinel", DEFAULT_SENTINEL_PORT, "redis+sentinel://HOST:PORT,HOST:PORT/MASTER")
    query = _query(parts)
    upstream = _upstream(parts, query, sentinels[0], database or query.get("db", "0"))
    return replace(
        upstream,
        sentinels=sentinels,
        master=unquote(name),
        sentinel_username=query.get("sentinel_username", ""),
        sentinel_password=query.get("sentinel_password", ""),
        sentinel_password_file=query.get("sentinel_password_file", ""),
    )


def _parse_cluster(text: str) -> Upstream:
    parts, _ = split_url(text, "the upstream URL", hosts=True)
    _, _, hosts = parts.netloc.rpartition("@")
    query = _query(parts)
    if parts.path.strip("/") not in ("", "0") or query.get("db", "0") != "0":
        raise AddressError(f"the upstream URL names a database, and a cluster has none but 0; {_ENCODE}")
    nodes = _addresses(hosts, "node", DEFAULT_REDIS_PORT, "redis+cluster://HOST:PORT,HOST:PORT")
    return replace(_upstream(parts, query, nodes[0], "0"), nodes=nodes)


def _addresses(hosts: str, what: str, default_port: int, expected: str) -> tuple[Address, ...]:
    """Return the addresses in a URL, of which none is empty."""
    addresses = []
    for host in hosts.split(","):
        if not host or host.startswith(":"):
            raise AddressError(f"the upstream URL has an empty {what}; expected {expected}")
        has_port = re.search(r":[0-9]+$", host) is not None
        try:
            addresses.append(parse_address(host if has_port else f"{host}:{default_port}"))
        except AddressError:
            raise AddressError(f"the upstream URL has a {what} that is no HOST:PORT; {_ENCODE}") from None
    return tuple(addresses)


def _upstream(parts: SplitResult, query: dict[str, str], address: Address, database: str) -> Upstream:
    if not _NUMBER.fullmatch(database):
        raise AddressError(f"the upstream URL names a database that is no number; expected /0 or the like; {_ENCODE}")
    tls = parts.scheme.startswith("rediss")
    of_tls = sorted(name for name in _OPTIONS.intersection(query) if name.startswith("ssl_"))
    if of_tls and not tls:
        _, plus, kind = parts.scheme.partition("+")
        raise AddressError(f"the upstream URL has {of_tls[0]}, which needs TLS: rediss{plus}{kind}://")
    if query.get("ssl_keyfile") and not query.get("ssl_certfile"):
        raise AddressError("the upstream URL has ssl_keyfile without ssl_certfile")
    userinfo = parts.netloc.rpartition("@")[0]
    username, _, password = userinfo.partition(":")
    own = urlencode({name: value for name, value in query.items() if name in _OF_REDIS_PY})
    return Upstream(
        address=address,
        url=_joined(parts._replace(query=own)),
        tls=tls,
        database=int(database),
        ca_file=query.get("ssl_ca_certs", ""),
        verify=query.get("ssl_cert_reqs", "required") != "none",
        certificate_file=query.get("ssl_certfile", ""),
        key_file=query.get("ssl_keyfile", ""),
        server_name=query.get("ssl_server_name", ""),
        username=unquote(username),
        password=unquote(password),
    )


def _query(parts: SplitResult) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}


def _joined(parts: SplitResult) -> str:
    """Return a URL of its parts in redis-py's form: of a unix path the standard library would make `unix:/path`."""
    url = urlunsplit(parts)
    return "unix://" + url.removeprefix("unix:").removeprefix("//") if parts.scheme == "unix" else url
