"""What the spans say."""

import inspect

import pytest
from opentelemetry.semconv._incubating.attributes import (
    db_attributes,
    error_attributes,
    messaging_attributes,
    server_attributes,
)
from opentelemetry.semconv.schemas import Schemas

from asynq_ttl.events import Activated, FailedOpen, FailOpen
from asynq_ttl.net.address import Address
from asynq_ttl.telemetry.finished_span import CONVENTIONS, LinkedSpan
from asynq_ttl.telemetry.span_attributes import SpanAttributes, link_of, reply_attributes
from support.recorded import ARCHIVE_SHA, END, START, UPSTREAM, adopted, outcome, swept

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OF = SpanAttributes(UPSTREAM.address)
SERVER = {
    "db.system.name": "redis",
    "messaging.system": "asynq",
    "server.address": "127.0.0.1",
    "server.port": 6379,
}


def test_a_decision() -> None:
    """All that tasks of one kind have in common, and nothing of the task itself."""
    assert OF.of_decision(outcome(), "shadow") == SERVER | {
        "db.operation.name": "EVALSHA",
        "db.stored_procedure.name": "asynq.archive",
        "db.namespace": "0",
        "messaging.operation.type": "settle",
        "messaging.operation.name": "archive",
        "messaging.destination.name": "mail",
        "asynq.task.type": "email:send",
        "asynq.task.state": "archived",
        "asynq_ttl.rule": "default",
        "asynq_ttl.action": "ttl",
        "asynq_ttl.ttl_seconds": 3_660,
        "asynq_ttl.mode": "shadow",
    }


def test_what_is_not_known_of_a_decision_is_left_out() -> None:
    """In bulk there is no type, and the rule is picked in Redis."""
    told = OF.of_decision(outcome(task_type="", rule="", ttl_seconds=None), "enforce")
    assert not {"asynq.task.type", "asynq_ttl.rule", "asynq_ttl.ttl_seconds"} & set(told)


def test_a_page_of_a_sweep() -> None:
    """How many tasks it has removed, and what that is called where there were none."""
    told = OF.of_page(swept("a", "b", ghosts=3))
    assert (told["asynq_ttl.sweep.due"], told["asynq_ttl.sweep.ghosts"], told["asynq_ttl.action"]) == (2, 3, "delete")
    assert OF.of_page(swept())["asynq_ttl.action"] == "none"


def test_a_sweep_of_another_server() -> None:
    """In a cluster each node is swept by itself; a unix socket has no port."""
    for told in (OF.of_page(swept("a"), Address("::1", 7)), OF.of_adoption(adopted("a"), Address("::1", 7))):
        assert (told["server.address"], told["server.port"]) == ("::1", 7)
    told = OF.of_page(swept("a"), Address(path="/run/redis.sock"))
    assert told["server.address"] == "/run/redis.sock"
    assert "server.port" not in told


def test_an_adoption() -> None:
    """The rule, how many tasks it gave a TTL, and of how many nobody knows when they ended."""
    told = OF.of_adoption(adopted("a", "b", undated=1))
    assert (told["asynq_ttl.tasks"], told["asynq_ttl.tasks.undated"], told["asynq_ttl.rule"]) == (2, 1, "default")
    assert (told["messaging.operation.name"], told["asynq_ttl.ttl_seconds"]) == ("adopt", 3_660)
    assert [OF.of_adoption(adopted("a", enforced=on))["asynq_ttl.mode"] for on in (True, False)] == [
        "enforce",
        "shadow",
    ]


def test_a_fail_open() -> None:
    """Script and queue where they are known; the task is no attribute."""
    known = FailedOpen(FailOpen.MESSAGE, "truncated", START, "archive", ARCHIVE_SHA, "mail", "id-1")
    assert OF.of_fail_open(known) == SERVER | {
        "asynq_ttl.fail_open.reason": "message",
        "error.type": "message",
        "db.stored_procedure.name": "asynq.archive",
        "asynq_ttl.script.sha": ARCHIVE_SHA,
        "messaging.destination.name": "mail",
    }
    unknown = FailedOpen(FailOpen.INTERNAL, "ValueError: x", START)
    assert OF.of_fail_open(unknown) == SERVER | {"asynq_ttl.fail_open.reason": "internal", "error.type": "internal"}


def test_what_can_fail_says_what_kind_of_error_it_is() -> None:
    """Loading a wrapper, and a reload; where it went well there is no such attribute."""
    failed = OF.of_activation(Activated("archive", "ab", "cd", START, END, "timed out"))
    assert (failed["error.type"], failed["asynq_ttl.script.sha"]) == ("activation", "ab")
    assert "error.type" not in OF.of_activation(Activated("archive", "ab", "cd", START, END))
    assert OF.of_reload("abc", "enforce", "line 3")["error.type"] == "policy"
    assert OF.of_reload("abc", "enforce", "") == {"asynq_ttl.policy.digest": "abc", "asynq_ttl.mode": "enforce"}


