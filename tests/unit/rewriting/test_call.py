import pytest

from asynq_ttl.events import FailOpen
from asynq_ttl.rewriting.call import Call, NotUnderstood
from asynq_ttl.rewriting.registry import ScriptRegistry
from support.small_scripts import ARCHIVE, RUN_ALL

SCRIPT = ScriptRegistry().learn(ARCHIVE)
KEYS = [b"asynq:{q}:t:id", b"asynq:{q}:active", b"asynq:{q}:archived"]
ARGV = [b"id", b"message", b"2000", b"1000", b"10"]


def call(keys: list[bytes] = KEYS, argv: list[bytes] = ARGV) -> Call:
    """Return a call of the script that archives."""
    return Call(SCRIPT, [b"EVALSHA", SCRIPT.sha, b"%d" % len(keys), *keys, *argv], len(keys))


def test_keys_and_argv_have_their_numbers_in_lua() -> None:
    """They begin at 1."""
    assert call().key(1) == KEYS[0]
    assert call().arg(5) == ARGV[4]
    assert call().number(3) == 2000


@pytest.mark.parametrize(("keys", "argv"), [(KEYS[:2], ARGV), (KEYS, ARGV[:4]), ([], [])])
def test_what_is_not_there_is_not_understood(keys: list[bytes], argv: list[bytes]) -> None:
    """A script gets no wrapper whose parts would read what the call does not have."""
    with pytest.raises(NotUnderstood) as refused:
        call(keys, argv)
    assert refused.value.reason is FailOpen.ARGUMENTS


@pytest.mark.parametrize("text", [b"", b"1.5", b"1e3", b"+1", b" 1", b"0x1", b"9" * 16])
def test_a_number_is_what_all_three_read_alike(text: bytes) -> None:
    """Python, Lua and Redis."""
    with pytest.raises(NotUnderstood, match=r"ARGV\[3\] is no integer"):
        call(argv=[*ARGV[:2], text, *ARGV[3:]]).number(3)


def test_a_task_key_is_the_prefix_and_the_id() -> None:
    """Else it may be another task's."""
    assert call().task_id(b"asynq:{q}:t:") == b"id"
    with pytest.raises(NotUnderstood, match="is not the task's key"):
        call().task_id(b"asynq:{other}:t:")


def test_asynqs_own_limits() -> None:
    """Its retention is the time of death less the cutoff; its cap is off by one."""
    assert call().archive_times() == (2000, 1000, 9)
    assert call(argv=[*ARGV[:4], b"1"]).archive_times() == (2000, 1000, 0)


@pytest.mark.parametrize("cap", [b"0", b"-1"])
def test_a_cap_of_none_is_any_number(cap: bytes) -> None:
    """So scripts say that they do not trim."""
    assert call(argv=[*ARGV[:4], cap]).archive_times() == (2000, 1000, -1)


def test_the_bound_of_a_bulk_script_is_a_number() -> None:
    """The wrapper reads as many of the source as the script does."""
    script = ScriptRegistry().learn(RUN_ALL.replace(b"0, -1", b"0, ARGV[2] - 1"))
    for bound in (b"3", b"all"):
        command = [b"EVALSHA", script.sha, b"2", b"asynq:{q}:archived", b"asynq:{q}:pending", b"asynq:{q}:t:", bound]
        if bound == b"3":
            Call(script, command, 2).check_prefix("q")
        else:
            with pytest.raises(NotUnderstood, match=r"ARGV\[2\] is no integer"):
                Call(script, command, 2).check_prefix("q")
