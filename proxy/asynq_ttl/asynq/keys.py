"""The grammar of Asynq's keys. Pure text; knows nothing of scripts, policies or connections.

All keys of a queue share the hash tag `{<queue>}`: `asynq:{<queue>}:t:<task id>`, `asynq:{<queue>}:archived` and so on.
Keys are bytes, as on the wire. Names of queues are text, because policies are.

Invariants:

* The first `}:` ends the name of the queue. A queue whose own name has one is ambiguous: its keys can be read as those
  of another queue. So no function here returns such a name, and everybody leaves such a queue alone (`ambiguous`).
* What stands behind the name is the application's choice in part, such as a task ID or the name of a group. A task ID
  that makes its key one of a queue with an ambiguous name as well is `doubtful`: only an index can tell whose it is.
"""

import re
from collections.abc import Sequence

PREFIX = b"asynq:{"
_MAX_PREFIX = 64
_END = b"}:"
AMBIGUOUS = _END.decode()
"""What makes the name of a queue ambiguous, for messages."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_TASK = b"}:t:"
QUEUES = b"asynq:queues"
"""The set of the queues' names."""
_HISTORY = b"asynq:scheduler_history:"
HISTORY_PATTERN = _HISTORY + b"*"
"""What SCAN's MATCH takes for the histories of all scheduler entries."""
TASK_PATTERN = PREFIX + b"*" + _TASK + b"*"
"""What SCAN's MATCH takes for the task keys of every queue."""
LIKE_TASK_PATTERN = b"*" + _TASK + b"*"
"""The same for whatever the keys begin with: those of forks too, and more (see `is_like_task`).

With one more `*` Redis would need a time that grows with the square of a key's length.
"""

PENDING = b"}:pending"
ACTIVE = b"}:active"
GROUPS = b"}:groups"
ARCHIVED = b"}:archived"
COMPLETED = b"}:completed"
TERMINAL = (ARCHIVED, COMPLETED)


def text_of(name: bytes) -> str:
    """Decode a name from the wire. Bytes that are not UTF-8 become lone surrogates, which encode to the same bytes."""
    return name.decode("utf-8", "surrogateescape")


def printable(name: str) -> str:
    """Return a name with U+FFFD in place of bytes that are not UTF-8, so that it can be encoded and shown."""
    return name if name.isascii() else _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", name)


def ambiguous(queue: str) -> bool:
    """Say whether the keys of a queue with this name can be read as those of another queue."""
    return AMBIGUOUS in queue


def doubtful(key: bytes) -> bool:
    """Say whether a task key can be read as one of a queue with an ambiguous name as well."""
    return key.find(_TASK, key.find(_END) + 1) > 0


def queue_prefix(queue: str) -> bytes:
    """Return what all keys of a queue start with: `asynq:{queue}:`."""
    return PREFIX + queue.encode("utf-8", "surrogateescape") + _END


def task_prefix(queue: str) -> bytes:
    """Return what the keys of a queue's tasks start with, `asynq:{queue}:t:`; the task ID follows."""
    return queue_prefix(queue) + b"t:"


def index_key(queue: str, state: str) -> bytes:
    """Return the key under which a queue has the tasks of a state: `asynq:{queue}:archived` and the like."""
    return queue_prefix(queue) + state.encode()


def queue_of_task(key: bytes) -> str | None:
    """Return the queue of a task key, or None where the key is not one."""
    end = key.find(_END)
    if not key.startswith(PREFIX) or not key.startswith(_TASK, end):
        return None
    return text_of(key[len(PREFIX) : end])


def queue_of(key: bytes, suffix: bytes) -> str | None:
    """Return the queue of a key such as `asynq:{q}:archived`, or None where it does not end so.

    Args:
        key: the key.
        suffix: one of the constants of this module, such as `ARCHIVED`.
    """
    end = len(key) - len(suffix)
    if not key.startswith(PREFIX) or not key.endswith(suffix) or key.find(_END) != end:
        return None
    return text_of(key[len(PREFIX) : end])


def queue_of_index(key: bytes) -> str | None:
    """Return the queue of a terminal index (`:archived`, `:completed`), or None where the key is none."""
    for suffix in TERMINAL:
        if key.endswith(suffix):
            return queue_of(key, suffix)
    return None


def terminal_queue(keys: list[bytes]) -> str | None:
    """Return the queue whose terminal state a script with these KEYS may concern; None where none can be.

    That is so for three forms of KEYS: one is a terminal index; a task key, `:pending` and `:groups` (a task is run
    again); `:pending` first and `:active` third (a dequeue).
    """
    if not keys or not keys[0].startswith(PREFIX):
        return None
    for key in keys:
        # A task's ID may end like an index.
        if key.endswith(TERMINAL) and (queue := queue_of_index(key)) is not None:
            return queue
    if len(keys) >= 3:
        queue = queue_of(keys[0], PENDING)
        if queue is not None and keys[2].endswith(ACTIVE):
            return queue
        if keys[1].endswith(PENDING) and keys[2].endswith(GROUPS):
            queue = queue_of(keys[1], PENDING)
            return queue if queue is not None and keys[0].startswith(task_prefix(queue)) else None
    return None


