import time
from typing import cast

from asynq_ttl.events import Adopted, Swept
from asynq_ttl.sweep.connections import Connections
from asynq_ttl.sweep.live_tasks import LEASE_SLACK_SECONDS, LiveTasks
from asynq_ttl.sweep.schedule import PAGE_SIZE, Looked, WaitingTasks
from asynq_ttl.sweep.survey import Queue
from asynq_ttl.upstream.endpoint import Endpoint
from support.scripted_redis import Answer, ScriptedServer


class Told:
    """Somebody who remembers repairs."""

    def __init__(self) -> None:
        self.repairs: list[tuple[str, int, int]] = []

    def swept(self, page: Swept) -> None:
        """Pass over a page."""

    def adopted(self, tasks: Adopted) -> None:
        """Pass over adopted tasks."""

    def repaired(self, queue: str, persisted: int, dropped: int) -> None:
        """Take note of a repair."""
        self.repairs.append((queue, persisted, dropped))

    def sweep_ended(self, seconds: float, error: str, refusals: int = 0) -> None:
        """Pass over a round."""


def scene(**scripts: Answer) -> tuple[LiveTasks, ScriptedServer, Told]:
    """Return what repairs, what it talks to, and whom it tells."""
    server, told = ScriptedServer({0: {b"mail"}}, **scripts), Told()
    return LiveTasks(Connections(cast("Endpoint", server)), told), server, told


async def test_active_tasks_are_repaired_with_the_time_at_which_a_lease_is_over() -> None:
    """The longest active of a queue, with both keys that leases have had."""
    live, server, told = scene(sweep_active=lambda _keys, _args: [9, 2, 1])
    await live.repair_active(Queue(0, "mail"))
    (asked,) = server.asked
    assert asked.keys == [b"asynq:{mail}:active", b"asynq:{mail}:lease", b"asynq:{mail}:deadlines"]
    assert asked.args[:2] == [b"asynq:{mail}:t:", PAGE_SIZE]
    assert abs(asked.args[2] - (time.time() - LEASE_SLACK_SECONDS)) < 60
    assert told.repairs == [("mail", 2, 1)]


async def test_a_page_of_waiting_tasks_is_repaired_and_all_of_it_stays() -> None:
    """Where nothing was repaired nothing is told."""
    live, server, told = scene(sweep_waiting=lambda _keys, args: [7, 4 if args[2] else 0])
    assert await live.repair_waiting(WaitingTasks(0, "mail", "retry"), 0) == Looked(7, kept=7)
    assert told.repairs == []
    await live.repair_waiting(WaitingTasks(0, "mail", "retry"), 500)
    assert server.asked[1].keys == [b"asynq:{mail}:retry"]
    assert server.asked[1].args == [b"asynq:{mail}:t:", "retry", 500, 500 + PAGE_SIZE - 1]
    assert told.repairs == [("mail", 4, 0)]
