"""What the answers of Sentinels tell. That they are asked rightly: `tests/integration/upstream/test_sentinel.py`."""

import fnmatch

import pytest
from redis import Redis

from asynq_ttl.existing_keys.doctor.sentinels import Answer, ask, check
from asynq_ttl.net.address import Address
from support.servers import free_port, start_redis

A, B, C = (Address("10.0.0.1", port) for port in (1, 2, 3))
MASTER, OTHER = Address("10.0.0.9", 9), Address("10.0.0.8", 8)


@pytest.mark.parametrize(
    ("answers", "codes"),
    [
        ([Answer(each, MASTER, replicas=1, others=2) for each in (A, B, C)], {"sentinels"}),
        ([Answer(A, MASTER, replicas=1, others=2)], {"sentinels", "sentinels-unnamed"}),
        ([Answer(A, MASTER, 1, 1), Answer(B, OTHER, 1, 1)], {"sentinels-disagree"}),
        ([Answer(A, MASTER, 0, 1), Answer(B, MASTER, 0, 1)], {"sentinels", "sentinels-replica"}),
        ([Answer(A, MASTER, 1, 1), Answer(B, failure="timed out")], {"sentinels-away"}),
        ([Answer(A, failure="x"), Answer(B, failure="y")], {"sentinels-away"}),
    ],
)
def test_what_the_answers_tell(answers: list[Answer], codes: set[str], redis_server: object) -> None:
    """Each trouble is a finding with a name; a user that may not ask for the configuration is no trouble."""
    with start_redis("--user", "app", "on", "nopass", "~*", "+@all", "-config") as server:
        with Redis(port=server.port, username="app", password="x") as narrow:
            assert {finding.code for finding in check(answers, narrow)} == codes
        with server.client() as wide:
            assert {finding.code for finding in check(answers, wide)} == codes | {"replication"}
            wide.config_set("min-replicas-to-write", 1)
            found = list(check(answers, wide))
    assert {finding.code for finding in found} == codes
    away = [finding for finding in found if finding.code == "sentinels-away"]
    assert all(fnmatch.fnmatch(line, "10.0.0.1:*: *") for finding in away for line in finding.examples)


def test_a_sentinel_that_is_not_there_says_so() -> None:
    """What went wrong is in the answer, in one line."""
    port = free_port()
    with Redis(port=port) as client:
        answer = ask(Address("127.0.0.1", port), client, "mymaster")
    assert answer.master is None
    assert "refused" in answer.failure
