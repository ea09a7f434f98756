"""Which nodes a cluster has, by what nodes of a few lines say, and which of them is believed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from asynq_ttl.net.address import Address, parse_upstream
from asynq_ttl.rewriting.registry import ScriptRegistry
from asynq_ttl.upstream import cluster as module
from asynq_ttl.upstream.cluster import Cluster, Member, endpoint_at
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint
from asynq_ttl.wire.cluster.topology import View
from asynq_ttl.wire.commands import WholeCommands

IDS = [letter * 40 for letter in "abcdef"]


class Speaker:
    """A node that says of the cluster what a test sets."""

    def __init__(self, number: int) -> None:
        self.id = IDS[number]
        self.port = 0
        self.nodes = ""
        self.slots = b"*0\r\n"
        self.asked: list[str] = []
        self.talks: set[asyncio.Task[None] | None] = set()

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address("127.0.0.1", self.port)

    def line(self, slots: str = "", *, flags: str = "master", epoch: int = 1, host: str = "127.0.0.1") -> str:
        """Return its line in CLUSTER NODES."""
        return f"{self.id} {host}:{self.port}@1 {flags} - 0 0 {epoch} connected {slots}".rstrip()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        self.talks.add(asyncio.current_task())
        with suppress(OSError):
            while data := await reader.read(4096):
                for command in WholeCommands().decode(data) or ():
                    writer.write(self._answer(b" ".join(command).decode()))
        writer.close()

    def _answer(self, words: str) -> bytes:
        self.asked.append(words)
        if words == "CLUSTER NODES":
            return f"${len(self.nodes)}\r\n{self.nodes}\r\n".encode()
        return self.slots if words == "CLUSTER SLOTS" else b"+OK\r\n"


class Company:
    """Who has to know the nodes: takes note of what it is told."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.told: list[str] = []
        self.views: list[View] = []

    def enlist(self, node_id: str, address: Address) -> Member:
        """Take note."""
        self.told.append(f"{node_id[0]} came")
        endpoint, registry = endpoint_at(self.endpoint, address), ScriptRegistry()
        return Member(node_id, endpoint, registry, ControlConnection(endpoint, registry, lambda _: None))

    def dismiss(self, member: Member) -> None:
        """Take note."""
        self.told.append(f"{member.id[0]} went")

    def viewed(self, view: View) -> None:
        """Take note."""
        self.views.append(view)


@asynccontextmanager
async def speakers(count: int) -> AsyncIterator[list[Speaker]]:
    """Start some nodes."""
    async with AsyncExitStack() as stack:
        found = [Speaker(number) for number in range(count)]
        for speaker in found:
            server = await stack.enter_async_context(await asyncio.start_server(speaker.talk, "127.0.0.1", 0))
            speaker.port = server.sockets[0].getsockname()[1]
        yield found
        await asyncio.gather(*(talk for speaker in found for talk in speaker.talks if talk is not None))


def agree(nodes: list[Speaker], *lines: str) -> None:
    """Let nodes say the same."""
    for node in nodes:
        node.nodes = "\n".join(lines) + "\n"


@asynccontextmanager
async def following(*named: Speaker) -> AsyncIterator[tuple[Cluster, Company]]:
    """Follow a cluster while the block runs."""
    hosts = ",".join(str(speaker.address) for speaker in named)
    endpoint = Endpoint(parse_upstream(f"redis+cluster://{hosts}"))
    company = Company(endpoint)
    cluster = Cluster(endpoint, company)
    task = asyncio.create_task(cluster.follow())
    try:
        yield cluster, company
    finally:
        while not task.done():  # redis-py can swallow a cancellation
            task.cancel()
            await asyncio.wait([task], timeout=1)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not come to hold")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask often."""
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.03)
    monkeypatch.setattr(module, "_LEAST_SECONDS", 0.01)


async def test_all_nodes_are_found_by_one() -> None:
    """Masters and replicas; one that has no address, and one that nobody has met, are not."""
    async with speakers(3) as (one, two, three):
        agree(
            [one],
            one.line("0-8191", flags="myself,master"),
            two.line("8192-16383"),
            three.line(flags="slave"),
            f"{IDS[3]} :0@0 master,noaddr - 0 0 1 disconnected",
            f"{IDS[4]} 127.0.0.1:1@1 handshake - 0 0 1 connected",
        )
        async with following(one) as (cluster, company):
            await asyncio.wait_for(cluster.found.wait(), 5)
            assert {member.id: member.address for member in cluster.members.values()} == {
                node.id: node.address for node in (one, two, three)
            }
            assert [member.id for member in cluster.masters] == [one.id, two.id]
            assert (cluster.problem, cluster.changes) == ("", 4)
            assert company.views[0].owner(9000) is not None
            assert cluster.view is company.views[-1]


