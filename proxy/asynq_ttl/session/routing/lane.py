"""One client's connection to one node, without any connection in it.

It has a session of its own, as a client's connection to that node has: so what is decided for a command fits the
wrappers that are loaded into that very node.
"""

from collections.abc import Iterator

from asynq_ttl.session.renaming import Directory, Renaming
from asynq_ttl.session.routing.nodes import Node
from asynq_ttl.session.session import Session
from asynq_ttl.wire.replies import ReplyCounter

_PUSH = ord(">")
# To the session a reply that the client never gets is this one: it is no answer, so the decision is not told; the
# command is decided about again at the node that it goes to next.
_NO_ANSWER = b"-NOSCRIPT\r\n"


class Lane:
    """A connection to a node.

    Args:
        node: the node.
        directory: how nodes are called.
        host: the host that the client is told.
    """

    __slots__ = "_held", "_note", "_rename", "counter", "held_bytes", "in_push", "node", "session"

    def __init__(self, node: Node, directory: Directory, host: bytes) -> None:
        self.node = node
        renaming = Renaming(directory, host)
        self.session = Session(node.shared, questions=renaming)
        self._note = self.session.receive_upstream
        self._rename = renaming.receive
        self.counter = ReplyCounter()
        """Where its replies and pushes end."""
        self._held: list[bytes] = []
        self.held_bytes = 0
        """The size of what is held of a reply or a push."""
        self.in_push = False
        """Whether the latest piece was one of a push."""

    @property
    def lost(self) -> bool:
        """Whether something came that is no reply."""
        return self.counter.lost

    def say(self, data: bytes) -> bytes:
        """Take whole commands of the client; return what to send."""
        return self.session.receive_downstream(data)

    def hear(self, data: bytes) -> bytes:
        """Take bytes of the node that the client gets; return them as the client gets them."""
        if self.session.marks:
            data = self.session.unmark(data)
        else:
            self._note(data)
        return self._rename(data) if data else data

    def pass_over(self) -> None:
        """Take note of a reply that the client does not get, since its command goes elsewhere."""
        self.hear(_NO_ANSWER)

    def pieces(self, data: bytes) -> Iterator[tuple[bytes, bool, bool]]:
        """Cut bytes of the node at the ends of replies and pushes: pieces, and whether they begin and end one."""
        counter, position = self.counter, 0
        while position < len(data):
            start, begins = position, counter.between
            if begins:
                self.in_push = data[start] == _PUSH
            position = counter.advance(data, position)
            counter.forget()
            yield data[start:position], begins, counter.between

    def hold(self, piece: bytes) -> None:
        """Keep a piece until the rest has come."""
        self._held.append(piece)
        self.held_bytes += len(piece)

    def release(self) -> bytes:
        """Return what is held, and hold it no longer."""
        whole = b"".join(self._held)
        self._held, self.held_bytes = [], 0
        return whole

    def close(self) -> None:
        """Tell about decisions whose replies will never come."""
        self.session.close()
