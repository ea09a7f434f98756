"""Random histories of one queue: real Asynq scripts through the real sidecar, beside the model, compared at every step.

Each rule does one thing in both worlds and compares the replies; the invariant then compares all that is in Redis.
Time passes for single tasks: their index scores and deadlines are moved, as if they had been there for longer.
"""

import time
from collections.abc import Callable
from typing import Any

import redis
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from asynq_ttl.asynq.hold import FIELD
from asynq_ttl.lua.loader import load
from support.asynq_calls import PREFIX, AsynqCalls, Failure, calls_of, counted, task_key
from support.foreign_worker import MOVE
from support.servers import Server, connect
from support.task_message import encode_task, retained
from trials.model import snapshot
from trials.model.asynq_model import RELEASED_SECONDS, TERMINAL, AsynqModel, Message, Moment, Task
from trials.model.policy_cases import CASES, DAY, ELSEWHERE, GRACE, OFF, OWN, SHADOW, TYPES, PolicyCase
from trials.model.sidecar_thread import SidecarThread

IDS = "abcde"
KINDS = st.sampled_from(TYPES)
RETENTIONS = st.sampled_from((600, 7_200, 0))
UNIQUE = st.sampled_from((None, None, None, "u1", "u2"))
WHERE = st.sampled_from(("pending", "scheduled", "group"))
HOW = st.sampled_from(("succeed", "archive", "archive", "succeed", "retry"))
# What the inspector does to all tasks in a state.
IN_BULK = {
    "pending": ("archive", "delete"),
    "scheduled": ("run", "archive", "delete"),
    "retry": ("run", "archive", "delete"),
    "archived": ("run", "delete"),
    "completed": ("delete",),
}
POLICIES = st.runner().flatmap(lambda machine: st.sampled_from(machine.policies))
GROUP = "g1"
# How long a round of the sweeper may take, however slow the machine.
SLOW_SECONDS = 60
# Policies under which a freshly started sidecar takes no TTL off, and removes nothing: their operator has taken off
# the TTLs that were given, as the README says.
RESTING = (SHADOW, OFF, ELSEWHERE)


