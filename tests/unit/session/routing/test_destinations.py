"""Where commands go: by their first key, or by what they are."""

import importlib.util
from collections.abc import Callable
from collections.abc import Set as AbstractSet

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asynq_ttl.session.routing import destinations as module
from asynq_ttl.session.routing.destinations import UNUSUAL, Role, first_key, name_of, role_of
from asynq_ttl.wire.cluster.slots import slot_of
from asynq_ttl.wire.commands import Command, WholeCommands, encode, is_plain
from support.resp_pieces import CHUNKS, COMMANDS
from support.uncompiled import uncompiled

PLAIN = uncompiled(module, "asynq_ttl.session.routing._destinations")
assert PLAIN._compiled_slot is None
QUICK: list[Callable[[bytes, AbstractSet[bytes]], int]] = [module.quick_slot, PLAIN.quick_slot]
# Keys with and without a hash tag.
KEYS = st.one_of(st.binary(max_size=40), st.lists(st.sampled_from(b"{}ab"), max_size=8).map(bytes))
NAMES = st.sampled_from([b"GET", b"module.set", b"x" * 32, b"x" * 33, b"script", b"Ping", b""])


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("GET a", "a"),
        ("get a", "a"),
        ("MODULE.SET a b", "a"),
        ("MSET a 1 b 2", "a"),
        ("PING", None),
        ("PING a", None),
        ("GET", None),
        ("PUBLISH a b", None),
        ("SPUBLISH a b", "a"),
        ("SSUBSCRIBE a", "a"),
        ("OBJECT ENCODING a", "a"),
        ("OBJECT HELP", None),
        ("MEMORY USAGE a", "a"),
        ("MEMORY DOCTOR", None),
        ("BITOP AND a b", "a"),
        ("XGROUP CREATE a g $", "a"),
        ("EVAL s 2 a b c", "a"),
        ("EVAL s 0 a", None),
        ("EVAL s 00 a", None),
        ("EVAL s x a", None),
        ("EVAL s", None),
        ("EVALSHA s 1", None),
        ("FCALL f 1 a", "a"),
        ("LMPOP 2 a b LEFT", "a"),
        ("BLMPOP 0 2 a b LEFT", "a"),
        ("ZUNION 2 a b", "a"),
        ("ZUNIONSTORE a 2 b c", "a"),
        ("XREAD COUNT 1 STREAMS a b 0 0", "a"),
        ("XREAD streams a 0", "a"),
        ("XREADGROUP GROUP g STREAMS STREAMS a >", "a"),
        ("XREAD COUNT 1", None),
        ("MIGRATE h 1 a 0 1", "a"),
        ("MIGRATE h 1  0 1 KEYS a b", "a"),
        ("MIGRATE h 1", None),
        ("CLUSTER KEYSLOT a", None),
    ],
)
def test_the_first_key(text: str, key: str | None) -> None:
    """Right behind the name, elsewhere, or nowhere."""
    assert first_key(text.encode().split(b" ")) == (None if key is None else key.encode())


def quickly(chunk: bytes) -> int:
    """Return the slot that is told quickly; compiled or not, it is the same."""
    told = [quick(chunk, UNUSUAL) for quick in QUICK]
    assert told[0] == told[1]
    return told[0]


@pytest.mark.compiled
def test_the_compiled_part_is_there() -> None:
    """It is tested here, so it has to be built here: a C compiler and Python's headers are needed for that."""
    assert importlib.util.find_spec("asynq_ttl.session.routing._destinations") is not None


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("GET a", "a"),
        ("get a", "a"),
        ("GET", None),
        ("PING x", None),
        ("script load x", None),
        ("OBJECT ENCODING a", None),
        ("EVALSHA s 1 a", "a"),
        ("evalsha s 99 a", "a"),
        ("EVALSHA s 10 {b}a", "b"),
        ("EVALSHA s 0 a", None),
        ("EVALSHA s 01 a", None),
        ("EVALSHA s 100 a", None),
        ("EVALSHA s 1x a", None),
        ("EVALSHA s  a", None),
        ("EVALSHA s 1", None),
        ("EvalSha s 1 a", None),
        ("EVAL s 1 a", None),
        ("MGET" + " a" * 98, "a"),
        ("MGET" + " a" * 99, None),
        ("x" * 32 + " a", "a"),
        ("x" * 33 + " a", None),
    ],
)
def test_what_can_be_told_quickly(text: str, key: str | None) -> None:
    """Is what the long way says; where there is doubt, nothing is said."""
    command = text.encode().split(b" ")
    assert quickly(encode(command)) == (-1 if key is None else slot_of(key.encode()))
    if key is not None:
        assert slot_of(first_key(command) or b"") == slot_of(key.encode())
        assert role_of(command) is Role.KEY


@given(command=st.one_of(COMMANDS, st.tuples(NAMES, KEYS).map(list)))
@example(command=[b"get", b"{}a"])
@example(command=[b"get", b"a{b}{c}"])
@example(command=[b"get", b"a}{b"])
def test_the_slot_is_that_of_the_first_key(command: Command) -> None:
    """Whatever the key is."""
    slot = quickly(encode(command))
    assert slot == -1 or (slot == slot_of(first_key(command) or b"") and role_of(command) is Role.KEY)
    if command[0] == b"GET" and len(command) > 1:
        assert slot != -1


@given(chunk=CHUNKS, command=COMMANDS, cut=st.integers(1, 30))
@example(chunk=b"*2\r\n$1\r\na\r\n+b\r\n", command=[b"get", b"a"], cut=1)
@example(chunk=b"*2\r\n$1\r\na\r\n$-1\r\n", command=[b"get", b"a"], cut=2)
@example(chunk=b"*2\r\n$1\r\na\r\n$01\r\nb\r\n", command=[b"get", b"a"], cut=2)
def test_what_is_no_lone_plain_command_is_looked_at_more_closely(chunk: bytes, command: Command, cut: int) -> None:
    """Its end is missing, or there is more behind it; or it is none at all, unless it happens to be one."""
    whole = encode(command)
    assert quickly(whole[:-cut]) == quickly(whole + whole) == quickly(whole + b"x") == -1
    if quickly(chunk) != -1:
        commands = WholeCommands().decode(chunk)
        assert commands is not None
        assert len(commands) == 1
        assert is_plain(commands, chunk)


@pytest.mark.parametrize(
    ("text", "role", "name"),
    [
        ("GET a", Role.KEY, "GET"),
        ("script load x", Role.SPAN, "SCRIPT|LOAD"),
        ("SCRIPT", Role.KEY, "SCRIPT"),
        ("SCRIPT HELP", Role.KEY, "SCRIPT|HELP"),
        ("client setname x", Role.STATE, "CLIENT|SETNAME"),
        ("CLIENT ID", Role.KEY, "CLIENT|ID"),
        ("CLIENT REPLY OFF", Role.PIN, "CLIENT|REPLY"),
        ("hello 3", Role.STATE, "HELLO"),
        ("SUBSCRIBE a", Role.PIN, "SUBSCRIBE"),
        ("EXEC", Role.END_MULTI, "EXEC"),
    ],
)
def test_roles(text: str, role: Role, name: str) -> None:
    """By the name, in any case, and by the subcommand where that matters."""
    command = text.encode().split(b" ")
    assert (role_of(command), name_of(command)) == (role, name.encode())
