"""Runs the tools' Lua texts at one server.

Invariant: a text is loaded once, and again where the server has forgotten it; no other error is hidden.
"""

from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError

from asynq_ttl.lua.loader import load

Call = tuple[bytes | str | int, ...]
"""Key and arguments of one run of a script."""


class ScriptRuns:
    """Runs them.

    Args:
        client: a connection to the server.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._shas: dict[str, str] = {}

    def replies(self, name: str, calls: Sequence[Call]) -> list[Any]:
        """Run one of the scripts several times in one round trip; return replies and errors, in that order.

        Args:
            name: the file below `lua/`, without its ending.
            calls: of each run, KEYS[1], which is a key of the queue that is concerned, and ARGV.

        Raises:
            RedisError: the text cannot be loaded, or the server cannot be reached.
        """
        if not calls:
            return []
        if name not in self._shas:
            self._load(name)
        replies = self._once(name, calls)
        for number, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                self._load(name)
                (replies[number],) = self._once(name, [calls[number]])
        return replies

    def _once(self, name: str, calls: Sequence[Call]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.evalsha(self._shas[name], 1, *call)
        return list(pipeline.execute(raise_on_error=False))

    def _load(self, name: str) -> None:
        self._shas[name] = str(self._client.script_load(load("shared/task.prologue", name)))
