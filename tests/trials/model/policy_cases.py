"""The policies the model switches between, each with what it says written down by hand."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

GRACE = 60
HOUR = 3_600
DAY = 86_400
OWN = 90 * DAY
FULL = 10_000

MAIL, PAY, PING, OTHER = TYPES = ("mail:x", "pay:x", "ping:x", "other:x")

# How long a task is kept, in seconds, or one of these.
FOREVER = -1
DELETE = 0
KEEP = -2


@dataclass(frozen=True)
class PolicyCase:
    """A policy, and what it means for the tasks of the model's queue.

    Attributes:
        name: for messages.
        rules: the policy's text after its head.
        archived: how long each type is kept in `archived`; a type that no rule matches is missing.
        completed: the same for `completed`.
        done: the same for tasks that succeed without a Retention; of a type that is missing nothing is left.
        cutoff: the age in seconds past which the archive is trimmed; None for never.
        cap: the most archived entries; None for any number the model can have.
        spare: archived tasks without a TTL are passed over when the archive is trimmed to its cap.
        mode: the policy's mode.
        share: the share of task IDs that is enforced, in hundredths of a percent.
        concerns: some rule is about the model's queue.
        adopts: the sweeper gives ended tasks without a TTL what the policy says.
        replaced: which types an enqueue with their ID replaces, by how they ended: archived, completed or done.
    """

    name: str
    rules: str
    archived: Mapping[str, int] = field(default_factory=dict)
    completed: Mapping[str, int] = field(default_factory=dict)
    done: Mapping[str, int] = field(default_factory=dict)
    cutoff: int | None = OWN
    cap: int | None = None
    spare: bool = False
    mode: str = "enforce"
    share: int = FULL
    concerns: bool = True
    adopts: bool = False
    replaced: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The policy file."""
        head = f"version: 1\nmode: {self.mode}\ngrace: {GRACE}s\nrollout: {self.share / 100:g}%\n"
        head += f"adopt: {'all' if self.adopts else 'off'}\n"
        return f"{head}rules:\n{self.rules}"

    @property
    def enforcing(self) -> bool:
        """Whether tasks of the model's queue may be given TTLs."""
        return self.mode == "enforce" and self.concerns

    def enforces(self, task_id: str) -> bool:
        """Say whether a task is inside the enforced share."""
        digest = hashlib.sha1(task_id.encode(), usedforsecurity=False).digest()
        return self.enforcing and int.from_bytes(digest[:4], "big") % FULL < self.share

    def keeps_archived(self, task_id: str, task_type: str) -> int | None:
        """Return how long an archived task is kept; None where the policy leaves it alone."""
        if not self.enforces(task_id) or not self.archived:
            return None
        # A rule that outlasts Asynq's own trims takes them over, and gives what no rule matches Asynq's own time.
        unmatched = KEEP if self.cutoff is None or self.cutoff > OWN else None
        kept = self.archived.get(task_type, unmatched)
        return OWN if kept == KEEP else kept

    def keeps_completed(self, task_id: str, task_type: str, retention: int) -> int | None:
        """Return how long a completed task is kept; None where the policy leaves it alone."""
        kept = self.completed.get(task_type) if self.enforces(task_id) else None
        return retention if kept == KEEP else kept

    def keeps_done(self, task_id: str, task_type: str) -> int | None:
        """Say how long a task is kept that succeeds without a Retention; None where Asynq's own way leaves nothing."""
        kept = self.done.get(task_type) if self.enforces(task_id) else None
        return None if kept in (KEEP, DELETE) else kept

    def replaces(self, task_id: str, task_type: str, ended: str) -> bool:
        """Say whether an enqueue replaces a task that ended so."""
        return self.enforces(task_id) and task_type in self.replaced.get(ended, ())


def _all(seconds: int) -> dict[str, int]:
    return dict.fromkeys(TYPES, seconds)


def _both(ttl: str, seconds: int, cutoff: int | None, **options: str | int) -> PolicyCase:
    rules = f"  - {{name: all, archived: {{ttl: {ttl}}}, completed: {{ttl: {ttl}}}}}\n"
    name, adopts = str(options.get("name", ttl)), bool(options.get("adopts", False))
    mode, share = str(options.get("mode", "enforce")), int(options.get("share", FULL))
    return PolicyCase(name, rules, _all(seconds), _all(seconds), cutoff=cutoff, mode=mode, share=share, adopts=adopts)


SHORT = _both("1h", HOUR, HOUR)
SHADOW = _both("1h", HOUR, HOUR, mode="shadow", name="shadow")
OFF = _both("1h", HOUR, HOUR, mode="off", name="off")
ELSEWHERE = PolicyCase(
    "elsewhere",
    "  - {name: other queue, match: {queue: other}, archived: {ttl: 1h}, completed: {ttl: 1h}}\n",
    concerns=False,
)

DONE = PolicyCase(
    "done for an hour", "  - {name: all, done: {ttl: 1h}, archived: {ttl: 1h}}\n", _all(HOUR), {}, _all(HOUR), HOUR
)

