"""What a process does when it is signalled: before there is a loop, while a sidecar serves, and when it hangs."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from asynq_ttl.sidecar import signals as module
from asynq_ttl.sidecar.signals import ENDING, Signals, StoppedEarlyError


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[Signals]:
    """Signals that this process heeds meanwhile, without forcing its end."""
    monkeypatch.setattr(Signals, "_force", lambda _: None)
    before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGHUP)}
    heeded = Signals()
    heeded.heed()
    yield heeded
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_before_there_is_a_loop_the_block_under_way_is_left(number: signal.Signals, signals: Signals) -> None:
    """With status 0; asked again, what the block began still ends undisturbed."""
    ended = []

    def interrupted() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        finally:
            os.kill(os.getpid(), number)
            ended.append("in order")

    with pytest.raises(StoppedEarlyError) as left:
        interrupted()
    assert left.value.code == 0
    assert ended == ["in order"]
    assert signals._deadline is not None


def test_what_must_not_be_left_halfway_is_not(signals: Signals) -> None:
    """The signal is heeded after the block; without one nothing happens."""
    done = []
    with signals.later():
        done.append("quiet")

    def whole() -> None:
        with signals.later():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("whole")

    with pytest.raises(StoppedEarlyError):
        whole()
    assert done == ["quiet", "whole"]


async def test_a_sidecar_hears_of_each_signal(signals: Signals) -> None:
    """Of a reload that was asked for before there was one, too."""
    os.kill(os.getpid(), signal.SIGHUP)
    heard: list[str] = []
    signals.hand_over(lambda: heard.append("end"), lambda: heard.append("reload"), 10.0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(os.getpid(), number)
        await asyncio.sleep(0.01)
    assert heard == ["reload", "end", "reload", "end"]


async def test_the_end_is_sooner_once_it_is_asked_for_twice(signals: Signals) -> None:
    """First the drain has its time, then none."""
    signals.hand_over(lambda: None, lambda: None, 100.0)
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals._deadline == 2050  # steps of 50 ms
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals._deadline == 50
    signals.ends()
    assert signals._deadline == 50


def test_a_loop_that_has_ended_hears_nothing(signals: Signals) -> None:
    """And that is no fault."""

    async def hand_over() -> None:
        signals.hand_over(lambda: None, lambda: None, 0.0)

    asyncio.run(hand_over())
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGHUP)


def test_a_process_that_does_not_heed_them_is_never_forced() -> None:
    """As where a command is run by a program."""
    unheeded = Signals()
    unheeded.ends()
    assert unheeded._deadline is not None


def test_time_that_the_process_did_not_get_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step in which the machine stood still for a minute is one step."""
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += 60

    def end(_status: int) -> None:
        raise SystemExit

    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now[0]))
    monkeypatch.setattr(module, "os", SimpleNamespace(write=lambda *_: None, _exit=end))
    late = Signals()
    late.ends()
    with pytest.raises(SystemExit):
        late._force()
    assert sum(slept) == pytest.approx(module.GRACE_SECONDS)


HANGS = """
import asyncio, signal, sys, threading, time
from asynq_ttl.sidecar import signals as s
s.GRACE_SECONDS = 0.3
signals = s.Signals()
signals.at_last(lambda: print("killed it", flush=True))
signals.heed()
async def hang():
    signals.hand_over(lambda: None, lambda: None, 0.1)
    print("up", flush=True)
    time.sleep(1000)
def hang_at_exit():
    threading.Thread(target=time.sleep, args=(1000,)).start()
    signals.ends()
    print("up", flush=True)
asyncio.run(hang()) if sys.argv[1] == "loop" else hang_at_exit()
"""


@pytest.mark.parametrize("where", ["loop", "exit"])
def test_what_hangs_is_left_behind(where: str) -> None:
    """With one line, status 1, and what must not outlast it ended."""
    with subprocess.Popen(
        [sys.executable, "-c", HANGS, where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        if where == "loop":
            process.terminate()
        out, err = process.communicate(timeout=90)
    assert (process.returncode, out, err) == (1, "killed it\n", "asynq-ttl: something hangs, ended by force\n")
