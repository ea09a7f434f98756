"""What the spans say: their attributes, by the semantic conventions for database and messaging spans, and their links.

Invariants:

* Never in an attribute: a payload, a credential, an argument.
* Texts of clients are cut off where they are too long, and can be encoded as UTF-8.
* The task ID is no attribute here, since it differs from span to span: see `FinishedSpan.task_id`.
"""

import re

from opentelemetry.trace import TraceState

from asynq_ttl.asynq.keys import printable
from asynq_ttl.events import Activated, Adopted, FailedOpen, Outcome, Swept
from asynq_ttl.net.address import Address
from asynq_ttl.telemetry.finished_span import LinkedSpan

# Longer task IDs and types are cut off.
MAX_TEXT = 1_024

# Version, trace, span, flags, and what a later version may have besides.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")

NewAttributes = dict[str, str | int]


class SpanAttributes:
    """Works out the attributes of every kind of span.

    Where something was done at another server than usual, a node of a cluster, `server` is where that is.

    Args:
        address: the real Redis.
        longest: where texts of clients are cut off, in characters.
    """

    def __init__(self, address: Address, longest: int = MAX_TEXT) -> None:
        self._longest = longest
        self._server = _of_server(address)

    def name_server(self, address: Address) -> None:
        """Name another server from now on."""
        self._server = _of_server(address)

    def text(self, text: str) -> str:
        """Return a client's text as it may be told."""
        return printable(text[: self._longest])

    def of_decision(self, outcome: Outcome, mode: str, server: Address | None = None) -> NewAttributes:
        """Return the attributes of a decision that do not differ from task to task; `mode` is enforce or shadow."""
        decision = outcome.decision
        attributes: NewAttributes = {
            **self._at(server),
            "db.operation.name": "EVALSHA",
            "db.stored_procedure.name": decision.script,
            "db.namespace": str(outcome.database),
            "asynq_ttl.action": decision.action.value,
            "asynq_ttl.mode": mode,
        }
        if decision.queue:  # only a history has none: that is no message
            attributes["messaging.operation.type"] = "settle"
            attributes["messaging.operation.name"] = decision.operation
            attributes["messaging.destination.name"] = self.text(decision.queue)
            attributes["asynq.task.state"] = decision.state
        if decision.task_type:
            attributes["asynq.task.type"] = self.text(decision.task_type)
        if decision.rule:
            attributes["asynq_ttl.rule"] = decision.rule
        if decision.ttl_seconds is not None:
            attributes["asynq_ttl.ttl_seconds"] = decision.ttl_seconds
        return attributes

    def of_page(self, page: Swept, server: Address | None = None) -> NewAttributes:
        """Return the attributes of a page of a sweep."""
        return {
            **self._at(server),
            "db.operation.name": "EVALSHA",
            "db.stored_procedure.name": "asynq_ttl.sweep",
            "db.namespace": str(page.database),
            "messaging.operation.type": "settle",
            "messaging.operation.name": "sweep",
            "messaging.destination.name": self.text(page.queue),
            "asynq.task.state": page.state.value,
            "asynq_ttl.action": "delete" if page.due else "none",
            "asynq_ttl.mode": "enforce",
            **({"messaging.batch.message_count": len(page.due)} if page.due else {}),
            "asynq_ttl.sweep.due": len(page.due),
            "asynq_ttl.sweep.ghosts": page.ghosts,
        }

    def of_adoption(self, tasks: Adopted, server: Address | None = None) -> NewAttributes:
        """Return the attributes of tasks that were adopted."""
        return {
            **self._at(server),
            "db.operation.name": "EVALSHA",
            "db.stored_procedure.name": "asynq_ttl.adopt",
            "db.namespace": str(tasks.database),
            "messaging.operation.type": "settle",
            "messaging.operation.name": "adopt",
            "messaging.destination.name": self.text(tasks.queue),
            "asynq.task.state": tasks.state.value,
            "asynq_ttl.rule": tasks.rule,
            "asynq_ttl.action": "ttl",
            "asynq_ttl.ttl_seconds": tasks.ttl_seconds,
            "asynq_ttl.mode": "enforce" if tasks.enforced else "shadow",
            "messaging.batch.message_count": len(tasks.ids),
            "asynq_ttl.tasks": len(tasks.ids),
            "asynq_ttl.tasks.undated": tasks.undated,
        }

    def of_fail_open(self, failure: FailedOpen, server: Address | None = None) -> NewAttributes:
        """Return the attributes of a command that was forwarded untouched."""
        attributes: NewAttributes = {**self._at(server), "asynq_ttl.fail_open.reason": failure.reason.value}
        if failure.kind:
            attributes["db.stored_procedure.name"] = f"asynq.{failure.kind}"
            attributes["asynq_ttl.script.sha"] = failure.sha
        if failure.queue:
            attributes["messaging.destination.name"] = self.text(failure.queue)
        attributes["error.type"] = failure.reason.value
        return attributes

    def of_activation(self, activated: Activated, server: Address | None = None) -> NewAttributes:
        """Return the attributes of loading a wrapper."""
        return {
            **self._at(server),
            "db.operation.name": "SCRIPT LOAD",
            "db.stored_procedure.name": f"asynq.{activated.kind}",
            "asynq_ttl.script.sha": activated.sha,
            **_failure("activation", activated.error),
        }

    def of_reload(self, digest: str, mode: str, error: str) -> NewAttributes:
        """Return the attributes of a reload of the policy; `error` is empty if it went well."""
        return {"asynq_ttl.policy.digest": digest, "asynq_ttl.mode": mode, **_failure("policy", error)}

    def of_switch(self, before: str) -> NewAttributes:
        """Return the attributes of a change of the master."""
        return {**self._server, "asynq_ttl.upstream.previous": before}

    def _at(self, server: Address | None) -> NewAttributes:
        return self._server if server is None else _of_server(server)


