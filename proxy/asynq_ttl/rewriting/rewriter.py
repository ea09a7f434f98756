"""One command of an Asynq script and a policy in, the command to send instead out. Pure.

Invariants:

* `Untouched` is the answer to everything that is not fully understood.
* A rewritten command is one command: the wrapper's SHA (or text) in place of the script's, ARGV changed at
  most at the score, cutoff and cap, and at most one argument more at the end.
* Arguments are checked here so that nothing a wrapper adds can raise inside Redis.
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import NamedTuple

from asynq_ttl.asynq import message
from asynq_ttl.asynq.keys import (
    ACTIVE,
    ARCHIVED,
    COMPLETED,
    PENDING,
    queue_of,
    queue_of_index,
    queue_of_task,
    task_prefix,
    text_of,
)
from asynq_ttl.asynq.script_shape import Kind
from asynq_ttl.events import Action, Decision, FailOpen
from asynq_ttl.policy.rules import (
    FOREVER_SCORE,
    OWN_ARCHIVE_SECONDS,
    UNMATCHED,
    ArchiveLimits,
    Keep,
    Mode,
    Policy,
    Retention,
    State,
    Verdict,
)
from asynq_ttl.rewriting.registry import Script
from asynq_ttl.wire.commands import Command

# What makes a script's own trims find nothing: the epilogue trims instead, hashes included.
NO_CUTOFF = b"-inf"
NO_CAP = b"1000000000"

# What a wrapper is told where no rule gives a TTL, and only what an earlier one has left behind is healed: to leave
# TTLs alone, and for the inspector's scripts to trim as Asynq does.
ONLY_HEAL = -2
HEALING_RULES = (
    b'{"rules":[],"grace":0,"share":10000,"cutoff":0,"cutoff_own":true,"cap":-1,"uncapped":false,"spare":false}'
)


# What Python, Lua and Redis read alike. Lua carries fifteen digits exactly, and no clock has as many.
_INTEGER = re.compile(rb"-?[0-9]{1,15}")
# The largest number of milliseconds that Lua's numbers carry exactly.
_MAX_MILLISECONDS = 2**53


class NotUnderstood(Exception):  # noqa: N818 - nobody's error: the command goes to Redis as it came
    """A command that cannot be rewritten; `reason` says why."""

    def __init__(self, reason: FailOpen, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Rewrite(NamedTuple):
    """What to do with one command.

    Attributes:
        enforced: send the wrapper instead of the script.
        tail: the wrapper's own argument, if it takes one.
        argv: replacements by ARGV number.
        decision: what to tell about it; None for polls.
    """

    enforced: bool
    tail: bytes | None = None
    argv: tuple[tuple[int, bytes], ...] = ()
    decision: Decision | None = None


class Rewriter:
    """Decides about the commands of learnt scripts by one policy.

    Args:
        policy: the policy in force.
        healed: queues to which an earlier policy may have given TTLs, so that tasks which leave a terminal
            state still lose them. Shared by all rewriters of a process, and added to by each.
        trace_path: where a JSON payload has the producer's `traceparent`, for tasks without headers; empty for
            nowhere.
    """

    def __init__(self, policy: Policy, healed: set[str], trace_path: tuple[str, ...] = ()) -> None:
        self.policy = policy
        self._trace_path = trace_path
        self._healed = healed
        self._enforcing = policy.mode is Mode.ENFORCE
        # Whether some tasks are enforced and some are not.
        self._shares = self._enforcing and policy.rollout > 0 and not policy.enforces_all
        self._live: dict[bytes, bool] = {}
        self._concerned: dict[str, bool] = {}
        self._completed: dict[bytes, _Queue | None] = {}
        self._archived: dict[bytes, _Queue | None] = {}
        self._rules_json: dict[str, bytes] = {}

    @property
    def off(self) -> bool:
        """Whether the policy says to do nothing at all."""
        return self.policy.mode is Mode.OFF

    @property
    def sweeps(self) -> bool:
        """Whether there can be tasks with a TTL of ours, whose time comes."""
        return not self.off and (self._enforcing or bool(self._healed))

    @property
    def coverage(self) -> str:
        """A short name for the queues and retentions that a sweeper knows of by this rewriter."""
        lingering = sorted(queue for queue in self._healed if not self.policy.concerns(queue))
        about = repr((self.policy.mode, self.policy.digest, lingering))
        return hashlib.sha256(about.encode("utf-8", "surrogateescape")).hexdigest()[:12]

    def concerns(self, queue: str | None) -> bool:
        """Say whether commands about a queue's terminal states may have to be rewritten."""
        if queue is None:
            return False
        known = self._concerned.get(queue)
        if known is None:
            known = self._looks_concerned(queue)
            if len(self._concerned) < _MEMORY_LIMIT:
                self._concerned[queue] = known
        return known

    def _looks_concerned(self, queue: str) -> bool:
        if self.off:
            return False
        if self.policy.concerns(queue):
            if self._enforcing and len(self._healed) < _MEMORY_LIMIT:
                self._healed.add(queue)
            return True
        return queue in self._healed

    def rewrite(self, script: Script, command: Command, keys: int) -> Rewrite | None:
        """Decide about one call of a wrapped script.

        Args:
            script: the script that is called.
            command: the whole command.
            keys: its number of KEYS; they start at the command's fourth element.

        Returns:
            What to do; None to forward the command untouched.

        Raises:
            NotUnderstood: it has to be forwarded untouched although a rule might concern it.
        """
        if self.off:
            return None
        try:
            call = _Call(script, command, keys)
            return _BY_KIND[script.kind](self, call)
        except NotUnderstood:
            raise
        except message.MessageError as error:
            raise NotUnderstood(FailOpen.MESSAGE, str(error)) from None
        except Exception as error:  # whatever a policy raises, the task must move
            raise NotUnderstood(FailOpen.POLICY, f"{type(error).__name__}: {error}") from error

    def _complete(self, call: "_Call") -> Rewrite | None:
        queue = self._queue(self._completed, call.key(call.shape.index_key), COMPLETED)
        if queue is None:
            return None
        task = message.decode(call.arg(call.shape.msg_arg), self._trace_path)
        verdict = self.policy.decide(queue.name, task.type, State.COMPLETED)
        healing = Rewrite(enforced=True, tail=b"%d 0" % ONLY_HEAL) if queue.lingers else None
        if verdict is None:
            return healing
        score = call.number(call.shape.time_arg)
        completed_at = score - task.retention_seconds
        if completed_at < 0:
            raise NotUnderstood(FailOpen.ARGUMENTS, "the expiry is not the completion plus the retention")
        retention = verdict.retention
        argv: tuple[tuple[int, bytes], ...] = ()
        if retention.keep is Keep.FOREVER:
            argv = ((call.shape.time_arg, b"%d" % FOREVER_SCORE),)
        elif retention.keep is Keep.TTL:
            argv = ((call.shape.time_arg, b"%d" % (completed_at + retention.seconds)),)
        own = task.retention_seconds
        return self._settle(call, queue, task, verdict, own, tail=b"%%d %d" % completed_at, argv=argv, healing=healing)

    def _archive(self, call: "_Call") -> Rewrite | None:
        queue = self._queue(self._archived, call.key(call.shape.index_key), ARCHIVED)
        if queue is None:
            return None
        limits = self.policy.archive_limits(queue.name)
        if limits is None and not queue.lingers:
            return None
        now, own, own_cap = call.archive_times()
        argv = ((call.shape.cutoff_arg, NO_CUTOFF), (call.shape.cap_arg, NO_CAP))
        grace = self.policy.grace_seconds
        healing = None
        if queue.lingers:
            tail = b"%d %d %d 0 %d" % (ONLY_HEAL, now - own, own_cap, grace)
            healing = Rewrite(enforced=True, tail=tail, argv=argv)
        if limits is None:
            return healing
        task = message.decode(call.arg(call.shape.msg_arg), self._trace_path)
        verdict = self.policy.decide(queue.name, task.type, State.ARCHIVED)
        if verdict is None:
            if not limits.outlasts(own):
                return healing
            # Asynq's own trims would remove what a rule of this queue keeps for longer; so they are taken
            # over, and this task gets from its key what it no longer gets from them.
            verdict = Verdict(UNMATCHED, Retention(Keep.OWN))
        cutoff = b"-"
        if limits.cutoff_seconds is not None:
            age = max(limits.cutoff_seconds, own) if limits.cutoff_own else limits.cutoff_seconds
            cutoff = b"%d" % (now - age)
        cap = self._cap(limits, own_cap)
        tail = b"%%d %b %d %d %d" % (cutoff, cap, limits.spare_untimed, grace)
        if self._shares and (limits.outlasts(own) or not 0 <= cap <= own_cap):
            # A task outside the share gets nothing, but what is kept for longer must not go by Asynq's own trims.
            healing = Rewrite(enforced=True, tail=tail % ONLY_HEAL, argv=argv)
        return self._settle(call, queue, task, verdict, own, tail=tail, argv=argv, healing=healing)

    def _queue(self, known: dict[bytes, "_Queue | None"], index: bytes, suffix: bytes) -> "_Queue | None":
        """Return the queue of a terminal index, if it is concerned.

        Args:
            known: what is remembered of the indexes with this suffix.
            index: the key of the index.
            suffix: what it has to end with.
        """
        try:
            return known[index]
        except KeyError:
            pass
        name = queue_of(index, suffix)
        found = None
        if name is not None and self.concerns(name):
            found = _Queue(name, task_prefix(name), self._lingers(name))
        if len(known) < _MEMORY_LIMIT:
            known[index] = found
        return found

    def _cap(self, limits: ArchiveLimits, own_cap: int) -> int:
        """Return the most entries the archive keeps; -1 for any number."""
        if limits.cap is None:
            return -1 if limits.uncapped else own_cap
        # Tasks outside the rollout's share live by Asynq's own cap.
        return limits.cap if self.policy.enforces_all else max(limits.cap, own_cap)

    def _settle(
        self,
        call: "_Call",
        queue: "_Queue",
        task: message.TaskMessage,
        verdict: Verdict,
        own_seconds: int,
        *,
        tail: bytes,
        argv: tuple[tuple[int, bytes], ...],
        healing: Rewrite | None,
    ) -> Rewrite:
        """Return the rewrite that gives a task of known type its TTL, or `healing` where that is not enforced.

        `tail` has `%d` for milliseconds.
        """
        ttl_seconds = None
        kept_seconds = verdict.retention.resolve(own_seconds)
        milliseconds = 0 if kept_seconds is None else -1
        if kept_seconds:
            ttl_seconds = kept_seconds + self.policy.grace_seconds
            milliseconds = ttl_seconds * 1000
            if milliseconds > _MAX_MILLISECONDS:
                raise NotUnderstood(FailOpen.ARGUMENTS, f"a retention of {kept_seconds} seconds")
        task_id = call.task_id(queue.prefix)
        enforced = self._enforcing and self.policy.enforces(task_id)
        operation, script, state = _SETTLING[call.script.kind]
        decision = Decision(
            operation,
            script,
            queue.name,
            state,
            _ACTIONS[verdict.retention.keep],
            enforced,
            text_of(task_id),
            task.type,
            verdict.rule,
            ttl_seconds,
            task.traceparent,
            task.tracestate,
            len(call.arg(call.shape.msg_arg)),
            own_seconds,
        )
        if healing is not None and not enforced:
            return healing._replace(decision=decision)
        return Rewrite(enforced, tail % milliseconds, argv, decision)

    def _archive_by_rules(self, call: "_Call") -> Rewrite | None:
        """Inspector archiving: the command carries no type, so the wrapper picks among the queue's rules."""
        queue = queue_of(call.key(call.shape.index_key), ARCHIVED)
        limits = self.policy.archive_limits(queue) if queue is not None else None
        if queue is None or not self.concerns(queue):
            return None
        # Only a task that is archived by itself can come from `completed`, and bring a TTL with it.
        heals = call.script.kind is Kind.ARCHIVE_ONE and self.heals(queue)
        if limits is None and not heals:
            return None
        died_at, _, _ = call.archive_times()
        task_id = b""
        enforced = self._enforcing and self.policy.rollout > 0
        if call.script.kind is Kind.ARCHIVE_ONE:
            task_id = call.task_id(task_prefix(queue))
            enforced = enforced and self.policy.enforces(task_id)
        else:
            call.check_prefix(queue)
        if limits is None:
            return Rewrite(enforced=True, tail=HEALING_RULES)
        rules = self.policy.queue_rules(queue, State.ARCHIVED)
        sole = rules[0] if len(rules) == 1 and rules[0].archived is not None and not rules[0].types else None
        decision = Decision(
            operation="archive",
            script=f"asynq.{call.script.kind.value}",
            queue=queue,
            state="archived",
            action=_ACTIONS[sole.archived.keep] if sole and sole.archived else Action.TTL,
            enforced=enforced,
            task_id=text_of(task_id),
            rule=sole.name if sole else "",
            died_at=None if task_id else died_at,
        )
        if heals and not enforced:
            # By the rules, a task outside the share gets no TTL either, but nothing that they keep is trimmed with it.
            tail = self._rules_argument(queue, limits) if self._shares else HEALING_RULES
            return Rewrite(enforced=True, tail=tail, decision=decision)
        return Rewrite(enforced, self._rules_argument(queue, limits), (), decision)

    def _rules_argument(self, queue: str, limits: ArchiveLimits) -> bytes:
        """Return the rules that can apply to a queue's archive as JSON for the wrapper; see `lua/rules`."""
        known = self._rules_json.get(queue)
        if known is not None:
            return known
        rules = self.policy.queue_rules(queue, State.ARCHIVED)
        content: dict[str, object] = {
            "rules": [
                {
                    "types": [glob.lua.decode("latin-1") for glob in rule.types],
                    "seconds": _lua_seconds(rule.archived),
                }
                for rule in rules
                if rule.archived is not None
            ],
            "grace": self.policy.grace_seconds,
            "share": self.policy.rollout,
            "cutoff": -1 if limits.cutoff_seconds is None else limits.cutoff_seconds,
            "cutoff_own": limits.cutoff_own,
            "cap": -1 if limits.cap is None else limits.cap,
            "uncapped": limits.uncapped,
            "spare": limits.spare_untimed,
        }
        if rules[-1].types and limits.outlasts(OWN_ARCHIVE_SECONDS):
            content["unmatched"] = "own"
        # Lua patterns are bytes; Latin-1 carries each of them through JSON as it is.
        argument = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("latin-1")
        if len(self._rules_json) >= _MEMORY_LIMIT:
            self._rules_json.clear()
        self._rules_json[queue] = argument
        return argument

    def _run_one(self, call: "_Call") -> Rewrite | None:
        key = call.key(call.shape.task_key)
        queue = queue_of_task(key)
        if queue is None or not self.concerns(queue):
            return None
        return self._run(call, queue, text_of(key[key.index(b"}:t:") + 4 :]))

    def _run_all(self, call: "_Call") -> Rewrite | None:
        queue = queue_of_index(call.key(call.shape.source_key))
        if queue is None or not self.concerns(queue):
            return None
        call.check_prefix(queue)
        return self._run(call, queue, "")

    def _run(self, call: "_Call", queue: str, task_id: str) -> Rewrite:
        decision = Decision(
            operation="run",
            script=f"asynq.{call.script.kind.value}",
            queue=queue,
            state="pending",
            action=Action.PERSIST,
            enforced=self.heals(queue),
            task_id=task_id,
        )
        return Rewrite(decision.enforced, decision=decision)

    def _dequeue(self, call: "_Call") -> Rewrite | None:
        key = call.key(call.shape.source_key)
        live = self._live.get(key)
        if live is None:
            queue = queue_of(key, PENDING)
            live = queue is not None and self.heals(queue) and call.key(call.shape.active_key).endswith(ACTIVE)
            if len(self._live) < _MEMORY_LIMIT:
                self._live[key] = live
        return _POLL if live else None

    def _janitor(self, call: "_Call") -> Rewrite | None:
        queue = queue_of(call.key(call.shape.index_key), COMPLETED)
        if queue is None or not self.heals(queue):
            return None
        call.check_prefix(queue)
        if call.number(call.shape.batch_arg) < 1:
            raise NotUnderstood(FailOpen.ARGUMENTS, "a batch without an end")
        return _POLL

    def _delete_all(self, call: "_Call") -> Rewrite | None:
        queue = queue_of_index(call.key(call.shape.source_key))
        if queue is None or not self.heals(queue):
            return None
        call.check_prefix(queue)
        return _POLL

    def heals(self, queue: str) -> bool:
        """Say whether tasks of a queue may carry a TTL of ours: it has to come off when they live again."""
        return self.concerns(queue) and (self._enforcing or queue in self._healed)

    def _lingers(self, queue: str) -> bool:
        """Say whether an earlier policy may have left tasks and entries in a queue for which none is in force now."""
        return queue in self._healed and not (self._enforcing and self.policy.concerns(queue))


