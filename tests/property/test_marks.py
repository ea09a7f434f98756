"""Marks in replies: whatever Redis replies, and however it is cut, the client gets what the scripts have replied."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.events import FIRST_MARK, Action, Decision, Enqueue
from asynq_ttl.session.pending import Pending
from support.conversation import Recorder

CHOICES = tuple(("archived", f"rule {number}") for number in range(30))
ENQUEUE = Enqueue(
    Decision("replace", "asynq.enqueue", "q", "", Action.REPLACED, enforced=True), CHOICES, b"t", b"", b"{}"
)
# Replies that are no marks, whoever has asked.
LINES = [b":0\r\n", b":1\r\n", b":-1\r\n", b"+OK\r\n", b"-ERR :2\r\n", b"$-1\r\n", b"_\r\n"]
OTHERS = st.sampled_from([*LINES, b"$4\r\n:2\r\n\r\n", b"*2\r\n:2\r\n:3\r\n"])
NUMBERS = st.integers(FIRST_MARK, FIRST_MARK + len(CHOICES) - 1)
PUSHES = st.sampled_from([b"", b"", b">2\r\n+m\r\n:2\r\n"])
# A push or none, whether an enqueue is answered, and the answer; a number, for a mark.
ANSWERS = st.lists(st.tuples(PUSHES, st.booleans(), st.one_of(OTHERS, NUMBERS)), max_size=20)


@given(ANSWERS, st.lists(st.integers(1, 9), min_size=1), st.booleans())
def test_whatever_redis_replies_and_however_it_is_cut(
    answers: list[tuple[bytes, bool, bytes | int]], sizes: list[int], stops: bool
) -> None:
    """Only marks change, each into 1; each is told once, in order, also where counting has stopped before they came."""
    recorder = Recorder()
    pending = Pending(recorder, lambda: 0, lambda *_: None)
    sent, wanted = b"", b""
    told: list[str] = []
    for number, (push, enqueues, answer) in enumerate(answers, 1):
        reply = b":%d\r\n" % answer if isinstance(answer, int) else answer
        sent += push + reply
        if enqueues:
            assert pending.await_enqueue(ENQUEUE, number, 0)
        marked = enqueues and isinstance(answer, int)
        wanted += push + (b":1\r\n" if marked else reply)
        told += [CHOICES[int(answer) - FIRST_MARK][1]] if marked else []
    if stops:
        pending.stop()
    out = b""
    for size in itertools.cycle(sizes):
        piece, sent = sent[:size], sent[size:]
        if not piece:
            break
        if pending.marks:
            out += pending.unmark(piece)
        else:
            pending.receive(piece)
            out += piece
    assert out == wanted
    assert [outcome.decision.rule for outcome in recorder.outcomes] == told
    assert (len(pending), len(pending.marks)) == (0, 0)
