"""`asynq-ttl tail`: what a running sidecar decides, as it decides it; each entry as a line for people or as JSON."""

import json

import click
from rich.console import Console
from rich.markup import escape

from asynq_ttl.cli.admin_client import AdminClientError, Json, watch
from asynq_ttl.cli.options import FAILED, Choice, admin_option, fail
from asynq_ttl.cli.printing import console
from asynq_ttl.cli.standard_output import say
from asynq_ttl.events import Action
from asynq_ttl.existing_keys.findings import visible
from asynq_ttl.net import address

_COLOURS = {"ttl": "cyan", "keep": "green", "delete": "red", "none": "magenta", "persist": "yellow", "replaced": "blue"}
# What `events.Decision.state` can be.
_STATES = ["archived", "completed", "pending", "deleted", "ended"]


@click.command()
@admin_option
@click.option("--queue", multiple=True, help="Only of these queues (globs).")
@click.option("--type", "task_type", multiple=True, help="Only tasks of these types (globs).")
@click.option("--state", multiple=True, type=Choice(_STATES), help="Only into these.")
@click.option("--rule", multiple=True, help="Only decisions of these rules.")
@click.option("--action", multiple=True, type=Choice([action.value for action in Action]), help="Only these.")
@click.option("--mode", multiple=True, type=Choice(["enforce", "shadow"]), help="Only decisions that were (not) done.")
@click.option(
    "--kind",
    multiple=True,
    help="Only these kinds: decision, sweep, adoption, fail_open, reload, activation, pause, ...",
)
@click.option("--count", type=click.IntRange(min=0), default=0, help="End after so many; 0 for never.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
def tail(admin: address.Address, *, count: int, as_json: bool, **fields: tuple[str, ...]) -> None:
    """Show what a running sidecar decides, as it decides it. Several values of an option mean any of them."""
    entries, notes = console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)

    def show(entry: Json) -> None:
        if entry["kind"] in ("watching", "lost", "dropped"):
            notes.print(line_of(entry))
        elif as_json:
            say(json.dumps(entry))
        else:
            entries.print(line_of(entry))

    wanted = [("type" if name == "task_type" else name, value) for name, values in fields.items() for value in values]
    try:
        watch(admin, wanted, show, limit=count)
    except AdminClientError as error:
        fail(str(error), FAILED)
    except KeyboardInterrupt:
        raise SystemExit(0) from None


def line_of(entry: Json) -> str:
    """Return an entry as a line for people, with rich's markup for colours."""
    kind = entry["kind"]
    if kind == "watching":
        return "[dim]watching; decisions are shown as they are made[/]"
    if kind == "lost":
        return "[yellow]the sidecar has gone; waiting for it[/]"
    if kind == "dropped":
        return f"[yellow]{entry['entries']} entries were too many to show[/]"
    parts = [f"[dim]{entry['time'][11:23]}[/]"]
    if kind in ("decision", "sweep", "adoption"):
        parts += _decided(entry)
    else:
        mark = "red" if kind == "fail_open" or entry.get("result") == "error" else "bold"
        parts += [f"[{mark}]{kind}[/]", *_named(entry, "reason", "queue", "id", "result")]
        parts.append(_plain(entry.get("detail", "")))
    return " ".join(part for part in parts if part)


def _decided(entry: Json) -> list[str]:
    action, colour = entry["action"], _COLOURS.get(entry["action"], "bold")
    seconds = f" {entry['ttl_seconds']:,} s" if "ttl_seconds" in entry else ""
    shadow = " [reverse]shadow[/]" if entry["mode"] == "shadow" else ""
    parts = [
        f"{entry['operation']:<8}",
        f"[{colour}]{action}{seconds}[/]{shadow}",
        *_named(entry, "queue", "type", "id", "rule", "tasks", "undated", "ghosts"),
    ]
    if "tasks_by_action" in entry:
        parts.append(f"({', '.join(f'{tasks:,} {each}' for each, tasks in entry['tasks_by_action'].items())})")
    if entry.get("ids"):
        parts.append(f"[dim]ids=[/]{_plain(','.join(entry['ids']))}")
    if "error" in entry:
        parts.append(f"[red]{_plain(entry['error'])}[/]")
    parts += _named(entry, "microseconds", "trace_id")
    return parts


def _named(entry: Json, *names: str) -> list[str]:
    return [f"[dim]{name}=[/]{_plain(entry[name])}" for name in names if entry.get(name) not in (None, "")]


def _plain(value: object) -> str:
    """Return a text whose brackets are no markup and that stays on its line."""
    return escape(visible(str(value)))
