"""Which of what Sentinels say is believed, and when the master is left, against Sentinels of a few lines."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from asynq_ttl.net.address import Address, parse_upstream
from asynq_ttl.upstream import sentinels as sentinel
from asynq_ttl.upstream.endpoint import Endpoint
from asynq_ttl.upstream.sentinels import Sentinels
from asynq_ttl.wire.commands import WholeCommands
from support.waiting import LONG_SECONDS, until

NAME = "mymaster"
ABOUT = ("+failover-state-send-slaveof-noone", f"slave 127.0.0.1:2 127.0.0.1 2 @ {NAME} 127.0.0.1 1")
GIVEN_UP = ("-failover-abort-slave-timeout", f"master {NAME} 127.0.0.1 1")


class Speaker:
    """A server that answers as a Sentinel and as a Redis: what it is to say is set."""

    def __init__(self) -> None:
        self.role = "master"
        self.says = Address()
        self.epoch = 0
        self.port = 0
        self.talks: set[asyncio.Task[None] | None] = set()
        self._listeners: list[asyncio.StreamWriter] = []

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address("127.0.0.1", self.port)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        self.talks.add(asyncio.current_task())
        with suppress(OSError):
            while data := await reader.read(4096):
                for command in WholeCommands().decode(data) or ():
                    writer.write(self._answer([word.decode().upper() for word in command], writer))
        writer.close()

    def _answer(self, words: list[str], writer: asyncio.StreamWriter) -> bytes:
        match words:
            case ["ROLE"]:
                return f"*1\r\n+{self.role}\r\n".encode()
            case ["SENTINEL", "MASTER", _]:
                return f"*4\r\n+config-epoch\r\n+{self.epoch}\r\n+flags\r\n+master\r\n".encode()
            case ["SENTINEL", *_]:
                return f"*2\r\n+{self.says.host}\r\n+{self.says.port}\r\n".encode()
            case ["SUBSCRIBE" | "PSUBSCRIBE" as how, *channels]:
                self._listeners.append(writer)
                return b"".join(f"*3\r\n+{how.lower()}\r\n+{name}\r\n:1\r\n".encode() for name in channels)
        return b"+OK\r\n"

    def tell(self, channel: str, text: str) -> None:
        """Publish something."""
        kind = "*4\r\n+pmessage\r\n+-failover-abort-*" if channel.startswith("-") else "*3\r\n+message"
        for writer in self._listeners:
            writer.write(f"{kind}\r\n+{channel}\r\n+{text}\r\n".encode())


class Recorder:
    """A follower that takes note of what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    async def leave_master(self, seconds: float) -> None:
        """Take note."""
        self.told.append(("leave_master", "quietly" if seconds else "at once"))

    async def follow_to(self, before: Address | None, now: Address, start_ns: int) -> None:
        """Take note."""
        self.told.append(("follow_to", str(before), str(now)))


@asynccontextmanager
async def speakers(count: int) -> AsyncIterator[list[Speaker]]:
    """Start some; each is a Sentinel, or a Redis, or both."""
    async with AsyncExitStack() as stack:
        found = [Speaker() for _ in range(count)]
        for speaker in found:
            server = await stack.enter_async_context(await asyncio.start_server(speaker.talk, "127.0.0.1", 0))
            speaker.port = server.sockets[0].getsockname()[1]
        yield found
        # Whoever followed has hung up.
        await asyncio.gather(*(talk for speaker in found for talk in speaker.talks if talk is not None))


@asynccontextmanager
async def following(named: list[Speaker]) -> AsyncIterator[tuple[Endpoint, Sentinels, Recorder]]:
    """Follow what some Sentinels say while the block runs."""
    hosts = ",".join(str(speaker.address) for speaker in named)
    endpoint, recorder = Endpoint(parse_upstream(f"redis+sentinel://{hosts}/{NAME}")), Recorder()
    sentinels = Sentinels(endpoint, recorder)
    tasks = [asyncio.create_task(sentinels.follow(speaker.address)) for speaker in named]
    try:
        yield endpoint, sentinels, recorder
    finally:
        while tasks:  # as the server does, since redis-py can swallow a cancellation
            for task in tasks:
                task.cancel()
            tasks = list((await asyncio.wait(tasks, timeout=0.1))[1])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentinel, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(sentinel, "_FIRST_POLL_SECONDS", 0.02)
    # What a test does not wait for does not come because the machine is slow.
    for name in ("_TIMEOUT_SECONDS", "_PATIENCE_SECONDS", "_HOLD_SECONDS"):
        monkeypatch.setattr(sentinel, name, LONG_SECONDS)


