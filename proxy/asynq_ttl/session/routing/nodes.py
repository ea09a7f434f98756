"""What a router has to know of nodes, and what it has done outside itself. Interfaces only."""

from collections.abc import Sequence
from typing import Protocol

from asynq_ttl.rewriting.registry import Script
from asynq_ttl.session.renaming import Directory
from asynq_ttl.session.shared import Shared


class Node(Protocol):
    """A node of the cluster: always the same object for the same node."""

    @property
    def shared(self) -> Shared:
        """What all sessions share that lead to it."""


class Nodes(Protocol):
    """Who knows the nodes."""

    @property
    def directory(self) -> Directory:
        """How nodes are called."""

    def owner(self, slot: int) -> Node | None:
        """Return the master that serves a slot; None if none does."""

    def some(self) -> Node | None:
        """Return a master, each in its turn; None if there is none."""

    def masters(self) -> Sequence[int]:
        """Return the first slot of each master, in order."""

    def at(self, host: str, port: int, slot: int) -> Node | None:
        """Return the node to which a client was sent; None if that cannot be told."""

    def look(self) -> None:
        """Have the cluster asked at once for who serves which slot."""


class Outside(Protocol):
    """Who has the connections of one client. Nothing here waits; what takes time is answered by a call later."""

    def to_client(self, data: bytes) -> None:
        """Give the client bytes."""

    def send(self, node: Node, data: bytes) -> None:
        """Send bytes to a node that was opened."""

    def open(self, node: Node) -> None:
        """Connect to a node; `Router.opened` or `Router.failed` is called then."""

    def end(self, node: Node) -> None:
        """Tell a node that no more commands come: it replies to what it can reply to now, and hangs up."""

    def drop(self, node: Node) -> None:
        """Close the connection to a node, which nothing is expected from."""

    def activate(self, node: Node, script: Script) -> None:
        """Load a wrapper into a node; `Router.go_on` is called then, whatever the end of that."""

    def wait(self) -> None:
        """Wait for a moment; `Router.go_on` is called then."""

    def hold(self, full: bool) -> None:  # noqa: FBT001 - a callback
        """Read no more from the client while it is full."""

    def hang_up(self) -> None:
        """Close all connections once the client has what was given to it."""
