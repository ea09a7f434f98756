"""Which queues a policy reaches, and in which an earlier one may have left TTLs. Pure.

A policy that is no longer in force leaves tasks with TTLs behind, and nothing live may carry a TTL. So a process
remembers the queues for which it has enforced a policy, across all changes of the policy. In these it goes on taking
TTLs off tasks that live again, and removing what is due; that is called healing. `docs/decisions/0005` has the reasons.

Invariants:

* Asking changes nothing that is remembered of queues; only `note_enforced` does.
* An answer about a queue stays the same as long as the policy is in force.
* With `mode: off` no queue is reached.
* Where due tasks are handed over to a sink, their keys outlast their retention by an hour at least, so that a sink that
  fails, or is slow, is not too late for them.
"""

import hashlib

from asynq_ttl.policy.rules import Adopt, Mode, Policy

# Queues that are remembered. (Security limit: a client can name as many as it likes.)
_MEMORY_LIMIT = 10_000

# The least grace where a sink gets due tasks before they go.
HANDOVER_GRACE_SECONDS = 3_600


class Reach:
    """The queues that one policy reaches.

    Args:
        policy: the policy in force.
        healed: the queues for which this process has enforced some policy. All of a process's `Reach` share it, and
            each adds to it.
        hands_over: whether a sink gets due tasks before they go.

    Attributes:
        policy: the policy in force, as `Policy.handing_over` has it where there is a sink.
        off: whether it says to do nothing at all.
        enforcing: whether its decisions are carried out, at least for the share of a rollout.
        hands_over: whether only the sweeper may remove what is due, because a sink gets it first.
    """

    def __init__(self, policy: Policy, healed: set[str], *, hands_over: bool = False) -> None:
        self.policy = policy.handing_over(HANDOVER_GRACE_SECONDS) if hands_over else policy
        self.hands_over = hands_over
        self.off = policy.mode is Mode.OFF
        self.enforcing = policy.mode is Mode.ENFORCE
        self._healed = healed
        self._concerned: dict[str, bool] = {}

    @property
    def sweeps(self) -> bool:
        """Whether there can be tasks with a TTL of ours, which are to be removed when their time is over."""
        return not self.off and (self.enforcing or bool(self._healed))

    @property
    def enforced(self) -> frozenset[str]:
        """The queues for which this process has enforced some policy: it may have given a TTL to tasks of these."""
        return frozenset(self._healed)

    @property
    def coverage(self) -> str:
        """A short name for what a sweeper with this reach covers: sidecars with the same name may take turns."""
        lingering = sorted(queue for queue in self._healed if not self.policy.concerns(queue))
        about = repr((self.policy.mode, self.policy.digest, lingering))
        return hashlib.sha256(about.encode("utf-8", "surrogateescape")).hexdigest()[:12]

    def concerns(self, queue: str | None) -> bool:
        """Say whether commands about a queue's terminal states may have to be rewritten.

        Args:
            queue: the queue's name; None for no queue, which nothing has to be done about.
        """
        if queue is None:
            return False
        known = self._concerned.get(queue)
        if known is None:
            known = not self.off and (self.policy.concerns(queue) or queue in self._healed)
            if len(self._concerned) < _MEMORY_LIMIT:
                self._concerned[queue] = known
        return known

    def heals(self, queue: str) -> bool:
        """Say whether tasks of a queue may carry a TTL of ours, which has to come off when they live again."""
        return self.concerns(queue) and (self.enforcing or queue in self._healed)

    @property
    def only_tells(self) -> bool:
        """Whether what would be adopted is told, and nothing is changed."""
        return not self.off and not self.enforcing and self.policy.adopt is not Adopt.OFF

    def adopts(self, queue: str) -> bool:
        """Say whether tasks of a queue that have ended without a TTL get one, or are told of in shadow mode."""
        return not self.off and self.policy.adopt is not Adopt.OFF and self.policy.concerns(queue)

    def lingers(self, queue: str) -> bool:
        """Say whether an earlier policy may have left tasks and entries in a queue for which none is enforced now."""
        return queue in self._healed and not (self.enforcing and self.policy.concerns(queue))

    def note_enforced(self, queue: str) -> None:
        """Take note that a queue's commands are decided about, so that it is healed by every later policy too.

        Does nothing where the policy does not enforce anything for the queue.
        """
        if (
            self.enforcing
            and queue not in self._healed
            and len(self._healed) < _MEMORY_LIMIT
            and self.policy.concerns(queue)
        ):
            self._healed.add(queue)
