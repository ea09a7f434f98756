"""What the sidecar's user may not do is said in one line, whatever Redis does meanwhile."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from asynq_ttl.existing_keys import needed_rights
from asynq_ttl.net.address import parse_address, parse_upstream
from asynq_ttl.sidecar import rights
from asynq_ttl.sidecar.rights import needs, tell_missing
from asynq_ttl.sidecar.settings import Access, ClientAuth, Settings
from asynq_ttl.sweep.sink import parse_sink
from asynq_ttl.upstream.endpoint import Endpoint
from support.servers import Server, free_port, start_redis


async def eventually(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    for _ in range(1_000):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it does not come to that")


def settings_of(url: str, **more: object) -> Settings:
    """Return settings with an upstream."""
    return Settings(parse_address("127.0.0.1:0"), parse_upstream(url), **more)  # type: ignore[arg-type] # what a test gives


def test_what_is_needed_depends_on_what_it_does(tmp_path: Path) -> None:
    """Who sweeps, hands over, follows Sentinels, or logs clients in needs more."""
    few = settings_of("redis://h", sweep_seconds=0)
    assert needs(few) == [needed_rights.CONTROL, needed_rights.SPANS]
    everything = settings_of(
        "redis+sentinel://h/main",
        sink=parse_sink(f"file:{tmp_path}/sink"),
        access=Access(auth=ClientAuth.NONE),
    )
    names = ("CONTROL", "SPANS", "SWEEPER", "LOCK", "SINK", "BEHIND_SENTINELS", "WRAPPERS")
    assert needs(everything) == [getattr(needed_rights, name) for name in names]


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        (("~*", "+@all"), ""),
        (("~*", "+@all", "-zrem", "-script"), "+script|load +zrem"),
        (("~asynq:{mail}:*", "~asynq-ttl:*", "+@all", "-time"), "+time"),
        (("~asynq:*", "+@all"), "~asynq-ttl:*"),
    ],
)
async def test_what_is_missing_is_told_as_rules(rules: tuple[str, ...], missing: str, redis_server: Server) -> None:
    """Rules of an ACL. A user that has some queues only lacks nothing."""
    with redis_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "few", "on", ">pw", *rules)
        settings = settings_of(f"redis://few:pw@127.0.0.1:{redis_server.port}/0")
        client = Endpoint(settings.upstream).redis()
        found = await rights.missing(client, needs(settings), 0)
        await client.aclose()
        admin.execute_command("ACL", "DELUSER", "few")
        assert admin.keys("*") == []
    assert found == missing


async def test_a_redis_that_is_away_is_asked_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word: the control connection says what is the matter."""
    monkeypatch.setattr(rights, "_AGAIN_SECONDS", 0.01)
    settings = settings_of(f"redis://nobody@127.0.0.1:{(port := free_port())}/0")
    task = asyncio.create_task(tell_missing(Endpoint(settings.upstream), settings))
    await asyncio.sleep(0.1)
    assert not task.done()
    assert caplog.messages == []
    with start_redis(port=port) as server, server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "nobody", "on", "nopass", "+ping", "~*")
        await eventually(lambda: caplog.messages)
    assert "+smembers" in caplog.messages[0]
    task.cancel()
