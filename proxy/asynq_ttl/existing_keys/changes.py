"""Makes changes of tasks page by page, each only if its task is still as it was when the change was decided.

Who decides is none of its business: a `Change` comes in ready, and is shown before it is made.

Invariants:

* A dry run and a run that applies get the same `Change`s: all that differs is whether `Changer` makes them.
* A change names everything that decided it (state, score, message, whether there is a TTL), and the script that makes
  it checks all of that in the same execution.
* With a journal, a page is written down before it is made, so that an interrupted run can be finished.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from asynq_ttl.asynq.keys import history_key, queue_prefix, task_prefix, text_of
from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.database import PAGE_TASKS, Database
from asynq_ttl.existing_keys.run_journal import RunJournal
from asynq_ttl.policy.plan import Act, Plan
from asynq_ttl.policy.rules import SCHEDULER_HISTORY

# An entry without a hash is dropped only if it still has none after this time: a client may be writing a task in two
# steps, the entry first.
_HALF_WRITTEN_SECONDS = 0.05
_CHANGED = 1


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one task, or of the history of a scheduler entry.

    Attributes:
        queue: the queue's name; empty for a history.
        id: the ID of the task, or of the entry; bytes that are not UTF-8 survive as surrogates.
        type: its type; empty where it has none.
        state: the state in its hash; empty where there is none.
        index: the state whose index is concerned; empty for none. `SCHEDULER_HISTORY` for a history.
        action: what is done, an `Act` by its value.
        rule: the rule that decided; empty where none did.
        reason: why.
        expires_at_ms: when the key expires, in Unix milliseconds; only for `ttl`.
        score: the entry's score as Redis writes it; `-` where it is in no index, empty where that does not matter.
        new_score: the score it gets; empty where the score stays.
        timed: whether its key has a TTL: `none`, `some`, or `any` where that does not matter.
        digest: the digest of its message; empty where that does not matter.
        size: bytes of the message.
    """

    queue: str
    id: str
    type: str
    state: str
    index: str
    action: str
    rule: str
    reason: str
    expires_at_ms: int | None
    score: str
    new_score: str
    timed: str
    digest: str
    size: int

    @property
    def arguments(self) -> tuple[bytes | str, ...]:
        """The script's nine arguments for it; see `lua/existing_keys/change_tasks`."""
        expires = "" if self.expires_at_ms is None else str(self.expires_at_ms)
        task_id = self.id.encode("utf-8", "surrogateescape")
        rest = (self.index, self.state, self.score, self.digest, self.timed, self.action, expires, self.new_score)
        return (task_id, *rest)

    @property
    def of_history(self) -> bool:
        """Whether it is one of a history."""
        return self.index == SCHEDULER_HISTORY

    @property
    def history_arguments(self) -> tuple[bytes | str, ...]:
        """Key and arguments of the script for a history; see `lua/existing_keys/change_history`."""
        key = history_key(self.id.encode("utf-8", "surrogateescape"))
        return key, self.score, self.timed, self.action, str(self.expires_at_ms or "")

    def journal_line(self) -> dict[str, Any]:
        """Return it as the journal has it: empty parts left out."""
        return {name: value for name, value in asdict(self).items() if value not in ("", None)}


def change_of(task: Task, plan: Plan, *, index: str, score: bytes | str | None = None, timed: str = "none") -> Change:
    """Return the change that carries out a plan.

    Args:
        task: the task as it was read, with its digest.
        plan: what is to be done to it.
        index: the state whose index is concerned; empty for none.
        score: the score of its entry; None for the task's own score, or `-` where it has none.
        timed: whether its key has a TTL, as in `Change`.
    """
    if score is None:
        score = task.score if task.score is not None else "-"
    return Change(
        queue=task.queue,
        id=text_of(task.id),
        type=task.type,
        state=task.state,
        index=index,
        action=plan.act.value,
        rule=plan.rule,
        reason=plan.reason,
        expires_at_ms=None if plan.expires_at is None else plan.expires_at * 1000,
        score=score.decode() if isinstance(score, bytes) else score,
        new_score="" if plan.score is None else str(plan.score),
        timed=timed,
        digest=task.digest.decode() if task.exists else "",
        size=task.size,
    )


