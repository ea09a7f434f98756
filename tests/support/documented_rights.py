"""The rights that the documentation says users need."""

import re

from support.paths import DOCS

SPARED = "failure-modes.md"
"""The page with the table of what is done without."""


def rules_after(page: str, begin: str) -> list[str]:
    """Return the rules of an ACL in the code that follows some words of a page.

    Args:
        page: its file name.
        begin: the words, which the page has once.
    """
    text = " ".join((DOCS / page).read_text().split())
    assert text.count(begin) == 1, begin
    found = re.match(r"`([^`]+)`", text.partition(begin)[2])
    assert found is not None, begin
    return found[1].split()


def spared() -> dict[str, str]:
    """Return what is done without: what is lost then, by the rule."""
    text = (DOCS / SPARED).read_text()
    rows = re.findall(r"^\| `(\+[a-z|\\]+)` \| (.+?) \|$", text, re.MULTILINE)
    return {name.replace("\\", ""): lost for name, lost in rows}
