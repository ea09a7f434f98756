"""Clients that cannot be installed, replayed by command: Asynq's next release, and a worker of plain commands."""

import time
from typing import Any

import pytest
from redis import Redis, ResponseError

from support.asynq_calls import CALLS, PREFIX, QUEUE, calls_of, task_key
from support.servers import Server, SidecarFactory, wait_until
from support.task_message import encode_task
from trials.clients.watch import POLICY, Promise, Seen, Watch

pytestmark = pytest.mark.suite

# How the next release may trim an archive to the newest ARGV[5] entries, whose mending of the cap is proposed. The
# texts are ours; the KEYS and ARGV are those of Asynq's archiveCmd.
TRIMS = {
    "a number in brackets": """
local extra = redis.call("ZRANGE", KEYS[4], 0, -(ARGV[5] + 1))
for _, id in ipairs(extra) do redis.call("DEL", KEYS[9] .. id) end
redis.call("ZREMRANGEBYRANK", KEYS[4], 0, -(ARGV[5] + 1))
""",
    "one less": """
local extra = redis.call("ZRANGE", KEYS[4], 0, -ARGV[5] - 1)
for _, id in ipairs(extra) do redis.call("DEL", KEYS[9] .. id) end
redis.call("ZREMRANGEBYRANK", KEYS[4], 0, -ARGV[5] - 1)
""",
    "a local": """
local max = tonumber(ARGV[5])
local extra = redis.call("ZRANGE", KEYS[4], 0, -max - 1)
for _, id in ipairs(extra) do redis.call("DEL", KEYS[9] .. id) end
redis.call("ZREMRANGEBYRANK", KEYS[4], 0, -max - 1)
""",
    "the oldest popped": """
local over = redis.call("ZCARD", KEYS[4]) - tonumber(ARGV[5])
if over > 0 then
  local popped = redis.call("ZPOPMIN", KEYS[4], over)
  for place = 1, #popped, 2 do redis.call("DEL", KEYS[9] .. popped[place]) end
end
""",
    "no trims": "",
}
OLD = """
local old = redis.call("ZRANGEBYSCORE", KEYS[4], "-inf", ARGV[4])
for _, id in ipairs(old) do redis.call("DEL", KEYS[9] .. id) end
redis.call("ZREMRANGEBYSCORE", KEYS[4], "-inf", ARGV[4])
"""


def next_archive(trim: str) -> str:
    """Return an archive script that trims in this way."""
    return f"""
if redis.call("LREM", KEYS[2], 0, ARGV[1]) == 0 then return redis.error_reply("NOT FOUND") end
if redis.call("ZREM", KEYS[3], ARGV[1]) == 0 then return redis.error_reply("NOT FOUND") end
redis.call("ZADD", KEYS[4], ARGV[3], ARGV[1])
{OLD if trim else ""}{trim}
redis.call("HSET", KEYS[1], "msg", ARGV[2], "state", "archived")
for place = 5, 8 do redis.call("INCR", KEYS[place]) end
return redis.status_reply("OK")
"""


def next_release(client: "Redis", watch: Watch, trim: str) -> list[Any]:
    """Have tasks archived by a worker of the next release, run again and archived again; return the replies."""
    calls, script = calls_of(client), client.register_script(next_archive(trim))
    said = []

    def archive(name: str, message: bytes) -> None:
        call = CALLS.archive(name, message, int(time.time()))
        try:
            said.append(script(keys=call.keys, args=call.args))
        except ResponseError as error:
            said.append(str(error))

    kinds = {"dead": "job:x", "noise": "job:noise"}
    messages = {name: encode_task(kind, name, QUEUE) for name, kind in kinds.items()}
    for name, message in messages.items():
        said.append(calls.enqueue(name, message, None, int(time.time())))
    for _ in range(2):
        said.extend(calls.dequeue(int(time.time())) for _ in kinds)
        watch.reach(dict.fromkeys(kinds, "active"))
        for name, message in messages.items():
            archive(name, message)
        archive("nobody", b"")
        watch.reach(dict.fromkeys(kinds, "archived"), noise=("noise",))
        said.extend(calls.run_one(name) for name in kinds)
        watch.reach(dict.fromkeys(kinds, "pending"))
    return said


@pytest.mark.parametrize("trim", TRIMS.values(), ids=TRIMS)
def test_the_next_release_does_not_notice_the_sidecar(
    each_server: Server, start_sidecar: SidecarFactory, trim: str
) -> None:
    """After an upgrade of Asynq archived tasks still get their TTL at once, whether the script is understood or not."""
    with each_server.client() as client:
        direct = next_release(client, Watch(each_server, Promise.NEVER, QUEUE), trim)
    each_server.reset()
    with start_sidecar(each_server.url, POLICY).client() as client:
        behind = next_release(client, Watch(each_server, Promise.AT_ONCE, QUEUE), trim)
    assert behind == direct


