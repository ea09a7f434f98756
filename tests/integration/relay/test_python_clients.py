"""redis-py through the sidecar: the same replies as directly, by every way it has of calling a script, and the TTLs."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoScriptError, ResponseError

from support import asynq_calls
from support.servers import Server
from support.task_message import encode_task
from trials.model.sidecar_thread import SidecarThread

POLICY = """
version: 1
grace: 30s
rules:
  - {name: all, archived: {ttl: 1h}, completed: {ttl: 2h}}
"""
QUEUE = "asynq:{q}:"
NOW = int(time.time())

Reply = Any
Story = Callable[["Redis"], list[Reply]]


def message(name: str) -> bytes:
    """Return the message of a task."""
    return encode_task("job:x", name, "q", 600)


def populate(client: "Redis") -> None:
    """Fill a queue: two active tasks, one pending and one archived, the latter two with a TTL from before."""
    for name, state in (("done", "active"), ("dead", "active"), ("next", "pending"), ("again", "archived")):
        client.hset(f"{QUEUE}t:{name}", mapping={"msg": message(name), "state": state})
        if state == "archived":
            client.zadd(f"{QUEUE}archived", {name: NOW})
        else:
            client.lpush(QUEUE + state, name)
        if state == "active":
            client.zadd(f"{QUEUE}lease", {name: NOW + 30})
        else:
            client.expire(f"{QUEUE}t:{name}", 5000)


# --- Asynq's scripts, as Asynq calls them ------------------------------------------------------------------

# KEYS and ARGV, by the script's text.
CALLS: dict[str, tuple[list[Any], list[Any]]] = {
    call.text.decode(): (list(call.keys), list(call.args))
    for call in (
        asynq_calls.CALLS.complete("done", message("done"), 600, None, NOW),
        asynq_calls.CALLS.archive("dead", message("dead"), NOW),
        asynq_calls.CALLS.dequeue(NOW),
        asynq_calls.CALLS.run_one("again"),
    )
}
COMPLETE, ARCHIVE, DEQUEUE, RUN = CALLS


def sha1(text: str) -> str:
    """Return the SHA of a text without telling it to anybody."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def answer(call: Callable[[], Reply]) -> Reply:
    """Return the reply to a call; an error is one too."""
    try:
        return call()
    except ResponseError as error:
        return type(error), str(error)


def by_sha(client: Any, text: str, sha: str) -> Reply:
    """Call a script by a bare EVALSHA."""
    named, args = CALLS[text]
    return client.evalsha(sha, len(named), *named, *args)


def by_text(client: Any, text: str) -> Reply:
    """Call a script by a bare EVAL."""
    named, args = CALLS[text]
    return client.eval(text, len(named), *named, *args)


# --- telling a story twice ---------------------------------------------------------------------------------


def state_of(server: Server) -> dict[str, tuple[str, int]]:
    """Return the state and the TTL, -1 without one, of each task."""
    with server.client() as client:
        tasks = {name: f"{QUEUE}t:{name}" for name in ("done", "dead", "next", "again")}
        return {
            name: ((client.hget(key, "state") or b"").decode(), client.ttl(key)) for name, key in sorted(tasks.items())
        }


def assert_settled(server: Server) -> None:
    """See to it that all four tasks have moved, and have the TTLs that the policy gives."""
    found = state_of(server)
    assert {name: state for name, (state, _) in found.items()} == {
        "done": "completed",
        "dead": "archived",
        "next": "active",
        "again": "pending",
    }
    assert 7200 <= found["done"][1] <= 7230
    assert 3600 <= found["dead"][1] <= 3630
    assert found["next"][1] == found["again"][1] == -1


def told(server: Server, client: "Redis", story: Story) -> list[Reply]:
    """Tell a story to a client of the emptied and populated server and return the replies."""
    server.reset()
    with server.client() as direct:
        populate(direct)
    with client:
        return story(client)