async def test_a_node_may_be_called_otherwise_by_clients() -> None:
    """By a name that it prefers; or at the host of the one that was asked, if it has none."""
    async with speakers(3) as (one, two, three):
        agree([one], one.line("0-9", host=""), two.line("10-16383", host="10.0.0.9"), three.line(host="10.0.0.8"))
        nodes = [b"*3\r\n$-1\r\n:%d\r\n$40\r\n%b\r\n" % (one.port, one.id.encode())]
        nodes += [b"*3\r\n$9\r\nlocalhost\r\n:%d\r\n$40\r\n%b\r\n" % (two.port, two.id.encode())]
        one.slots = b"*2\r\n*3\r\n:0\r\n:9\r\n" + nodes[0] + b"*3\r\n:10\r\n:16383\r\n" + nodes[1]
        async with following(one) as (cluster, _):
            await asyncio.wait_for(cluster.found.wait(), 5)
            assert [str(cluster.members[node.id].address) for node in (one, two, three)] == [
                str(one.address), f"localhost:{two.port}", f"10.0.0.8:{three.port}",
            ]  # fmt: skip
            one.asked.clear()
            await until(lambda: one.asked.count("CLUSTER NODES") > 3)
            assert "CLUSTER SLOTS" not in one.asked  # nothing has changed


async def test_no_node_that_is_cut_off_is_believed() -> None:
    """Nor one that was reset, nor one that is behind."""
    async with speakers(3) as nodes:
        one, two, three = nodes
        agree(nodes, one.line("0-9"), two.line("10-19"), three.line("20-16383", epoch=7))
        async with following(*nodes) as (cluster, company):
            await asyncio.wait_for(cluster.found.wait(), 5)
            one.nodes = f"{one.line('0-9', epoch=9)}\n{two.line('10-19', flags='master,fail')}\n" + three.line(
                "20-16383", flags="master,fail?"
            )
            two.nodes = two.line("0-16383", epoch=9)
            seen = len(company.views)
            await until(lambda: len(company.views) > seen + 5)
            assert all(view.epoch == 7 for view in company.views)
            agree([two], one.line("0-9"), two.line("10-16383", epoch=8), three.line("", epoch=7))
            await until(lambda: company.views[-1].epoch == 8)
            seen = len(company.views)
            await until(lambda: len(company.views) > seen + 5)
            assert company.views[-1].epoch == 8


async def test_where_nobody_is_believed_it_is_said_why() -> None:
    """A node that does not answer, or one that sees no other."""
    async with speakers(2) as (one, two):
        agree([one], one.line("0-9"), two.line("10-16383", flags="master,fail"))
        async with following(one) as (cluster, _):
            await until(lambda: cluster.problem == "no node of the cluster sees most of its masters")
            one.nodes = "what"
            await until(lambda: cluster.problem.startswith(f"{one.address}: "))
            assert not cluster.found.is_set()


async def test_who_is_not_named_any_more_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at once: the one that was asked may have met the others just now."""
    async with speakers(2) as (one, two):
        agree([one], one.line("0-16383"), two.line())
        async with following(one) as (cluster, company):
            await asyncio.wait_for(cluster.found.wait(), 5)
            agree([one], one.line("0-16383"))
            seen = len(company.views)
            await until(lambda: len(company.views) > seen + 3)
            assert two.id in cluster.members
            monkeypatch.setattr(module, "_FORGET_SECONDS", 0.01)
            await until(lambda: two.id not in cluster.members)
            assert company.told == ["a came", "b came", "b went"]


async def test_a_node_that_moves_stays_the_same_member() -> None:
    """Its connections begin anew where it is."""
    async with speakers(2) as (one, two):
        agree([one], one.line("0-16383"))
        async with following(one) as (cluster, company):
            await asyncio.wait_for(cluster.found.wait(), 5)
            member = cluster.members[one.id]
            agree([one, two], one.line("0-16383").replace(str(one.port), str(two.port)))
            await until(lambda: member.address == two.address)
            assert company.told == ["a came"]


async def test_a_cluster_of_which_nothing_is_left_is_found_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody has confirmed for long what is known, whoever answers is believed."""
    async with speakers(2) as (one, two):
        agree([one, two], one.line("0-16383", epoch=9))
        async with following(one) as (cluster, _):
            await asyncio.wait_for(cluster.found.wait(), 5)
            one.id = IDS[5]
            agree([one, two], one.line("0-16383"))
            await asyncio.sleep(0.1)
            assert IDS[5] not in cluster.members
            monkeypatch.setattr(module, "_UNCONFIRMED_SECONDS", 0.01)
            await until(lambda: IDS[5] in cluster.members)


async def test_a_node_that_is_forgotten_is_hung_up_on_also_where_that_is_cancelled() -> None:
    """At whichever step of the loop: the node does not wait for ever for its client's end."""
    for steps in range(12):
        async with speakers(2) as (one, two):
            agree([one, two], one.line("0-16383"))
            endpoint = Endpoint(parse_upstream(f"redis+cluster://{one.address}"))
            cluster = Cluster(endpoint, Company(endpoint))
            await cluster._client(two.address).execute_command("PING")
            closing = asyncio.create_task(cluster._forget_clients())
            for _ in range(steps):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)
            if not steps:  # cancelled before it began
                await cluster._forget_clients()
