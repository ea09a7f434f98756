"""The real sidecar in an event loop of its own thread, so that a test can sweep and reload when it wants to."""

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from asynq_ttl.policy.rules import Policy
from asynq_ttl.policy_file.load import parse_policy
from asynq_ttl.sidecar.sidecar import Sidecar
from support.in_process import make_sidecar
from support.servers import Server

_SECONDS = 60.0
T = TypeVar("T")


class SidecarThread:
    """A sidecar without a sweeping task: rounds are done by `sweep`."""

    def __init__(self, server: Server) -> None:
        self.port = 0
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._sidecar: Sidecar | None = None
        self._stop: asyncio.Event | None = None
        self._running: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self._call(self._wait())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS)
        self._loop.close()

    def start(self, policy: str) -> None:
        """Start a sidecar that knows nothing of any before it."""
        self._call(self._start(policy))

    def stop(self) -> None:
        """Stop it, if one runs. Its clients have hung up, so nothing is lost by not waiting for its end."""
        if self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._sidecar = self._stop = None

    def reload(self, policy: str) -> None:
        """Put another policy in force, as a changed policy file does."""
        self.use(parse_policy(policy, "model"))

    def use(self, policy: Policy) -> None:
        """Put a policy in force."""
        self._call(self._use(policy))

    def sweep(self) -> None:
        """Do one round of the sweeper, if the policy has it sweep at all."""
        self._call(self._sweep())

    def fail_opens(self) -> dict[str, int]:
        """Return how often the sidecar failed open, by reason."""
        counts: Counter[str] = Counter()
        for (reason, _), count in ({} if self._sidecar is None else self._sidecar.telemetry.fail_opens).items():
            counts[reason] += count
        return dict(counts)

    def adoptions(self) -> dict[tuple[str, str, str, str], int]:
        """Return how many tasks were adopted, by queue, state, rule and mode."""
        return {} if self._sidecar is None else dict(self._sidecar.telemetry.adoptions.tasks)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_SECONDS)

    async def _start(self, policy: str) -> None:
        in_force = parse_policy(policy, "model")
        self._sidecar = make_sidecar(self._server.url, in_force, sweep_seconds=0, drain_seconds=1)
        self._stop = asyncio.Event()
        listening: asyncio.Future[int] = self._loop.create_future()
        running = self._loop.create_task(self._run(self._sidecar, self._stop, listening))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        self.port = await listening

    async def _run(self, sidecar: Sidecar, stop: asyncio.Event, listening: "asyncio.Future[int]") -> None:
        async with sidecar.running() as address:
            listening.set_result(address.port)
            await stop.wait()

    async def _wait(self) -> None:
        await asyncio.gather(*self._running)

    async def _use(self, policy: Policy) -> None:
        assert self._sidecar is not None
        self._sidecar.in_force.replace(policy)

    async def _sweep(self) -> None:
        assert self._sidecar is not None
        await self._sidecar.sweeper.sweep()
