"""Replies that pass as they came: compiled or not, the same ones pass, and all else is given on."""

import gc
import importlib.util
import weakref
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asynq_ttl.session import passing as module
from asynq_ttl.wire.replies import ReplyCounter
from support.resp_pieces import CHUNKS
from support.uncompiled import uncompiled

PLAIN = uncompiled(module, "asynq_ttl.session._passing")
assert PLAIN.Passing is PLAIN._Passing


class Compiled(module.Passing):
    """Keeps what does not pass, and gives the client something else for it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[bytes] = []

    def receive_slowly(self, data: bytes) -> bytes:
        """Keep it."""
        self.kept.append(data)
        return data[:1].swapcase()


class Plain(PLAIN.Passing):  # type: ignore[name-defined, misc] # loaded just now
    """The same, not compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[bytes] = []

    receive_slowly = Compiled.receive_slowly


Either = Callable[[], Compiled]
BOTH = pytest.mark.parametrize("kind", [Compiled, Plain])


@pytest.mark.compiled
def test_the_compiled_part_is_there() -> None:
    """It is tested here, so it has to be built here: a C compiler and Python's headers are needed for that."""
    assert importlib.util.find_spec("asynq_ttl.session._passing") is not None
    assert module.Passing is not module._Passing  # type: ignore[comparison-overlap] # as it is told to mypy


@BOTH
@pytest.mark.parametrize("reply", [b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"$3\r\n\n-b\r\n", b"$0\r\n\r\n"])
def test_a_whole_reply_passes_and_is_counted(kind: Either, reply: bytes) -> None:
    """It is the very same object."""
    one = kind()
    assert one.receive(reply) is reply
    assert (one.replies, one.kept) == (1, [])


@BOTH
@pytest.mark.parametrize(
    "data", [b"-MOVED 1 a:1\r\n", b"+OK\r\n-ASK 1 a:1\r\n", b"+OK", b">1\r\n+a\r\n", b"*0\r\n", b""]
)
def test_an_error_and_what_is_no_whole_reply_do_not(kind: Either, data: bytes) -> None:
    """Somebody else looks at them."""
    one = kind()
    assert one.receive(data) == data[:1]
    assert (one.replies, one.kept) == (0, [data])


@pytest.mark.compiled
@BOTH
def test_nothing_passes_while_it_is_not_quiet(kind: Either) -> None:
    """A reply may be due that names nodes, or one has begun."""
    one = kind()
    assert one.quiet is True
    one.quiet = False
    one.receive(b"+OK\r\n")
    assert (one.replies, one.kept) == (0, [b"+OK\r\n"])
    one.quiet = True
    one.replies = 7
    one.receive(b"+OK\r\n:1\r\n")
    assert one.replies == 9


@given(chunks=st.lists(st.one_of(CHUNKS, st.binary(max_size=8)), min_size=1, max_size=4))
@example(chunks=[b"$4\r\n\r\n-a\r\n+OK\r\n"])
@example(chunks=[b"+OK\r\n$4\r\na\n-b\r\n"])
def test_what_passes_is_whole_replies_without_an_error(chunks: list[bytes]) -> None:
    """The compiled part and the other count the same, and what they count the counter of replies does."""
    for data in chunks:
        compiled, plain = Compiled(), Plain()
        got = [one.receive(data) for one in (compiled, plain)]
        assert (compiled.replies, compiled.kept) == (plain.replies, plain.kept)
        assert got[0] == got[1]
        if compiled.replies:
            counter = ReplyCounter()
            assert counter.feed(data) == compiled.replies
            assert counter.between
            assert not any(head.startswith(b"-") for head in counter.heads)


@BOTH
def test_the_client_is_given_what_it_gets(kind: Either) -> None:
    """Nothing where that is nothing. What goes wrong there is not hidden."""
    one = kind()
    got: list[bytes] = []
    received = one.lead_to(got.append)
    for data in (b"+OK\r\n", b"abc", b""):
        received(data)
    assert got == [b"+OK\r\n", b"A"]

    def refuse(_data: bytes) -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        one.lead_to(refuse)(b"+OK\r\n")


@pytest.mark.parametrize("kind", [module.Passing, PLAIN.Passing])
def test_what_does_not_pass_is_a_subclass_s(kind: Callable[[], module.Passing]) -> None:
    """There is no other."""
    with pytest.raises(NotImplementedError):
        kind().receive(b"-ERR no\r\n")
    with pytest.raises(NotImplementedError):
        kind().lead_to(print)(b"-ERR no\r\n")


@BOTH
def test_nothing_is_kept_alive(kind: Either) -> None:
    """Not by who leads to a client that has a hold of it."""
    one = kind()
    gone = weakref.ref(one)
    one.client = one.lead_to(one.kept.append)  # type: ignore[attr-defined] # as a connection does
    del one
    gc.collect()
    assert gone() is None