def same_replies(server: Server, sidecar: SidecarThread, protocol: int, story: Story) -> list[Reply]:
    """Tell a story directly and through the sidecar, and return the replies, which must be the same."""
    directly = told(server, Redis(port=server.port, protocol=protocol), story)
    through = told(server, Redis(port=sidecar.port, protocol=protocol), story)
    assert through == directly
    return through


@pytest.fixture
def sidecar(server: Server) -> Iterator[SidecarThread]:
    """A sidecar that has seen no script yet; at the end it must have rewritten all there was to rewrite."""
    with SidecarThread(server) as sidecar:
        sidecar.start(POLICY)
        yield sidecar
        assert sidecar.fail_opens() == {}


each_protocol = pytest.mark.parametrize("protocol", [2, 3])


# --- redis-py's own ways -----------------------------------------------------------------------------------


@each_protocol
def test_registered_scripts(server: Server, sidecar: SidecarThread, protocol: int) -> None:
    """`register_script` sends EVALSHA and on NOSCRIPT a SCRIPT LOAD: the very first call is rewritten."""

    def story(client: "Redis") -> list[Reply]:
        return [client.register_script(text)(*CALLS[text]) for text in CALLS]

    assert same_replies(server, sidecar, protocol, story) == [b"OK", b"OK", message("next"), 1]
    assert_settled(server)


@each_protocol
@pytest.mark.parametrize("transaction", [True, False], ids=["transaction", "plain"])
def test_pipelines_of_registered_scripts(
    server: Server, sidecar: SidecarThread, protocol: int, transaction: bool
) -> None:
    """A pipeline asks SCRIPT EXISTS first and loads what is missing; in MULTI or not, every call is rewritten."""

    def story(client: "Redis") -> list[Reply]:
        pipeline = client.pipeline(transaction=transaction)
        pipeline.ping()
        for text, (named, args) in CALLS.items():
            client.register_script(text)(keys=named, args=args, client=pipeline)
        pipeline.llen(f"{QUEUE}active")
        return pipeline.execute()

    replies = same_replies(server, sidecar, protocol, story)
    assert replies == [True, b"OK", b"OK", message("next"), 1, 1]
    assert_settled(server)


@each_protocol
@pytest.mark.parametrize("transaction", [True, False], ids=["transaction", "plain"])
def test_a_pipeline_before_a_sidecar_that_was_restarted(server: Server, protocol: int, transaction: bool) -> None:
    """Redis still has the scripts and the sidecar has never seen them: a pipeline works as without it, TTLs wait."""

    def story(client: "Redis") -> list[Reply]:
        with server.client() as direct:
            for text in CALLS:
                direct.script_load(text)
        pipeline = client.pipeline(transaction=transaction)
        for text, (named, args) in CALLS.items():
            client.register_script(text)(keys=named, args=args, client=pipeline)
        return pipeline.execute()

    with SidecarThread(server) as sidecar:
        sidecar.start(POLICY)
        assert same_replies(server, sidecar, protocol, story) == [b"OK", b"OK", message("next"), 1]
        assert {state for state, _ in state_of(server).values()} == {"completed", "archived", "active", "pending"}
        assert sidecar.fail_opens() == ({} if transaction else {"unseen": len(CALLS)})


@each_protocol
@pytest.mark.parametrize("transaction", [True, False], ids=["transaction", "plain"])
def test_a_transaction_that_watches(server: Server, sidecar: SidecarThread, protocol: int, transaction: bool) -> None:
    """EVAL in a pipeline behind WATCH is rewritten; if the watched key changes, nothing moves."""

    def story(client: "Redis") -> list[Reply]:
        replies: list[Reply] = []
        for change in (True, False):
            with client.pipeline(transaction=transaction) as pipeline:
                pipeline.watch("guard")
                if change:
                    client.set("guard", "changed")
                pipeline.multi()
                for text in CALLS:
                    by_text(pipeline, text)
                try:
                    replies.append(pipeline.execute())
                except Exception as error:  # noqa: BLE001 - whatever it is, it has to be the same one
                    replies.append(type(error).__name__)
        return replies

    assert same_replies(server, sidecar, protocol, story) == ["WatchError", [b"OK", b"OK", message("next"), 1]]
    assert_settled(server)


