import io
import json

from rich.console import Console

from asynq_ttl.existing_keys.audit.counts import Tally
from asynq_ttl.existing_keys.audit.forecast import forecast
from asynq_ttl.existing_keys.audit.html_page import as_html
from asynq_ttl.existing_keys.audit.problems import finding_of
from asynq_ttl.existing_keys.audit.report import Report, as_json, print_report
from asynq_ttl.existing_keys.findings import findings_json, visible
from asynq_ttl.policy.rules import DEFAULT_POLICY


def report() -> Report:
    """Return a report with some of everything."""
    tally = Tally(keys=12, indexes={"mail": 5000})
    for queue in ("mail", *(f"queue-{number:02}" for number in range(40))):
        group = tally.group(queue, "archived")
        group.tasks, group.content, group.timed, group.orphans = 200, 20_000, 50, 3
        for number in range(110):
            group.add_sample(250 + number, 100)
        group.add_age(90_000)
    tally.group("mail", "strange").tasks = 1
    found = [finding_of("ghost", 7, ["mail: <x>"])]
    ahead = forecast(tally, DEFAULT_POLICY)
    return Report("redis://h:1/0", "Redis 7.0", "built-in", 1_700_000_000, 2.5, tally, found, ahead)


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
    assert json.loads(findings_json("u", report().findings))["findings"][0]["count"] == 7


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


def test_the_page_folds_queues_that_are_too_many() -> None:
    """The plot has the largest ones; the table has all."""
    page = as_html(report())
    assert "16 more queues" in page
    assert page.count("<tr><td>queue-") == 40
    assert "mail: &lt;x&gt;" in page


def test_control_characters_are_not_shown() -> None:
    """Neither escapes nor line breaks."""
    assert visible("a\x1b[0m\nb") == "a?[0m?b"