class Changer:
    """Makes changes, or only shows and counts them.

    Args:
        database: where.
        journal: where they are written down; None for nowhere.
        apply: whether they are made.
        show: is called with each change before it is made.
    """

    def __init__(
        self, database: Database, journal: RunJournal | None, *, apply: bool, show: Callable[[Change], None]
    ) -> None:
        self.database = database
        self.apply = apply
        self.counts: Counter[tuple[str, str, str, str]] = Counter()
        """Changes by queue, state, rule and action."""
        self.missed = 0
        """Changes that were not made, because the task was no longer what it was."""
        self._journal = journal
        self._show = show

    def make(self, changes: Sequence[Change], position: Sequence[str | int]) -> None:
        """Make changes, of one queue after the other, or only show and count them.

        Args:
            changes: the changes.
            position: where a run goes on that is interrupted before they are made.
        """
        for first in range(0, len(changes), PAGE_TASKS):
            self._page(changes[first : first + PAGE_TASKS], position)

    def resume(self) -> Sequence[str | int]:
        """Finish the page an interrupted run had begun; return where to go on (nothing for the beginning).

        That is the beginning where a replica has become a master since: what it had not got yet is to be done again.
        """
        if self._journal is None:
            return ()
        begun = self._journal.begun()
        known = set()
        for line in self._journal.changes():
            state = line.get("index") or line.get("state", "")
            self.counts[line["queue"], state, line.get("rule", ""), line["action"]] += 1
            if begun is not None and line["page"] == begun.page:
                known.add((line["queue"], line["id"]))
        if begun is None:
            return ()
        changes = [Change(**content) for content in begun.changes]
        # A task that is already as its change makes it was changed by the interrupted run, so it counts as changed.
        results = self._change(changes) if changes else []
        made = [
            change
            for change, result in zip(changes, results, strict=True)
            if result and (change.queue, change.id) not in known
        ]
        self._count(made)
        self._journal.record(begun.page, [change.journal_line() for change in made])
        return begun.position if begun.servers == self.database.servers else ()

    def _page(self, changes: Sequence[Change], position: Sequence[str | int]) -> None:
        for change in changes:
            self._show(change)
        if not self.apply:
            self._count(changes)
            if self._journal is not None:
                self._journal.record(self._journal.new_page(), [change.journal_line() for change in changes])
            return
        page = 0
        if self._journal is not None:
            page = self._journal.begin(position, [asdict(change) for change in changes], self.database.servers)
        self.database.pace.spend(len(changes))
        results = self._change(changes)
        made = [change for change, result in zip(changes, results, strict=True) if result == _CHANGED]
        self.missed += len(changes) - len(made)
        self._count(made)
        if self._journal is not None:
            self._journal.record(page, [change.journal_line() for change in made])

    def _change(self, changes: Sequence[Change]) -> list[int]:
        """Let the script make changes, in one round trip; return its result for each. None has tasks and histories."""
        if any(change.action == Act.DROP.value and not change.state for change in changes):
            time.sleep(_HALF_WRITTEN_SECONDS)
        if changes[:1] and changes[0].of_history:
            return self.database.run_all("existing_keys/change_history", [each.history_arguments for each in changes])
        queues = [(queue, list(group)) for queue, group in groupby(changes, key=lambda change: change.queue)]
        calls = [
            (task_prefix(queue), queue_prefix(queue), *(argument for change in group for argument in change.arguments))
            for queue, group in queues
        ]
        return [result for results in self.database.run_all("existing_keys/change_tasks", calls) for result in results]

    def _count(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self.counts[change.queue, change.index or change.state, change.rule, change.action] += 1
