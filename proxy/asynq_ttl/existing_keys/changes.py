"""Changes of tasks: decided before, told before, made in pages, and each only if its task is still what it was.

Invariants:

* What is told is what is done: a dry run and a run that applies come to the same `Change`s; they differ in `Changer`.
* A change names everything it was decided by (state, score, message, whether there is a TTL), and the script looks at
  all of it again in the same execution that makes the change.
* With a journal, a page is written down before it is made, so that an interrupted run can tell what it had begun.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from asynq_ttl.asynq.keys import queue_prefix, text_of
from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.database import PAGE_TASKS, Database
from asynq_ttl.existing_keys.run_journal import Journal
from asynq_ttl.policy.plan import Act, Plan

# An entry without a hash is dropped only if it still has none after this time: somebody may be putting a task there in
# two steps, entry first.
_SECOND_LOOK_SECONDS = 0.05
_CHANGED = 1


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one task.

    Attributes:
        queue: the queue's name.
        id: the task's ID; bytes that are not UTF-8 survive as surrogates.
        type: its type; empty where it has none.
        state: the state in its hash; empty where there is none.
        index: the state whose index is concerned; empty for none.
        action: what is done, an `Act` by its value.
        rule: the rule that decided; empty where none did.
        reason: why.
        expires_at_ms: when the key expires, for `ttl`.
        score: the entry's score as Redis writes it; `-` where it is in no index, empty where that does not matter.
        new_score: the score it gets; empty where that stays.
        timed: `none`, `some` or `any`: whether its key has a TTL.
        digest: what its message is told by; empty where that does not matter.
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
        """What the script is told; see `lua/settle`."""
        expires = "" if self.expires_at_ms is None else str(self.expires_at_ms)
        task_id = self.id.encode("utf-8", "surrogateescape")
        told = (self.index, self.state, self.score, self.digest, self.timed, self.action, expires, self.new_score)
        return (task_id, *told)

    def told(self) -> dict[str, Any]:
        """Return it as it stands in the journal: empty parts left out."""
        return {name: value for name, value in asdict(self).items() if value not in ("", None)}


def change_of(task: Task, plan: Plan, *, index: str, score: bytes | str | None = None, timed: str = "none") -> Change:
    """Return the change that carries a plan out.

    Args:
        task: the task as it was read, with its digest.
        plan: what is to be done to it.
        index: the state whose index is concerned; empty for none.
        score: the score of its entry; None for that of the task, or `-` where that has none.
        timed: whether its key has a TTL.
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
    """Makes changes, or only tells them.

    Args:
        database: where.
        journal: where they are written down; None for nowhere.
        apply: whether they are made.
        show: is told each change, before it is made.
    """

    def __init__(
        self, database: Database, journal: Journal | None, *, apply: bool, show: Callable[[Change], None]
    ) -> None:
        self.database = database
        self.apply = apply
        self.counts: Counter[tuple[str, str, str, str]] = Counter()
        """Changes by queue, state, rule and action."""
        self.missed = 0
        """Changes that were not made, since the task was no longer what it was."""
        self._journal = journal
        self._show = show

    def make(self, changes: Sequence[Change], position: Sequence[str | int]) -> None:
        """Make the changes of a page, all of one queue, or only tell them.

        Args:
            changes: the changes.
            position: where a run that is interrupted now would have to go on.
        """
        for first in range(0, len(changes), PAGE_TASKS):
            self._page(changes[first : first + PAGE_TASKS], position)

    def resume(self) -> Sequence[str | int]:
        """Finish the page an interrupted run had begun; return where to go on (nothing for the beginning)."""
        if self._journal is None:
            return ()
        begun = self._journal.begun()
        known = set()
        for told in self._journal.changes():
            self.counts[
                told["queue"], told.get("index") or told.get("state", ""), told.get("rule", ""), told["action"]
            ] += 1
            if begun is not None and told["page"] == begun.page:
                known.add(told["id"])
        if begun is None:
            return ()
        changes = [Change(**content) for content in begun.changes]
        # What had been made before the interruption has become so by this run: it is told as its work.
        results = self._settle(changes) if changes else []
        made = [change for change, result in zip(changes, results, strict=True) if result and change.id not in known]
        self._tell(made)
        self._journal.record(begun.page, [change.told() for change in made])
        return begun.position

    def _page(self, changes: Sequence[Change], position: Sequence[str | int]) -> None:
        for change in changes:
            self._show(change)
        if not self.apply:
            self._tell(changes)
            if self._journal is not None:
                self._journal.record(self._journal.next_page(), [change.told() for change in changes])
            return
        page = 0
        if self._journal is not None:
            page = self._journal.begin(position, [asdict(change) for change in changes])
        self.database.pace.spend(len(changes))
        results = self._settle(changes)
        made = [change for change, result in zip(changes, results, strict=True) if result == _CHANGED]
        self.missed += len(changes) - len(made)
        self._tell(made)
        if self._journal is not None:
            self._journal.record(page, [change.told() for change in made])

    def _settle(self, changes: Sequence[Change]) -> list[int]:
        """Ask the script to make changes; return what it says about each."""
        if any(change.action == Act.DROP.value and not change.state for change in changes):
            time.sleep(_SECOND_LOOK_SECONDS)
        prefix = queue_prefix(changes[0].queue)
        arguments = [argument for change in changes for argument in change.arguments]
        return list(self.database.run("existing_keys/settle", prefix + b"t:", prefix, *arguments))

    def _tell(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self.counts[change.queue, change.index or change.state, change.rule, change.action] += 1
