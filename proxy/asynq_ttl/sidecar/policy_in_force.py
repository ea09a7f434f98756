"""The policy that decides at this moment: read from its file, replaced when the file changes, paused and resumed.

It knows no connection: whoever carries the policy out is given a new rewriter whenever another one is in force.

Invariants:

* A file that has a fault changes nothing: the policy in force stays, whole.
* A pause outlasts a reload, and ends with the process.
* What this process has enforced is healed by every later rewriter: TTLs come off tasks that live again.
"""

import logging
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from asynq_ttl.policy.rules import Mode, Policy
from asynq_ttl.policy_file.faults import PolicyError, failure
from asynq_ttl.policy_file.load import load_policy
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.sidecar.settings import Settings
from asynq_ttl.telemetry.recorder import Telemetry

_log = logging.getLogger("asynq_ttl.server")

# Faults of a file that are told in one span or entry; the log has them all.
_MOST_FAULTS = 10


@dataclass(frozen=True, slots=True)
class Reload:
    """What became of reading the policy file.

    Attributes:
        at_ns: when, nanoseconds since the epoch.
        faults: what is wrong with the file; empty if it is in force.
    """

    at_ns: int
    faults: tuple[str, ...] = ()


class PolicyInForce:
    """The policy in force, and the rewriter that carries it out.

    Args:
        policy: the policy to start with.
        settings: where its file is, and where payloads have a `traceparent`.
        telemetry: who is told of reloads and pauses.
        use: given each rewriter that replaces another one.
    """

    def __init__(
        self, policy: Policy, settings: Settings, telemetry: Telemetry, use: Callable[[Rewriter], None]
    ) -> None:
        self.policy = policy
        """The policy as it was read: a pause does not change it."""
        self.paused = False
        """Whether rewriting is paused."""
        self.last_reload = Reload(time.time_ns())
        self._file = settings.policy_file
        self._trace_path = settings.trace_path
        self._hands_over = settings.sink is not None
        self._telemetry = telemetry
        self._use = use
        self._healed: set[str] = set()
        self.rewriter = self._make_rewriter()

    @property
    def mode(self) -> Mode:
        """The mode in force: shadow while rewriting is paused."""
        return self.rewriter.policy.mode

    def replace(self, policy: Policy) -> None:
        """Put another policy in force."""
        self.policy = policy
        self._replace_rewriter()

    def reload(self) -> Reload:
        """Read the policy file again; on any fault keep the policy in force and say why."""
        if self._file is None:
            _log.warning("there is no policy file to reload: the built-in default is in force")
            return Reload(time.time_ns(), ("there is no policy file to reload",))
        started = time.time_ns()
        try:
            if _is_read_once(self._file):
                raise failure(str(self._file), 0, "is a pipe or the like", "a reload needs a file: a pipe is read once")
            policy = load_policy(self._file)
        except PolicyError as error:
            self.last_reload = Reload(started, tuple(str(fault) for fault in error.faults))
            self._tell_refused(self.last_reload)
        else:
            self.replace(policy)
            self.last_reload = Reload(started)
            trace_id = self._telemetry.reloaded(policy.digest, policy.mode.value, started, "")
            message = "policy %s (%s) is in force, mode %s"
            _log.info(message, policy.source, policy.digest, policy.mode.value, extra={"trace_id": trace_id})
        return self.last_reload

    def pause(self, *, paused: bool) -> None:
        """Pause rewriting, or resume it.

        While it is paused the policy is in shadow mode: no task gets a TTL, and none is removed or trimmed by it. What
        this process has enforced before is still healed, and what is due is still swept, since its key would expire
        without its index entry otherwise.
        """
        if paused == self.paused:
            return
        self.paused = paused
        self._replace_rewriter()
        self._telemetry.happened("pause" if paused else "resume", f"mode {self.mode.value} is in force")

    def _replace_rewriter(self) -> None:
        self.rewriter = self._make_rewriter()
        self._use(self.rewriter)

    def _make_rewriter(self) -> Rewriter:
        policy = self.policy.shadowed() if self.paused else self.policy
        return Rewriter(policy, self._healed, self._trace_path, hands_over=self._hands_over)

    def _tell_refused(self, reload: Reload) -> None:
        faults = "; ".join(reload.faults[:_MOST_FAULTS])
        trace_id = self._telemetry.reloaded(self.policy.digest, self.policy.mode.value, reload.at_ns, faults)
        trace = {"trace_id": trace_id}
        for fault in reload.faults:
            _log.error("policy not reloaded, the old one stays in force: %s", fault, extra=trace)


def _is_read_once(path: Path) -> bool:
    """Say whether a path leads to a pipe or a terminal: whoever reads it again waits for ever."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)