REPLACED = PolicyCase(
    "replaced",
    """\
  - name: all
    archived: {ttl: 1h, on_conflict: replace}
    completed: {ttl: 1h, on_conflict: replace}
    done: {ttl: 1h, on_conflict: replace}
""",
    _all(HOUR),
    _all(HOUR),
    _all(HOUR),
    HOUR,
    replaced=dict.fromkeys(("archived", "completed", "done"), TYPES),
)

CASES = (
    SHORT,
    DONE,
    REPLACED,
    PolicyCase(
        "replaced by type and state, half of the tasks",
        """\
  - {name: pay, match: {type: "pay:*"}, done: {ttl: 1h}, completed: {ttl: 1h, on_conflict: replace}}
  - {name: ping, match: {type: "ping:*"}, completed: {ttl: 1h}, done: {ttl: 1h, on_conflict: replace}}
  - {name: rest, completed: {ttl: keep}, archived: {ttl: keep, on_conflict: replace}}
""",
        _all(KEEP),
        {**_all(KEEP), PAY: HOUR, PING: HOUR},
        {PAY: HOUR, PING: HOUR},
        share=FULL // 2,
        replaced={"completed": {PAY}, "done": {PING}, "archived": TYPES},
    ),
    PolicyCase(
        "done by type, half of the tasks",
        """\
  - {name: pay, match: {type: "pay:*"}, done: {ttl: forever}}
  - {name: ping, match: {type: "ping:*"}, done: {ttl: keep}}
  - {name: mail, match: {type: "mail:*"}, done: {ttl: delete}}
  - {name: rest, done: {ttl: 1h}, completed: {ttl: 30d}}
""",
        {},
        _all(30 * DAY),
        {PAY: FOREVER, PING: KEEP, MAIL: DELETE, OTHER: HOUR},
        share=FULL // 2,
        adopts=True,
    ),
    _both("30d", 30 * DAY, 30 * DAY),
    _both("keep", KEEP, OWN),
    _both("1h", HOUR, HOUR, adopts=True, name="adopted for an hour"),
    _both("keep", KEEP, OWN, adopts=True, name="adopted for Asynq's own time"),
    _both("1h", HOUR, OWN, share=FULL // 2, adopts=True, name="half of the tasks adopted"),
    PolicyCase(
        "adopted by type",
        """\
  - {name: pay, match: {type: "pay:*"}, archived: {ttl: forever}}
  - {name: ping, match: {type: "ping:*"}, archived: {ttl: delete}}
  - {name: mail, match: {type: "mail:*"}, archived: {ttl: 1h}}
""",
        {PAY: FOREVER, PING: DELETE, MAIL: HOUR},
        {},
        cutoff=None,
        spare=True,
        adopts=True,
    ),
    _both("forever", FOREVER, None),
    _both("delete", DELETE, 0),
    PolicyCase(
        "max 1",
        "  - {name: all, archived: {ttl: 1h, max: 1}, completed: {ttl: 1h}}\n",
        _all(HOUR),
        _all(HOUR),
        cutoff=HOUR,
        cap=1,
    ),
    PolicyCase(
        "max 3",
        "  - {name: all, archived: {ttl: keep, max: 3}, completed: {ttl: keep}}\n",
        _all(KEEP),
        _all(KEEP),
        cutoff=OWN,
        cap=3,
    ),
    PolicyCase(
        "by type",
        """\
  - {name: pay, match: {type: "pay:*"}, archived: {ttl: forever}, completed: {ttl: forever}}
  - {name: ping, match: {type: "ping:*"}, archived: {ttl: delete}, completed: {ttl: delete}}
  - {name: mail, match: {type: "mail:*"}, archived: {ttl: 1h}}
""",
        {PAY: FOREVER, PING: DELETE, MAIL: HOUR},
        {PAY: FOREVER, PING: DELETE},
        cutoff=None,
        spare=True,
    ),
    PolicyCase(
        "by type, max 3",
        """\
  - {name: pay, match: {type: "pay:*"}, archived: {ttl: forever}}
  - {name: rest, archived: {ttl: 1h, max: 3}, completed: {ttl: 30d}}
""",
        {**_all(HOUR), PAY: FOREVER},
        _all(30 * DAY),
        cutoff=None,
        cap=3,
        spare=True,
    ),
    PolicyCase(
        "mail only",
        '  - {name: mail, match: {type: "mail:*"}, archived: {ttl: 1h}, completed: {ttl: 1h}}\n',
        {MAIL: HOUR},
        {MAIL: HOUR},
        cutoff=OWN,
    ),
    PolicyCase("completed only", "  - {name: all, completed: {ttl: 1h}}\n", {}, _all(HOUR)),
    PolicyCase("archived only", "  - {name: all, archived: {ttl: 1h}}\n", _all(HOUR), {}, cutoff=HOUR),
    _both("1h", HOUR, OWN, share=FULL // 2, name="half of the tasks"),
    SHADOW,
    OFF,
    ELSEWHERE,
)
