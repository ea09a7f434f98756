"""Asynq's states in plain Python, and what a policy makes of the two terminal ones. No Redis, no clock.

The model knows no ghosts: a task that expired is gone from everywhere. So it says what Asynq would reply on a clean
Redis, and that is what the sidecar has to make it reply. Methods are named after `AsynqCalls`, and return the reply.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from support.asynq_calls import LEASE_SECONDS, OWN_SECONDS, Failure
from support.task_message import retained
from trials.model.policy_cases import DELETE, FOREVER, GRACE, PolicyCase

OK = b"OK"
NOT_FOUND = Failure("NOT FOUND")
FOREVER_SCORE = 253_402_300_799
HELD_SCORE = FOREVER_SCORE - 1
RELEASED_SECONDS = 60
FOREVER_RETENTION = 9_223_372_036
LIVE = frozenset(("pending", "active", "scheduled", "retry", "aggregating"))
TERMINAL = ("archived", "completed")


@dataclass(frozen=True)
class Message:
    """What an application enqueues, and a worker gets."""

    task_id: str
    task_type: str
    retention: int
    unique: str | None
    encoded: bytes


@dataclass
class Task:
    """A task. `score` is that of its index; `expires` is when its key does, in seconds since the epoch.

    `held` has both as they were before, where the task is held.
    `added` is what a rule for tasks without a Retention has added to its message.
    """

    message: Message
    state: str
    score: int = 0
    group: str | None = None
    lock: str | None = None
    expires: float | None = None
    held: tuple[int, float | None] | None = None
    added: bytes = b""

    @property
    def terminal(self) -> bool:
        """Whether it has ended."""
        return self.state in TERMINAL

    def hold(self) -> None:
        """Hold it."""
        self.held = self.score, self.expires
        self.score, self.expires = HELD_SCORE, None

    def release(self, at: float) -> None:
        """Give it what it had; what is over has a minute left."""
        assert self.held is not None
        self.score, expires = self.held
        self.expires = None if expires is None else max(expires, at + RELEASED_SECONDS)
        self.held = None


@dataclass(frozen=True)
class Moment:
    """When a task ends.

    Attributes:
        policy: the policy in force.
        now: the time that Asynq says, in seconds since the epoch.
        at: the time by which keys expire.
        ghosts: the archive's entries without a task, with their scores: they count until they are swept.
        lingers: no policy is in force for the queue, but the sidecar still heals what one has left behind.
    """

    policy: PolicyCase
    now: int
    at: float
    ghosts: Mapping[str, int]
    lingers: bool

    @property
    def wrapped(self) -> bool:
        """Whether an inspector's archiving of one task is wrapped."""
        return self.policy.enforcing or self.lingers


