"""What adoption has to know, and what it remembers. Pure: finds are told to it.

A task that ended in a way that no command tells of (plain commands, a script that is not understood, a program past the
sidecar) has no TTL. The sweeper adopts it: it gives it what the policy says. See `adopter` for how.

Invariants:

* What was looked at and left as it is, is not looked at again before it has changed, or the policy has.
* What is remembered is bounded. What is forgotten costs a second look, or is told a second time.
"""

from collections.abc import Callable, Collection, Iterable
from itertools import chain, islice
from typing import NamedTuple

from asynq_ttl.policy.lua_rules import FOREVER, lua_argument, picked_rules
from asynq_ttl.policy.rules import UNMATCHED, Policy, State
from asynq_ttl.sweep.schedule import Index
from asynq_ttl.sweep.survey import BATCH, Queue

# Pages, queues and tasks that are remembered.
MOST_PAGES = 50_000
MOST_RULES = 10_000
MOST_TOLD = 10_000


class AdoptionRules(NamedTuple):
    """The rules that can apply to an index.

    Attributes:
        argument: as Lua gets them.
        names: their names, by the numbers that Lua gives them; number 0 is no rule.
    """

    argument: bytes
    names: tuple[str, ...]


class Adoption:
    """What is known of the tasks without a TTL."""

    def __init__(self) -> None:
        self._policy: Policy | None = None
        self._rules: dict[Index, AdoptionRules | None] = {}
        # Of pages and of small indexes, a digest of the tasks that were left without a TTL.
        self._left: dict[tuple[Index, int | None], str] = {}
        # Queues in which something was adopted; the latest is the last.
        self._lively: dict[Queue, None] = {}
        # Tasks that were told of where nothing is changed.
        self._told: dict[tuple[Index, bytes], None] = {}

    def rules(self, policy: Policy, index: Index) -> AdoptionRules | None:
        """Return the rules for an index; None where no task of it can get a TTL."""
        if policy is not self._policy:
            self._policy = policy
            self._rules.clear()
            self._left.clear()
            self._told.clear()
        if index not in self._rules:
            if len(self._rules) >= MOST_RULES:
                self._rules.clear()
            self._rules[index] = adoption_rules(policy, index.queue, index.state)
        return self._rules[index]

    def left(self, index: Index, first: int | None) -> str:
        """Return the digest of the tasks that were left without a TTL; empty where nothing is remembered.

        Args:
            index: where.
            first: the position of the page's first member; None for an index that the survey looks through.
        """
        return self._left.get((index, first), "")

    def note_left(self, index: Index, first: int | None, digest: str) -> None:
        """Take note of the tasks that were left without a TTL; the arguments are those of `left`, and their digest."""
        if len(self._left) >= MOST_PAGES:
            self._left.clear()
        self._left[index, first] = digest

    def note_lively(self, queue: Queue) -> None:
        """Take note of a queue in which something was adopted."""
        self._lively.pop(queue, None)
        self._lively[queue] = None
        if len(self._lively) > BATCH:
            del self._lively[next(iter(self._lively))]

    def closely(self, queues: Collection[Queue], wanted: Callable[[Queue], bool]) -> list[Queue]:
        """Return the queues whose archives are looked at in each round, as many as one script asks about.

        Args:
            queues: all that are swept. Those in which something was adopted last come first.
            wanted: says whether something can be adopted in a queue.
        """
        lively = [queue for queue in reversed(self._lively) if queue in queues]
        others = (queue for queue in queues if queue not in self._lively)
        return list(islice(filter(wanted, chain(lively, others)), BATCH))

    def untold(self, index: Index, task_ids: Iterable[bytes]) -> set[bytes]:
        """Return those tasks that were not told of yet; from now on they were."""
        new = {task_id for task_id in task_ids if (index, task_id) not in self._told}
        if len(self._told) + len(new) > MOST_TOLD:
            self._told.clear()
        self._told.update(dict.fromkeys((index, task_id) for task_id in new))
        return new


def adoption_rules(policy: Policy, queue: str, state: State) -> AdoptionRules | None:
    """Return the rules for an index of a queue; None where no task of it can get a TTL."""
    picked = picked_rules(policy, queue, state)
    if "unmatched" not in picked and all(rule["seconds"] == FOREVER for rule in picked["rules"]):
        return None
    content = {**picked, "grace": policy.grace_seconds, "share": policy.rollout}
    names = (rule.name for rule in policy.queue_rules(queue, state))
    return AdoptionRules(lua_argument(content), (UNMATCHED, *names))
