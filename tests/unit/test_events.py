import pytest

from asynq_ttl.events import Action, Decision, FailOpen, Outcome


def test_a_decision_is_a_fact() -> None:
    """It is plain data that nobody changes afterwards; what is not known is empty."""
    decision = Decision("run", "asynq.run_one", "q", "pending", Action.PERSIST, enforced=True)
    assert (decision.task_id, decision.task_type, decision.rule) == ("", "", "")
    assert (decision.ttl_seconds, decision.traceparent, decision.tracestate) == (None, "", "")
    with pytest.raises(AttributeError):
        decision.rule = "other"  # type: ignore[misc]


@pytest.mark.parametrize("names", [Action, FailOpen])
def test_names_in_telemetry_are_plain_words(names: type[Action | FailOpen]) -> None:
    """Attribute values and metric labels are lower-case words, each of them once."""
    values = [member.value for member in names]
    assert all(value.isalpha() and value.islower() for value in values)
    assert len(set(values)) == len(values)


@pytest.mark.parametrize(
    ("reply", "moved"), [(b"+OK", None), (b":12", 12), (b":-1", 0), (b":x", None), (b"-ERR", None), (b"", None)]
)
def test_how_many_tasks_a_script_has_moved(reply: bytes, moved: int | None) -> None:
    """A number in the reply says so; a negative one is a code for none."""
    decision = Decision("run", "asynq.run_all", "q", "pending", Action.PERSIST, enforced=True)
    assert Outcome(decision, 0, 1, 2, reply).moved == moved
    # What a script that is not understood answers has a meaning of its own.
    assert Outcome(decision._replace(operation="end"), 0, 1, 2, reply).moved is None