@each_protocol
def test_the_asyncio_client(server: Server, sidecar: SidecarThread, protocol: int) -> None:
    """Registered scripts and a pipeline on redis-py's asyncio client, many at a time."""

    async def tell(port: int) -> list[Reply]:
        async with AsyncRedis(port=port, protocol=protocol) as client:
            replies = [
                await client.register_script(text)(keys=CALLS[text][0], args=CALLS[text][1])
                for text in (COMPLETE, ARCHIVE)
            ]
            pipeline = client.pipeline(transaction=False)
            for text in (DEQUEUE, RUN):
                await client.register_script(text)(keys=CALLS[text][0], args=CALLS[text][1], client=pipeline)
            replies += await pipeline.execute()
            pings = await asyncio.gather(*(client.echo(str(number)) for number in range(50)))
            return [*replies, pings]

    def story(client: "Redis") -> list[Reply]:
        return asyncio.run(tell(client.connection_pool.connection_kwargs["port"]))

    replies = same_replies(server, sidecar, protocol, story)
    assert replies[:4] == [b"OK", b"OK", message("next"), 1]
    assert_settled(server)


# --- EVALSHA, EVAL and SCRIPT by hand ----------------------------------------------------------------------


@each_protocol
def test_an_unknown_sha_then_the_text(server: Server, sidecar: SidecarThread, protocol: int) -> None:
    """EVALSHA before any text is NOSCRIPT in Redis's own words; EVAL then works, and after it the SHA does."""

    def story(client: "Redis") -> list[Reply]:
        shas = {text: sha1(text) for text in CALLS}
        first = [answer(partial(by_sha, client, text, shas[text])) for text in CALLS]
        by_eval = [by_text(client, text) for text in CALLS]
        second = [answer(partial(by_sha, client, text, shas[text])) for text in CALLS]
        return [*first, *by_eval, *second]

    replies = same_replies(server, sidecar, protocol, story)
    assert [error for error, _ in replies[:4]] == [NoScriptError] * 4
    assert replies[4:8] == [b"OK", b"OK", message("next"), 1]
    assert replies[8:] == [(ResponseError, "NOT FOUND"), (ResponseError, "NOT FOUND"), message("again"), -1]


@each_protocol
def test_loading_first_and_then_a_pipeline_of_bare_evalsha(
    server: Server, sidecar: SidecarThread, protocol: int
) -> None:
    """SCRIPT LOAD answers with the text's own SHA, and EVALSHA of it needs no text to fall back to."""

    def story(client: "Redis") -> list[Reply]:
        shas = {text: client.script_load(text) for text in CALLS}
        pipeline = client.pipeline(transaction=False)
        for text in CALLS:
            by_sha(pipeline, text, shas[text])
        return [*shas.values(), *pipeline.execute()]

    assert same_replies(server, sidecar, protocol, story)[4:] == [b"OK", b"OK", message("next"), 1]
    assert_settled(server)


@each_protocol
def test_loading_and_calling_in_one_pipeline(server: Server, sidecar: SidecarThread, protocol: int) -> None:
    """SCRIPT LOAD and EVALSHA sent together, with nothing read in between, are rewritten all the same."""

    def story(client: "Redis") -> list[Reply]:
        pipeline = client.pipeline(transaction=False)
        for text in CALLS:
            pipeline.execute_command("SCRIPT LOAD", text)
            by_sha(pipeline, text, sha1(text))
        return pipeline.execute()

    assert same_replies(server, sidecar, protocol, story)[1::2] == [b"OK", b"OK", message("next"), 1]
    assert_settled(server)


