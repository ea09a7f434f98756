"""Addresses and URLs: what is understood, how it is shown, and what is said of the rest."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis import Redis

from asynq_ttl.net.address import (
    Address,
    AddressError,
    Upstream,
    parse_address,
    parse_host,
    parse_ports,
    parse_upstream,
)


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("127.0.0.1:6380", Address("127.0.0.1", 6380), "127.0.0.1:6380"),
        ("localhost:0", Address("localhost", 0), "localhost:0"),
        (":6380", Address("", 6380), ":6380"),
        ("[::1]:6380", Address("::1", 6380), "[::1]:6380"),
        ("unix:/run/a.sock", Address(path="/run/a.sock"), "unix:/run/a.sock"),
        ("unix:///run/a.sock", Address(path="/run/a.sock"), "unix:/run/a.sock"),
        ("unix:a.sock", Address(path="a.sock"), "unix:a.sock"),
    ],
)
def test_an_address_is_a_host_and_port_or_a_path(text: str, expected: Address, shown: str) -> None:
    """Both forms are read, and shown in the form in which they can be read again."""
    assert parse_address(text) == expected
    assert str(expected) == shown
    assert parse_address(shown) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no address"),
        ("6380", "no address"),
        ("host:", "no address"),
        ("host:port", "no address"),
        ("host:-1", "no address"),
        ("host:65536", "no address"),
        ("host:²", "no address"),
        ("host:٣", "no address"),
        ("host:" + "9" * 5000, "no address"),
        ("::1:6380", "brackets"),
        ("[::1:6380", "brackets"),
        ("unix:", "no path"),
        ("unix://", "no path"),
    ],
)
def test_a_broken_address_is_refused_with_the_reason(text: str, reason: str) -> None:
    """The message says what is wrong with it and never that a number could not be converted."""
    with pytest.raises(AddressError, match=reason):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "address", "database", "shown"),
    [
        ("redis://h", Address("h", 6379), 0, "redis://h:6379/0"),
        ("redis://h:7000/3", Address("h", 7000), 3, "redis://h:7000/3"),
        ("redis://h/?db=4", Address("h", 6379), 4, "redis://h:6379/4"),
        ("redis://user:secret@[::1]:7000/1", Address("::1", 7000), 1, "redis://[::1]:7000/1"),
        ("rediss://h", Address("h", 6379), 0, "rediss://h:6379/0"),
        ("unix:///run/a%20b.sock?db=2", Address(path="/run/a b.sock"), 2, "unix:/run/a b.sock"),
        ("unix:/run/a.sock", Address(path="/run/a.sock"), 0, "unix:/run/a.sock"),
        ("unix://:secret@/run/a.sock", Address(path="/run/a.sock"), 0, "unix:/run/a.sock"),
    ],
)
def test_an_upstream_is_a_redis_url(text: str, address: Address, database: int, shown: str) -> None:
    """Host, port, path and database are read; credentials are never shown; redis-py takes the URL."""
    upstream = parse_upstream(text)
    assert (upstream.address, upstream.database, str(upstream)) == (address, database, shown)
    assert upstream.tls is text.startswith("rediss:")
    settings = Redis.from_url(upstream.url).connection_pool.connection_kwargs
    assert settings.get("path", "") == address.path
    assert settings.get("password") == ("secret" if "secret" in text else None)


@pytest.mark.parametrize(
    ("query", "ca_file", "verify"),
    [
        ("", "", True),
        ("?ssl_ca_certs=/etc/ca.pem", "/etc/ca.pem", True),
        ("?ssl_cert_reqs=none", "", False),
        ("?ssl_cert_reqs=required&ssl_ca_certs=a&ssl_ca_certs=b", "b", True),
    ],
)
def test_tls_is_set_up_as_redis_py_has_it(query: str, ca_file: str, verify: bool) -> None:
    """The certificate authorities and whether to verify come from the query; verifying is the default."""
    upstream = parse_upstream(f"rediss://h:1/0{query}")
    assert (upstream.tls, upstream.ca_file, upstream.verify) == (True, ca_file, verify)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be a redis://"),
        ("localhost:6379", "must be a redis://"),
        ("http://h", "must be a redis://"),
        ("redis://", "no host"),
        ("redis:///0", "no host"),
        ("unix://", "no path"),
        ("redis://h:x", "malformed"),
        ("redis://h:99999", "malformed"),
        ("redis://[::1", "malformed"),
        ("redis://h/zero", "a database that is no number"),
        ("redis://h/²", "database"),
        ("unix:///a?db=-1", "database"),
    ],
)
def test_a_broken_url_is_refused_with_the_reason(text: str, reason: str) -> None:
    """The message says what is wrong with it."""
    with pytest.raises(AddressError, match=reason):
        parse_upstream(text)


def test_an_error_does_not_give_credentials_away() -> None:
    """What is refused may hold a password, so the message does not repeat it."""
    for text in ("http://:secret@h", "redis://:secret@h:x", "redis://:secret@h/zero", "redis://:secret@"):
        with pytest.raises(AddressError) as caught:
            parse_upstream(text)
        assert "secret" not in str(caught.value)


def test_an_upstream_shows_no_credentials() -> None:
    """Its text form is for logs."""
    assert "secret" not in str(Upstream(Address("h", 1), "redis://:secret@h:1"))


def test_sentinels_are_read() -> None:
    """Several, with ports or without, IPv6 too; the master, the database and both sorts of credentials."""
    text = "rediss+sentinel://me:p%40ss@one,two:7000,[::1]:7001/my%20master/3?sentinel_password=x&ssl_server_name=r"
    upstream = parse_upstream(text)
    assert upstream.sentinels == (Address("one", 26379), Address("two", 7000), Address("::1", 7001))
    assert (upstream.master, upstream.database, upstream.tls) == ("my master", 3, True)
    assert (upstream.username, upstream.password) == ("me", "p@ss")
    assert (upstream.sentinel_password, upstream.server_name) == ("x", "r")
    assert str(upstream) == "rediss+sentinel://one:26379,two:7000,[::1]:7001/my master/3"
    assert parse_upstream("redis+sentinel://h/m").database == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("redis+sentinel://h:1", "names no master"),
        ("redis+sentinel://h:1/", "names no master"),
        ("redis+sentinel://h:1,/m", "empty Sentinel"),
        ("redis+sentinel:///m", "empty Sentinel"),
        ("redis+sentinel://h:99999/m", "no HOST:PORT"),
        ("redis+sentinel://h:1,h:x/m", "no HOST:PORT"),
        ("redis+sentinel://h:1/m/x", "a database that is no number"),
        ("rediss://h?ssl_keyfile=k", "ssl_keyfile without ssl_certfile"),
        ("redis://h?ssl_ca_certs=f", "has ssl_ca_certs, which needs TLS: rediss://"),
        ("redis+sentinel://h:1/m?ssl_cert_reqs=none", r"has ssl_cert_reqs, which needs TLS: rediss\+sentinel://"),
        ("redis+cluster://h:1?ssl_server_name=a", r"has ssl_server_name, which needs TLS: rediss\+cluster://"),
        ("unix:///run/a?ssl_certfile=f", "has ssl_certfile, which needs TLS: rediss://"),
    ],
)
def test_broken_sentinels_are_refused(text: str, reason: str) -> None:
    """The message says what is missing."""
    with pytest.raises(AddressError, match=reason):
        parse_upstream(text)


def test_a_comma_in_a_password_leaves_the_port_what_it_is() -> None:
    """Only behind Sentinels does it stand between hosts."""
    assert parse_upstream("redis://:pa,ss@h:6380/0").address == Address("h", 6380)
    assert parse_upstream("redis+sentinel://:pa,ss@h:1,i:2/m").sentinels == (Address("h", 1), Address("i", 2))


@pytest.mark.parametrize("host", ["a..b", f"{'x' * 64}.org", ".", "\u00fc" * 60])
def test_a_host_that_can_be_no_name_is_refused(host: str) -> None:
    """To look it up would raise what nobody expects."""
    with pytest.raises(AddressError, match="no host"):
        parse_upstream(f"redis://{host}:1/0")
    with pytest.raises(AddressError, match="no host can be called that"):
        parse_address(f"{host}:1")
    with pytest.raises(AddressError, match="no HOST:PORT"):
        parse_upstream(f"redis+sentinel://{host}:1/m")


@pytest.mark.parametrize("host", ["", "a", "a.b.", "b\u00fccher.example", "127.0.0.1", "[::1]"])
def test_other_hosts_are_not(host: str) -> None:
    """An empty one is every address."""
    assert str(parse_address(f"{host}:1")) == f"{host}:1"


@pytest.mark.parametrize("text", ["redis://:x@h:1", "x@h:1", "unix://:x@/run/a", "unix:///run/a?password=x"])
def test_a_url_is_no_address_and_is_not_repeated(text: str) -> None:
    """There may be a password in it."""
    with pytest.raises(AddressError, match="this looks like a URL") as refused:
        parse_address(text)
    assert text not in str(refused.value)


def test_options_of_nobody_are_left_out() -> None:
    """redis-py would raise for them when it connects."""
    assert parse_upstream("redis://h:1/2?colour=red&db=3").url == "redis://h:1/2?db=3"


SECRETS = st.text("QXZJ0124/@:#?%[]&=,", min_size=4, max_size=24)
"""Passwords in which every character that means something in a URL is likely. No message has four of them in a row."""

SHAPES = (
    *("redis://:{}@h:6379/0", "redis://me:{}@h:6379/0", "redis://{}@h:6379/0", "rediss://:{}@[::1]:6379/0"),
    *(
        "unix://:{}@/tmp/redis.sock",
        "redis+sentinel://:{}@h:26379,h:26380/main/0",
        "redis://h:6379/{}",
        "redis://h:{}/0",
    ),
    *(
        "redis+sentinel://h:26379/main/0?sentinel_password={}",
        "redis://h:6379/0?password={}",
        "{}",
        "redis:{}",
        "//{}@h",
    ),
)


@given(SECRETS, st.sampled_from(SHAPES))
@example("Azure1secret/x=", "redis://:{}@h:6379/0")
@example("0124?Q=", "redis://me:{}@h:6379/0")
@example("0124#", "redis://me:{}@h:6379/0")
@example("0124/", "redis://me:{}@h:6379/0")
def test_no_piece_of_a_password_is_ever_shown(secret: str, shape: str) -> None:
    """However the URL is malformed: neither in the error nor in what stands for it in the log."""
    try:
        upstream = parse_upstream(shape.format(secret))
        shown = f"{upstream} {upstream!r}" if "@" in shape else ""
    except AddressError as error:
        shown = str(error)
    for start in range(len(secret) - 3):
        assert secret[start : start + 4] not in shown


# --- clusters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "nodes", "shown"),
    [
        ("redis+cluster://a", (Address("a", 6379),), "redis+cluster://a:6379"),
        ("redis+cluster://a:1,b,[::1]:3/", (Address("a", 1), Address("b", 6379), Address("::1", 3)),
         "redis+cluster://a:1,b:6379,[::1]:3"),
        ("rediss+cluster://:secret@a:1/0?ssl_cert_reqs=none", (Address("a", 1),), "rediss+cluster://a:1"),
        ("redis+cluster://u:sec%40ret@a:1,b:2", (Address("a", 1), Address("b", 2)), "redis+cluster://a:1,b:2"),
    ],
)  # fmt: skip
def test_a_cluster_is_named_by_some_of_its_nodes(text: str, nodes: tuple[Address, ...], shown: str) -> None:
    """Each has a port; credentials and TLS are as elsewhere; what is shown can be read again."""
    upstream = parse_upstream(text)
    assert (upstream.nodes, upstream.address, upstream.database, str(upstream)) == (nodes, nodes[0], 0, shown)
    assert upstream.tls is text.startswith("rediss")
    assert upstream.verify is ("none" not in text)
    assert parse_upstream(shown).nodes == nodes
    assert upstream.password == {"rediss": "secret", "redis+": "sec@ret" if "@a" in text else ""}[text[:6]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("redis+cluster://", "an empty node"),
        ("redis+cluster://a,,b", "an empty node"),
        ("redis+cluster://:7000", "an empty node"),
        ("redis+cluster://a:x", "no HOST:PORT"),
        ("redis+cluster://a/3", "names a database"),
        ("redis+cluster://a?db=1", "names a database"),
        ("redis+cluster://:sec/ret@a", "has an @"),
        ("redis+cluster://:sec#ret@a", "has an @ or a #"),
    ],
)
def test_a_broken_cluster_is_refused_with_the_reason(text: str, reason: str) -> None:
    """And no password is repeated."""
    with pytest.raises(AddressError, match=reason) as caught:
        parse_upstream(text)
    assert "ret" not in str(caught.value).replace("expected", "").replace("secret", "").replace(_ADVICE, "")


_ADVICE = "percent-encode the user name and the password in it: %2F for /, %40 for @, %3A for :, %23 for #, %3F for ?"


@pytest.mark.parametrize(
    ("text", "first", "last"), [("6400-6499", 6400, 6499), (" 7000-7000 ", 7000, 7000), ("64536-65535", 64_536, 65_535)]
)
def test_a_range_of_ports_has_both_its_ends(text: str, first: int, last: int) -> None:
    """From the first to the last."""
    assert parse_ports(text) == range(first, last + 1)


@pytest.mark.parametrize("text", ["", "6400", "6400-", "6499-6400", "0-5", "6400-65536", "a-b", "6400-6500-6600"])
def test_another_range_is_refused(text: str) -> None:
    """With what is expected."""
    with pytest.raises(AddressError, match="no range of ports"):
        parse_ports(text)


def test_a_range_has_at_most_a_thousand_ports() -> None:
    """All of them are listened at."""
    assert len(parse_ports("1000-1999")) == 1000
    with pytest.raises(AddressError, match="more than 1000"):
        parse_ports("1000-2000")


@pytest.mark.parametrize("text", ["a", "a.example", "10.0.0.1", "::1", "fe80::1", " a_b-c "])
def test_a_host_is_a_name_or_an_address(text: str) -> None:
    """Without a port."""
    assert parse_host(text) == text.strip()


@pytest.mark.parametrize("text", ["", "a:1", "a b", "[::1]", "a/b", "me:secret@h", "a..b", "x" * 64, "g::1"])
def test_another_host_is_refused(text: str) -> None:
    """With what is expected."""
    with pytest.raises(AddressError, match="no host"):
        parse_host(text)
