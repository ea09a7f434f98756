import re
from dataclasses import replace
from html.parser import HTMLParser

from asynq_ttl.existing_keys.audit.counts import Tally
from asynq_ttl.existing_keys.audit.html_page import as_html
from support.audit_report import report


def test_the_page_folds_queues_that_are_too_many() -> None:
    """The plot has the largest ones; the table has all."""
    page = as_html(report())
    assert "16 more queues" in page
    assert page.count("<tr><td>queue-") == 40
    assert "mail: &lt;x&gt;" in page


class Tags(HTMLParser):
    """Notes the elements of a page, and that each is closed where it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Open it."""
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close it: it must be the one that was opened last."""
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else() -> None:
    """No script, no link, nothing that is fetched; every element is closed; there are three plots."""
    page = as_html(report())
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert not {"script", "link", "img", "iframe"} & set(tags.seen)
    assert not re.search(r"https?:|url\(|@import", page)
    assert tags.seen.count("svg") == 3


def test_names_from_redis_are_escaped() -> None:
    """Queues, states and IDs may be anything."""
    drawn = report()
    drawn.tally.group("<b>q\x1b", "<i>s").tasks = 1
    page = as_html(drawn)
    assert "<td>&lt;b&gt;q?</td><td>&lt;i&gt;s</td>" in page
    assert "<b>q" not in page
    assert "<i>s" not in page


def test_an_empty_database_has_a_page() -> None:
    """It says that nothing is wrong."""
    page = as_html(replace(report(), tally=Tally(), findings=[]))
    assert "Nothing is wrong." in page
    assert "No task whose age is known." in page
