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
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, consumes, initialize, invariant
from hypothesis.stateful import multiple, precondition, rule

from model import snapshot
from model.asynq_calls import PREFIX, AsynqCalls, Failure, task_key
from model.asynq_model import TERMINAL, AsynqModel, Message, Task
from model.policy_cases import CASES, DAY, ELSEWHERE, GRACE, OFF, OWN, SHADOW, TYPES, PolicyCase
from model.sidecar_thread import SidecarThread
from servers import Server
from task_message import encode_task

IDS = st.sampled_from("abcde")
KINDS = st.sampled_from(TYPES)
RETENTIONS = st.sampled_from((0, 600, 7_200))
UNIQUE = st.sampled_from((None, None, "u1", "u2"))
POLICIES = st.sampled_from(CASES)
GROUP = "g1"
# Policies under which a freshly started sidecar takes no TTL off, and removes nothing: their operator has taken off
# the TTLs that were given, as the README says.
RESTING = (SHADOW, OFF, ELSEWHERE)


class QueueMachine(RuleBasedStateMachine):
    """One queue through the sidecar.

    Args:
        server: the Redis.
        sidecar: the sidecar in front of it.
        calls: makes Asynq of a client.
    """

    deliveries: Bundle[Message] = Bundle("deliveries")

    def __init__(
        self, server: Server, sidecar: SidecarThread, calls: Callable[["redis.Redis"], AsynqCalls] = AsynqCalls
    ) -> None:
        super().__init__()
        self.sidecar = sidecar
        self.direct = server.client()
        self.direct.flushall()
        self.model = AsynqModel()
        self.policy = CASES[0]
        self.healing = False
        # Entries that may outlive their hash: those of tasks that expired because no sidecar swept.
        self.excused: set[tuple[str, str]] = set()
        self.ghosts: dict[str, dict[str, int]] = {state: {} for state in TERMINAL}
        self._calls = calls
        self._made = 0
        self._client: redis.Redis | None = None
        self.asynq: AsynqCalls

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

    @rule(policy=POLICIES)
    def reload(self, policy: PolicyCase) -> None:
        """Change the policy."""
        if policy is OFF:
            self._take_ttls_off()
        elif policy in RESTING:
            self._sweep()  # a sidecar has swept since it was started: so it knows the queue
        self.sidecar.reload(policy.text)
        self.policy = policy
        self.healing = self.healing or policy.enforcing

    @rule()
    def restart(self) -> None:
        """End the sidecar and start another, which knows nothing of the scripts, TTLs and queues of the first."""
        if self.policy in RESTING:
            self._take_ttls_off()
        self._disconnect()
        self.sidecar.stop()
        self._start(self.policy)

    @rule()
    def lose_scripts(self) -> None:
        """Empty Redis's script cache, as its restart does."""
        self.direct.script_flush()

    @rule()
    def sweep(self) -> None:
        """Do a round of the sweeper; after it, everything an operator looks at works."""
        self._sweep()
        if self.healing and self.policy is not OFF:
            assert not self.excused
            self._look()

    # --- the client ------------------------------------------------------------------------------------------

    @rule(task_id=IDS, kind=KINDS, retention=RETENTIONS, unique=UNIQUE)
    def enqueue(self, task_id: str, kind: str, retention: int, unique: str | None) -> None:
        """Enqueue a task."""
        message = self._message(task_id, kind, retention, unique)
        reply = self.asynq.enqueue(task_id, message.encoded, unique, _now())
        _same(reply, self.model.enqueue(message))

    @rule(task_id=IDS, kind=KINDS, retention=RETENTIONS, unique=UNIQUE)
    def schedule(self, task_id: str, kind: str, retention: int, unique: str | None) -> None:
        """Enqueue a task for later."""
        message, at = self._message(task_id, kind, retention, unique), _now() + DAY
        reply = self.asynq.schedule(task_id, message.encoded, unique, at)
        _same(reply, self.model.enqueue(message, at, state="scheduled"))

    @rule(task_id=IDS, kind=KINDS, retention=RETENTIONS)
    def add_to_group(self, task_id: str, kind: str, retention: int) -> None:
        """Enqueue a task into a group."""
        message, now = self._message(task_id, kind, retention, None), _now()
        reply = self.asynq.add_to_group(task_id, message.encoded, GROUP, now)
        _same(reply, self.model.enqueue(message, now, GROUP, state="aggregating"))

    # --- the worker ------------------------------------------------------------------------------------------

    @rule(target=deliveries)
    def dequeue(self) -> Message | MultipleResults[Message]:
        """Take a task; it is in a worker's hands from then on, also if its lease ends."""
        message = self._dequeue()
        return multiple() if message is None else message

    @rule(how=st.sampled_from(("succeed", "succeed", "archive", "archive", "retry")))
    def process(self, how: str) -> None:
        """Take a task and be done with it."""
        message = self._dequeue()
        if message is not None:
            self._settle(message, how)

    @rule(message=consumes(deliveries), how=st.sampled_from(("succeed", "retry", "archive", "requeue")))
    def settle(self, message: Message, how: str) -> None:
        """Be done with a task taken before, though it may be somebody else's by now."""
        self._settle(message, how)

    @rule(task_id=IDS, how=st.sampled_from(("retry", "archive")))
    def recover(self, task_id: str, how: str) -> None:
        """End the lease of a task, whose worker may be dead, and let the recoverer find it."""
        past = _now() - 60
        if task_id in self.model.leases:
            self.direct.zadd(f"{PREFIX}lease", {task_id: past})
            self.model.leases[task_id] = past
        expected = self.model.lease_expired(_now() - 30)
        _same(self.asynq.lease_expired(_now() - 30), [message.encoded for message in expected])
        for message in expected:
            self._settle(message, how)

    @rule(task_id=IDS)
    def forward(self, task_id: str) -> None:
        """Let the time of a scheduled or retried task come."""
        now = _now()
        task = self.model.tasks.get(task_id)
        if task is not None and task.state in ("scheduled", "retry"):
            self._age(task, task.score - now + 60)
        for source in ("scheduled", "retry"):
            _same(self.asynq.forward(source, now), self.model.forward(source, now))

    @rule()
    def janitor(self) -> None:
        """Let the worker's janitor delete what is due."""
        now = _now()
        _same(self.asynq.janitor(now), self.model.janitor(now))

    # --- the inspector ---------------------------------------------------------------------------------------

    @rule(task_id=IDS)
    def run_one(self, task_id: str) -> None:
        """Run a task now."""
        _same(self.asynq.run_one(task_id), self.model.run_one(task_id))

    @rule(source=st.sampled_from(("archived", "archived", "scheduled", "retry")))
    def run_all(self, source: str) -> None:
        """Run all tasks of an index now."""
        self._same_set(self.asynq.run_all(source), lambda: self.model.run_all(source))

    @rule()
    def run_group(self) -> None:
        """Run all tasks of the group now."""
        _same(self.asynq.run_group(GROUP), self.model.run_all("aggregating", GROUP))

    @rule(task_id=IDS)
    def archive_one(self, task_id: str) -> None:
        """Archive a task by hand."""
        if self._leaves_orphans(task_id):
            return
        now, ghosts = _now(), self.ghosts["archived"]
        reply = self.asynq.archive_one(task_id, now)
        _same(reply, self.model.archive_one(task_id, self.policy, now, time.time(), ghosts))

    @rule(source=st.sampled_from(("pending", "scheduled", "retry")))
    def archive_all(self, source: str) -> None:
        """Archive all tasks of a list or index."""
        if self._leaves_orphans():
            return
        now, ghosts = _now(), self.ghosts["archived"]
        reply = self.asynq.archive_all(source, now)
        _same(reply, self.model.archive_all(source, None, self.policy, now, time.time(), ghosts))

    @rule()
    def archive_group(self) -> None:
        """Archive all tasks of the group."""
        if self._leaves_orphans():
            return
        now, ghosts = _now(), self.ghosts["archived"]
        reply = self.asynq.archive_group(GROUP, now)
        _same(reply, self.model.archive_all("aggregating", GROUP, self.policy, now, time.time(), ghosts))

    @rule(task_id=IDS)
    def delete_one(self, task_id: str) -> None:
        """Delete a task."""
        _same(self.asynq.delete_one(task_id), self.model.delete_one(task_id))

    @rule(source=st.sampled_from(("archived", "completed", "pending", "scheduled", "retry")))
    def delete_all(self, source: str) -> None:
        """Delete all tasks of a list or index."""
        _same(self.asynq.delete_all(source), self.model.delete_all(source))

    @rule()
    def delete_group(self) -> None:
        """Delete all tasks of the group."""
        _same(self.asynq.delete_group(GROUP), self.model.delete_all("aggregating", GROUP))

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
        task = self._draw(data, lambda task: task.expires is not None)
        assert task.expires is not None
        self._age(task, int(task.expires - time.time()) + 1)
        self.excused.add((task.state, task.message.task_id))
        self.model.forget(task.message.task_id, unlock=False)

    @precondition(lambda self: any(task.terminal and not task.expires for task in self.model.tasks.values()))
    @rule(data=st.data())
    def months_pass(self, data: st.DataObject) -> None:
        """Let a task without a TTL get older than Asynq's own 90 days."""
        self._age(self._draw(data, lambda task: task.terminal and task.expires is None), 100 * DAY)

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
        self._client = redis.Redis(port=self.sidecar.port, protocol=2)
        self.asynq = self._calls(self._client)

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()

    def _message(self, task_id: str, kind: str, retention: int, unique: str | None) -> Message:
        self._made += 1
        encoded = encode_task(kind, task_id, retention_seconds=retention, payload=b"%d" % self._made)
        return Message(task_id, kind, retention, unique, encoded)

    def _dequeue(self) -> Message | None:
        now = _now()
        reply, message = self.asynq.dequeue(now), self.model.dequeue(now)
        _same(reply, None if message is None else message.encoded)
        return message

    def _settle(self, message: Message, how: str) -> None:
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
            expected = self.model.archive(message, self.policy, now, time.time(), self.ghosts["archived"])
        elif message.retention:
            reply = self.asynq.complete(task_id, encoded, message.retention, message.unique, now)
            expected = self.model.complete(message, self.policy, now, time.time())
        else:
            reply, expected = self.asynq.done(task_id, message.unique, now), self.model.done(message)
        _same(reply, expected)

    def _same_set(self, reply: Any, expected: Callable[[], int]) -> None:
        """Compare the reply of a script that goes through an index in the order of its scores."""
        _same(reply, expected())

    def _draw(self, data: st.DataObject, wanted: Callable[[Task], bool]) -> Task:
        ids = sorted(task_id for task_id, task in self.model.tasks.items() if wanted(task))
        return self.model.tasks[data.draw(st.sampled_from(ids), label="task")]

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

    def _sweep(self) -> None:
        self.sidecar.sweep()
        if self.healing and self.policy is not OFF:
            self.model.sweep(time.time())
            self.excused.clear()

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
        assert isinstance(stats, dict), f"GetQueueInfo fails: {stats}"
        for state, count in stats.items():
            assert count == sum(task.state == state for task in self.model.tasks.values()), f"tasks in {state}"
        usage = self.asynq.memory_usage()
        assert not isinstance(usage, Failure), f"GetQueueInfo fails: {usage}"
        for state in TERMINAL:
            messages = [self.model.tasks[task_id].message.encoded for task_id in self.model.members(state)]
            _same(self.asynq.listed(state), messages)


def _now() -> int:
    return int(time.time())


def _same(reply: Any, expected: Any) -> None:
    assert reply == expected, f"the reply is {reply!r}, where Asynq's is {expected!r}"
