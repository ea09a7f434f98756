import pytest
from redis import exceptions

from asynq_ttl.existing_keys.clients import DatabaseError, explained
from asynq_ttl.net.address import parse_upstream

UPSTREAM = parse_upstream("redis://user:secret@example:7000/3")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (exceptions.ConnectionError("Error 111 connecting\nto x"), "cannot be reached: Error 111 connecting to x"),
        (exceptions.TimeoutError("Timeout reading"), "does not answer: Timeout reading"),
        (exceptions.AuthenticationError("WRONGPASS"), "does not accept the user and password in the URL: WRONGPASS"),
        (exceptions.ResponseError("NOAUTH"), "refuses: NOAUTH"),
        (exceptions.NoPermissionError("no x"), "the user in the URL lacks a right: no x"),
        (exceptions.ResponseError("LOADING"), "refuses: LOADING"),
        (exceptions.ConnectionError(), "cannot be reached: ConnectionError"),
    ],
)
def test_whatever_goes_wrong_is_one_line(error: Exception, said: str) -> None:
    """Without credentials."""
    with pytest.raises(DatabaseError) as caught, explained(UPSTREAM):
        raise error
    assert str(caught.value).replace(": the", " the") == f"redis://example:7000/3 {said}"
