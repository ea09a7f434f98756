"""Where commands go: by their first key, or by what they are."""

import pytest

from asynq_ttl.session.routing.destinations import Role, first_key, name_of, quick_key, role_of


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
        ("EVALSHA s 0 a", None),
        ("EVALSHA s 1", None),
        ("EvalSha s 1 a", None),
        ("EVAL s 1 a", None),
    ],
)
def test_what_can_be_told_quickly(text: str, key: str | None) -> None:
    """Is what the long way says; where there is doubt, nothing is said."""
    command = text.encode().split(b" ")
    assert quick_key(command) == (None if key is None else key.encode())
    assert quick_key(command) in (None, first_key(command))


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
