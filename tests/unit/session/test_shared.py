"""What all sessions share."""

from asynq_ttl.events import FailedOpen, FailOpen
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import Keep, Policy, Retention, Rule
from asynq_ttl.rewriting.registry import ScriptRegistry, Status, sha_of
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.wire.commands import encode
from support.conversation import DAY, INDEX, Conversation, complete
from support.small_scripts import COMPLETE

OK = b"+OK\r\n"
NOSCRIPT = b"-NOSCRIPT No matching script.\r\n"
PING = (b"PING",)
COMPLETE_SHA = sha_of(COMPLETE)
ELSEWHERE = Rule("elsewhere", queues=(compile_glob("other"),), completed=Retention(Keep.TTL, DAY))


def test_a_command_that_fails_open_is_told_with_its_keys() -> None:
    """Whoever is told can say which queue and task are concerned."""
    talk = Conversation().knows(COMPLETE)
    talk.registry.learn(COMPLETE).status = Status.BROKEN
    talk.downstream_sends(complete(COMPLETE_SHA))
    assert [(failure.queue, failure.task_id) for failure in talk.observer.failures] == [("q", "1")]


def test_a_command_that_fails_open_is_told_with_what_is_known_of_it() -> None:
    """Its script, where that is known; when it was, by the session's clock."""
    talk = Conversation().knows(COMPLETE)
    talk.now_ns = 5
    script = talk.registry.get(COMPLETE_SHA)
    assert script is not None
    talk.shared.fail_open(FailOpen.INTERNAL, "a fault")
    talk.shared.fail_open(FailOpen.MESSAGE, "no message", script, [INDEX])
    assert talk.observer.failures == [
        FailedOpen(FailOpen.INTERNAL, "a fault", 5),
        FailedOpen(FailOpen.MESSAGE, "no message", 5, "complete", COMPLETE_SHA.decode(), "q"),
    ]


def test_another_policy_is_in_force_at_once() -> None:
    """From the next command on."""
    talk = Conversation().knows(COMPLETE)
    assert talk.downstream_sends(complete(COMPLETE_SHA)) != encode(complete(COMPLETE_SHA))
    talk.shared.use(Rewriter(Policy((ELSEWHERE,)), set()))
    assert talk.downstream_sends(complete(COMPLETE_SHA)) == encode(complete(COMPLETE_SHA))


def test_the_nodes_of_a_cluster_share_all_but_the_scripts_and_who_is_told() -> None:
    """Policy, room and databases are the same; what polls become is remembered for each."""
    shared = Conversation().shared
    registry = ScriptRegistry(beside=shared.registry)
    other = shared.beside(registry, told := Conversation().shared.observer)
    assert (other.registry, other.observer) == (registry, told)
    assert other.memory is not shared.memory
    for name in ("rewriter", "clock", "whole", "databases", "room", "login"):
        assert getattr(other, name) is getattr(shared, name)
