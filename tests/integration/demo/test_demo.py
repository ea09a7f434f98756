"""What a newcomer sees first."""

import re

from support.commands import run


def test_the_demo_shows_that_every_ttl_is_right() -> None:
    """It ends with status 0, its table says right in every row, and it shows a span of each kind of decision."""
    done = run("demo")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if re.search(r"\+ grace|no TTL", line)]
    assert len(rows) > 10
    assert all("right" in row for row in rows)
    assert re.search(r"\d+ spans, by action: \d+ delete, \d+ keep, \d+ persist, \d+ ttl\.", done.stdout)
    assert "asynq_ttl.rule = default" in done.stdout
