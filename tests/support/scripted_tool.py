"""Commands of the tools, run on a database that a test has in memory."""

from pathlib import Path

import pytest
from click.testing import Result

from asynq_ttl.cli import tool_options
from asynq_ttl.existing_keys.database import Server
from support.existing_keys import tool
from support.scripted_database import ScriptedDatabase


class ScriptedTool:
    """Runs commands of the tools on one database.

    Args:
        database: where the tasks are.
        patch: puts it in the place of a real one.
        folder: for files.
    """

    def __init__(self, database: ScriptedDatabase, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.changing: list[bool] = []
        """For each run, whether the rights to change tasks were asked for."""
        self.closed = 0
        """How often the database was closed."""
        self._folder = folder
        queues = sorted({task.queue for task in database.tasks.values()})

        def opened(*, changing: bool, node: bool = False) -> list[str]:
            self.changing.append(changing)
            return queues

        patch.setattr(database, "open", opened)
        patch.setattr(database, "queues", lambda: queues)
        patch.setattr(database, "server", lambda: Server("Redis", "7.2.0", "run-1"))
        patch.setattr(database, "close", self._close)
        patch.setattr(tool_options, "database_of", lambda _upstream, _rate: database)

    def __call__(self, *arguments: str | Path, policy: str | None = None) -> Result:
        """Run a command; return how it ended."""
        return tool(*arguments, policy=policy, folder=self._folder)

    def _close(self) -> None:
        self.closed += 1