class PlainWorker:
    """A worker that uses no scripts: one command after the other, as a Python one on GitHub does."""

    def __init__(self, client: "Redis") -> None:
        self._client = client
        self.said: list[Any] = []

    def enqueue(self, name: str) -> None:
        """Add a task as its producer does."""
        client, message = self._client, encode_task("job:x", name, QUEUE, 600)
        self.said.append(client.sadd("asynq:queues", QUEUE))
        self.said.append(client.hset(task_key(name), mapping={"msg": message, "state": "pending"}))
        self.said.append(client.lpush(f"{PREFIX}pending", name))

    def take(self) -> None:
        """Take the next task."""
        name: Any = self._client.brpoplpush(f"{PREFIX}pending", f"{PREFIX}active", 1)
        self.said.append(self._client.hgetall(task_key(name.decode())))
        self.said.append(self._client.hset(task_key(name.decode()), "state", "active"))

    def archive(self, name: str) -> None:
        """End a task that has failed."""
        self.said.append(self._client.lrem(f"{PREFIX}active", 1, name))
        self.said.append(self._client.hset(task_key(name), "state", "archived"))
        self.said.append(self._client.zadd(f"{PREFIX}archived", {name: int(time.time())}))

    def complete(self, name: str) -> None:
        """End a task that has succeeded, by an index as Asynq has it."""
        self.said.append(self._client.lrem(f"{PREFIX}active", 1, name))
        self.said.append(self._client.hset(task_key(name), "state", "completed"))
        self.said.append(self._client.zadd(f"{PREFIX}completed", {name: int(time.time()) + 600}))

    def complete_in_a_list(self, name: str) -> None:
        """End a task that has succeeded as that worker really does: into a list where Asynq has a sorted set."""
        self.said.append(self._client.lrem(f"{PREFIX}active", 1, name))
        self.said.append(self._client.hset(task_key(name), "state", "completed"))
        self.said.append(self._client.lpush(f"{PREFIX}completed", name))

    def run(self, name: str) -> None:
        """Run an archived task again."""
        self.said.append(self._client.zrem(f"{PREFIX}archived", name))
        self.said.append(self._client.hset(task_key(name), "state", "pending"))
        self.said.append(self._client.lpush(f"{PREFIX}pending", name))


def plain(client: "Redis", watch: Watch) -> list[Any]:
    """Have a task archived and another completed by plain commands, and one run again; return the replies."""
    worker = PlainWorker(client)
    for name in ("dead", "kept"):
        worker.enqueue(name)
        worker.take()
    worker.archive("dead")
    watch.reach({"dead": "archived", "kept": "active"})
    worker.complete("kept")
    watch.reach({"dead": "archived", "kept": "completed"})
    worker.run("dead")
    watch.reach({"dead": "pending", "kept": "completed"})
    worker.take()
    worker.archive("dead")
    watch.reach({"dead": "archived", "kept": "completed"})
    return worker.said


@pytest.mark.timeout(400)
def test_a_worker_of_plain_commands_does_not_notice_the_sidecar(
    each_server: Server, start_sidecar: SidecarFactory
) -> None:
    """No command could set its TTLs: the sweeper adopts what it has ended, and takes the TTL off what it runs again."""
    with each_server.client() as client:
        direct = plain(client, Watch(each_server, Promise.NEVER, QUEUE))
    each_server.reset()
    with start_sidecar(each_server.url, POLICY).client() as client:
        behind = plain(client, Watch(each_server, Promise.SWEPT, QUEUE))
    assert behind == direct


def test_what_a_worker_lists_where_asynq_has_a_sorted_set_is_left_alone(
    each_server: Server, start_sidecar: SidecarFactory
) -> None:
    """Nothing can date these tasks; the list and the tasks stay as they are, and the rest of the queue has its TTLs."""
    sidecar = start_sidecar(each_server.url, POLICY)
    sidecar.expected_warnings.append("completed of queue q in database 0 cannot be swept")
    with sidecar.client() as client:
        worker = PlainWorker(client)
        for name in ("kept", "dead"):
            worker.enqueue(name)
            worker.take()
        worker.complete_in_a_list("kept")
        worker.archive("dead")
    watch = Watch(each_server, Promise.SWEPT, QUEUE)
    wait_until(lambda: watch.tasks()["dead"].settled, "not adopted")
    assert watch.tasks()["kept"] == Seen("completed", -1)
    with each_server.client() as client:
        assert client.lrange(f"{PREFIX}completed", 0, -1) == [b"kept"]
