"""Where a walk goes on."""

import pytest

from asynq_ttl.existing_keys.index_position import position_of, rest_of
from asynq_ttl.existing_keys.pages import START, IndexPage
from asynq_ttl.existing_keys.queue_places import Place

PLACES = [Place("a", "archived", 1), Place("a", "completed", 1), Place("b", "archived", 1)]


def test_a_walk_goes_on_at_the_page_it_was_at() -> None:
    """With that index, after the entry before the page; an ID that is not UTF-8 comes through."""
    page = IndexPage(PLACES[1], (b"5", b"x\xff"), [])
    assert rest_of(PLACES, position_of(page)) == (PLACES[1:], (b"5", b"x\xff"))


@pytest.mark.parametrize("position", [(), ("index", "gone", "archived", "5", "x")])
def test_without_a_known_place_it_begins_at_the_beginning(position: tuple[str, ...]) -> None:
    """A queue may be gone meanwhile; what is done already is found to need nothing more."""
    assert rest_of(PLACES, position) == (PLACES, START)


def test_a_walk_through_the_keyspace_is_behind_all_indexes() -> None:
    """They are not read again."""
    assert rest_of(PLACES, ("scan", 7)) == ((), START)
