"""A stand-in for the Redis that the sweeper talks to: it answers scripts by name, and remembers what it was asked."""

from collections.abc import Callable
from typing import Any, NamedTuple

from asynq_ttl.lua.loader import load
from asynq_ttl.net.address import Upstream, parse_upstream
from support.paths import LUA

_NAMES = {load(f"sweep/{path.stem}"): path.stem for path in (LUA / "sweep").iterdir()}
_NAMES[load("shared/read_tasks")] = "read_tasks"

SOMETHING = [100, 0, 0, 100, 0, 0, 11, 1, None, 11, 0, None, 100, 0, None]
"""What a survey says of a queue that has many members everywhere."""

Answer = Callable[[list[bytes], list[Any]], Any]
"""Takes KEYS and ARGV of a script; returns what it answers, or raises."""


class Asked(NamedTuple):
    """One script that was run: its name, its KEYS and its ARGV."""

    script: str
    keys: list[Any]
    args: list[Any]


class ScriptedRedis:
    """A database.

    Args:
        queues: what is in `asynq:queues`, or what asking for it raises.
        asked: where what is asked is written to; shared by the databases of one server.
        scripts: what each script answers, by its name; without one, a lock is free, and there may be something to do
            at every place, of which nothing comes.
    """

    def __init__(self, queues: set[bytes] | Exception, asked: list[Asked], **scripts: Answer) -> None:
        self.queues = queues
        self.asked = asked
        self.closed = False
        self.scripts = {
            "sweep": lambda _keys, _args: [0, 0, 0, [], [], 0],
            "newest": lambda keys, _args: [b"(0", b"9", *[0] * len(keys)],
            "adopt": lambda _keys, _args: [b"digest", 0, 0],
            "survey": lambda keys, _args: SOMETHING * len(keys),
            "sweep_active": lambda _keys, _args: [0, 0, 0],
            "sweep_waiting": lambda _keys, _args: [0, 0],
            "take_lock": lambda _keys, _args: 1,
            "release_lock": lambda _keys, _args: 0,
            **scripts,
        }

    def register_script(self, text: str) -> Callable[..., Any]:
        """Return something that runs a script."""
        name = next(name for known, name in _NAMES.items() if text.endswith(known))

        async def run(keys: list[Any], args: list[Any]) -> Any:
            self.asked.append(Asked(name, keys, args))
            return self.scripts[name](keys, args)

        return run

    async def eval(self, text: str, numkeys: int, *rest: Any) -> Any:
        """Run a script."""
        return await self.register_script(text)(list(rest[:numkeys]), list(rest[numkeys:]))

    async def smembers(self, key: str) -> set[bytes]:
        """Return the queues."""
        assert key == "asynq:queues"
        if isinstance(self.queues, Exception):
            raise self.queues
        return self.queues

    async def time(self) -> tuple[int, int]:
        """Return the time of Redis."""
        return 1_700_000_000, 0

    async def aclose(self) -> None:
        """Take note of the end."""
        self.closed = True


class ScriptedServer:
    """An endpoint with a `ScriptedRedis` for each database, made when it is first asked for.

    Args:
        queues: what is in `asynq:queues` of each database, or what asking for it raises.
        scripts: as for `ScriptedRedis`.
    """

    def __init__(self, queues: dict[int, set[bytes] | Exception], **scripts: Answer) -> None:
        self.upstream: Upstream = parse_upstream("redis://127.0.0.1:6379/0")
        self.asked: list[Asked] = []
        self.databases = {number: ScriptedRedis(names, self.asked, **scripts) for number, names in queues.items()}

    def redis(self, database: int, **_options: Any) -> ScriptedRedis:
        """Return the client of a database."""
        return self.databases[database]

    def names(self) -> list[str]:
        """Return the names of the scripts that were run, in order."""
        return [asked.script for asked in self.asked]
