"""One trial with a cluster under a real Asynq load, through the sidecar or without it, and the account of every task.

    load (asynq.RedisClusterClientOpt) -> sidecar, a port for each node -> three masters with a replica each
    load (asynq.RedisClientOpt) -> sidecar, one port ------------------> likewise
    load (asynq.RedisClusterClientOpt) -------------------------------> likewise

A strike is one of: `kill`, the master that has the queue dies, its replica is promoted, and it comes back without its
keys; `reshard`, 500 slots move to another master one after the other, the queue's first, its keys a hundred at a time;
`nodes`, a master is added, takes these slots, gives them back, and leaves.

What a strike without a failover loses is lost whether or not replicas had it.
"""

import time

from asynq_ttl.wire.cluster.slots import slot_of
from support.cluster import SLOTS, Cluster, Kind, Node, port_range, start_cluster
from support.servers import Sidecar, wait_until
from trials.chaos import account
from trials.chaos.census import Fault
from trials.chaos.trial import ONE_PORT, POLICY, QUEUE, Report, Trial

CLUSTER_STRIKES = ("kill", "reshard", "nodes")
CLUSTER_WARNINGS = ("is down", "sweeping failed", "cannot be swept", "does not say where", "cannot load a wrapper")

_STRIKE_AFTER = 600
_SLOTS_MOVED = 500
_SLOT = slot_of(QUEUE.encode())
_KINDS = {"redis": "path-redis", "valkey": "valkey"}
# After each hundred keys, so that how long the queue is on its way does not depend on the machine.
_PAUSE_SECONDS = 0.05
_SECONDS = 120


class ClusterTrial(Trial):
    """A trial from the start of the cluster to the account."""

    def run(self) -> Report:
        """Run it, and return what was found. Everything it started has ended then."""
        with self._stack as stack:
            cluster = stack.enter_context(start_cluster(Kind(_KINDS[self.plan.server], replicas=1)))
            if self.plan.way != "direct":
                self.sidecar = stack.enter_context(self._sidecar_of(cluster))
            client_kind = () if self.plan.way == ONE_PORT else ("-cluster",)
            load = self._start_load(*client_kind, "-redis", self._addresses(cluster))
            wait_until(
                lambda: len(account.read(self.ledger_file).accepted) > _STRIKE_AFTER, "there is no load", _SECONDS
            )
            struck_ms = round(time.time() * 1000)
            if not self.plan.hasten:
                load = self._crash(load)
            self._strike_cluster(cluster)
            with cluster.client(cluster.owner(f"asynq:{{{QUEUE}}}:t:")) as client:
                self._look(client, over=False)
                active = self._await_idle(client)
                self._look(client, over=False)
                self._end(client, load)
                last = self._look(client, over=True)
        return self._report(struck_ms, active, last)

    def _sidecar_of(self, cluster: Cluster) -> Sidecar:
        first, last = port_range(len(cluster.nodes) + 2)
        options = {} if self.plan.way == ONE_PORT else {"cluster_ports": f"{first}-{last}"}
        sidecar = Sidecar(self.plan.folder / "sidecar", cluster.url, POLICY, options)
        sidecar.expected_warnings += CLUSTER_WARNINGS
        return sidecar

    def _addresses(self, cluster: Cluster) -> str:
        if self.sidecar is not None:
            return self.sidecar.address
        return ",".join(f"127.0.0.1:{node.port}" for node in cluster.nodes)

    def _strike_cluster(self, cluster: Cluster) -> None:
        source = cluster.owner(f"asynq:{{{QUEUE}}}:t:")
        if self.plan.strike == "kill":
            replica = cluster.replica_of(source)
            cluster.kill(source)
            wait_until(
                lambda: cluster.ask(replica, "ROLE")[0] == b"master" and cluster.is_whole(), "no failover", _SECONDS
            )
            self._moved_ms = round(time.time() * 1000)
            self._stack.enter_context(cluster.return_of(source))
        elif self.plan.strike == "reshard":
            reshard(cluster, source, next(node for node in cluster.nodes if node.slots and node is not source))
        else:
            with cluster.with_another() as added:
                reshard(cluster, source, added)
                reshard(cluster, added, source)
        if self.plan.strike != "kill" and len(account.read(self.ledger_file).accepted) >= self.plan.tasks:
            self._faults.append(Fault("no load", QUEUE, "", "it was over before the slots had moved: more --tasks"))


def reshard(cluster: Cluster, source: Node, target: Node) -> None:
    """Move 500 slots in a row, of them the queue's first, and wait until all nodes know."""
    first, last = source.slots or target.slots or (0, SLOTS - 1)
    begin = max(first, min(_SLOT - _SLOTS_MOVED // 2, last + 1 - _SLOTS_MOVED))
    slots = sorted(range(begin, begin + _SLOTS_MOVED), key=lambda slot: slot != _SLOT)
    cluster.move_slots(slots, source, target, _PAUSE_SECONDS)
    wait_until(lambda: cluster.agree(_SLOT, target), "not all nodes know where the slots are", _SECONDS)
