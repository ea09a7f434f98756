"""The sidecar, by a script's KEYS, and the tools, by names and keys, agree whose a key is, or that it is nobody's."""

from hypothesis import example, given
from hypothesis import strategies as st

from asynq_ttl.asynq.keys import (
    ARCHIVED,
    ambiguous,
    doubtful,
    index_key,
    queue_of,
    queue_of_index,
    queue_of_key,
    queue_of_task,
    task_prefix,
    terminal_queue,
)

NAMES = st.lists(st.sampled_from(["a", "b", "{", "}", ":", "}:", "t:", "}:t:", "archived", "g:"]), max_size=6).map(
    "".join
)


@example("a}:t:zz", "x")
@example("a", "zz}:t:x")
@example("", "}:archived")
@example("a}", "x")
@given(NAMES, NAMES)
def test_all_agree_whose_a_key_is(queue: str, task_id: str) -> None:
    """A queue is its own, for everybody, or for nobody; no key is taken for one of another queue but a doubtful one."""
    index, key = index_key(queue, "archived"), task_prefix(queue) + task_id.encode()
    owner = None if ambiguous(queue) else queue
    assert queue_of_index(index) == queue_of(index, ARCHIVED) == owner
    assert terminal_queue([key, index]) == owner
    run_again = [key, index_key(queue, "pending"), index_key(queue, "groups")]
    assert terminal_queue(run_again) == owner
    dequeue = [index_key(queue, "pending"), index_key(queue, "paused"), index_key(queue, "active")]
    assert terminal_queue(dequeue) == owner
    assert queue_of_key(index) == owner
    assert queue_of_task(key) == queue or (ambiguous(queue) and (doubtful(key) or queue_of_task(key) is None))
