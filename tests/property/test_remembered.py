"""What is remembered and what is decided afresh come to the same, whatever is called and whatever changes meanwhile.

So they do with the compiled part of it and without, which are held together byte by byte besides.
"""

import dataclasses
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from asynq_ttl.events import Observer
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import FULL_ROLLOUT, Keep, Mode, Policy, Retention, Rule
from asynq_ttl.rewriting.registry import ScriptRegistry
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.session.session import Session
from asynq_ttl.session.shared import Shared
from asynq_ttl.wire.commands import Command, WholeCommands, encode
from support.conversation import Recorder
from support.small_scripts import ARCHIVE, COMPLETE
from support.task_message import encode_task

T = TypeVar("T")

NOW = 1_700_000_000
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

# As a fork may have it: only the sidecar trims.
ARCHIVE_UNTRIMMED = b"\n".join(line for line in ARCHIVE.split(b"\n") if b"ZREMRANGE" not in line)


def mostly(usual: T, *others: T) -> st.SearchStrategy[T]:
    """Return a value that is usual, so that most calls are like one before, or now and then another one."""
    return st.sampled_from([usual] * (3 * len(others)) + list(others))


KEPT = st.one_of(
    st.builds(Retention, st.just(Keep.TTL), st.sampled_from([1, 3600, 100 * 86_400, 2**53 // 1000])),
    st.sampled_from([Retention(Keep.OWN), Retention(Keep.FOREVER), Retention(Keep.DELETE)]),
)
GLOBS = st.sampled_from([(), (compile_glob("mail"),), (compile_glob("q"), compile_glob("m*"))])
MAY_BE_KEPT = st.one_of(st.none(), KEPT)
RULES = st.builds(Rule, st.just("first"), queues=GLOBS, types=GLOBS, completed=MAY_BE_KEPT, archived=MAY_BE_KEPT)
LAST = st.builds(Rule, st.just("last"), completed=KEPT, archived=KEPT, archived_max=mostly(None, 5))
POLICIES = st.builds(
    Policy,
    st.one_of(st.tuples(LAST), st.tuples(RULES, LAST), st.tuples(RULES)),
    mode=mostly(Mode.ENFORCE, Mode.SHADOW, Mode.OFF),
    rollout=mostly(FULL_ROLLOUT, 5_000, 0),
)

MESSAGES = mostly(
    encode_task("mail", retention_seconds=600),
    encode_task("mail", retention_seconds=3600),
    encode_task("other", retention_seconds=600, headers={"traceparent": TRACE}),
    encode_task("mail", retention_seconds=600, headers={"Traceparent": TRACE, "tracestate": "a=1"}),
    encode_task("mail", retention_seconds=-1),
    encode_task("mail", retention_seconds=600) + b"\x7a\x10\x0a\x0bTraceparent\x12\x01\xff",
    encode_task("mail", retention_seconds=2**63 - 1),
    encode_task("mail", retention_seconds=10**15),
    encode_task("m" * 1_010, retention_seconds=600),
    encode_task("m" * 1_024, retention_seconds=600),
    encode_task(""),
    b"\x0a\x05mail\xff\x60\xd8\x04",  # a type that is not UTF-8, and 600 seconds
    b"",
    b"\xff",
    b"\x62\x01\x02",
)
IDS = st.sampled_from([b"1", b"2", b"\xff", b"", b"\xed\xa0\x80", b"x" * 300])
TIMES = mostly(
    *(b"%d" % NOW, b"%d" % (NOW + 600), b"5", b"-5", b"007", b"", b"9" * 15, b"9" * 16, b"0" * 15 + b"1"),
    *(b"+5", b"5 ", b"5x", b"\xb9", b"0"),
)
CUTOFFS = mostly(
    *(b"%d" % (NOW - 90 * 86_400), b"%d" % (NOW - 60), b"0", b"-1", b"x", b"9" * 15, b"9" * 16, b"", b"\xb2"),
)
CAPS = mostly(b"10000", b"5", b"0", b"-1", b"x", b"", b"9" * 20, b"1" * 1_024)


@st.composite
def calls(draw: st.DrawFn) -> tuple[bytes, Command]:
    """Return the text of a script, and a call of it, whose SHA stands open; most are as Asynq makes them."""
    text = draw(st.sampled_from([COMPLETE, ARCHIVE, ARCHIVE_UNTRIMMED]))
    prefix = b"asynq:{%b}:" % draw(mostly(b"q", b"mail", b"}:", b"", b"\xff", b"q" * 1_000))
    task_id, time, message = draw(IDS), draw(TIMES), draw(MESSAGES)
    named = draw(mostly(task_id, b"1"))
    if text == COMPLETE:
        command = [b"2", prefix + b"completed", prefix + b"t:" + task_id, named, time, message]
    else:
        keys = [prefix + b"t:" + task_id, prefix + b"active", prefix + b"archived"]
        command = [b"3", *keys, named, message, time]
        command += [draw(CUTOFFS), draw(CAPS)] if text == ARCHIVE else []
    return text, [draw(mostly(b"EVALSHA", b"evalsha", b"EvalSha")), b"", *command, *draw(mostly((), (b"more",)))]


# What Redis's clock says.
AT = {
    "agrees": NOW + 0.5,
    "just": float(NOW),
    "early": NOW - 0.5,
    "late": NOW + 7.5,
    "too late": NOW + 8.0,
    "unknown": 0.0,
}
CLOCKS = st.sampled_from(list(AT))
SWITCHES = st.sampled_from(["flushed", "doubted", "refused"])
Event = Policy | str | tuple[bytes, Command]
EVENTS = st.one_of(calls(), calls(), calls(), calls(), calls(), calls(), POLICIES, CLOCKS, SWITCHES)


class Side:
    """A sidecar with one client: one that remembers, or one that is new for each call."""

    def __init__(self, registry: ScriptRegistry, policy: Policy, healed: set[str], *, compiled: bool = True) -> None:
        self.observer = Recorder()
        observer: Observer = self.observer
        self.shared = Shared(registry, Rewriter(policy, healed), observer, lambda: 5, WholeCommands())
        if not compiled:
            self.shared.memory.recall = self.shared.memory._recall
        self.session = Session(self.shared)

    def call(self, chunk: bytes, reply: bytes) -> tuple[object, ...]:
        """Return all that comes of a call: what goes to Redis, what is waited for, what is told."""
        self.observer.outcomes.clear()
        self.observer.failures.clear()
        sent = self.session.receive_downstream(chunk)
        awaited = self.session.waiting_for
        resumed = self.session.resume() if awaited is not None else b""
        self.session.receive_upstream(reply)
        failures = [dataclasses.astuple(failure) for failure in self.observer.failures]
        return sent, awaited, resumed, list(self.observer.outcomes), failures, self.session.pending


@settings(max_examples=200)
@given(
    POLICIES,
    st.lists(EVENTS, min_size=10, max_size=40),
    st.sampled_from([b"+OK\r\n", b":1\r\n", b"-ERR no\r\n", b"-NOSCRIPT x\r\n"]),
)
def test_what_is_remembered_is_what_would_be_decided(policy: Policy, events: list[Event], reply: bytes) -> None:
    """Each call comes to the same, be it the first or the hundredth of its kind."""
    registry, healed = ScriptRegistry(), set[str]()
    scripts = {text: registry.learn(text) for text in (COMPLETE, ARCHIVE, ARCHIVE_UNTRIMMED)}
    for script in scripts.values():
        registry.activated(script)
    remembering = [Side(registry, policy, healed, compiled=compiled) for compiled in (True, False)]
    for event in events:
        if isinstance(event, Policy):
            policy = event
            for side in remembering:
                side.shared.use(Rewriter(policy, healed))
        elif isinstance(event, str):
            _switch(registry, event)
        else:
            text, command = event
            command[1] = scripts[text].sha
            chunk = encode(command)
            for _ in range(2):
                sides = *remembering, Side(registry, policy, set(healed))
                compiled, plain, fresh = (side.call(chunk, reply) for side in sides)
                assert compiled == plain == fresh
            _switch(registry, "activated")


def _switch(registry: ScriptRegistry, how: str) -> None:
    if how in AT:
        registry.clock.note(AT[how], 0.0, 0.0, float)
    for script in registry.wrapped():
        if how == "flushed":
            registry.flushed()
        elif how == "doubted":
            registry.doubted(script.sha)
        elif how == "refused":
            registry.refused(script)
        elif how == "activated":
            registry.activated(script)
