"""What a newcomer sees first."""

import re
import subprocess
import sys


def test_the_demo_shows_that_every_ttl_is_right() -> None:
    """It ends with status 0, its table says right in every row, and it shows a span of each kind of decision."""
    run = subprocess.run(
        [sys.executable, "-m", "asynq_ttl", "demo"], capture_output=True, text=True, timeout=100, check=False
    )
    assert run.returncode == 0, run.stderr
    rows = [line for line in run.stdout.splitlines() if re.search(r"\+ grace|no TTL", line)]
    assert len(rows) > 10
    assert all("right" in row for row in rows)
    assert re.search(r"\d+ spans, by action: \d+ delete, \d+ keep, \d+ persist, \d+ ttl\.", run.stdout)
    assert "asynq_ttl.rule = default" in run.stdout
