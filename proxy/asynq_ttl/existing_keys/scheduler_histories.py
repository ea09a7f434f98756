"""The histories of scheduler entries: reads them page by page, and has them changed as somebody decides.

Invariants:

* They belong to no queue, so whoever asks for queues or types of tasks does not mean them.
* A history is changed only if nothing was added to it since it was read, and its TTL is as it was.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from asynq_ttl.asynq.keys import HISTORY_PATTERN, entry_of_history, text_of
from asynq_ttl.existing_keys.changes import Change, Changer
from asynq_ttl.existing_keys.database import Cursor, Database
from asynq_ttl.existing_keys.pages import scan
from asynq_ttl.policy.plan import Plan
from asynq_ttl.policy.rules import SCHEDULER_HISTORY


@dataclass(frozen=True, slots=True)
class History:
    """The history of a scheduler entry.

    Attributes:
        entry_id: the ID of the entry.
        score: that of what was added last, as Redis writes it.
        ttl_ms: how many milliseconds it has to live; -1 for ever.
    """

    entry_id: bytes
    score: bytes
    ttl_ms: int

    @property
    def newest(self) -> int:
        """When the scheduler has added to it last, in Unix seconds; 0 where the score does not tell."""
        number = float(self.score)
        return int(number) if 0 < number < 1 << 53 else 0

    def change(self, plan: Plan) -> Change:
        """Return the change that carries out a plan."""
        return Change(
            queue="",
            id=text_of(self.entry_id),
            type="",
            state="",
            index=SCHEDULER_HISTORY,
            action=plan.act.value,
            rule=plan.rule,
            reason=plan.reason,
            expires_at_ms=None if plan.expires_at is None else plan.expires_at * 1000,
            score=self.score.decode(),
            new_score="",
            timed="none" if self.ttl_ms < 0 else "some",
            digest="",
            size=0,
        )


def histories_of(database: Database, keys: Sequence[bytes]) -> Iterator[History]:
    """Yield the histories that some keys are. One of another type is noted as left out."""
    calls = [(key,) for key in keys]
    for key, found in zip(keys, database.run_all("existing_keys/read_history", calls), strict=True):
        kind, ttl_ms, score = found
        entry_id = entry_of_history(key)
        if kind == b"zset" and entry_id is not None:
            yield History(entry_id, score, ttl_ms)
        elif kind != b"none":
            database.left_out.add_wrong(key)


def walk_histories(
    database: Database,
    changer: Changer,
    plan: Callable[[History], Plan | None],
    cursor: Cursor = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Walk through all histories, and have made what is planned for each.

    Args:
        database: where.
        changer: makes the changes, or only shows them.
        plan: says what is to be done to a history; None for nothing.
        cursor: where the walk begins.
        advance: is called with the number of histories of each page.
    """
    while True:
        following, keys = scan(database, cursor, HISTORY_PATTERN)
        planned = [(history, plan(history)) for history in histories_of(database, keys)]
        changes = [history.change(wanted) for history, wanted in planned if wanted is not None]
        changer.make(changes, (SCHEDULER_HISTORY, cursor))
        advance(len(keys))
        cursor = following
        if cursor == 0:
            return


def begun_at(position: Sequence[str | int]) -> Cursor:
    """Return where a walk through the histories goes on: its beginning, unless the position is one of it."""
    return position[1] if position and position[0] == SCHEDULER_HISTORY else 0