def may_be_terminal(keys: Sequence[bytes]) -> bool:
    """Say whether KEYS look like one of the three forms of `terminal_queue`, by their ends alone.

    What is asked about nearly every command: where this says no, `terminal_queue` returns None.
    """
    if any(key.endswith(TERMINAL) for key in keys):
        return True
    if len(keys) < 3:
        return False
    polled = keys[0].endswith(PENDING) and keys[2].endswith(ACTIVE)
    return polled or (keys[1].endswith(PENDING) and keys[2].endswith(GROUPS))


def ended_queue(keys: Sequence[bytes]) -> str | None:
    """Return the queue in which a script with these KEYS may end a task; None where none can be told.

    That is so where one of KEYS is a terminal index, and another is a task key of the same queue.
    """
    for key in keys:
        queue = queue_of_index(key)
        if queue is not None and task_ids(keys, queue):
            return queue
    return None


def done_queue(keys: Sequence[bytes]) -> str | None:
    """Return the queue in which a script with these KEYS may delete a task that has succeeded; None where none can be.

    The active list comes first, a task key third, and what was processed is counted, but nothing that failed.
    """
    queue = queue_of(keys[0], ACTIVE) if len(keys) > 3 else None
    if queue is None or not keys[2].startswith(task_prefix(queue)):
        return None
    counters = [key[len(queue_prefix(queue)) :] for key in keys[3:] if key.startswith(queue_prefix(queue))]
    counts = [any(name.startswith(which) for name in counters) for which in (b"processed", b"failed")]
    return queue if counts == [True, False] else None


def enqueue_queue(keys: Sequence[bytes]) -> str | None:
    """Return the queue in which a script with these KEYS may add a task; None where none can be.

    A task key comes with a list, a set of scheduled tasks, or a group and the set of groups, and may come with a lock.
    """
    ids = [key for key in keys[:2] if queue_of_task(key) is not None]
    queue = queue_of_task(ids[0]) if len(ids) == 1 and 2 <= len(keys) <= 4 else None
    if queue is None:
        return None
    prefix = queue_prefix(queue)
    names = [key[len(prefix) :] for key in keys if key.startswith(prefix) and key not in ids]
    names = [name for name in names if not name.startswith(b"unique:")]
    grouped = len(names) == 2 and names[0].startswith(b"g:") and names[1] == b"groups"
    return queue if names in ([b"pending"], [b"scheduled"]) or grouped else None


def task_ids(keys: Sequence[bytes], queue: str) -> list[bytes]:
    """Return the IDs of the tasks of a queue whose keys are among some."""
    prefix = task_prefix(queue)
    return [key[len(prefix) :] for key in keys if key.startswith(prefix)]


def subject_of(keys: Sequence[bytes]) -> tuple[str, str]:
    """Return the queue and the task ID that a script with these KEYS is about; each empty where no key tells."""
    queue = ""
    for key in keys:
        of_task = queue_of_task(key)
        if of_task is not None:
            return of_task, text_of(key[key.index(_TASK) + len(_TASK) :])
        end = key.find(_END)
        if not queue and key.startswith(PREFIX) and end > 0:
            queue = text_of(key[len(PREFIX) : end])
    return queue, ""


def is_like_task(key: bytes) -> bool:
    """Say whether a key has a hash tag and what makes it one of a task, whatever it begins with."""
    return 0 <= key.find(b"{") < key.rfind(_TASK)


def foreign_prefix(key: bytes) -> str:
    """Return what a key begins with, up to its hash tag or first colon; empty where that is what Asynq's begin with."""
    if key.startswith(PREFIX):
        return ""
    tagged = key.find(b"{") + 1
    return printable(text_of(key[: tagged or key.find(b":") + 1 or len(key)][:_MAX_PREFIX]))


def history_key(entry_id: bytes) -> bytes:
    """Return the key under which a scheduler keeps when it has enqueued the task of an entry."""
    return _HISTORY + entry_id


def entry_of_history(key: bytes) -> bytes | None:
    """Return the ID of the scheduler entry whose history a key is; None where it is none."""
    return key[len(_HISTORY) :] if key.startswith(_HISTORY) else None


def queue_of_key(key: bytes) -> str | None:
    """Return the queue that any key of a queue belongs to; None where the key is none of one, or can be read twice."""
    end = key.find(_END)
    if not key.startswith(PREFIX) or end < 0 or key.find(_END, end + 1) > 0:
        return None
    return text_of(key[len(PREFIX) : end])
