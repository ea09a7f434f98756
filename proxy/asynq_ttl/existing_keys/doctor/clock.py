"""Compares the clock of a server with that of this machine. Changes nothing."""

import time

from redis import Redis

from asynq_ttl.existing_keys.doctor.server_info import check_clock
from asynq_ttl.existing_keys.findings import Finding


def check(client: Redis, grace_seconds: int) -> Finding:
    """Say whether they agree.

    Args:
        client: of the server.
        grace_seconds: the policy's grace.

    Raises:
        ResponseError: the user may not ask for the time.
    """
    before = time.time()
    seconds, microseconds = client.time()
    after = time.time()
    skew = int(seconds) + int(microseconds) / 1e6 - (before + after) / 2
    return check_clock(skew, after - before, grace_seconds)
