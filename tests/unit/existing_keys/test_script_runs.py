"""A script is loaded once, and again where the server has forgotten it."""

from typing import Any, Self

import pytest
from redis.exceptions import NoScriptError, ResponseError

from asynq_ttl.existing_keys.script_runs import ScriptRuns


class Server:
    """In the place of a client: it runs scripts that it knows, until it forgets them."""

    def __init__(self) -> None:
        self.loaded: set[str] = set()
        self.loads = 0
        self.faults: dict[bytes, Exception] = {}
        self._asked: list[tuple[Any, ...]] = []

    def script_load(self, text: str) -> str:
        """Load a script."""
        self.loads += 1
        self.loaded.add(str(hash(text)))
        return str(hash(text))

    def pipeline(self, *, transaction: bool) -> Self:
        """Begin a round trip."""
        assert not transaction
        self._asked = []
        return self

    def evalsha(self, *words: Any) -> None:
        """Take note of a command."""
        self._asked.append(words)

    def execute(self, *, raise_on_error: bool) -> list[Any]:
        """Reply to each."""
        assert not raise_on_error
        return [self._reply(sha, *rest) for sha, _, *rest in self._asked]

    def _reply(self, sha: str, key: bytes, *arguments: Any) -> Any:
        if sha not in self.loaded:
            return NoScriptError("no such script")
        return self.faults.get(key, [key, *arguments])


def test_runs_are_one_round_trip() -> None:
    """Replies and errors stand in the order of the calls; without a call nothing is asked."""
    server: Any = Server()
    runs = ScriptRuns(server)
    assert runs.replies("shared/read_tasks", []) == []
    assert server.loads == 0
    server.faults[b"b"] = ResponseError("no")
    found = runs.replies("shared/read_tasks", [(b"a", 1), (b"b", 2), (b"c", 3)])
    assert (found[0], found[2]) == ([b"a", 1], [b"c", 3])
    assert isinstance(found[1], ResponseError)
    runs.replies("shared/read_tasks", [(b"a", 1)])
    assert server.loads == 1


@pytest.mark.parametrize("count", [1, 3])
def test_a_server_that_was_restarted(count: int) -> None:
    """It gets the script again."""
    server: Any = Server()
    runs = ScriptRuns(server)
    calls = [(b"%d" % number, "x") for number in range(count)]
    runs.replies("shared/read_tasks", calls)
    server.loaded.clear()
    assert runs.replies("shared/read_tasks", calls) == [[b"%d" % number, "x"] for number in range(count)]
