"""What is done at a node is told with where that node is."""

from typing import Any

import pytest

from asynq_ttl.events import Enqueue, FailOpen
from asynq_ttl.net.address import Address, parse_upstream
from asynq_ttl.telemetry import recorder
from asynq_ttl.telemetry.node_telemetry import NodeTelemetry
from asynq_ttl.telemetry.recorder import Telemetry
from asynq_ttl.upstream.endpoint import Endpoint
from support.recorded import ARCHIVE_SCRIPT, UPSTREAM, activated, adopted, decision, failed_open, outcome, swept
from support.servers import free_port


class Spans:
    """Remembers for which server spans are made; instead of a decision's reply it is told of `moved` ones."""

    bound = 2

    def __init__(self) -> None:
        self.servers: list[tuple[str, object]] = []

    def draw(self, number: int) -> list[tuple[int, int, int]]:
        """Sample each."""
        return [(1, 1, 1)] * number

    def decided(self, *arguments: object, **_: object) -> str:
        """Remember the server, behind which may stand what was drawn."""
        self.servers.append(("decided", arguments[3]))
        return ""

    def __getattr__(self, name: str) -> Any:
        def made(*arguments: object) -> str:
            self.servers.append((name, arguments[-1]))
            return ""

        return made


def test_spans_name_the_node_and_all_else_is_as_ever(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has moved is named by its new address; a wrapper that cannot be loaded there says where."""
    told, outputs = Spans(), recorder._outputs
    monkeypatch.setattr(recorder, "_outputs", lambda *given, **named: (told, outputs(*given, **named)[1]))
    telemetry = Telemetry(UPSTREAM, {})
    endpoint = Endpoint(parse_upstream("redis://10.0.0.1:7001"))
    node = NodeTelemetry(telemetry, endpoint)
    node.decided(outcome())
    node.failed_open(failed_open(FailOpen.SHAPE))
    node.activated(activated(ARCHIVE_SCRIPT, "NOPERM"))
    node.swept(swept("a", ghosts=1))
    endpoint.address = Address("10.0.0.2", 7002)
    node.adopted(adopted("a"))
    node.decided(outcome())
    node.clustered(redirected=True)
    node.repaired("mail", 1, 2)
    node.sweep_ended(0.5, "", 3)
    first, second = Address("10.0.0.1", 7001), Address("10.0.0.2", 7002)
    assert told.servers == [
        *((name, first) for name in ("decided", "failed_open", "activated", "swept")),
        *((name, second) for name in ("adopted", "decided")),
    ]
    assert "cannot load a wrapper into 10.0.0.1:7001: NOPERM" in caplog.messages
    counted = telemetry.decisions, telemetry.fail_opens, telemetry.activations, telemetry.adoptions.tasks
    assert [sum(counter.values()) for counter in counted] == [2, 1, 1, 1]
    assert (telemetry.sweeps_due["mail"], telemetry.sweeps_ghosts["mail"]) == (1, 3)
    assert (telemetry.sweep_rounds, sum(telemetry.cluster.seen.values())) == ({"partial": 1}, 1)


async def test_an_enqueue_that_was_refused_is_looked_at_where_its_task_is() -> None:
    """A node that cannot be asked says nothing."""
    telemetry = Telemetry(UPSTREAM, {})
    node = NodeTelemetry(telemetry, Endpoint(parse_upstream(f"redis://127.0.0.1:{free_port()}")))
    enqueue = Enqueue(decision(operation="replace", enforced=False), (("archived", "mail"),), b"t", b"", b"{}")
    node.refused(enqueue, outcome(b":0"))
    await telemetry.finish_spans()
    assert telemetry.decisions == {}