async def test_at_the_start_the_newest_word_counts() -> None:
    """A Sentinel that answers first and was cut off for long leads nobody to the old master."""
    async with speakers(5) as (old, new, *named):
        for speaker, place, epoch in zip(named, (old, new, new), (1, 2, 2), strict=True):
            speaker.says, speaker.epoch = place.address, epoch
        async with following(named) as (endpoint, sentinels, recorder):
            await asyncio.wait_for(sentinels.found.wait(), LONG_SECONDS)
            assert endpoint.address == new.address
            await asyncio.sleep(0.3)
            assert recorder.told == [("leave_master", "at once"), ("follow_to", "None", str(new.address))]
            assert (sentinels.switches, sentinels.away, endpoint.held) == (0, 0, False)


async def test_one_sentinel_of_three_is_enough_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are counted as away, and warned of."""
    monkeypatch.setattr(sentinel, "_PATIENCE_SECONDS", 0.2)
    async with speakers(2) as (master, one):
        one.says = master.address
        silent = [Speaker(), Speaker()]
        silent[0].port, silent[1].port = 1, 2
        async with following([one, *silent]) as (endpoint, sentinels, _):
            await asyncio.wait_for(sentinels.found.wait(), LONG_SECONDS)
            assert (endpoint.address, sentinels.away) == (master.address, 2)


async def test_a_newer_epoch_is_believed_at_once_and_an_older_one_not() -> None:
    """Not even while the new master does not answer as one."""
    async with speakers(5) as (old, new, *named):
        for speaker in named:
            speaker.says, speaker.epoch = old.address, 1
        async with following(named) as (endpoint, sentinels, recorder):
            await asyncio.wait_for(sentinels.found.wait(), LONG_SECONDS)
            named[0].says, named[0].epoch = new.address, 2
            await until(lambda: endpoint.address == new.address)
            new.role = "slave"
            named[1].says, named[1].epoch = new.address, 2
            await asyncio.sleep(0.4)
            assert (endpoint.address, sentinels.switches) == (new.address, 1)
            # Set up anew, the majority counts, whatever the epochs.
            for speaker in named:
                speaker.says, speaker.epoch = old.address, 0
            await until(lambda: endpoint.address == old.address)
            assert recorder.told[-1] == ("follow_to", str(new.address), str(old.address))


async def test_a_server_that_is_no_master_is_not_gone_to(caplog: pytest.LogCaptureFixture) -> None:
    """Clients are told why, and so is the log, once."""
    async with speakers(2) as (replica, one):
        replica.role, one.says = "slave", replica.address
        async with following([one]) as (endpoint, _, recorder):
            await until(lambda: "cannot be used" in caplog.text)
            await asyncio.sleep(0.2)
            with pytest.raises(OSError, match=f"mymaster is {replica.address}, but it is a replica"):
                endpoint.arguments()
            assert caplog.text.count("cannot be used") == 1
            assert recorder.told == []


async def test_who_was_asked_is_hung_up_on_whenever_it_ends() -> None:
    """Also where it ends in the very step in which it hangs up: `speakers` waits until nobody is connected."""
    async with speakers(2) as (replica, one):
        replica.role, one.says = "slave", replica.address
        for steps in range(90, 130):  # of the loop: more than from one question to the next
            async with following([one]):
                for _ in range(steps):
                    await asyncio.sleep(0)


async def test_the_master_is_left_before_it_is_demoted(caplog: pytest.LogCaptureFixture) -> None:
    """Clients wait from when a Sentinel announces it until the new master is ready, or until it is given up."""
    caplog.set_level(logging.INFO)
    async with speakers(3) as (old, new, one):
        one.says = old.address
        async with following([one]) as (endpoint, sentinels, recorder):
            await asyncio.wait_for(sentinels.found.wait(), LONG_SECONDS)
            del recorder.told[:]
            one.tell(ABOUT[0], ABOUT[1].replace(NAME, "another"))
            await asyncio.sleep(0.1)
            assert not endpoint.held
            one.tell(*ABOUT)
            await until(lambda: endpoint.held)
            one.tell(*GIVEN_UP)
            await until(lambda: not endpoint.held)
            assert "no other server has become the master" in caplog.text
            one.tell(*ABOUT)
            await until(lambda: endpoint.held)
            one.says, one.epoch = new.address, 1
            await until(lambda: not endpoint.held)
            assert endpoint.address == new.address
            quietly = ("leave_master", "quietly")
            assert recorder.told == [quietly, quietly, ("follow_to", str(old.address), str(new.address))]


async def test_clients_do_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing comes of what was announced they get to the master that there is."""
    monkeypatch.setattr(sentinel, "_HOLD_SECONDS", 0.2)
    async with speakers(2) as (master, one):
        one.says = master.address
        async with following([one]) as (endpoint, sentinels, recorder):
            await asyncio.wait_for(sentinels.found.wait(), LONG_SECONDS)
            one.tell(*ABOUT)
            await until(lambda: ("leave_master", "quietly") in recorder.told)
            await until(lambda: not endpoint.held)
            assert endpoint.address == master.address
