import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.asynq.keys import (
    ACTIVE,
    ARCHIVED,
    COMPLETED,
    GROUPS,
    LIKE_TASK_PATTERN,
    PENDING,
    ambiguous,
    done_queue,
    ended_queue,
    enqueue_queue,
    entry_of_history,
    foreign_prefix,
    history_key,
    index_key,
    is_like_task,
    printable,
    queue_of,
    queue_of_index,
    queue_of_task,
    queue_prefix,
    subject_of,
    task_ids,
    task_prefix,
    terminal_queue,
    text_of,
)

NAMES = st.text(min_size=1).filter(lambda name: "}:" not in f"{name}}}" and name.isprintable())


@given(st.binary())
def test_names_survive_even_if_they_are_not_text(name: bytes) -> None:
    """A name from the wire is text that encodes to the same bytes, whether it is UTF-8 or not."""
    assert text_of(name).encode("utf-8", "surrogateescape") == name


@given(NAMES, st.binary())
def test_a_task_key_says_its_queue(queue: str, task_id: bytes) -> None:
    """Whatever its ID looks like, a task key belongs to the queue between the braces."""
    assert queue_of_task(task_prefix(queue) + task_id) == queue


@given(NAMES, st.sampled_from([PENDING, ACTIVE, GROUPS, ARCHIVED, COMPLETED]))
def test_a_queue_s_key_says_its_queue(queue: str, suffix: bytes) -> None:
    """A key that ends as asked belongs to the queue between the braces."""
    key = b"asynq:{" + queue.encode() + suffix
    assert queue_of(key, suffix) == queue
    assert queue_of_index(key) == (queue if suffix in (ARCHIVED, COMPLETED) else None)
    assert queue_of_task(key) is None


@given(NAMES)
def test_all_keys_of_a_queue_start_alike(queue: str) -> None:
    """With the queue's name in braces, which is what a cluster goes by."""
    prefix = queue_prefix(queue)
    assert prefix == b"asynq:{" + queue.encode() + b"}:"
    assert task_prefix(queue).startswith(prefix)
    assert index_key(queue, "retry") == prefix + b"retry"


@given(NAMES, st.sampled_from(["archived", "completed"]))
def test_the_key_of_an_index_leads_back_to_its_queue(queue: str, state: str) -> None:
    """It is made as it is read."""
    assert queue_of_index(index_key(queue, state)) == queue


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"asynq:{",
        b"asynq:{q",
        b"asynq:{q}",
        b"asynq:{q}:",
        b"asynq:{q}:t",
        b"asynq:q:t:1",
        b"other:{q}:t:1",
        b"}:t:1",
        b"asynq:{q}:g:x}:t:1",
        b"asynq:{q}:g:x}:archived",
        b"other:{q}:archived",
        b"}:archived",
        b"asynq:queues",
    ],
)
def test_other_keys_say_nothing(key: bytes) -> None:
    """What is no key of Asynq's is nobody's; neither is a group's key, however the group is called."""
    assert queue_of_task(key) is None
    assert queue_of_index(key) is None


T, P, A, G = b"asynq:{q}:t:1", b"asynq:{q}:pending", b"asynq:{q}:active", b"asynq:{q}:groups"
X, C, L, PAUSED = b"asynq:{q}:archived", b"asynq:{q}:completed", b"asynq:{q}:lease", b"asynq:{q}:paused"


@pytest.mark.parametrize(
    "keys",
    [[T, A, L, X], [A, L, C, T], [C], [X, P], [P, X], [T, X, G], [P, PAUSED, A, L], [T, P, G]],
    ids=["archive", "complete", "janitor", "run all", "archive all", "archive one", "dequeue", "run one"],
)
def test_the_keys_of_a_script_say_that_a_terminal_state_may_be_concerned(keys: list[bytes]) -> None:
    """An index, a task key with pending and groups, or pending moving to active: each is told by its KEYS."""
    assert terminal_queue(keys) == "q"


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [b"user:1"],
        [b"user:1", X],
        [T],
        [T, P],
        [T, P, A],
        [A, L, T],
        [A, L, P, T],
        [P, PAUSED, L],
        [P, PAUSED],
        [L, P, G],
        [b"asynq:{q}:g:x}:archived", P],
    ],
)
def test_the_keys_of_any_other_script_say_nothing(keys: list[bytes]) -> None:
    """Enqueueing, requeueing, finishing, and whatever is not Asynq's concern no terminal state."""
    assert terminal_queue(keys) is None


def test_what_a_script_is_about() -> None:
    """A task key names queue and task; else the first key of a queue names that."""
    assert subject_of([A, L, T]) == ("q", "1")
    assert subject_of([b"asynq:{q}:t:a}:t:b", A]) == ("q", "a}:t:b")
    assert subject_of([P, PAUSED, L]) == ("q", "")
    assert subject_of([b"user:1", b"asynq:{q", A]) == ("q", "")
    assert subject_of([b"user:1"]) == subject_of([]) == ("", "")


def test_what_can_be_printed() -> None:
    """Text stays as it is; bytes that are not UTF-8 and halves of surrogate pairs are replaced."""
    assert printable("plain") == "plain"
    assert printable("größe") == "größe"
    assert printable("a\udcff") == "a\ufffd"
    assert "\ud800" not in printable("\ud800")
    printable("\ud800").encode()


@pytest.mark.parametrize(
    ("key", "prefix"),
    [
        (b"asynq:{q}:archived", ""),
        (b"myapp:asynq:{q}:archived", "myapp:asynq:{"),
        (b"jobs:q:archived", "jobs:"),
        (b"plain", "plain"),
        (b"\xff:x", "\ufffd:"),
        (b"x" * 100, "x" * 64),
    ],
)
def test_what_keys_of_a_fork_begin_with(key: bytes, prefix: str) -> None:
    """Up to the hash tag or the first colon, bounded, and fit to be shown."""
    assert foreign_prefix(key) == prefix