@each_protocol
def test_script_exists(server: Server, sidecar: SidecarThread, protocol: int) -> None:
    """SCRIPT EXISTS says what it says directly: 1 after EVAL or SCRIPT LOAD, 0 before it and after a flush."""

    def story(client: "Redis") -> list[Reply]:
        shas = [sha1(text) for text in CALLS]
        replies = [client.script_exists(*shas, "f" * 40, "no sha")]
        for text in CALLS:
            by_text(client, text)
            replies.append(client.script_exists(*shas))
        client.script_flush()
        replies.append(client.script_exists(*shas))
        client.script_load(COMPLETE)
        bare = answer(lambda: client.execute_command("SCRIPT EXISTS"))
        client.eval("return 'no keys'", 0)
        return [*replies, client.script_exists(*shas), client.script_exists(sha1("return 'no keys'")), bare]

    replies = same_replies(server, sidecar, protocol, story)
    assert replies[0] == [False] * 6
    assert [sum(reply) for reply in replies[1:7]] == [1, 2, 3, 4, 0, 1]
    assert replies[7] == [True]


@each_protocol
def test_after_a_flush(server: Server, sidecar: SidecarThread, protocol: int) -> None:
    """After SCRIPT FLUSH an EVALSHA is NOSCRIPT; the EVAL that follows works, sets TTLs, and SCRIPT EXISTS says 1."""

    def story(client: "Redis") -> list[Reply]:
        for text in CALLS:
            client.script_load(text)
        by_text(client, RUN)
        client.script_flush()
        replies: list[Reply] = []
        for text in (COMPLETE, ARCHIVE, DEQUEUE):
            sha = sha1(text)
            replies.append(answer(partial(by_sha, client, text, sha))[0])
            replies += [by_text(client, text), client.script_exists(sha)]
        return replies

    replies = same_replies(server, sidecar, protocol, story)
    assert replies[0::3] == [NoScriptError] * 3
    assert replies[1::3] == [b"OK", b"OK", message("next")]
    assert replies[2::3] == [[True]] * 3
    assert_settled(server)


@each_protocol
@pytest.mark.parametrize("whose", ["own", "somebody else's"])
def test_loading_again_after_a_flush(server: Server, sidecar: SidecarThread, protocol: int, whose: str) -> None:
    """Whoever flushed, a SCRIPT LOAD after it makes EVALSHA work again without a text to fall back to."""

    def story(client: "Redis") -> list[Reply]:
        by_text(client, COMPLETE)
        by_text(client, RUN)
        with server.client() as direct:
            (client if whose == "own" else direct).script_flush()
        return [by_sha(client, text, client.script_load(text)) for text in (ARCHIVE, DEQUEUE)] + [
            answer(partial(by_sha, client, text, client.script_load(text))) for text in (COMPLETE, RUN)
        ]

    replies = same_replies(server, sidecar, protocol, story)
    assert replies == [b"OK", message("next"), (ResponseError, "NOT FOUND"), -2]
    assert_settled(server)


@each_protocol
def test_a_flush_by_somebody_else(server: Server, sidecar: SidecarThread, protocol: int) -> None:
    """Scripts flushed past the sidecar: NOSCRIPT, which redis-py answers with the text, and the TTLs are set."""

    def story(client: "Redis") -> list[Reply]:
        for text in CALLS:
            client.script_load(text)
        run = client.register_script(RUN)
        replies = [run(*CALLS[RUN])]
        with server.client() as direct:
            direct.script_flush()
        return [*replies, *(client.register_script(text)(*CALLS[text]) for text in (COMPLETE, ARCHIVE, DEQUEUE))]

    assert same_replies(server, sidecar, protocol, story) == [1, b"OK", b"OK", message("next")]
    assert_settled(server)


@each_protocol
def test_a_sha_in_upper_case(server: Server, sidecar: SidecarThread, protocol: int) -> None:
    """Redis takes a SHA in either case, and so does the sidecar."""

    def story(client: "Redis") -> list[Reply]:
        shas = [client.script_load(text) for text in CALLS]
        exist = client.script_exists(*(sha.upper() for sha in shas))
        return [exist, *(by_sha(client, text, sha.upper()) for text, sha in zip(CALLS, shas, strict=True))]

    replies = same_replies(server, sidecar, protocol, story)
    assert replies[1:] == [b"OK", b"OK", message("next"), 1]
    assert_settled(server)
