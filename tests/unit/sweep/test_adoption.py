"""What adoption remembers, and which rules it sends."""

import json

from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import UNMATCHED, Keep, Policy, Retention, Rule, State
from asynq_ttl.sweep import adoption
from asynq_ttl.sweep.adoption import MOST_TOLD, Adoption, adoption_rules
from asynq_ttl.sweep.schedule import Index
from asynq_ttl.sweep.survey import BATCH, Queue

FOREVER, DAY = Retention(Keep.FOREVER), Retention(Keep.TTL, 86_400)
MAIL = Index(0, "mail", State.ARCHIVED)
POLICY = Policy((Rule("day", archived=DAY, completed=FOREVER),), grace_seconds=30, rollout=500)


def test_the_rules_go_along_with_grace_and_share() -> None:
    """And their names stay here, by the numbers that Lua gives them."""
    rules = adoption_rules(POLICY, "mail", State.ARCHIVED)
    assert rules is not None
    assert json.loads(rules.argument) == {"rules": [{"types": [], "seconds": 86_400}], "grace": 30, "share": 500}
    assert rules.names[1] == "day"


def test_where_no_task_can_get_a_ttl_there_are_no_rules() -> None:
    """All are kept for ever, or nothing is said about the state."""
    assert adoption_rules(POLICY, "mail", State.COMPLETED) is None
    assert adoption_rules(Policy((Rule("day", completed=DAY),)), "mail", State.ARCHIVED) is None


def test_what_no_rule_matches_has_asynq_s_own_time_where_a_rule_outlasts_it() -> None:
    """As for a task that is archived through the sidecar."""
    typed = Rule("typed", types=(compile_glob("a*"),), archived=FOREVER)
    rules = adoption_rules(Policy((typed,)), "mail", State.ARCHIVED)
    assert rules is not None
    assert json.loads(rules.argument)["unmatched"] == "own"
    assert rules.names[0] == UNMATCHED
    assert adoption_rules(Policy((Rule("typed", types=typed.types, completed=FOREVER),)), "q", State.COMPLETED) is None


def test_rules_are_made_once_for_each_policy() -> None:
    """With another policy, all that was left as it was is looked at again, and told of again."""
    memory = Adoption()
    first = memory.rules(POLICY, MAIL)
    memory.note_left(MAIL, 0, "digest")
    assert memory.untold(MAIL, [b"a"]) == {b"a"}
    assert memory.rules(POLICY, MAIL) is first
    assert memory.left(MAIL, 0) == "digest"
    assert memory.left(MAIL, None) == memory.left(MAIL, 500) == ""
    memory.rules(Policy(POLICY.rules), MAIL)
    assert memory.left(MAIL, 0) == ""
    assert memory.untold(MAIL, [b"a"]) == {b"a"}


def test_each_task_is_told_of_once() -> None:
    """By index: the same ID may have ended in another queue."""
    memory = Adoption()
    assert memory.untold(MAIL, [b"a", b"b"]) == {b"a", b"b"}
    assert memory.untold(MAIL, [b"b", b"c"]) == {b"c"}
    assert memory.untold(MAIL._replace(queue="sms"), [b"b"]) == {b"b"}


def test_the_queues_that_are_looked_at_in_each_round_are_as_many_as_one_script_asks_about() -> None:
    """Those in which something was adopted last come first; those that are gone, or have no rule, not at all."""
    memory = Adoption()
    queues = [Queue(0, f"q{number:03}") for number in range(BATCH + 20)]
    assert memory.closely(queues, lambda _: True) == queues[:BATCH]
    for number in (BATCH + 5, BATCH + 7, BATCH + 5):
        memory.note_lively(queues[number])
    memory.note_lively(Queue(0, "gone"))
    found = memory.closely(queues, lambda queue: queue != queues[0])
    assert found == [queues[BATCH + 5], queues[BATCH + 7], *queues[1 : BATCH - 1]]


def test_memory_is_bounded() -> None:
    """Whatever clients name."""
    memory = Adoption()
    for number in range(BATCH + 1):
        memory.note_lively(Queue(0, f"q{number}"))
    assert len(memory.closely([Queue(0, f"q{number}") for number in range(BATCH + 1)], lambda _: True)) == BATCH
    ids = [b"%d" % number for number in range(MOST_TOLD)]
    memory.untold(MAIL, ids)
    assert memory.untold(MAIL, [b"new"]) == {b"new"}
    assert memory.untold(MAIL, [b"1"]) == {b"1"}
    for number in range(adoption.MOST_PAGES + 1):
        memory.note_left(MAIL, number, "digest")
    assert memory.left(MAIL, 0) == ""
    for number in range(adoption.MOST_RULES + 1):
        memory.rules(POLICY, MAIL._replace(queue=f"q{number}"))
    assert memory.rules(POLICY, MAIL) == adoption_rules(POLICY, "mail", State.ARCHIVED)
