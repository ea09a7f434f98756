"""What Redis refuses at one place stops the sweeper nowhere else, whatever the place and whatever stands there."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from support.servers import Server, SidecarFactory, wait_until

POLICY = "version: 1\ngrace: 30s\nrules: [{name: all, archived: {ttl: 2h}, completed: {ttl: 2h}}]"
QUICK = {"sweep_interval": "0.2"}

# How a key of each type comes to be.
TYPES: dict[str, Callable[[Any, str], Any]] = {
    "string": lambda client, key: client.set(key, "x"),
    "list": lambda client, key: client.rpush(key, "x"),
    "set": lambda client, key: client.sadd(key, "x"),
    "zset": lambda client, key: client.zadd(key, {"x": 1}),
    "hash": lambda client, key: client.hset(key, "x", "x"),
    "stream": lambda client, key: client.xadd(key, {"x": "x"}),
}
# Where Asynq keeps something of a queue, so divided that the sweeper has something to do in each queue.
PLACES = (
    ("archived", "pending", "lease", "scheduled", "groups", "paused"),
    ("completed", "active", "deadlines", "retry", "aggregation_sets", "processed"),
    ("t:odd", "unique:lock", "g:group", "failed"),
)


def put(client: Redis, queue: str, name: str, *, state: str, ttl: int, unique_key: str = "") -> None:
    """Put a task into a queue as it would stand there: due if its state is terminal."""
    key = f"asynq:{{{queue}}}:t:{name}"
    client.hset(key, mapping={"msg": "\n\x01x", "state": state})
    if unique_key:
        client.hset(key, "unique_key", unique_key)
    client.expire(key, ttl)
    if state in ("active", "pending"):
        client.rpush(f"asynq:{{{queue}}}:{state}", name)
    else:
        client.zadd(f"asynq:{{{queue}}}:{state}", {name: time.time()})


def break_queue(client: Redis, queue: str, places: tuple[str, ...], kind: str) -> None:
    """Let something of one type stand in some places of a queue whose other places are sound."""
    client.sadd("asynq:queues", queue)
    for place in places:
        TYPES[kind](client, f"asynq:{{{queue}}}:{place}")
    for state in ("archived", "completed"):
        if state not in places:
            put(client, queue, f"{state}-due", state=state, ttl=20, unique_key=f"asynq:{{{queue}}}:unique:lock")
            if "t:odd" in places:
                client.zadd(f"asynq:{{{queue}}}:{state}", {"odd": 1})
    for state in ("active", "pending"):
        if state not in places:
            put(client, queue, f"{state}-live", state=state, ttl=600)
            if "t:odd" in places:
                client.rpush(f"asynq:{{{queue}}}:{state}", "odd")
    client.expire(f"asynq:{{{queue}}}:t:odd", 20)


def left(client: Redis, queues: dict[str, tuple[str, ...]]) -> list[str]:
    """Return what the sweeper still has to do in these queues, but at the places of each that are broken."""
    found = []
    for queue, places in queues.items():
        prefix = f"asynq:{{{queue}}}:t:"
        due = [f"{prefix}{state}-due" for state in ("archived", "completed") if state not in places]
        live = [f"{prefix}{state}-live" for state in ("active", "pending") if state not in places]
        found += [key for key in due if client.exists(key)]
        # What stands in place of the leases tells nothing, so of active tasks those with a hash are healed even there.
        found += [key for key in live if client.ttl(key) != -1]
    return found


def test_whatever_stands_in_a_place_of_one_queue_another_one_is_swept(
    server: Server, start_sidecar: SidecarFactory
) -> None:
    """Each type in each place, of queues whose names sort before the sound one's; every place is named once.

    Of another database not even the queues can be told.
    """
    bad = {f"a-{kind}-{places[0]}": (places, kind) for kind in TYPES for places in PLACES}
    with server.client(0) as other, server.client(1) as client:
        other.set("asynq:queues", "x")
        with client.pipeline(transaction=False) as pipeline:
            for queue, (places, kind) in bad.items():
                break_queue(pipeline, queue, places, kind)
            for state in ("archived", "completed"):
                put(pipeline, "mail", f"{state}-due", state=state, ttl=20)
            for state in ("active", "pending", "retry"):
                put(pipeline, "mail", f"{state}-live", state=state, ttl=600)
            pipeline.zadd("asynq:{mail}:archived", {"ghost": 1})
            pipeline.sadd("asynq:queues", "mail")
            pipeline.execute(raise_on_error=False)
        sidecar = start_sidecar(server.url, POLICY, admin="127.0.0.1:0", **QUICK)
        sidecar.expected_warnings.append("cannot be swept, the rest is: ")
        with sidecar.client(1) as through:
            through.ping()
        queues: dict[str, tuple[str, ...]] = {"mail": ()}
        queues |= {queue: places for queue, (places, _) in bad.items()}
        wait_until(lambda: not client.zcard("asynq:{mail}:archived"), "the sound queue is not swept")
        wait_until(lambda: left(client, queues) == [], "a place is not swept", 30)
        wait_until(
            lambda: client.ttl("asynq:{mail}:t:retry-live") == -1, "a task that waits for its retry is not healed"
        )
        with urlopen(f"http://{sidecar.admin}/metrics") as answer:
            assert re.search(
                r'^asynq_ttl_sweep_failures_total{database="0"} [1-9]', answer.read().decode(), re.MULTILINE
            )
        with urlopen(f"http://{sidecar.admin}/api/status") as answer:
            assert "database 0" in [failing["place"] for failing in json.load(answer)["sweep"]["failing"]]
    named = Counter(line.partition("WARNING")[2] for line in sidecar.log().splitlines() if "cannot be swept" in line)
    assert set(named.values()) == {1}
    assert any("database 0 cannot be swept" in line for line in named)


def test_a_database_that_redis_refuses_to_a_client_is_not_swept(server: Server, start_sidecar: SidecarFactory) -> None:
    """One that is not there, or that the client's user may not select; with other databases it goes on."""
    with server.client(2) as forbidden, server.client(3) as client:
        for database in (forbidden, client):
            put(database, "mail", "archived-due", state="archived", ttl=20)
            database.sadd("asynq:queues", "mail")
        client.execute_command("ACL", "SETUSER", "narrow", "on", ">pw", "~*", "+@all", "-select")
        sidecar = start_sidecar(server.url, POLICY, **QUICK)
        try:
            narrow = Redis(port=sidecar.port, username="narrow", password="pw")
            with narrow, pytest.raises(ResponseError):
                narrow.execute_command("SELECT", 2)
            with sidecar.client(999) as nowhere, pytest.raises(ResponseError):
                nowhere.ping()
            with sidecar.client(3) as through:
                through.ping()
            wait_until(lambda: not client.exists("asynq:{mail}:t:archived-due"), "a database is not swept")
            time.sleep(1)
            assert forbidden.exists("asynq:{mail}:t:archived-due")
        finally:
            client.execute_command("ACL", "DELUSER", "narrow")