def reply_attributes(outcome: Outcome) -> tuple[NewAttributes, str | None]:
    """Return what a reply adds to the attributes of its decision, and the error that it is; None if it is none.

    An error reply's prefix says what kind it is.
    """
    reply = outcome.reply
    if reply.startswith((b"-", b"!")):
        prefix = reply[1:].split(b" ", 1)[0].decode("ascii", "replace")
        error = reply[1:].decode("utf-8", "replace")
        return {"db.response.status_code": prefix, "error.type": prefix}, error
    if not reply:
        return {"error.type": "no_reply"}, "the connection ended, or its replies cannot be followed"
    moved = outcome.moved
    if moved is None:
        return {}, None
    got = dict(outcome.actions)
    counts = {
        "messaging.batch.message_count": None if outcome.decision.task_id else moved,
        "asynq_ttl.tasks": moved,
        "asynq_ttl.tasks.ttl": got.get("ttl"),
        "asynq_ttl.tasks.none": got.get("none"),
        "asynq_ttl.tasks.gone": got.get("gone"),
        "asynq_ttl.tasks.persist": got.get("persist"),
        "asynq_ttl.tasks.delete": got.get("delete"),
    }
    return {name: count for name, count in counts.items() if count is not None}, None


def link_of(traceparent: str, tracestate: str) -> LinkedSpan | None:
    """Return where a producer's W3C trace context leads; None where it is not valid.

    The SDK's propagator does the same and more, in five times the time.
    """
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    version, trace, span, rest = found.groups()
    trace_id, span_id = int(trace, 16), int(span, 16)
    if not trace_id or not span_id or (rest and version == "00"):
        return None
    state = TraceState.from_header([tracestate]).to_header() if tracestate else ""
    return LinkedSpan(trace_id, span_id, state)


def _of_server(address: Address) -> NewAttributes:
    server: NewAttributes = {"db.system.name": "redis", "messaging.system": "asynq"}
    server["server.address"] = address.path or address.host
    return server if address.path else {**server, "server.port": address.port}


def _failure(kind: str, error: str) -> NewAttributes:
    return {"error.type": kind} if error else {}