class QueueMachine(RuleBasedStateMachine):
    """One queue through the sidecar.

    Args:
        server: the Redis.
        sidecar: the sidecar in front of it.
        policies: what it switches between.
    """

    deliveries: Bundle[Message] = Bundle("deliveries")

    def __init__(self, server: Server, sidecar: SidecarThread, policies: tuple[PolicyCase, ...] = CASES) -> None:
        super().__init__()
        self.sidecar = sidecar
        self.direct = server.client()
        self.direct.flushall()
        self.model = AsynqModel()
        self.policies = policies
        self.policy = policies[0]
        self.healing = False
        # Entries that may outlive their hash: those of tasks that expired because no sidecar swept.
        self.excused: set[tuple[str, str]] = set()
        self.ghosts: dict[str, dict[str, int]] = {state: {} for state in TERMINAL}
        self._made = 0
        self._client: redis.Redis | None = None
        self.asynq: AsynqCalls[Any]

    def teardown(self) -> None:
        """Close what the example opened."""
        self._disconnect()
        self.direct.close()
        self.sidecar.stop()

    # --- the sidecar -----------------------------------------------------------------------------------------

    @initialize(policy=POLICIES)
    def begin(self, policy: PolicyCase) -> None:
        """Start the first sidecar."""
        self._start(policy)

    @precondition(lambda self: self.model.tasks)
    @rule(policy=POLICIES)
    def reload(self, policy: PolicyCase) -> None:
        """Change the policy."""
        self._reload(policy)

    @precondition(lambda self: self.model.tasks)
    @rule()
    def restart(self) -> None:
        """End the sidecar and start another, which knows nothing of the scripts, TTLs and queues of the first."""
        if self.policy in RESTING:
            self._take_ttls_off()
        self._disconnect()
        self.sidecar.stop()
        self._start(self.policy)

    @precondition(lambda self: self.model.tasks)
    @rule()
    def lose_scripts(self) -> None:
        """Empty Redis's script cache, as its restart does."""
        self.direct.script_flush()

    @precondition(lambda self: self._ended())
    @rule()
    def sweep(self) -> None:
        """Do a round of the sweeper; after it, everything an operator looks at works."""
        self._sweep()
        if self.healing and self.policy is not OFF:
            assert not self.excused
            self._look()

    # --- the client and the worker -----------------------------------------------------------------------------

    @rule(data=st.data(), kind=KINDS, retention=RETENTIONS, unique=UNIQUE, where=WHERE)
    def enqueue(self, data: st.DataObject, kind: str, retention: int, unique: str | None, where: str) -> None:
        """Enqueue a task."""
        self._enqueue(self._message(self._draw_id(data), kind, retention, None if where == "group" else unique), where)

    @rule(data=st.data(), kind=KINDS, retention=RETENTIONS, unique=UNIQUE, how=HOW)
    def enqueue_and_process(self, data: st.DataObject, kind: str, retention: int, unique: str | None, how: str) -> None:
        """Enqueue a task, and let a worker go through all that is pending."""
        self._enqueue(self._message(self._draw_id(data), kind, retention, unique), "pending")
        self._process(how)

    @precondition(lambda self: self.model.pending)
    @rule(target=deliveries)
    def dequeue(self) -> Message | MultipleResults[Message]:
        """Take a task; it is in a worker's hands from then on, also if its lease ends."""
        message = self._dequeue()
        return multiple() if message is None else message

    @rule(message=consumes(deliveries), how=st.one_of(HOW, st.just("requeue")))
    def settle(self, message: Message, how: str) -> None:
        """Be done with a task taken before, though it may be somebody else's by now."""
        self._settle(message, how)

    @precondition(lambda self: self.model.pending)
    @rule(data=st.data(), state=st.sampled_from(TERMINAL))
    def end_by_plain_commands(self, data: st.DataObject, state: str) -> None:
        """End a task as a worker does that has no scripts: no command tells the sidecar of it."""
        task = self._draw(data, lambda task: task.state == "pending")
        task_id, score = task.message.task_id, _now() + (task.message.retention if state == "completed" else 0)
        self.direct.lrem(f"{PREFIX}pending", 1, task_id)
        self.direct.hset(task_key(task_id), "state", state)
        self.direct.zadd(PREFIX + state, {task_id: score})
        self.model.pending.remove(task_id)
        task.state, task.score = state, score

    @precondition(lambda self: self.model.pending)
    @rule(data=st.data())
    def end_by_a_foreign_script(self, data: st.DataObject) -> None:
        """Archive a task by Lua that is not Asynq's, and of which no text tells what it does."""
        task_id = self._draw(data, lambda task: task.state == "pending").message.task_id
        keys, moment = (task_key(task_id), f"{PREFIX}pending", f"{PREFIX}archived"), self._moment()
        assert self._client is not None
        assert self._client.eval(MOVE.decode(), 3, *keys, task_id, "archived", moment.now) == b"MOVED"
        self.model.archive_by_script(task_id, moment)

    @precondition(lambda self: self.model.active)
    @rule(data=st.data(), how=st.sampled_from(("retry", "archive")))
    def recover(self, data: st.DataObject, how: str) -> None:
        """End the lease of a task, whose worker may be dead, and let the recoverer find it."""
        task, past = self._draw(data, lambda task: task.state == "active"), _now() - 60
        self.direct.zadd(f"{PREFIX}lease", {task.message.task_id: past})
        self.model.leases[task.message.task_id] = past
        expected = self.model.lease_expired(_now() - 30)
        _same(self.asynq.lease_expired(_now() - 30), [message.encoded for message in expected])
        for message in expected:
            self._settle(message, how)

    @precondition(lambda self: any(task.state in ("scheduled", "retry") for task in self.model.tasks.values()))
    @rule(data=st.data())
    def forward(self, data: st.DataObject) -> None:
        """Let the time of a scheduled or retried task come."""
        now = _now()
        task = self._draw(data, lambda task: task.state in ("scheduled", "retry"))
        self._age(task, task.score - now + 60)
        for source in ("scheduled", "retry"):
            _same(self.asynq.forward(source, now), self.model.forward(source, now))

    @precondition(lambda self: self._ended("completed"))
    @rule()
    def janitor(self) -> None:
        """Let the worker's janitor delete what is due."""
        now = _now()
        _same(self.asynq.janitor(now), self.model.janitor(now))

    # --- the inspector ---------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.tasks)
    @rule(data=st.data(), what=st.sampled_from(("run", "archive", "delete")))
    def inspect_one(self, data: st.DataObject, what: str) -> None:
        """Run, archive or delete a task by hand; now and then one that is not there."""
        task_id = data.draw(st.sampled_from([*sorted(self.model.tasks), "e"]), label="task")
        if what == "run":
            _same(self.asynq.run_one(task_id), self.model.run_one(task_id, heals=self._heals))
        elif what == "delete":
            _same(self.asynq.delete_one(task_id), self.model.delete_one(task_id))
        elif not self._leaves_orphans(task_id):
            moment = self._moment()
            _same(self.asynq.archive_one(task_id, moment.now), self.model.archive_one(task_id, moment))

    @precondition(lambda self: self._ended_tasks(held=False))
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        """Hold an ended task."""
        task = self._draw(data, lambda task: task.terminal and task.held is None)
        script = load("shared/task.prologue", "shared/hold.prologue", "existing_keys/hold_tasks")
        task_id = task.message.task_id
        assert self.direct.eval(script, 1, task_key(task_id), PREFIX, task_id) == [b"held"]
        task.hold()

    @precondition(lambda self: self._ended_tasks(held=True))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """Release a task that is held: it gets what it had."""
        task = self._draw(data, lambda task: task.held is not None)
        assert task.held is not None
        script = load("shared/task.prologue", "shared/hold.prologue", "existing_keys/release_tasks")
        task_id, (score, expires) = task.message.task_id, task.held
        field: Any = self.direct.hget(task_key(task_id), FIELD)
        until = -1 if expires is None else int(expires * 1000)
        asked = (PREFIX, RELEASED_SECONDS * 1000, task_id, task.state, field, until, score)
        assert self.direct.eval(script, 1, task_key(task_id), *asked) in ([1], [2])
        task.release(time.time())

    @precondition(lambda self: self._sources())
    @rule(data=st.data())
    def inspect_all(self, data: st.DataObject) -> None:
        """Run, archive or delete all tasks of a list or index by hand."""
        source, what = data.draw(st.sampled_from(self._sources()), label="source")
        if what == "delete":
            _same(self.asynq.delete_all(source), self.model.delete_all(source))
        elif what == "run":
            _same(self.asynq.run_all(source), self.model.run_all(source, heals=self._heals))
        elif not self._leaves_orphans():
            moment = self._moment()
            _same(self.asynq.archive_all(source, moment.now), self.model.archive_all(source, None, moment))

    @precondition(lambda self: self.model.groups)
    @rule(what=st.sampled_from(("run", "archive", "delete")))
    def inspect_group(self, what: str) -> None:
        """Run, archive or delete all tasks of the group by hand."""
        if what == "run":
            _same(self.asynq.run_group(GROUP), self.model.run_all("aggregating", GROUP, heals=self._heals))
        elif what == "delete":
            _same(self.asynq.delete_group(GROUP), self.model.delete_all("aggregating", GROUP))
        elif not self._leaves_orphans():
            moment = self._moment()
            reply = self.asynq.archive_group(GROUP, moment.now)
            _same(reply, self.model.archive_all("aggregating", GROUP, moment))

    # --- time ------------------------------------------------------------------------------------------------

    @precondition(lambda self: any(task.expires for task in self.model.tasks.values()))
    @rule(data=st.data())
    def retention_ends(self, data: st.DataObject) -> None:
        """Let the retention of a task be over, and half of the grace."""
        task = self._draw(data, lambda task: task.expires is not None)
        assert task.expires is not None
        self._age(task, int(task.expires - time.time()) - GRACE // 2)

    @precondition(lambda self: any(task.expires for task in self.model.tasks.values()))
    @rule(data=st.data())
    def key_expires(self, data: st.DataObject) -> None:
        """Let the grace be over too with no sidecar alive to sweep: the key is gone, its index entry is not."""
        self._expire(self._draw(data, lambda task: task.expires is not None))

    @precondition(lambda self: any(task.expires for task in self.model.tasks.values()))
    @rule(data=st.data(), kind=KINDS, retention=RETENTIONS, policy=POLICIES, how=st.one_of(st.none(), HOW))
    def id_lives_again(
        self, data: st.DataObject, kind: str, retention: int, policy: PolicyCase, how: str | None
    ) -> None:
        """Let a key expire, change the policy, and enqueue a task with the same ID; perhaps process it."""
        task = self._draw(data, lambda task: task.expires is not None)
        self._reload(policy)
        if task.expires is not None and task.message.task_id in self.model.tasks:
            self._expire(task)
        self.agree()
        self._enqueue(self._message(task.message.task_id, kind, retention, None), "pending")
        if how is not None:
            self._process(how)

    @precondition(lambda self: any(_ages(task) for task in self.model.tasks.values()))
    @rule(data=st.data())
    def months_pass(self, data: st.DataObject) -> None:
        """Let a task without a TTL get older than Asynq's own 90 days."""
        self._age(self._draw(data, _ages), 100 * DAY)

    # --- what holds after every step -------------------------------------------------------------------------

    @invariant()
    def agree(self) -> None:
        """Redis is as the model says."""
        if self._client is None:
            return
        seen = snapshot.take(self.direct)
        snapshot.check(seen, self.model, self.excused)
        self.ghosts = {state: seen.ghosts(state) for state in TERMINAL}
        self.excused &= {(state, task_id) for state, ghosts in self.ghosts.items() for task_id in ghosts}
        assert not self.sidecar.fail_opens()

    # --- parts -----------------------------------------------------------------------------------------------

    def _start(self, policy: PolicyCase) -> None:
        note(f"policy {policy.name}")
        self.policy, self.healing = policy, policy.enforcing
        self.sidecar.start(policy.text)
        self._client = connect(port=self.sidecar.port, protocol=2)
        self.asynq = calls_of(self._client)

    def _reload(self, policy: PolicyCase) -> None:
        if policy is OFF:
            self._take_ttls_off()
        elif policy in RESTING:
            self._sweep()  # a sidecar has swept since it was started: so it knows the queue
        self.sidecar.reload(policy.text)
        self.policy = policy
        self.healing = self.healing or policy.enforcing

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()

    def _message(self, task_id: str, kind: str, retention: int, unique: str | None) -> Message:
        self._made += 1
        encoded = encode_task(kind, task_id, retention_seconds=retention, payload=b"%d" % self._made)
        return Message(task_id, kind, retention, unique, encoded)

    def _ended(self, *states: str) -> bool:
        """Say whether a terminal index has any entries, ghosts included."""
        wanted = states or TERMINAL
        return any(task.state in wanted for task in self.model.tasks.values()) or any(map(self.ghosts.get, wanted))

    def _ended_tasks(self, *, held: bool) -> bool:
        """Say whether there are ended tasks that are held, or that are not."""
        return any(task.terminal and (task.held is not None) is held for task in self.model.tasks.values())

    def _sources(self) -> list[tuple[str, str]]:
        """Return what the inspector can do in bulk: a state with entries, and what to do with them."""
        states = {task.state for task in self.model.tasks.values()} | {
            state for state in TERMINAL if self.ghosts[state]
        }
        return [(state, what) for state, doings in IN_BULK.items() if state in states for what in doings]

    @property
    def _heals(self) -> bool:
        """Whether what runs a task again is rewritten."""
        return self.healing and self.policy is not OFF

    def _completed_at(self, task_id: str, now: int) -> int:
        """Return when a task has completed by Redis's clock, which has to be between a moment ago and now."""
        message = self.direct.hget(task_key(task_id), "msg") or b""
        moments = [at for at in range(now, _now() + 1) if retained(0, at)[-5:] == message[-5:]]
        return moments[0] if moments else now

    def _moment(self, now: int | None = None) -> Moment:
        """Return what the model has to know about now; `now` is what Asynq says."""
        lingers = self.healing and not self.policy.enforcing and self.policy is not OFF
        return Moment(self.policy, _now() if now is None else now, time.time(), self.ghosts["archived"], lingers)

    def _enqueue(self, message: Message, where: str) -> None:
        now, task_id, encoded = _now(), message.task_id, message.encoded
        if where == "pending":
            reply, expected = (
                self.asynq.enqueue(task_id, encoded, message.unique, now),
                self.model.enqueue(message, self.policy),
            )
        elif where == "scheduled":
            reply = self.asynq.schedule(task_id, encoded, message.unique, now + DAY)
            expected = self.model.enqueue(message, self.policy, now + DAY, state="scheduled")
        else:
            reply = self.asynq.add_to_group(task_id, encoded, GROUP, now)
            expected = self.model.enqueue(message, self.policy, now, GROUP, state="aggregating")
        _same(reply, expected)

    def _dequeue(self) -> Message | None:
        now = _now()
        reply, message = self.asynq.dequeue(now), self.model.dequeue(now)
        _same(reply, None if message is None else message.encoded)
        return message

    def _settle(self, message: Message, how: str) -> None:
        if self._acts_on_ghosts(message, how):
            self._sweep()
        now, task_id, encoded = _now(), message.task_id, message.encoded
        reply: Any
        expected: Any
        if how == "requeue":
            reply, expected = self.asynq.requeue(task_id), self.model.requeue(message)
        elif how == "retry":
            reply = self.asynq.retry(task_id, encoded, now + DAY, now)
            expected = self.model.retry(message, now + DAY)
        elif how == "archive":
            reply = self.asynq.archive(task_id, encoded, now)
            expected = self.model.archive(message, self._moment(now))
        elif message.retention:
            reply = self.asynq.complete(task_id, encoded, message.retention, message.unique, now)
            expected = self.model.complete(message, self._moment(now))
        else:
            reply = self.asynq.done(task_id, message.unique, now)
            expected = self.model.done(message, self._moment(self._completed_at(task_id, now)))
        _same(reply, expected)

    def _draw_id(self, data: st.DataObject) -> str:
        """Draw the ID of a task to enqueue: often one whose last life has left an entry, now and then a taken one."""
        left: list[str] = [task_id for ghosts in self.ghosts.values() for task_id in ghosts]
        free = [task_id for task_id in (*left, *left, *IDS) if task_id not in self.model.tasks]
        chosen: str = data.draw(st.sampled_from([*free, *free, *IDS[:2]]), label="task")
        return chosen

    def _draw(self, data: st.DataObject, wanted: Callable[[Task], bool]) -> Task:
        ids = sorted(task_id for task_id, task in self.model.tasks.items() if wanted(task))
        return self.model.tasks[data.draw(st.sampled_from(ids), label="task")]

    def _process(self, how: str) -> None:
        while (message := self._dequeue()) is not None:
            self._settle(message, how)

    def _expire(self, task: Task) -> None:
        assert task.expires is not None
        self._age(task, int(task.expires - time.time()) + 1)
        self.excused.add((task.state, task.message.task_id))
        self.model.forget(task.message.task_id, unlock=False)

    def _age(self, task: Task, seconds: int) -> None:
        """Let a task have been in its index for longer than it has."""
        task_id = task.message.task_id
        task.score -= seconds
        pipeline = self.direct.pipeline()
        pipeline.zadd(PREFIX + task.state, {task_id: task.score}, xx=True)
        if task.expires is not None:
            task.expires -= seconds
            pipeline.pexpireat(task_key(task_id), int(task.expires * 1000))
        pipeline.execute()

    def _leaves_orphans(self, task_id: str | None = None) -> bool:
        """Say whether Asynq's own inspector scripts would now trim index entries and leave their hashes behind."""
        policy = self.policy
        wrapped = policy.archived and (policy.enforcing if task_id is None else policy.enforces(task_id))
        return not wrapped and any(score <= _now() - OWN for score in self.model.members("archived").values())

    def _acts_on_ghosts(self, message: Message, how: str) -> bool:
        """Say whether Asynq's own script is about to trip over a ghost, since no rule of the policy matches the task.

        Such a command goes as it came, so until the next round of the sweeper that is as Asynq has it (H4, H6).
        """
        if not self.policy.enforcing:
            return False
        if how == "archive":
            kept = self.policy.keeps_archived(message.task_id, message.task_type)
            return kept is None and any(score <= _now() - OWN for score in self.ghosts["archived"].values())
        kept = self.policy.keeps_completed(message.task_id, message.task_type, message.retention)
        return how == "succeed" and kept is None and message.task_id in self.ghosts["completed"]

    def _sweep(self) -> None:
        self.sidecar.sweep()
        if self.healing and self.policy is not OFF:
            self.model.sweep(time.time())
            self.excused.clear()
        if self.policy.enforcing and self.policy.adopts:
            self._adopted()

    def _adopted(self) -> None:
        """Let the model adopt tasks as the sweeper does. No message here says when its task completed."""
        at = time.time()
        for task_id, task in list(self.model.tasks.items()):
            if task.expires is not None or not task.terminal or task.held is not None:
                continue
            kept = self.model.adopt(task_id, self.policy, at)
            if kept is not None and task.state == "completed":
                seen: Any = self.direct.zscore(PREFIX + "completed", task_id)
                assert abs(seen - at - kept) < SLOW_SECONDS
                task.score = int(seen)

    def _take_ttls_off(self) -> None:
        """Do what the README says before a sidecar is stopped for good."""
        self._sweep()
        for task_id, task in self.model.tasks.items():
            if task.expires is not None:
                task.expires = None
                self.direct.persist(task_key(task_id))

    def _look(self) -> None:
        """Look at the queue as a dashboard does."""
        stats = self.asynq.stats()
        assert not isinstance(stats, Failure), f"GetQueueInfo fails: {stats}"
        for state, count in counted(stats).items():
            assert count == sum(task.state == state for task in self.model.tasks.values()), f"tasks in {state}"
        usage = self.asynq.memory_usage()
        assert not isinstance(usage, Failure), f"GetQueueInfo fails: {usage}"
        for state in TERMINAL:
            messages = [self.model.tasks[task_id].message.encoded for task_id in self.model.members(state)]
            entries = self.asynq.listed(state)
            _same(entries if isinstance(entries, Failure) else entries[::3], messages)


def _ages(task: Task) -> bool:
    """Say whether a task can get older than Asynq's own time: it has ended, without a TTL, and is not held."""
    return task.terminal and task.expires is None and task.held is None


def _now() -> int:
    return int(time.time())


def _same(reply: Any, expected: Any) -> None:
    assert reply == expected, f"the reply is {reply!r}, where Asynq's is {expected!r}"
