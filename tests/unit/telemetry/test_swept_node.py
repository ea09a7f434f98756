"""What is swept at a node is told with where that node is."""

from typing import Any, cast

from asynq_ttl.events import Adopted, Swept
from asynq_ttl.net.address import Address
from asynq_ttl.policy.rules import State
from asynq_ttl.telemetry.recorder import Telemetry
from asynq_ttl.telemetry.swept_node import SweptNode

PAGE = Swept(0, "mail", State.ARCHIVED, 5, ("a",), 0, 1, 2)


class Told:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, *arguments))


def test_each_thing_is_passed_on() -> None:
    """A node that has moved is named by its new address."""
    told, places = Told(), [Address("a", 1), Address("b", 2)]
    node = SweptNode(cast("Telemetry", told), lambda: places.pop(0))
    adopted = cast("Adopted", object())
    node.swept(PAGE)
    node.adopted(adopted)
    node.repaired("mail", 1, 2)
    node.sweep_ended(0.5, "", 3)
    assert told.calls == [
        ("swept", PAGE, Address("a", 1)),
        ("adopted", adopted, Address("b", 2)),
        ("repaired", "mail", 1, 2),
        ("sweep_ended", 0.5, "", 3),
    ]