class _Queue(NamedTuple):
    """A queue whose commands may have to be rewritten.

    Attributes:
        name: its name.
        prefix: what its task keys start with.
        lingers: an earlier policy may have left tasks and entries for which none is in force now.
    """

    name: str
    prefix: bytes
    lingers: bool


_MEMORY_LIMIT = 10_000
_POLL = Rewrite(enforced=True)

_ACTIONS = {
    Keep.TTL: Action.TTL,
    Keep.OWN: Action.KEEP,
    Keep.FOREVER: Action.NONE,
    Keep.DELETE: Action.DELETE,
}

# Operation, script and state for telemetry.
_SETTLING = {
    Kind.COMPLETE: ("complete", "asynq.complete", "completed"),
    Kind.ARCHIVE: ("archive", "asynq.archive", "archived"),
}

_BY_KIND: dict[Kind, Callable[[Rewriter, "_Call"], Rewrite | None]] = {
    Kind.COMPLETE: Rewriter._complete,  # noqa: SLF001 - the table of the class's own methods
    Kind.ARCHIVE: Rewriter._archive,  # noqa: SLF001
    Kind.ARCHIVE_ONE: Rewriter._archive_by_rules,  # noqa: SLF001
    Kind.ARCHIVE_ALL: Rewriter._archive_by_rules,  # noqa: SLF001
    Kind.RUN_ONE: Rewriter._run_one,  # noqa: SLF001
    Kind.RUN_ALL: Rewriter._run_all,  # noqa: SLF001
    Kind.DELETE_ALL: Rewriter._delete_all,  # noqa: SLF001
    Kind.DEQUEUE: Rewriter._dequeue,  # noqa: SLF001
    Kind.DEQUEUE_TIMED: Rewriter._dequeue,  # noqa: SLF001
    Kind.JANITOR: Rewriter._janitor,  # noqa: SLF001
}


