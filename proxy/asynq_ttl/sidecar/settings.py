"""How one sidecar is run, as plain data: where it listens, where Redis is, who may connect. No click, no I/O."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from asynq_ttl.net.address import Address, Upstream
from asynq_ttl.net.keepalive import DEFAULT_SECONDS
from asynq_ttl.net.listener import Sharing
from asynq_ttl.net.tls import ListenerTls
from asynq_ttl.session.holding import DEFAULT_MIB
from asynq_ttl.sweep.sink import SinkAddress
from asynq_ttl.telemetry.decision_log import LogSettings


class ClientAuth(Enum):
    """What clients have to show."""

    PASS = "pass"  # noqa: S105 - no password
    """What Redis asks for: AUTH and HELLO go to it as they come."""
    NONE = "none"
    """Nothing: the sidecar logs their connections in."""
    PASSWORD = "password"  # noqa: S105 - no password
    """A password of the sidecar's own; it then logs their connections in."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may connect, and how.

    Attributes:
        tls: the listener's TLS; None for none.
        auth: what clients have to show.
        password_file: the passwords for `ClientAuth.PASSWORD`, one a line.
    """

    tls: ListenerTls | None = None
    auth: ClientAuth = ClientAuth.PASS
    password_file: Path | None = None

    @property
    def logs_in(self) -> bool:
        """Whether clients' connections are logged in with the sidecar's credentials."""
        return self.auth is not ClientAuth.PASS


@dataclass(frozen=True, slots=True)
class Settings:
    """How a sidecar is run.

    Attributes:
        listen: where clients connect.
        upstream: the Redis behind it.
        policy_file: the policy; None for the built-in default.
        max_connections: more clients than this are refused.
        max_held_mib: how much is held of large script calls, in MiB, all clients together.
        keepalive_seconds: after how much silence a peer is asked whether it is still there; 0 for never.
        drain_seconds: how long commands under way are waited for when it stops.
        sweep_seconds: the time between two rounds of the sweeper; 0 for no sweeper.
        access: who may connect, and how.
        sharing: which other sidecars may listen at the same port.
        trace_path: where a JSON payload has the producer's `traceparent`; empty for nowhere.
        sink: where the sweeper hands tasks over before it removes them; None for nowhere.
        decisions: where the decision log is; None for no log.
        cluster_ports: the ports that stand for the nodes of a cluster; None for no such ports.
        announce: the host by which clients are told to find nodes; None for the one that they have connected to.
    """

    listen: Address
    upstream: Upstream
    policy_file: Path | None = None
    max_connections: int = 10_000
    max_held_mib: int = DEFAULT_MIB
    keepalive_seconds: int = DEFAULT_SECONDS
    drain_seconds: float = 10.0
    sweep_seconds: float = 5.0
    access: Access = field(default_factory=Access)
    sharing: Sharing = Sharing.NOBODY
    trace_path: tuple[str, ...] = ()
    sink: SinkAddress | None = None
    decisions: LogSettings | None = None
    cluster_ports: range | None = None
    announce: str | None = None
