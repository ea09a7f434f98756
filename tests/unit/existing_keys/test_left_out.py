import pytest

from asynq_ttl.existing_keys import left_out
from asynq_ttl.existing_keys.left_out import LeftOut


def test_nothing_is_left_out_at_first() -> None:
    """Then there is nothing to say."""
    assert not LeftOut()
    assert LeftOut().notes() == []


def test_each_kind_is_told_on_a_line() -> None:
    """A name that is met again counts once; some names are shown; bytes that are not UTF-8 can be printed."""
    found = LeftOut()
    for key in (b"asynq:{a}:archived", b"asynq:{a}:archived", b"\xff"):
        found.add_wrong(key)
    for number in range(7):
        found.add_ambiguous(f"a}}{number}")
    found.add_unreadable()
    assert found
    assert found.wrong == ["asynq:{a}:archived", "\udcff"]
    assert "asynq:{a}:archived" in found.wrong_names
    wrong, ambiguous, unreadable = found.notes()
    assert wrong.endswith("passed over: asynq:{a}:archived, \N{REPLACEMENT CHARACTER}")
    assert ambiguous.endswith("a}0, a}1, a}2, a}3, a}4 and 2 more")
    assert unreadable == "left out: 1 tasks whose message cannot be read"


def test_only_so_many_names_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are counted."""
    monkeypatch.setattr(left_out, "_MOST_NAMES", 2)
    found = LeftOut()
    for number in range(5):
        found.add_wrong(b"%d" % number)
    assert found.notes()[-1] == "and 3 keys more of these kinds"


def test_what_of_a_cluster_was_left_out() -> None:
    """Each node on a line, the queues on one; the same run may find it later."""
    left_out = LeftOut()
    left_out.add_wrong(b"asynq:{q}:archived")
    assert not left_out.elsewhere
    left_out.add_unread("node h:1: refused\x1b")
    left_out.add_unread("node h:2: down")
    left_out.add_moving("mail")
    left_out.add_moving("mail")
    assert left_out.elsewhere
    assert (left_out.unread[1], left_out.moving, "mail" in left_out.moving_names) == ("node h:2: down", ["mail"], True)
    notes = left_out.notes()
    assert len(notes) == 4
    assert notes[1].endswith("node h:2: down")
    assert notes[2] == "skipped, since their slots are on their way to another node: mail"