@dataclass
class AsynqModel:
    """One queue. `pending` and `active` are in the order of Redis's lists: the next task to run is the last."""

    tasks: dict[str, Task] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    active: list[str] = field(default_factory=list)
    leases: dict[str, int] = field(default_factory=dict)
    locks: dict[str, str] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)

    def members(self, state: str, group: str | None = None) -> dict[str, int]:
        """Return the scores of the tasks in a state (and group) by ID, in the index's order."""
        found = {
            task_id: task.score
            for task_id, task in self.tasks.items()
            if task.state == state and (group is None or task.group == group)
        }
        return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))

    # --- the client ------------------------------------------------------------------------------------------

    def enqueue(
        self,
        message: Message,
        policy: PolicyCase,
        score: int = 0,
        group: str | None = None,
        state: str = "pending",
    ) -> int:
        """Add a task as pending, scheduled or aggregating, perhaps in place of one that has ended."""
        old, lock, task_id = self.tasks.get(message.task_id), message.unique, message.task_id
        if old is not None and old.terminal and old.held is None and self.locks.get(lock or "", task_id) == task_id:
            ended = "done" if old.added else old.state
            if policy.replaces(task_id, old.message.task_type, ended):
                self.forget(task_id, unlock=True)
                self._unlock(lock, task_id)
        if message.unique is not None:
            if message.unique in self.locks:
                return -1
            self.locks[message.unique] = message.task_id  # and it stays, also if the ID is taken
        if message.task_id in self.tasks:
            return 0
        self.tasks[message.task_id] = Task(message, state, score, group, message.unique)
        if state == "pending":
            self.pending.insert(0, message.task_id)
        elif group is not None:
            self.groups.add(group)
        return 1

    # --- the worker ------------------------------------------------------------------------------------------

    def dequeue(self, now: int) -> Message | None:
        """Take the next pending task."""
        if not self.pending:
            return None
        task_id = self.pending.pop()
        self.active.insert(0, task_id)
        self.leases[task_id] = now + LEASE_SECONDS
        self.tasks[task_id].state = "active"
        return self.tasks[task_id].message

    def _settled(self, message: Message) -> Task | None:
        """Take a task off the active ones; None if it is not one of them."""
        if message.task_id not in self.active:
            return None
        self.active.remove(message.task_id)
        del self.leases[message.task_id]
        return self.tasks[message.task_id]

    def done(self, message: Message, moment: Moment) -> bytes | Failure:
        """Finish a task without a retention; `moment.now` is what Redis says where it is kept."""
        task = self._settled(message)
        if task is None:
            return NOT_FOUND
        self._unlock(message.unique, message.task_id)
        kept = moment.policy.keeps_done(message.task_id, message.task_type)
        if kept is None:
            del self.tasks[message.task_id]
            return OK
        retention = FOREVER_RETENTION if kept == FOREVER else kept
        task.added = retained(retention, moment.now)
        task.message = replace(task.message, retention=retention, encoded=task.message.encoded + task.added)
        task.state, task.score = "completed", FOREVER_SCORE if kept == FOREVER else moment.now + kept
        self._keep(task, kept, moment.at, unlock=False)
        return OK

    def complete(self, message: Message, moment: Moment) -> bytes | Failure:
        """Finish a task with a retention."""
        task = self._settled(message)
        if task is None:
            return NOT_FOUND
        self._unlock(message.unique, message.task_id)
        task.message, task.state, task.score = message, "completed", moment.now + message.retention
        kept = moment.policy.keeps_completed(message.task_id, message.task_type, message.retention)
        if kept is not None:
            task.score = FOREVER_SCORE if kept == FOREVER else moment.now + kept
            self._keep(task, kept, moment.at, unlock=False)
        return OK

    def retry(self, message: Message, score: int) -> bytes | Failure:
        """Put a failed task off."""
        task = self._settled(message)
        if task is None:
            return NOT_FOUND
        task.message, task.state, task.score = message, "retry", score
        return OK

    def archive(self, message: Message, moment: Moment) -> bytes | Failure:
        """Archive a task that has failed for the last time."""
        task = self._settled(message)
        if task is None:
            return NOT_FOUND
        task.message, task.state, task.score = message, "archived", moment.now
        kept = moment.policy.keeps_archived(message.task_id, message.task_type)
        if kept is None:
            self._trim(moment.now - OWN_SECONDS, None, spare=False, ghosts={}, unlock=moment.lingers)
        else:
            self._keep(task, kept, moment.at, unlock=True)
            self._trim_by(moment)
        return OK

    def requeue(self, message: Message) -> bytes | Failure:
        """Give a task back."""
        task = self._settled(message)
        if task is None:
            return NOT_FOUND
        task.state = "pending"
        self.pending.append(message.task_id)
        return OK

    def forward(self, source: str, now: int) -> int:
        """Move what is due from `scheduled` or `retry`."""
        due = [task_id for task_id, score in self.members(source).items() if score <= now]
        for task_id in due:
            task = self.tasks[task_id]
            if task.group is None:
                task.state = "pending"
                self.pending.insert(0, task_id)
            else:
                task.state, task.score = "aggregating", now
        return len(due)

    def lease_expired(self, cutoff: int) -> list[Message]:
        """List the messages of active tasks whose lease is over."""
        over = sorted((score, task_id) for task_id, score in self.leases.items() if score <= cutoff)
        return [self.tasks[task_id].message for _, task_id in over]

    def janitor(self, now: int) -> int:
        """Delete completed tasks that are due."""
        due = [task_id for task_id, score in self.members("completed").items() if score <= now]
        for task_id in due:
            del self.tasks[task_id]
        return len(due)

    # --- the inspector ---------------------------------------------------------------------------------------

    def run_one(self, task_id: str, *, heals: bool) -> int:
        """Run a task now; `heals` says whether the sidecar rewrites that."""
        task = self.tasks.get(task_id)
        if task is None or task.state in ("active", "pending"):
            return 0 if task is None else -1 if task.state == "active" else -2
        self._leave(task_id)
        self._run(task_id, heals=heals)
        return 1

    def run_all(self, state: str, group: str | None = None, *, heals: bool) -> int:
        """Run all tasks in a state (and group) now; `heals` is as for `run_one`."""
        ids = list(self.members(state, group))
        for task_id in ids:
            self._run(task_id, heals=heals and state in TERMINAL)
        self.groups.discard(group or "")
        return len(ids)

    def archive_one(self, task_id: str, moment: Moment) -> int:
        """Archive a task by hand."""
        task = self.tasks.get(task_id)
        if task is None or task.state in ("active", "archived"):
            return 0 if task is None else -2 if task.state == "active" else -1
        self._leave(task_id)
        self._archive([task_id], moment)
        if moment.policy.archived and moment.policy.enforces(task_id):
            self._trim_by(moment)
        return 1

    def archive_by_script(self, task_id: str, moment: Moment) -> None:
        """Archive a pending task by a script that trims nothing."""
        self.pending.remove(task_id)
        self._archive([task_id], moment)

    def archive_all(self, state: str, group: str | None, moment: Moment) -> int:
        """Archive all tasks in a state (and group)."""
        ids = list(self.members(state, group))
        if state == "pending":
            self.pending.clear()
        self._archive(ids, moment)
        self.groups.discard(group or "")
        if moment.policy.archived and moment.policy.enforcing:
            self._trim_by(moment)
        return len(ids)

    def delete_one(self, task_id: str) -> int:
        """Delete a task."""
        task = self.tasks.get(task_id)
        if task is None or task.state == "active":
            return 0 if task is None else -1
        self._leave(task_id)
        self.forget(task_id, unlock=True)
        return 1

    def delete_all(self, state: str, group: str | None = None) -> int:
        """Delete all tasks in a state (and group)."""
        ids = list(self.members(state, group))
        if state == "pending":
            self.pending.clear()
        for task_id in ids:
            self.forget(task_id, unlock=state not in ("pending", "aggregating"))
        self.groups.discard(group or "")
        return len(ids)

    # --- time ------------------------------------------------------------------------------------------------

    def sweep(self, at: float) -> set[str]:
        """Remove what is due; return the IDs."""
        due = {task_id for task_id, task in self.tasks.items() if task.expires and task.expires <= at + GRACE}
        for task_id in due:
            self.forget(task_id, unlock=True)
        return due

    def adopt(self, task_id: str, policy: PolicyCase, at: float) -> int | None:
        """Give an ended task without a TTL what a policy says; return for how long it is kept, None where it stays."""
        task = self.tasks[task_id]
        if task.state == "archived":
            kept, since = policy.keeps_archived(task_id, task.message.task_type), float(task.score)
        elif task.message.retention == FOREVER_RETENTION:
            return None  # it was kept for ever by the rule for tasks without a Retention
        else:
            kept, since = policy.keeps_completed(task_id, task.message.task_type, task.message.retention), at
        if kept is None or kept == FOREVER or (kept, task.state) == (0, "completed"):
            return None  # the last: Asynq's own time, which nobody knows without a Retention
        if since + kept <= at:
            self.forget(task_id, unlock=True)
        else:
            task.expires = since + kept + GRACE
        return kept

    def forget(self, task_id: str, *, unlock: bool) -> None:
        """Remove a task, and its uniqueness lock if it still holds it."""
        task = self.tasks.pop(task_id)
        if unlock:
            self._unlock(task.lock, task_id)

    # --- what policies do --------------------------------------------------------------------------------------

    def _archive(self, ids: list[str], moment: Moment) -> None:
        for task_id in ids:
            task = self.tasks[task_id]
            held, task.held = task.held is not None and moment.wrapped, None
            task.state, task.score, task.expires = "archived", moment.now, None
            if held:
                task.hold()
                continue
            kept = moment.policy.keeps_archived(task_id, task.message.task_type)
            if kept is not None:
                self._keep(task, kept, moment.at, unlock=True)

    def _keep(self, task: Task, kept: int, at: float, *, unlock: bool) -> None:
        task.expires = None if kept in (FOREVER, DELETE) else at + kept + GRACE
        if kept == DELETE:
            self.forget(task.message.task_id, unlock=unlock)

    def _trim_by(self, moment: Moment) -> None:
        policy = moment.policy
        cutoff = None if policy.cutoff is None else moment.now - policy.cutoff
        self._trim(cutoff, policy.cap, spare=policy.spare, ghosts=moment.ghosts, unlock=True)

    def _trim(
        self, cutoff: int | None, cap: int | None, *, spare: bool, ghosts: Mapping[str, int], unlock: bool
    ) -> None:
        """Trim the archive by score and number. Ghosts count as entries until they are swept."""
        members = self.members("archived")
        entries = {**ghosts, **{task_id: score for task_id, score in members.items() if not self.tasks[task_id].held}}
        order = sorted(entries, key=lambda task_id: (entries[task_id], task_id))
        old = [task_id for task_id in order if cutoff is not None and entries[task_id] <= cutoff]
        rest = [task_id for task_id in order if task_id not in old]
        if cap is not None:
            loose = [task_id for task_id in rest if not spare or not self._untimed(task_id)]
            old += loose[: max(len(rest) - cap, 0)]
        for task_id in old:
            if task_id in self.tasks and self.tasks[task_id].state == "archived":
                self.forget(task_id, unlock=unlock)

    def _untimed(self, task_id: str) -> bool:
        return task_id in self.tasks and self.tasks[task_id].expires is None

    # --- parts of several operations ---------------------------------------------------------------------------

    def _leave(self, task_id: str) -> None:
        """Take a task out of the place it is in."""
        task = self.tasks[task_id]
        if task.state == "pending":
            self.pending.remove(task_id)
        elif task.state == "aggregating" and task.group is not None and len(self.members("aggregating")) == 1:
            self.groups.discard(task.group)

    def _run(self, task_id: str, *, heals: bool) -> None:
        task = self.tasks[task_id]
        if heals and task.added:
            whole = task.message.encoded
            if whole.endswith(task.added):
                task.message = replace(task.message, retention=0, encoded=whole.removesuffix(task.added))
            task.added = b""
        task.state, task.expires, task.held = "pending", None, None
        self.pending.insert(0, task_id)

    def _unlock(self, lock: str | None, task_id: str) -> None:
        if lock is not None and self.locks.get(lock) == task_id:
            del self.locks[lock]
