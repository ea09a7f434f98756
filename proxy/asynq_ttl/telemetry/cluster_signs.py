"""Signs that Redis is a cluster. Where it is served as one Redis, clients would walk around it. Warns and counts.

Three signs, none of which costs anything on a command that Asynq sends all the time: the server says so when the
control connection comes up; a client asks for the topology; a decision is answered by a redirection.
"""

import logging
import time
from enum import Enum

_log = logging.getLogger("asynq_ttl.cluster")

_WARNING_INTERVAL_SECONDS = 60.0


class Sign(Enum):
    """What was seen."""

    MODE = "mode"
    """Redis runs in cluster mode."""
    TOPOLOGY = "topology"
    """A client asked where the nodes are, to connect to them itself."""
    REDIRECT = "redirect"
    """Redis sent a client to another node."""


_MEANINGS = {
    Sign.MODE: "Redis is a cluster: the sidecar serves this node alone",
    Sign.TOPOLOGY: "a client asked for the cluster's nodes, and may connect to them past the sidecar",
    Sign.REDIRECT: "Redis sent a client to another node of its cluster, past the sidecar",
}


class ClusterSigns:
    """Counts the signs, and warns of each kind at most once a minute.

    Args:
        served: whether the sidecar serves a cluster: then nothing is warned of.
    """

    def __init__(self, *, served: bool = False) -> None:
        self._served = served
        self.seen: dict[str, int] = {sign.value: 0 for sign in Sign}
        """How often each sign was seen."""
        self._warned: dict[Sign, float] = {}

    def note(self, sign: Sign) -> None:
        """Take note of a sign."""
        self.seen[sign.value] += 1
        if self._served:
            return
        now = time.monotonic()
        if now - self._warned.get(sign, -_WARNING_INTERVAL_SECONDS) >= _WARNING_INTERVAL_SECONDS:
            self._warned[sign] = now
            _log.warning("no Redis Cluster: %s; its tasks get no TTL there", _MEANINGS[sign])