@pytest.mark.parametrize(
    ("key", "like"),
    [
        (b"myapp:asynq:{q}:t:1", True),
        (b"{q}:t:", True),
        (b"a{b}:c}:t:d", True),
        (b"q}:t:1", False),
        (b"q}:t:{1", False),
        (b"a{q}:pending", False),
        (b"", False),
    ],
)
def test_what_a_task_of_a_fork_is_called(key: bytes, like: bool) -> None:
    """A hash tag that opens before it closes; in one pass over the key."""
    assert is_like_task(key) is like
    assert LIKE_TASK_PATTERN.replace(b"*", b"") == b"}:t:"
    assert LIKE_TASK_PATTERN.startswith(b"*")


INDEX, TASK = b"asynq:{q}:archived", b"asynq:{q}:t:1"


@pytest.mark.parametrize(
    "keys",
    [
        [TASK, INDEX],
        [INDEX, TASK],
        [b"lock:1", TASK, b"asynq:{q}:active", b"asynq:{q}:completed"],
        [b"asynq:{other}:archived", TASK, INDEX],
        [b"asynq:{q}:t:", INDEX],
    ],
)
def test_a_task_and_a_terminal_index_of_one_queue_may_be_its_end(keys: list[bytes]) -> None:
    """Wherever they stand among KEYS."""
    assert ended_queue(keys) == "q"


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [TASK],
        [INDEX],
        [TASK, b"asynq:{q}:pending"],
        [TASK, b"asynq:{other}:archived"],
        [TASK, b"myapp:{q}:archived"],
        [b"asynq:{q}:g:t:1", INDEX],
        [b"asynq:{a}:b}:t:1", b"asynq:{a}:b}:archived"],
    ],
)
def test_anything_else_is_no_end(keys: list[bytes]) -> None:
    """One of the two is missing, or they are of two queues, or the name of the queue can be read twice."""
    assert ended_queue(keys) is None


def test_the_tasks_among_keys_are_those_of_the_queue() -> None:
    """In their order, by their IDs."""
    keys = [TASK, INDEX, b"asynq:{other}:t:2", b"asynq:{q}:t:a:b", TASK]
    assert task_ids(keys, "q") == [b"1", b"a:b", b"1"]


DONE_KEYS = [b"asynq:{q}:active", b"asynq:{q}:lease", b"asynq:{q}:t:id", b"asynq:{q}:processed:2026-01-01"]


@pytest.mark.parametrize(
    ("keys", "queue"),
    [
        (DONE_KEYS, "q"),
        ([*DONE_KEYS, b"asynq:{q}:processed", b"asynq:{q}:unique:u"], "q"),
        ([*DONE_KEYS, b"asynq:{other}:failed"], "q"),
        ([*DONE_KEYS, b"asynq:{q}:failed"], None),
        ([*DONE_KEYS[:3], b"asynq:{q}:unique:u"], None),
        (DONE_KEYS[:3], None),
        ([], None),
        ([b"asynq:{q}:pending", *DONE_KEYS[1:]], None),
        ([*DONE_KEYS[:2], b"asynq:{q}:completed", *DONE_KEYS[2:]], None),
        ([*DONE_KEYS[:2], b"asynq:{r}:t:id", DONE_KEYS[3]], None),
    ],
)
def test_the_keys_of_a_script_say_that_a_task_may_have_succeeded(keys: list[bytes], queue: str | None) -> None:
    """It is taken off the active list and counted as processed, not as failed."""
    assert done_queue(keys) == queue


Q = b"asynq:{q}:"


@pytest.mark.parametrize(
    ("keys", "queue"),
    [
        ([Q + b"t:1", Q + b"pending"], "q"),
        ([Q + b"t:1", Q + b"scheduled"], "q"),
        ([Q + b"unique:u", Q + b"t:1", Q + b"pending"], "q"),
        ([Q + b"t:1", Q + b"g:a", Q + b"groups"], "q"),
        ([Q + b"t:1", Q + b"g:a", Q + b"groups", Q + b"unique:u"], "q"),
        ([Q + b"t:1"], None),
        ([Q + b"pending"], None),
        ([], None),
        ([Q + b"t:1", Q + b"pending", Q + b"groups"], None),
        ([Q + b"t:1", Q + b"groups", Q + b"g:a"], None),
        ([Q + b"t:1", Q + b"t:2", Q + b"pending"], None),
        ([Q + b"t:1", b"asynq:{r}:pending"], None),
        ([Q + b"t:1", Q + b"archived"], None),
        ([Q + b"t:1", Q + b"g:a", Q + b"groups", Q + b"unique:u", Q + b"x"], None),
    ],
)
def test_the_keys_of_a_script_say_that_a_task_may_be_added(keys: list[bytes], queue: str | None) -> None:
    """A task key with the place it goes to, and perhaps a lock."""
    assert enqueue_queue(keys) == queue


@pytest.mark.parametrize(("queue", "doubted"), [("a}:b", True), ("}:", True), ("a}", False), ("a:{b}", False)])
def test_a_name_that_ends_a_prefix_is_ambiguous(queue: str, doubted: bool) -> None:
    """The keys of such a queue can be those of another."""
    assert ambiguous(queue) is doubted


@pytest.mark.parametrize("entry_id", [b"e1", b"", b"a:b"])
def test_the_key_of_a_history_names_its_entry(entry_id: bytes) -> None:
    """There and back; no other key of Asynq's is one."""
    assert entry_of_history(history_key(entry_id)) == entry_id
    assert entry_of_history(Q + b"t:1") is None
