"""Which queues a sweeper sweeps: all of one Redis, or those of a master's settled slots."""

from typing import Any, cast

from redis.asyncio import Redis

from asynq_ttl.sweep.lock import LOCK_KEY
from asynq_ttl.sweep.part import WHOLE, MasterPart
from asynq_ttl.sweep.survey import BATCH
from asynq_ttl.wire.cluster.slots import slot_of

ID, OTHER = "a" * 40, "b" * 40
# Slots of two queues.
MAIL, NEWS = slot_of(b"mail"), slot_of(b"news")


class Master:
    """A master that says of itself what a test sets."""

    def __init__(self) -> None:
        self.slots = ""
        self.response_callbacks = {"CLUSTER NODES": dict}

    async def execute_command(self, words: str) -> bytes:
        """Say which nodes there are."""
        assert words == "CLUSTER NODES"
        other = f"\n{OTHER} 10.0.0.2:7000@17000 master - 0 0 1 connected {MAIL}-{MAIL}\n".encode()
        return f"{ID} 10.0.0.1:7000@17000 myself,master - 0 0 1 connected {self.slots}".rstrip().encode() + other

    async def smembers(self, key: str) -> set[bytes]:
        """Return the queues."""
        assert key == "asynq:queues"
        return {b"mail", b"news"}


async def _names() -> set[str]:
    return {"mail", "news"}


def scene() -> tuple[MasterPart, Master, Redis]:
    """Return a part, its master, and the client of that."""
    master = Master()
    return MasterPart(_names), master, cast("Redis", master)


async def test_one_redis_has_all_queues() -> None:
    """Nothing of it is ever elsewhere."""
    client = cast("Redis", Master())
    await WHOLE.refresh(client)
    assert WHOLE.changes == 0
    assert await WHOLE.names(client) == {"mail", "news"}
    assert WHOLE.has("mail")
    assert await WHOLE.is_settled(client, "mail")
    assert (WHOLE.lock_key(), WHOLE.batch) == (LOCK_KEY, BATCH)


async def test_a_master_has_the_queues_of_its_slots() -> None:
    """Whose names another node may have; two of them are in no one script."""
    part, master, client = scene()
    assert not part.has("news")
    master.slots = f"{NEWS}"
    await part.refresh(client)
    assert (part.has("news"), part.has("mail"), part.batch) == (True, False, 1)
    assert await part.names(client) == {"mail", "news"}
    await part.refresh(client)
    assert part.changes == 1


async def test_a_slot_that_is_on_its_way_is_nobodys() -> None:
    """Neither where it leaves nor where it arrives."""
    part, master, client = scene()
    master.slots = f"{NEWS}"
    await part.refresh(client)
    for way in (f"{NEWS} [{NEWS}->-{OTHER}]", f"[{NEWS}-<-{OTHER}]"):
        master.slots = way
        assert not await part.is_settled(client, "news")
        await part.refresh(client)
        assert not part.has("news")
    master.slots = f"{NEWS}"
    assert await part.is_settled(client, "news")
    assert not await part.is_settled(client, "mail")


async def test_the_lock_is_in_one_of_the_master_s_slots() -> None:
    """Always the same one where the slots are the same; with or without a coverage behind it."""
    part, master, client = scene()
    master.slots = "5461-10921"
    await part.refresh(client)
    key = part.lock_key()
    assert key.startswith(LOCK_KEY)
    assert 5461 <= slot_of(key.encode()) == slot_of(f"{key}:coverage".encode()) <= 10921
    twin, _, _ = scene()
    await twin.refresh(client)
    assert twin.lock_key() == key
    master.slots = ""
    await part.refresh(client)
    assert part.lock_key() == f"{LOCK_KEY}:{{0}}"
    callbacks: dict[str, Any] = master.response_callbacks
    assert callbacks == {}
