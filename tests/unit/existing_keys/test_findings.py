import io
import json

from rich.console import Console

from asynq_ttl.existing_keys.findings import Finding, Severity, findings_json, print_findings, visible, worst

GHOST = Finding("ghost", Severity.WARNING, "entries without a task", "why not", "drop them", 1200, ["q: a", "q: \x1b"])
GOOD = Finding("clock", Severity.FINE, "the clocks agree", "", "")


def printed(findings: list[Finding]) -> str:
    """Return what is printed of findings."""
    file = io.StringIO()
    print_findings(findings, Console(file=file, width=120))
    return file.getvalue()


def test_the_exit_status_is_that_of_the_worst() -> None:
    """Notices need nothing done."""
    found = [Finding("a", severity, "", "", "") for severity in (Severity.NOTICE, Severity.DANGER, Severity.WARNING)]
    assert worst(found) is Severity.DANGER
    assert [severity.status for severity in sorted(Severity)] == [0, 0, 3, 4]
    assert worst([]) is Severity.FINE


def test_json_has_every_part_of_a_finding() -> None:
    """Severities by their names, and the worst of them."""
    content = json.loads(findings_json("redis://h:1/0", [GHOST, GOOD]))
    assert (content["upstream"], content["severity"]) == ("redis://h:1/0", "warning")
    assert content["findings"][0] == {
        "code": "ghost",
        "severity": "warning",
        "what": "entries without a task",
        "why": "why not",
        "advice": "drop them",
        "count": 1200,
        "examples": ["q: a", "q: \x1b"],
    }


def test_a_finding_is_printed_with_why_and_what_to_do() -> None:
    """With examples; parts that say nothing are left out."""
    assert printed([GHOST]) == (
        "\nwarning 1,200 entries without a task (ghost)\n  why: why not\n  do: drop them\n  such as: q: a; q: ?\n"
    )
    assert printed([GOOD]) == "\nfine the clocks agree (clock)\n"
    assert printed([]) == "Nothing is wrong.\n"


def test_control_characters_are_not_shown() -> None:
    """Neither escapes nor line breaks, nor bytes that are not UTF-8."""
    assert visible("a\x1b[0m\nb\udcff") == "a?[0m?b?"