def test_the_server_can_change() -> None:
    """A unix socket has no port."""
    of = SpanAttributes(UPSTREAM.address)
    of.name_server(Address(path="/run/redis.sock"))
    told = of.of_switch("127.0.0.1:6379")
    assert (told["server.address"], told["asynq_ttl.upstream.previous"]) == ("/run/redis.sock", "127.0.0.1:6379")
    assert "server.port" not in told


def test_texts_of_clients_are_cut_off_and_can_be_encoded() -> None:
    """Also where the operator wants them shorter."""
    of = SpanAttributes(UPSTREAM.address, 5)
    told = of.of_decision(outcome(queue="q" * 9, task_type="\udcff"), "enforce")
    assert (told["messaging.destination.name"], told["asynq.task.type"]) == ("qqqqq", "\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize(
    ("reply", "added", "error"),
    [
        (b"+OK", {}, None),
        (b":12", {"asynq_ttl.tasks": 12}, None),
        (b"-NOT FOUND", {"db.response.status_code": "NOT", "error.type": "NOT"}, "NOT FOUND"),
        (b"!ERR failed", {"db.response.status_code": "ERR", "error.type": "ERR"}, "ERR failed"),
        (b"", {"error.type": "no_reply"}, "the connection ended, or its replies cannot be followed"),
    ],
)
def test_what_a_reply_adds(reply: bytes, added: dict[str, str | int], error: str | None) -> None:
    """How many tasks have moved, or what went wrong."""
    assert reply_attributes(outcome(reply)) == (added, error)


def test_a_link_has_the_trace_state() -> None:
    """As it was in the header, where it is valid."""
    trace_id, span_id = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
    assert link_of(PARENT, "a=b,c=d") == LinkedSpan(trace_id, span_id, "a=b,c=d")
    assert link_of(PARENT, "") == LinkedSpan(trace_id, span_id, "")


@pytest.mark.parametrize(
    ("traceparent", "linked"),
    [
        (PARENT, True),
        (PARENT.replace("00-", "01-", 1) + "-more", True),
        (PARENT + "-more", False),
        (PARENT.replace("00-", "ff-", 1), False),
        (PARENT.upper(), False),
        ("00-" + "0" * 32 + "-b7ad6b7169203331-01", False),
        ("00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01", False),
        ("nonsense", False),
        (PARENT + "\n", False),
    ],
)
def test_which_trace_contexts_are_linked_to(traceparent: str, *, linked: bool) -> None:
    """Valid ones by W3C's recommendation; anything else is no fault and no link."""
    assert (link_of(traceparent, "") is not None) == linked


def test_a_history_is_no_message() -> None:
    """So there is nothing about messaging in its span; its rule and its TTL are."""
    decision = outcome(
        operation="record", queue="", rule="scheduler_history", ttl_seconds=60, state="scheduler_history"
    )
    told = SpanAttributes(UPSTREAM.address).of_decision(decision, "enforce")
    assert [name for name in told if name.startswith("messaging.")] == ["messaging.system"]
    assert (told["asynq_ttl.rule"], told["asynq_ttl.ttl_seconds"]) == ("scheduler_history", 60)
    assert "asynq.task.state" not in told


def test_attributes_are_those_of_the_semantic_conventions() -> None:
    """Each of databases, messaging, servers and errors is one of the version that the spans name, and none is old."""
    assert CONVENTIONS in [schema.value for schema in Schemas]
    told: dict[str, object] = {
        **OF.of_decision(outcome(task_type="x", rule="r"), "enforce"),
        **OF.of_page(swept("a")),
        **OF.of_adoption(adopted("a")),
        **reply_attributes(outcome(b"-NOT FOUND"))[0],
        **reply_attributes(outcome(b":2", task_id=""))[0],
        "messaging.message.id": "a",
    }
    named = {name for name in told if not name.startswith(("asynq.", "asynq_ttl."))}
    known = {
        value: inspect.getsource(module).split(f'= "{value}"\n', 1)[-1]
        for module in (db_attributes, messaging_attributes, server_attributes, error_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    }
    assert named <= known.keys()
    moved = {"db.system.name", "db.operation.name", "db.namespace", "db.stored_procedure.name"}
    assert moved <= named
    for name in named:
        text = known[name].split('"""')[1]
        assert "Deprecated" not in text or "in favor of stable" in text, name
