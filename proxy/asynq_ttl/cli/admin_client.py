"""`asynq-ttl tail`: what a running sidecar decides, as it decides it.

A client of the admin server, which is asked for a stream of JSON lines. It reconnects when the sidecar is restarted.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, UnixConnector

from asynq_ttl.net.address import Address

Json = dict[str, Any]

# The sidecar says something every second.
_SILENCE_SECONDS = 10.0
_RETRY_SECONDS = 1.0
_MAX_LINE_BYTES = 1 << 20

_COLOURS = {"ttl": "cyan", "keep": "green", "delete": "red", "none": "magenta", "persist": "yellow"}


class AdminClientError(Exception):
    """The admin server cannot be asked; the message says why and what to do."""


async def ask(admin: Address, call: str) -> Json:
    """Return what the admin server of a sidecar answers.

    Args:
        admin: where it listens.
        call: the path, such as `/api/status`.

    Raises:
        AdminClientError: there is none, or it refuses.
    """
    async with _session(admin, ClientTimeout(total=_SILENCE_SECONDS)) as session:
        try:
            async with session.get(_url(admin, call)) as answer:
                return await _checked(answer.status, answer.json)
        except (ClientError, OSError, TimeoutError, ValueError) as error:
            raise _unreachable(admin, error) from None


async def tail(
    admin: Address, wanted: Sequence[tuple[str, str]], show: Callable[[Json], None], *, limit: int = 0
) -> None:
    """Show entries as they come, until cancelled, or until so many have come.

    Args:
        admin: where the sidecar's admin server listens.
        wanted: fields and values that entries must have, see `journal.parse_filter`.
        show: takes each entry; also those that tell of the stream itself (watching, dropped, lost).
        limit: end after so many; 0 for never.

    Raises:
        AdminClientError: there is no admin server, or it refuses. Once there was one, it is waited for instead.
    """
    connected = False
    shown = 0
    while True:
        try:
            async for entry in _entries(admin, wanted):
                if entry["kind"] == "watching" and connected:
                    continue
                connected = True
                if entry["kind"] == "heartbeat":
                    continue
                show(entry)
                shown += entry["kind"] not in ("watching", "dropped")
                if limit and shown >= limit:
                    return
        except (ClientError, OSError, TimeoutError) as error:
            if not connected:
                raise _unreachable(admin, error) from None
        show({"kind": "lost"})
        await asyncio.sleep(_RETRY_SECONDS)


async def _entries(admin: Address, wanted: Sequence[tuple[str, str]]) -> AsyncIterator[Json]:
    timeout = ClientTimeout(total=None, sock_connect=_SILENCE_SECONDS, sock_read=_SILENCE_SECONDS)
    async with _session(admin, timeout) as session:
        stream = session.get(_url(admin, "/api/decisions/stream"), params=list(wanted))
        async with stream as answer:
            if answer.status != 200:
                await _checked(answer.status, answer.json)
            async for line in answer.content:
                yield json.loads(line)


async def _checked(status: int, read: Callable[[], Any]) -> Json:
    content: Json = await read()
    if status != 200:
        raise AdminClientError(str(content.get("error", f"status {status}")))
    return content


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
    if kind in ("decision", "sweep"):
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
        *_named(entry, "queue", "type", "id", "rule", "tasks", "ghosts"),
    ]
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
    text = "".join(character if character.isprintable() else "?" for character in str(value))
    return text.replace("[", r"\[")


def _session(admin: Address, timeout: ClientTimeout) -> ClientSession:
    connector = UnixConnector(admin.path) if admin.path else TCPConnector()
    return ClientSession(connector=connector, timeout=timeout, read_bufsize=_MAX_LINE_BYTES)


def _url(admin: Address, call: str) -> str:
    return f"http://localhost{call}" if admin.path else f"http://{admin}{call}"


def _unreachable(admin: Address, error: Exception) -> AdminClientError:
    cause = getattr(error, "os_error", error)
    reason = getattr(cause, "strerror", None) or str(error) or type(error).__name__
    return AdminClientError(f"no admin server at {admin}: {reason}; does a sidecar run with --admin {admin}?")
