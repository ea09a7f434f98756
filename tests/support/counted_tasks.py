"""Tasks that a sidecar has counted by kind, and two policies to ask about them."""

from typing import Any

from asynq_ttl.policy_file.load import parse_policy

DAY = 86_400


ASKED = parse_policy(
    """
version: 1
mode: shadow
rules:
  - {name: mail, match: {queue: mail}, archived: {ttl: 1d}, completed: {ttl: forever}}
  - {name: noise, match: {type: "ping:*"}, archived: {ttl: delete}}
  - {name: unused, match: {queue: none}, archived: {ttl: 5d}}
""",
    "asked.yaml",
)


IN_FORCE = parse_policy("version: 1\nrules: [{name: all, archived: {ttl: 7d}}]", "old.yaml")


def kind(queue: str, task_type: str, state: str, own_seconds: int, *counts: int) -> dict[str, Any]:
    """Return a kind of task in a census."""
    named = {"queue": queue, "type": task_type, "state": state, "own_seconds": own_seconds}
    return named | dict(zip(("tasks", "size_bytes"), counts, strict=True))


CENSUS = {
    "seconds": 10 * DAY,
    "kinds": [
        kind("mail", "email:send", "archived", 90 * DAY, 10, 1_000),
        kind("mail", "email:send", "completed", 3_600, 5, 500),
        kind("low", "ping:a", "archived", 90 * DAY, 3, 30),
        kind("low", "other", "archived", 90 * DAY, 2, 20),
        kind("low", "other", "completed", 100 * DAY, 1, 7),
    ],
    "others": {"tasks": 4, "size_bytes": 0},
}
