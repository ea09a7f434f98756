"""What runs in the background goes on, whatever it raises."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from asynq_ttl.net.address import Address
from asynq_ttl.sidecar import background as module
from asynq_ttl.sidecar.background import Background, within
from asynq_ttl.sidecar.sidecar import Sidecar
from support.in_process import make_sidecar


async def test_what_raises_is_named_counted_and_begun_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once in the log, each time in the counter; the others do not notice."""
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.001)
    begun: list[str] = []

    async def fail() -> None:
        begun.append("fails")
        raise KeyError("x")

    async def work() -> None:
        begun.append("works")
        await asyncio.sleep(60)

    background = Background()
    background.start("the policy watch", fail)
    background.start("the sweeper", work)
    while begun.count("fails") < 5:  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.001)
    await background.end()
    assert begun.count("works") == 1
    assert background.failures["the policy watch"] >= 4
    assert caplog.messages == ["the policy watch failed and begins again: KeyError"]


PARTS: dict[str, Callable[[Sidecar, pytest.MonkeyPatch, Callable[..., Awaitable[None]]], None]] = {
    "the latency probe": lambda made, patch, fail: patch.setattr(made.telemetry, "loop_late", _raise),
    "the control connection": lambda made, patch, fail: patch.setattr(made.control, "run", fail),
    "the sweeper": lambda made, patch, fail: patch.setattr(made.sweeper, "run", fail),
    "the watch of files": lambda made, patch, fail: patch.setattr(made.files, "run", fail),
    "following Sentinel 127.0.0.1:2": lambda made, patch, fail: patch.setattr(made.sentinels, "follow", fail),
}


def _raise(*_arguments: object) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("name", PARTS)
async def test_each_part_of_a_sidecar_is_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It still listens, and counts; what is of the same kind goes on."""
    upstream = "redis+sentinel://127.0.0.1:1,127.0.0.1:2/m" if "Sentinel" in name else "redis://127.0.0.1:1/0"
    made = make_sidecar(upstream, policy_file=Path("/none"))
    other = asyncio.Event()

    async def fail(address: Address | None = None) -> None:
        if address is not None and address.port == 1:
            other.set()
            await asyncio.sleep(60)
        raise ZeroDivisionError

    PARTS[name](made, monkeypatch, fail)
    async with made.running() as address:
        while not made.background.failures[name]:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
        _, writer = await asyncio.open_connection(address.host, address.port)
        writer.close()
    assert other.is_set() == ("Sentinel" in name)
    assert set(made.background.failures) == {name}


async def test_what_hangs_or_raises_at_the_end_keeps_nothing_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left behind, even where it swallows its cancellation each time."""
    monkeypatch.setattr(module, "_CANCEL_SECONDS", 0.01)
    ended: list[str] = []
    over = asyncio.Event()

    async def hang() -> None:
        while not over.is_set():
            with suppress(asyncio.CancelledError):
                await over.wait()

    async def fail() -> None:
        raise KeyError("x")

    async def work() -> None:
        ended.append("well")

    background = Background()
    background.start("what hangs", hang)
    await asyncio.sleep(0)
    await background.end()
    await within(0.05, hang(), fail(), work())
    assert ended == ["well"]
    assert caplog.messages == ["ending: KeyError"]
    over.set()
    await asyncio.sleep(0.01)


async def test_what_is_raised_instead_of_a_cancellation_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """As by redis-py, whose connection was closed by a cancellation that `asyncio.wait_for` then swallowed."""
    background = module.Background()

    async def work() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        raise RuntimeError

    background.start("a", work)
    await asyncio.sleep(0)
    await background.end()
    assert not background.failures
    assert not caplog.messages


async def test_one_is_stopped_and_then_ended() -> None:
    """The others go on; whoever ends all does not wait for what ends it."""
    log: list[str] = []
    background = module.Background()

    async def work(name: str) -> None:
        log.append(name)
        await asyncio.Event().wait()

    async def end() -> None:
        log.append("ended")

    background.start("one", lambda: work("one"))
    background.start("two", lambda: work("two"))
    await asyncio.sleep(0)
    background.stop("one", end)
    await asyncio.sleep(0.05)
    assert log == ["one", "two", "ended"]
    background.start("one", lambda: work("again"))
    await asyncio.sleep(0)
    await background.end()
    assert log[-1] == "again"
