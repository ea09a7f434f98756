"""Who may call the admin server."""

import pytest

from asynq_ttl.net.address import Address
from asynq_ttl.sidecar.admin.access import refusal

LOOPBACK = Address("127.0.0.1", 9180)
SIX = Address("::1", 9180)
EVERYWHERE = Address("0.0.0.0", 9180)  # noqa: S104 - that is what is tested
SOCKET = Address(path="/run/admin")
OWN = {"Host": "127.0.0.1:9180"}
TOKEN = {"Authorization": "Bearer right"}


def status(method: str, headers: dict[str, str], address: Address | None, token: str = "") -> int:
    """Return the status of the refusal; 200 for none."""
    found = refusal(method, headers, address, token)
    return 200 if found is None else found.status


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9180", "localhost:1", "[::1]:9180", "127.8.8.8"])
@pytest.mark.parametrize("address", [LOOPBACK, SIX, Address("localhost", 1)])
def test_the_loopback_interface_is_called_by_its_own_name(host: str, address: Address) -> None:
    """Then all may be done."""
    assert status("GET", {"Host": host}, address) == status("POST", {"Host": host}, address) == 200


@pytest.mark.parametrize("host", ["", "evil.example", "evil.example:9180", "127.0.0.1.evil.example", "[", "10.0.0.1"])
def test_another_name_for_the_loopback_interface_is_refused(host: str) -> None:
    """A site can let its name point there, and its pages would then be of the same origin."""
    assert status("GET", {"Host": host}, LOOPBACK) == 403
    assert status("GET", {"Host": host}, EVERYWHERE) == status("GET", {"Host": host}, SOCKET) == 200


@pytest.mark.parametrize("address", [LOOPBACK, EVERYWHERE, SOCKET])
@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_other_web_sites_change_nothing(headers: dict[str, str], address: Address) -> None:
    """By what a browser says of them; with a token too, which a page could have been told."""
    assert status("POST", {**OWN, **headers, **TOKEN}, address, "right") == 403


def test_reading_is_refused_to_another_origin_alone() -> None:
    """A link from another site may lead here."""
    assert status("GET", OWN | {"Sec-Fetch-Site": "cross-site"}, LOOPBACK) == 200
    assert status("GET", OWN | {"Origin": "http://evil.example"}, LOOPBACK) == 403
    assert status("GET", OWN | {"Origin": "http://127.0.0.1:9180"}, LOOPBACK) == 200


@pytest.mark.parametrize(
    ("address", "token", "given", "expected"),
    [
        (LOOPBACK, "", "", 200),
        (SOCKET, "", "", 200),
        (EVERYWHERE, "", "", 403),
        (EVERYWHERE, "", "Bearer x", 403),
        (None, "", "", 403),
        (LOOPBACK, "right", "", 401),
        (SOCKET, "right", "", 401),
        (EVERYWHERE, "right", "", 401),
        (EVERYWHERE, "right", "Bearer wrong", 401),
        (EVERYWHERE, "right", "Bearer r\u00efght", 401),
        (EVERYWHERE, "right", "Bearer right", 200),
    ],
)
def test_what_a_change_needs(address: Address | None, token: str, given: str, expected: int) -> None:
    """The token where there is one, else to come from this machine; reading needs neither."""
    headers = OWN | ({"Authorization": given} if given else {})
    assert status("POST", headers, address, token) == expected
    assert status("GET", headers, address, token) == status("HEAD", headers, address, token) == 200


def test_a_refusal_says_what_to_do() -> None:
    """To an operator, who has no other hint."""
    found = refusal("POST", OWN, EVERYWHERE, "")
    assert found is not None
    assert "start with --admin-token" in found.message
