"""Which databases clients are in, and which are remembered for the sweeper."""

import pytest

import asynq_ttl.session.selected
from asynq_ttl.rewriting.registry import sha_of
from support.conversation import Conversation, complete
from support.small_scripts import COMPLETE

OK = b"+OK\r\n"
COMPLETE_SHA = sha_of(COMPLETE)


def test_the_databases_that_clients_select_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """All sessions note them in one place, up to a limit; past it a SELECT still counts for its own connection."""
    monkeypatch.setattr(asynq_ttl.session.selected, "MAX_DATABASES", 3)
    talk = Conversation()
    before = set(talk.shared.databases)
    talk.downstream_sends(*((b"SELECT", b"%d" % number) for number in (5, 5, 6, 7, 8, 9)))
    assert talk.shared.databases == before
    talk.upstream_replies(OK * 6)
    assert len(talk.shared.databases) == 3
    assert talk.shared.databases - before <= {5, 6, 7, 8}
    assert talk.session.database == 9


@pytest.mark.parametrize("refusal", [b"-ERR DB index is out of range\r\n", b"-NOPERM no\r\n", b"!2\r\nno\r\n"])
def test_a_database_that_redis_refuses_is_not_remembered(refusal: bytes) -> None:
    """The connection stays in the one before, also where commands came before the replies."""
    talk = Conversation().knows(COMPLETE)
    call, select = complete(COMPLETE_SHA), (b"SELECT", b"999")
    talk.downstream_sends((b"SELECT", b"3"), select, (b"SELECT", b"4"), select)
    assert talk.session.database == 999
    talk.upstream_replies(OK + refusal)
    assert talk.session.database == 999
    talk.upstream_replies(OK + refusal)
    assert talk.session.database == 4
    talk.downstream_sends((b"RESET",), select)
    talk.upstream_replies(b"+RESET\r\n" + refusal)
    talk.downstream_sends(call)
    talk.upstream_replies(OK)
    assert [outcome.database for outcome in talk.observer.outcomes] == [0]
    assert 999 not in talk.shared.databases
    assert {3, 4} <= talk.shared.databases


@pytest.mark.parametrize(
    ("before", "reply"), [((b"MULTI",), b"+OK\r\n+QUEUED\r\n"), ((b"CLIENT", b"REPLY", b"OFF"), b"")]
)
def test_a_database_is_remembered_where_the_reply_does_not_tell(before: tuple[bytes, ...], reply: bytes) -> None:
    """In a transaction, and where there are no replies: the sweeper forgets it if there is none such."""
    talk = Conversation()
    talk.downstream_sends(before, (b"SELECT", b"3"))
    talk.upstream_replies(reply)
    assert talk.session.database == 3
    assert 3 in talk.shared.databases
