"""What a newcomer sees first."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from support.commands import command_line, run


def test_the_demo_shows_that_every_ttl_is_right() -> None:
    """It ends with status 0, its table says right in every row, and it shows a span of each kind of decision."""
    done = run("demo")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if re.search(r"\+ grace|no TTL", line)]
    assert len(rows) > 10
    assert all("right" in row for row in rows)
    assert re.search(r"\d+ spans, by action: \d+ delete, \d+ keep, \d+ persist, \d+ ttl\.", done.stdout)
    assert "asynq_ttl.rule = default" in done.stdout


def test_a_full_disk_is_called_that() -> None:
    """One line, and the status of what could not be written."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command_line("demo"), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "standard output: No space left on device\n")


def test_nobody_reads_any_more() -> None:
    """As after `| head -1`, whatever it is doing then: it ends without a word, and leaves nothing running."""
    with subprocess.Popen(
        command_line("demo"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline().startswith("1. ")
        demo.stdout.close()
        _, errors = demo.communicate(timeout=100)
    assert (demo.returncode, errors) == (141, "")
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.pid, 0)