class _Call:
    """A command seen as a call of a script: KEYS and ARGV by their numbers in Lua.

    Raises:
        NotUnderstood: not all are there that play a part in the script.
    """

    __slots__ = ("_command", "_keys", "script", "shape")

    def __init__(self, script: Script, command: Command, keys: int) -> None:
        args = len(command) - 3 - keys
        if keys < script.least_keys or args < script.least_args:
            raise NotUnderstood(FailOpen.ARGUMENTS, f"{keys} KEYS and {args} ARGV")
        self.script = script
        self.shape = script.shape
        self._command = command
        self._keys = keys

    def key(self, number: int) -> bytes:
        """Return KEYS[number]."""
        return self._command[2 + number]

    def arg(self, number: int) -> bytes:
        """Return ARGV[number]."""
        return self._command[2 + self._keys + number]

    def number(self, number: int) -> int:
        """Return ARGV[number] as an integer, written as Lua and Redis read it too."""
        text = self.arg(number)
        if not (text.isdigit() and len(text) <= 15) and not _INTEGER.fullmatch(text):  # nearly always the former
            raise NotUnderstood(FailOpen.ARGUMENTS, f"ARGV[{number}] is no integer")
        return int(text)

    def task_id(self, prefix: bytes) -> bytes:
        """Return the task ID, once the task key is seen to be that task's: the queue's prefix, and the ID."""
        task_id = self.arg(self.shape.id_arg)
        if self.key(self.shape.task_key) != prefix + task_id:
            raise NotUnderstood(FailOpen.ARGUMENTS, f"KEYS[{self.shape.task_key}] is not the task's key")
        return task_id

    def check_prefix(self, queue: str) -> None:
        """See to it that the task key prefix is that of the queue whose index the script works on."""
        if self.arg(self.shape.prefix_arg) != task_prefix(queue):
            raise NotUnderstood(FailOpen.ARGUMENTS, f"ARGV[{self.shape.prefix_arg}] is not the task key prefix")

    def archive_times(self) -> tuple[int, int, int]:
        """Return when the task died, and Asynq's own retention in seconds and number of entries kept.

        Asynq's cap is off by one: it keeps one entry fewer than it says.
        """
        now, cutoff = self.number(self.shape.time_arg), self.number(self.shape.cutoff_arg)
        return now, now - cutoff, max(self.number(self.shape.cap_arg) - 1, 0)


def _lua_seconds(retention: Retention) -> int | str:
    if retention.keep is Keep.OWN:
        return "own"
    return -1 if retention.keep is Keep.FOREVER else retention.seconds
