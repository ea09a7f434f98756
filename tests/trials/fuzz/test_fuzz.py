"""What was ever found by fuzzing, and every chunk of a real conversation, through the targets of `make fuzz`."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from asynq_ttl.asynq.script_shape import Shape
from asynq_ttl.rewriting.call import Rewrite
from asynq_ttl.rewriting.registry import sha_of
from asynq_ttl.rewriting.wrappers import wrap
from asynq_ttl.session.script_calls import _rewritten
from asynq_ttl.wire.commands import HOLD_BYTES, MAX_HELD_BYTES, Command, encode
from support.conversation import INDEX, TASK, dequeue
from support.servers import Server, start_path_redis, start_redis, start_valkey
from support.task_message import encode_task
from trials.fuzz import mutations
from trials.fuzz.corpus import record
from trials.fuzz.mutations import TIDY_COMPLETE, TIDY_DEQUEUE
from trials.fuzz.targets import TARGETS
from trials.fuzz.twins import Twins

REGRESSIONS = Path(__file__).with_name("regressions")
CALL = (b"2", INDEX, TASK, b"1", b"1700003600", encode_task("mail", "1", retention_seconds=3600))
# `make fuzz-differential` tries as many as come in a minute.
STREAMS = 150
WHOLE, CUT = bytes([0, 1, 0]), bytes([100, 0, 0])
Start = Callable[[], AbstractContextManager[Server]]


@pytest.fixture(
    scope="module", params=[start_redis, start_valkey, pytest.param(start_path_redis, marks=pytest.mark.system)]
)
def twins(request: pytest.FixtureRequest) -> Iterator[Twins]:
    """Two servers of each kind in turn, one of them behind a session."""
    start: Start = request.param
    with start() as direct, start() as behind:
        yield (pair := Twins(direct, behind))
        pair.close()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A real conversation, chunk by chunk."""
    folder = tmp_path_factory.mktemp("corpus")
    assert record(folder) > 50
    return [path.read_bytes() for path in sorted(folder.glob("*/*"))]


@pytest.mark.parametrize("target", TARGETS)
def test_a_real_conversation_keeps_the_invariants(target: str, corpus: list[bytes]) -> None:
    """However it is cut, and with any byte of it changed."""
    source = random.Random(target)
    for sample in corpus:
        for cut in (0, 6, 127, 130, 255):
            data = bytearray(bytes([cut]) + sample[1:])
            TARGETS[target](bytes(data))
            data[source.randrange(len(data))] = source.choice(b"*$\r\n:0-~x")
            TARGETS[target](bytes(data))


@pytest.mark.parametrize(
    "path",
    [path for target in TARGETS for path in sorted(REGRESSIONS.glob(f"{target}/*"))],
    ids=lambda path: f"{path.parent.name}-{path.name}",
)
def test_what_was_found_stays_mended(path: Path) -> None:
    """Each input that a fuzzer once failed on passes its target."""
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("path", sorted(REGRESSIONS.glob("differential/*")), ids=lambda path: path.name)
def test_what_made_a_difference_makes_none(path: Path, twins: Twins) -> None:
    """Each stream for which a session and a server once differed, or may differ in a known way only."""
    twins.compare(path.read_bytes())


@pytest.mark.timeout(600)
def test_nobody_can_tell_a_session_from_its_server(twins: Twins) -> None:
    """Commands of all sorts, damaged, cut anywhere, get the same replies and do the same: new ones each time."""
    seed = random.randrange(2**32)
    for count in range(STREAMS):
        source = random.Random(seed + count)
        data = mutations.stream(source)
        for _ in range(source.choice((0, 0, 1, 1, 2, 3, 5))):
            data = mutations.mutate(data, source)
        try:
            twins.compare(data)
        except AssertionError as error:
            raise AssertionError(f"input: {data!r}") from error


def _talkative_wrap(text: bytes, shape: Shape) -> bytes:
    wrapped = wrap(text, shape)
    return wrapped.replace(b"return asynq_ttl_reply", b"return 1")


def _forgetful_rewriting(rewrite: Rewrite, name: bytes, command: Command, keys: int) -> Command:
    return _rewritten(rewrite, name, command, keys)[:-1]


def _hasty_count(_chunk: bytes) -> int:
    return 1


FAULTS: dict[str, tuple[str, Callable[..., object], list[tuple[bytes, ...]]]] = {
    "another reply": ("asynq_ttl.rewriting.registry.wrap", _talkative_wrap, [(b"EVAL", TIDY_COMPLETE, *CALL)]),
    "another count": (
        "asynq_ttl.session.pending.count_replies",
        _hasty_count,
        [(b"PING",), (b"LRANGE", b"l", b"0", b"-1")],
    ),
    "an argument too few": (
        "asynq_ttl.session.script_calls._rewritten",
        _forgetful_rewriting,
        [(b"EVAL", TIDY_COMPLETE, *CALL)],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_difference_is_noticed(twins: Twins, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """A session that is broken on purpose differs from its server."""
    name, wrong, commands = FAULTS[fault]
    stream = WHOLE + b"".join(map(encode, [*commands, (b"EVALSHA", sha_of(TIDY_COMPLETE), *CALL), (b"PING",)]))
    twins.compare(stream)
    monkeypatch.setattr(name, wrong)
    with pytest.raises(AssertionError):
        twins.compare(stream)


@pytest.mark.parametrize("manner", [WHOLE, CUT], ids=["whole", "cut"])
@pytest.mark.parametrize("size", [HOLD_BYTES + step for step in (-200, -50, -1, 0, 1, 50)])
def test_nobody_can_tell_at_the_limit(twins: Twins, manner: bytes, size: int) -> None:
    """Commands and texts of about 64 KiB, from which on only what may be rewritten is held."""
    filler = b"x" * size
    text = b"--" + filler[len(TIDY_COMPLETE) + 3 :] + b"\n" + TIDY_COMPLETE
    stream = [(b"ECHO", filler), (b"SET", filler, b"v"), (b"EVAL", text, *CALL), (b"EVALSHA", sha_of(text), *CALL)]
    stream += [(b"SCRIPT", b"LOAD", TIDY_DEQUEUE), (*dequeue(sha_of(TIDY_DEQUEUE)), filler), (b"GET", filler)]
    twins.compare(manner + b"".join(map(encode, stream)))


def test_who_tracks_keys_may_be_told_more_of_them_but_never_less(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrapper reads more of a task than its original, so the server has more to tell a client that tracks keys."""
    stream = [(b"HELLO", b"3"), (b"CLIENT", b"TRACKING", b"ON"), (b"EVAL", TIDY_COMPLETE, *CALL), (b"PING",)]
    data = WHOLE + b"".join(map(encode, stream))
    twins.compare(data)
    monkeypatch.setattr("trials.fuzz.twins._unwrapped", lambda told, _: told.replace(b"invalidate", b"forgotten!"))
    with pytest.raises(AssertionError):
        twins.compare(data)


@pytest.mark.parametrize("start", [start_redis, start_valkey])
def test_nobody_can_tell_a_command_that_is_too_large_to_be_held(start: Start) -> None:
    """Past 64 MiB a script call is let through as it came."""
    call = (*CALL, b"x" * (MAX_HELD_BYTES + 1000))
    stream = [(b"SCRIPT", b"LOAD", TIDY_COMPLETE), (b"EVALSHA", sha_of(TIDY_COMPLETE), *call), (b"PING",)]
    with start() as direct, start() as behind:
        pair = Twins(direct, behind, watch=False)
        pair.compare(WHOLE + b"".join(map(encode, stream)))
        pair.close()
