from asynq_ttl.telemetry.adoptions import Adoptions
from support.recorded import adopted


def test_tasks_are_counted_by_queue_state_rule_and_mode() -> None:
    """Only those that were given a TTL are in the total."""
    counts = Adoptions(10)
    counts.add(adopted("a", "b"))
    counts.add(adopted("c"))
    counts.add(adopted("d", enforced=False))
    assert counts.tasks == {("mail", "archived", "default", "enforce"): 3, ("mail", "archived", "default", "shadow"): 1}
    assert counts.total == 3


def test_past_a_number_of_queues_they_are_counted_together() -> None:
    """So no client can let the metrics grow."""
    counts = Adoptions(2)
    for number in range(5):
        counts.add(adopted("a", queue=f"q{number}"))
    assert counts.tasks[("other", "archived", "other", "enforce")] == 3
    assert len(counts.tasks) == 3
