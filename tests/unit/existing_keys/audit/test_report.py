import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from asynq_ttl.existing_keys.audit.counts import Group, Tally
from asynq_ttl.existing_keys.audit.report import as_json, memory_text, print_report, rows
from support.audit_report import report


def test_json_has_the_numbers() -> None:
    """Of each queue and state, of findings and of the forecast."""
    content = json.loads(as_json(report()))
    mail = content["groups"][0]
    assert (mail["queue"], mail["state"], mail["tasks"]) == ("mail", "archived", 200)
    assert (mail["with_ttl"], mail["without_ttl"], mail["orphans"], mail["sampled"]) == (50, 150, 3, 110)
    assert mail["bytes"] > 20_000
    assert mail["bytes_error"] > 0
    assert mail["ages"]["< 3d"] == 1
    assert (content["severity"], content["findings"][0]["code"]) == ("warning", "ghost")
    assert len(content["forecast"]["own"]) == 91


def test_the_table_and_the_findings() -> None:
    """What, why and what to do."""
    console = Console(file=io.StringIO(), width=120)
    print_report(report(), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "strange" in text
    assert "warning 7 entries of archived or completed whose task is gone (ghost)" in text
    assert "  do: asynq-ttl backfill --ghosts drop --apply" in text
    assert "±" in text


@pytest.mark.parametrize("name", ["[b]", "[/b]", r"a\[/b]x", "[link=x]"])
def test_names_are_shown_as_they_are(name: str) -> None:
    """A queue, a state, the policy's file and the server's address: brackets in them are no markup."""
    tally = Tally()
    tally.group(name, name).tasks = 1
    upstream, policy = f"redis://{name}:1/0", f"{name}.yaml"
    console = Console(file=io.StringIO(), width=200)
    print_report(replace(report(), tally=tally, upstream=upstream, policy=policy), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert f"{upstream}  Redis 7.0" in text
    assert re.search(rf"│ {re.escape(name)} +│ {re.escape(name)} +│", text)
    assert f"under {policy} " in text


def test_rows_are_in_the_order_of_queues_and_states() -> None:
    """States that Asynq does not have come last."""
    tally = Tally()
    for queue, state in (("b", "pending"), ("a", "strange"), ("a", ""), ("a", "completed"), ("a", "archived")):
        tally.group(queue, state)
    assert [(queue, state) for queue, state, _ in rows(tally)] == [
        ("a", "archived"),
        ("a", "completed"),
        ("a", ""),
        ("a", "strange"),
        ("b", "pending"),
    ]


def test_memory_has_an_error_only_where_it_is_estimated() -> None:
    """As a share of it."""
    group = Group()
    for usage in (900, 1100):
        group.tasks += 1
        group.add_sample(usage, 0)
    assert memory_text(group) == "2.0 KiB"
    group.tasks = 4
    assert memory_text(group) == "3.9 KiB ±13.9%"
    assert memory_text(Group()) == "0 B"
